"""Building what several processes need from the configuration: labels, codec, store, learners."""

import importlib
import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from learners import Learner
from learners.event import Task
from learners.labels import Labels
from learners.vw.arguments import Trial, arguments, check_classes, continuing, trial
from snapshots.errors import RefusedError
from snapshots.records.manifest import LearnerPart
from snapshots.store.signed import SignedStore
from snapshots.store.store import open_store
from stream import operator_modules
from stream.errors import ConfigError
from stream.settings import Config, LearnerConfig
from stream.sink.intake import FilesIntake, Intake, KafkaIntake, Sink
from stream.source.codec import Codec, written_time

log = logging.getLogger("holdfast.learner")


def reach_modules(config: Config) -> None:
    """Let ``model:function`` name a file beside the configuration."""
    operator_modules.reach(config)


def labels_of(config: Config) -> Labels:
    """What counts as a label, from ``[event]``."""
    event = config.event
    return Labels(
        config.task,
        positive=event.positive,
        negative=event.negative,
        names=event.labels,
        max_labels=event.max_labels,
        fold=event.fold_labels,
    )


def codec_of(config: Config, labels: Labels) -> Codec:
    """The codec, with the configured decoder if there is one."""
    return Codec(config.event, labels, config.weight_path, _decoder(config.event.decoder))


def _decoder(name: str | None) -> Callable[[bytes], Any] | None:
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as cause:  # a module of the operator's may raise anything
        why = (
            cause
            if isinstance(cause, (ImportError, AttributeError, ValueError))
            else f"{type(cause).__name__}: {cause}"
        )
        raise ConfigError(f"event.decoder {name!r} cannot be imported: {why}. Write it as module:function") from cause
    if not callable(found) or isinstance(found, type):
        raise ConfigError(
            f"event.decoder {name!r} is {'a class' if isinstance(found, type) else 'no function'}: write "
            f"def {function}(value: bytes): return …, a function that takes a record's bytes and returns the event"
        )
    return found  # type: ignore[no-any-return]


def store_of(config: Config) -> SignedStore:
    """The store that ``store.url`` names; with ``[signing]`` it gives nothing that counts and is not signed."""
    store, keys = open_store(config.store.url, config.base, config.store.options), config.signing
    private = config.base / keys.private_key_file if keys.private_key_file else None
    return SignedStore(
        store,
        private,
        [config.base / path for path in keys.public_key_files],
        seen=config.base / keys.seen_file,
        head_seconds=keys.head_seconds,
    )


def types_of(config: Config, learner: str) -> list[str]:
    """The further types that a learner's state may name."""
    found = config.learners.get(learner)
    return found.types if found else []


#: how far the time of what comes over HTTP may be ahead of the clock here, where it puts a file in order
_AHEAD_SECONDS = 60.0


def intake_of(config: Config, now: Callable[[], float]) -> Intake | None:
    """What takes events over HTTP and appends them to the configured source; None where it has no topic."""
    files = config.source.kind == "files"
    if not files and not config.source.topics:
        return None
    directory, topic = (config.source.directory, "") if files else ("", config.source.topics[0])
    timed = files and config.labels.given and config.event.decoder is None
    stamp = stamped_with(config.event.time, config.event.time_format, now) if timed else None
    return _intake(config, now, directory, topic, stamp=stamp, ahead=_AHEAD_SECONDS if timed else None)


def trusted_intake_of(config: Config, now: Callable[[], float]) -> Intake | None:
    """What takes checked labels over HTTP and appends them to ``[holdout.trusted]``; None without such a place."""
    place = config.holdout.trusted
    return _intake(config, now, place.directory, place.topic, labelled=True) if place.given else None


def labels_intake_of(config: Config, now: Callable[[], float]) -> Intake | None:
    """What takes labels that come later and appends them where they are read; None where none do."""
    place, labels = config.labels, labels_of(config)
    if not place.given:
        return None
    from stream.join.build import labels_codec  # noqa: PLC0415  only where labels come later

    decode = labels_codec(config, labels).label_of
    stamp = stamped_with(place.time, config.event.time_format, now) if place.directory else None
    sink = _sink(config, place.directory, place.topics)
    return Intake(
        decode, labels, sink, config.serve.events_seconds, now, stamp=stamp,
        ahead=_AHEAD_SECONDS if place.directory else None,
    )  # fmt: skip


def _intake(config: Config, now: Callable[[], float], directory: str, topic: str, **more: Any) -> Intake:
    labels, sink = labels_of(config), _sink(config, directory, [topic])
    return Intake(codec_of(config, labels).decode, labels, sink, config.serve.events_seconds, now, **more)


def stamped_with(path: str, form: str, now: Callable[[], float]) -> Callable[[bytes], bytes]:
    """What gives an event or a label the time of now where it has none: in a file nothing else tells when it came.

    By it what comes apart is put in order. ``form`` is ``event.time_format``.
    """

    def stamp(body: bytes) -> bytes:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        if not path or "." in path or bytes(fields.get(path, b"null")) != b"null":
            return body
        return msgspec.json.encode({**fields, path: written_time(now(), form)})

    return stamp


