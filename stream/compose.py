"""The composition root: every part is built here, from the configuration, and handed what it needs."""

import importlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from learners import Learner, Metrics
from learners.labels import Labels
from learners.vw_arguments import Trial, arguments, trial
from snapshots import Lineage, Store
from snapshots import snapshot as snapshots
from snapshots.errors import RefusedError
from snapshots.holdout import Membership
from snapshots.manifest import LearnerPart, Manifest
from snapshots.store import LocalStore, open_store
from stream.codec import Codec
from stream.config import Config, LearnerConfig
from stream.dead_letter import DeadLetters, FileDeadLetters, KafkaDeadLetters
from stream.errors import ConfigError
from stream.files import FilesSource
from stream.kafka import KafkaSource
from stream.presence import Presence, sweep
from stream.running import Running
from stream.source import Source
from stream.trainer import Trainer

log = logging.getLogger("holdfast.compose")


def reach_modules(config: Config) -> None:
    """Let ``model:function`` name a file beside the configuration."""
    folder = str(config.base)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def labels_of(config: Config) -> Labels:
    """What counts as a label, from ``[event]``."""
    event = config.event
    return Labels(
        config.task,
        positive=event.positive,
        negative=event.negative,
        names=event.labels,
        max_labels=event.max_labels,
    )


def codec_of(config: Config, labels: Labels) -> Codec:
    """The codec, with the configured decoder if there is one."""
    return Codec(config.event, labels, config.weight_path, _decoder(config.event.decoder))


def _decoder(name: str | None) -> Callable[[bytes], Any] | None:
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError) as cause:
        raise ConfigError(f"event.decoder {name!r} cannot be imported: {cause}. Write it as module:function") from cause


def store_of(config: Config) -> Store:
    """The store that ``store.url`` names."""
    return open_store(config.store.url, config.base)


def types_of(config: Config, learner: str) -> list[str]:
    """The further types that a learner's state may name."""
    found = config.learners.get(learner)
    return found.types if found else []


def source_of(config: Config) -> Source:
    """The source that ``[source]`` describes."""
    source = config.source
    if source.kind == "files":
        return FilesSource(config.base / source.directory, start=source.start, poll_seconds=source.poll_seconds)
    return KafkaSource(
        source.topics, source.kafka, group=config.name, start=source.start, poll_seconds=source.poll_seconds
    )


def dead_letters_of(config: Config, store: Store) -> DeadLetters:
    """Where refused records go: beside the files, or to ``<topic>.dead-letter``."""
    if config.source.kind == "files":
        return FileDeadLetters(config.base / config.source.directory)
    return KafkaDeadLetters(config.source.kafka, config.name, store)


def build_learner(config: Config, name: str, labels: Labels) -> Learner:
    """A fresh learner, checked as its kind is checked at start; raises :class:`learners.LearnersError`."""
    one = config.learners[name]
    if one.kind == "river":
        from learners import river_learner  # noqa: PLC0415  only processes with River learners pay for its import

        return river_learner.build(
            one.factory,
            labels,
            types=one.types,
            weights_matter=bool(config.event.weight),
            ignore_weights=one.ignore_weights,
            name=name,
        )
    from learners.vw_learner import VwLearner, check_classes  # noqa: PLC0415  the same for Vowpal Wabbit

    tokens = arguments(one.args, config.name)
    check_classes(tokens, labels, name)
    found = trial(tokens, config.task, name)
    _warn_or_refuse(config, name, one, found)
    return VwLearner(found, labels, namespaces=one.namespaces, weighted=not one.ignore_weights)


def _warn_or_refuse(config: Config, name: str, one: LearnerConfig, found: Trial) -> None:
    if not found.exact:
        log.warning(
            "learners.%s: with %s (%s) a restored model does not continue bit for bit; after a restart it goes on from "
            "the snapshot, but not identically", name, " ".join(found.tokens), ", ".join(found.reductions)
        )  # fmt: skip
    if config.event.weight and not found.weights and not one.ignore_weights:
        raise ConfigError(
            f"learners.{name}: event.weight is set, and Vowpal Wabbit cannot be given weights with "
            f"{' '.join(found.tokens)}. Leave out --ignore and --ngram, or set learners.{name}.ignore_weights = true"
        )


def running_learners(config: Config, labels: Labels, store: Store) -> Callable[[Manifest | None], list[Running]]:
    """Return what builds every configured learner: restored from a snapshot where it is in it, fresh where not."""

    def build(manifest: Manifest | None) -> list[Running]:
        return [_running(config, name, labels, store, manifest) for name in config.learners]

    return build


def _running(config: Config, name: str, labels: Labels, store: Store, manifest: Manifest | None) -> Running:
    one = config.learners[name]
    part = manifest.learners.get(name) if manifest else None
    if part is None or manifest is None:
        learner = build_learner(config, name, labels)
        metrics = Metrics(config.task, config.metrics.window, config.event.max_slices)
        built_from = {"configured": _configured(one), **learner.describe()}
        return Running(name, one.role, learner, metrics, built_from)
    _refuse_changed(name, one, part)
    learner, metrics = snapshots.read_learner(store, manifest, name, labels, one.types)
    running = Running(name, one.role, learner, metrics, part.built_from)
    running.restore(part)
    return running


def _configured(one: LearnerConfig) -> dict[str, Any]:
    """What of the configuration makes a learner another learner."""
    return {
        "factory": one.factory,
        "args": one.args,
        "namespaces": one.namespaces,
        "ignore_weights": one.ignore_weights,
    }


def _refuse_changed(name: str, one: LearnerConfig, part: LearnerPart) -> None:
    was, now = part.built_from.get("configured"), _configured(one)
    if part.kind != one.kind or was != now:
        raise RefusedError(
            f"learners.{name} was changed: its snapshots were learnt with {part.kind} {was}, the configuration says "
            f"{one.kind} {now}. Put it back, give the new learner another name, or begin a new lineage"
        )


def membership_of(config: Config, lineage: Lineage, now: float) -> Membership:
    """Holdout membership under the lineage's key; refuses a store that holds another lineage."""
    charter = lineage.charter(config.name, config.task, now)
    return Membership(bytes.fromhex(charter.key), config.holdout.rate)


def trainer_of(
    config: Config,
    *,
    stopping: Callable[[], bool],
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[int, int | None], None] = lambda _count, _lag: None,
) -> Trainer:
    """Build the whole trainer."""
    reach_modules(config)
    store = store_of(config)
    lineage = Lineage(store)
    membership = membership_of(config, lineage, now())
    if isinstance(store, LocalStore):
        store.sweep()
    sweep(store, now())
    labels = labels_of(config)
    return Trainer(
        config,
        source=source_of(config),
        codec=codec_of(config, labels),
        labels=labels,
        dead_letters=dead_letters_of(config, store),
        lineage=lineage,
        membership=membership,
        learners=running_learners(config, labels, store),
        presence=Presence(store, "trainer", now),
        now=now,
        sleep=sleep,
        stopping=stopping,
        progress=progress,
    )