def _sink(config: Config, directory: str, topics: Sequence[str]) -> Callable[[], Sink]:
    """What makes the place that is appended to: a directory, or the first of some topics."""

    def make() -> Sink:
        if directory:
            return FilesIntake(config.base / directory)
        return KafkaIntake(config.source.kafka, topics[0], config.serve.events_seconds)

    return make


def fit_labels(config: Config, labels: Labels) -> None:
    """Hold the labels against the classes that Vowpal Wabbit's arguments provide for; lowers how many there may be."""
    for name, one in config.learners.items():
        if one.kind == "vw":
            check_classes(arguments(one.args, config.name, name), labels, name)


def build_learner(config: Config, name: str, labels: Labels) -> Learner:
    """A fresh learner, checked as its kind is checked at start; raises :class:`learners.LearnersError`."""
    one = config.learners[name]
    if one.kind == "river":
        from learners.river import factory  # noqa: PLC0415  only processes with River learners pay for its import

        return factory.build(
            one.factory,
            labels,
            types=one.types,
            weights_matter=bool(config.event.weight),
            ignore_weights=one.ignore_weights,
            name=name,
        )
    from learners.vw.learner import VwLearner  # noqa: PLC0415  the same for Vowpal Wabbit

    check_classes(arguments(one.args, config.name, name), labels, name)
    return VwLearner(_tried(config, name), labels, namespaces=one.namespaces, weighted=not one.ignore_weights)


@cache
def _trial(tokens: tuple[str, ...], task: Task, name: str, seconds: float) -> Trial:
    """One trial of arguments in the life of a process: later it may not start another."""
    return trial(tokens, task, name, seconds)


def _tried(config: Config, name: str) -> Trial:
    """Try Vowpal Wabbit's arguments; warn of what is not exact, refuse what drops weights."""
    one = config.learners[name]
    found = _trial(tuple(arguments(one.args, config.name, name)), config.task, name, one.trial_seconds)
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
    return found


def import_kind(kind: str) -> None:
    """Import what learners of a kind are made of; a process that is shut in imports less well."""
    if kind == "river":
        import learners.river.factory  # noqa: PLC0415  only where it learns or serves
    else:
        import learners.vw.learner  # noqa: F401, PLC0415  the same


def built_from(one: LearnerConfig, learner: Learner) -> dict[str, Any]:
    """What a fresh learner was built from, for the manifest."""
    return {"configured": configured(one), **learner.describe()}


def configured(one: LearnerConfig) -> dict[str, Any]:
    """What of the configuration makes a learner another learner; ``source`` is the digest of the factory's source."""
    source = ""
    if one.kind == "river":
        from learners.river.factory_digest import digest  # noqa: PLC0415  imports the operator's module

        source = digest(one.factory)
    return {
        "factory": one.factory,
        "source": source,
        "args": one.args,
        "namespaces": one.namespaces,
        "ignore_weights": one.ignore_weights,
    }


def is_new(one: LearnerConfig, part: LearnerPart) -> bool:
    """Tell whether a learner that was changed has learnt nothing yet, so that it may simply begin as it is now."""
    untouched = part.learnt == 0 and part.quarantined == 0 and "imported" not in part.built_from
    return untouched and (part.kind, part.built_from.get("configured")) != (one.kind, configured(one))


def reconcile(config: Config, name: str, part: LearnerPart, *, accept: bool) -> dict[str, Any]:
    """Hold what a saved learner was built from against the configuration; return what it is built from now on.

    Raises :class:`RefusedError` when the two differ, unless ``accept``: then the saved state goes on under the new
    arguments or source.
    """
    one = config.learners[name]
    was, now = part.built_from.get("configured"), configured(one)
    if one.kind == "river" and not now["source"]:
        from learners.river import factory  # noqa: PLC0415  only processes with River learners pay for its import

        factory.imported(one.factory)  # says what is wrong with the module
    if part.kind == one.kind and was == now:
        return part.built_from
    was = was or {}
    changes = [
        f"the source of {one.factory} is another"
        if key == "source" and was.get("factory") == one.factory
        else f"{key} was {was.get(key)!r} and is {now[key]!r}"
        for key in now
        if was.get(key) != now[key]
    ]
    if part.kind != one.kind:
        changes = [f"its kind was {part.kind} and is {one.kind}"]
    if part.kind != one.kind or not accept:
        raise RefusedError(
            f"learners.{name} was changed since its snapshots were learnt: {'; '.join(changes)}. Put it back; or give "
            "the new learner another name, to run it beside the old one; or begin anew with --new-lineage"
            + ("" if part.kind != one.kind else "; or go on from the learnt state under the change with --accept")
        )
    log.warning("learners.%s goes on from its snapshot under a change: %s", name, "; ".join(changes))
    if one.kind == "vw":
        fresh = continuing(_tried(config, name), msgspec.convert(part.built_from["trial"], Trial))
        more = {"trial": msgspec.structs.asdict(fresh), "namespaces": one.namespaces}
        return {**part.built_from, **more, "configured": now}
    return {**part.built_from, "configured": now, "factory": one.factory}
