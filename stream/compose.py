"""The composition root of the trainer: every part is built here, from the configuration, and handed what it needs."""

import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from learners.labels import Labels
from snapshots import Lineage, Store
from snapshots.records.membership import Membership
from snapshots.store.local import LocalStore
from snapshots.store.signed import bare
from stream.dead_letters.writer import DeadLetters, FileDeadLetters, KafkaDeadLetters, Told
from stream.join.build import joined
from stream.join.source import JoinedSource
from stream.learner.process import LearnerProcess
from stream.parts import codec_of, fit_labels, labels_of, reach_modules, store_of
from stream.process import only_one
from stream.process.presence import Presence, sweep
from stream.settings import Config
from stream.source.codec import Codec
from stream.source.files import FilesSource
from stream.source.kafka import KafkaSource
from stream.source.source import Source
from stream.train.begin import Begin
from stream.train.state import Kit
from stream.train.trainer import Trainer

if TYPE_CHECKING:
    from stream.archive.archiver import Archiver
    from stream.archive.eraser import Erasing
    from stream.dead_letters.replay import Resending
    from stream.guard.checked_rows import Checking
    from stream.guard.trusted_labels import Voice
    from stream.retrain.retrain import Retraining
    from stream.retrain.scheduler import Scheduler


def source_of(config: Config, when_lost: str | None = None) -> Source:
    """The source that ``[source]`` describes; ``when_lost`` stands in for its own."""
    source = config.source if when_lost is None else msgspec.structs.replace(config.source, when_lost=when_lost)
    if source.kind == "files":
        return FilesSource(
            config.base / source.directory,
            start=source.start,
            poll_seconds=source.poll_seconds,
            when_lost=source.when_lost,
            max_bytes=config.event.max_bytes,
        )
    return KafkaSource(
        source.topics,
        source.kafka,
        group=config.name,
        start=source.start,
        poll_seconds=source.poll_seconds,
        when_lost=source.when_lost,
    )


def logged_of(config: Config) -> Source:
    """The log of predictions, from its beginning."""
    place = msgspec.structs.replace(config.source, start="earliest", when_lost="go_on")
    kept = config.predictions
    place = (
        msgspec.structs.replace(place, kind="files", directory=kept.directory)
        if kept.directory
        else msgspec.structs.replace(place, kind="kafka", topics=[kept.topic])
    )
    return source_of(msgspec.structs.replace(config, source=place))


def events_of(
    config: Config, codec: Codec, labels: Labels, membership: Membership, *, when_lost: str | None = None,
    lasting: bool = False,
) -> Source:  # fmt: skip
    """The source of what is learnt: with ``[labels]`` events are joined with labels that come later.

    ``lasting``: what waits is kept in ``join.directory``, for one process at a time.
    """
    if not config.labels.given:
        return source_of(config, when_lost)
    path = config.base / config.join.directory / f"{config.name}.sqlite" if lasting else None
    return joined(config, lambda one: source_of(one, when_lost), codec, labels, membership.digest, path)


def dead_letters_of(config: Config, store: Store) -> DeadLetters:
    """Where refused records go: beside the files, or to ``<topic>.dead-letter``."""
    if config.source.kind == "files":
        return FileDeadLetters(config.base / config.source.directory)
    return KafkaDeadLetters(config.source.kafka, config.name, store)


def membership_of(config: Config, lineage: Lineage, now: float, *, anew: bool = False) -> Membership:
    """Holdout membership under the lineage's key; refuses a store that holds another lineage.

    ``anew``: also where a signed lineage was seen before and its store is empty now.
    """
    charter = lineage.charter(config.name, config.task, now, anew=anew)
    return Membership(bytes.fromhex(charter.key), config.holdout.rate, config.holdout.by)


def beginning(
    *,
    fresh: bool = False,
    accept: bool = False,
    operator: str = "operator",
    imports: dict[str, str] | None = None,
    take_over: bool = False,
) -> Begin:
    """How this process begins: it names itself, for a trainer that it takes over from."""
    return Begin(f"{platform.node()} process {os.getpid()}", fresh, accept, operator, imports or {}, take_over)


def trainer_of(
    config: Config,
    *,
    stopping: Callable[[], bool],
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[int, int | None], None] = lambda _count, _lag: None,
    begin: Begin | None = None,
    refused: Counter[str] | None = None,
) -> Trainer:
    """Build the whole trainer; what it refuses is counted in ``refused``, by reason."""
    reach_modules(config)
    store = store_of(config)
    begin = begin or beginning()
    if not begin.take_over:
        only_one.refuse_company(store, now, sleep, stopping)
    lineage = Lineage(store, looking=True)  # learning goes on when the ledger does not hold; deciding does not
    membership = membership_of(config, lineage, now(), anew=begin.fresh)
    if isinstance(directory := bare(store), LocalStore):
        directory.sweep()
    sweep(store, now())
    labels = labels_of(config)
    fit_labels(config, labels)
    codec = codec_of(config, labels)
    source = events_of(config, codec, labels, membership, lasting=True)
    kit = Kit(
        config=config,
        source=source,
        codec=codec,
        labels=labels,
        dead_letters=Told(dead_letters_of(config, store), Counter() if refused is None else refused),
        lineage=lineage,
        membership=membership,
        learners=[LearnerProcess(name, config, store, stopping) for name in config.learners],
        begin=begin,
        reopen=lambda: events_of(config, codec, labels, membership, when_lost="stop"),
        presence=Presence(store, "trainer", now),
        now=now,
        sleep=sleep,
        stopping=stopping,
        progress=progress,
        join=source if isinstance(source, JoinedSource) else None,
    )
    return Trainer(kit)


def archiver_of(
    config: Config,
    *,
    stopping: Callable[[], bool],
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[int, int | None], None] = lambda _count, _lag: None,
) -> "Archiver":
    """Build the archiver; it writes no snapshots, and so needs no epoch."""
    from stream.archive.archiver import Archiver  # noqa: PLC0415  the same
    from stream.archive.files import Archive  # noqa: PLC0415  the trainer does not pay for its import

    reach_modules(config)
    store = store_of(config)
    lineage = Lineage(store)
    labels = labels_of(config)
    codec, membership = codec_of(config, labels), membership_of(config, lineage, now())
    return Archiver(
        config.archive,
        config.source.batch,
        joins=config.labels.given,
        source=events_of(config, codec, labels, membership),
        codec=codec,
        archive=Archive(store),
        lineage=lineage,
        membership=membership,
        presence=Presence(store, "archiver", now),
        now=now,
        sleep=sleep,
        stopping=stopping,
        progress=progress,
    )


def retraining_of(
    config: Config,
    *,
    now: Callable[[], float] = time.time,
    say: Callable[[str, float, float], None] = lambda _step, _done, _all: None,
) -> "Retraining":
    """Build a full retrain."""
    from stream.archive.files import Archive  # noqa: PLC0415  the trainer does not pay for its import
    from stream.retrain.dataset import labels_for  # noqa: PLC0415  the same
    from stream.retrain.retrain import Retraining  # noqa: PLC0415  the same

    reach_modules(config)
    lineage = Lineage(store_of(config)).refresh()
    membership = membership_of(config, lineage, now())
    labels = labels_for(lineage, labels_of(config))
    return Retraining(
        config,
        lineage=lineage,
        archive=Archive(lineage.store),
        codec=codec_of(config, labels),
        labels=labels,
        membership=membership,
        now=now,
        say=say,
    )


def erasing_of(
    config: Config,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str, float, float], None] = lambda _step, _done, _all: None,
) -> "Erasing":
    """Build what takes out events for good; pyarrow is needed where there is an archive."""
    from stream.archive.eraser import Erasing  # noqa: PLC0415  the same
    from stream.archive.files import Archive  # noqa: PLC0415  a command imports what it needs

    reach_modules(config)
    lineage = Lineage(store_of(config)).refresh()
    return Erasing(
        config,
        lineage=lineage,
        archive=Archive(lineage.store, writes=False),
        codec=codec_of(config, labels_of(config)),
        membership=membership_of(config, lineage, now()),
        now=now,
        sleep=sleep,
        say=say,
    )


def resending_of(
    config: Config, *, by: str, why: str, now: Callable[[], float] = time.time, sends: bool = True
) -> "Resending":
    """Build what sends dead letters back; without ``sends`` it may only look."""
    from stream.dead_letters.destinations import way_of  # noqa: PLC0415  the same
    from stream.dead_letters.replay import Resending  # noqa: PLC0415  the same
    from stream.retrain.dataset import labels_for  # noqa: PLC0415  a command imports what it needs

    reach_modules(config)
    lineage = Lineage(store_of(config)).refresh()
    codec = codec_of(config, labels_for(lineage, labels_of(config)))
    way = way_of(config, lineage) if sends else None
    return Resending(config, lineage, codec, way, by=by, why=why, now=now)


def checking_of(config: Config, lineage: Lineage) -> "Checking":
    """Build what reads events whose labels were checked."""
    from stream.guard.checked_rows import Checking  # noqa: PLC0415  a command imports what it needs
    from stream.retrain.dataset import labels_for  # noqa: PLC0415  the same

    reach_modules(config)
    codec = codec_of(config, labels_for(lineage, labels_of(config)))
    return Checking(codec, membership_of(config, lineage, time.time()), config.event.slices)


def voice_of(
    config: Config, *, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
) -> "Voice":
    """Build what reads ``[holdout.trusted]``, over a lineage of its own."""
    from stream.guard.trusted_labels import Voice  # noqa: PLC0415  a command imports what it needs

    lineage, place = Lineage(store_of(config)), config.holdout.trusted
    read = msgspec.structs.replace(
        config.source, kind="files" if place.directory else "kafka", directory=place.directory, topics=[place.topic],
        start="earliest", poll_seconds=config.guard.poll_seconds,
    )  # fmt: skip
    reader = msgspec.structs.replace(config, name=f"{config.name}-trusted", source=read)

    def source() -> Source:
        return source_of(reader, when_lost="go_on")

    return Voice(lineage, lambda: checking_of(config, lineage.refresh()), source, now=now, sleep=sleep)


def scheduler_of(
    config: Config,
    path: Path,
    *,
    stopping: Callable[[], bool],
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> "Scheduler":
    """Build what watches the triggers of retrains; a schedule that is none is refused here."""
    from stream.archive.files import Archive  # noqa: PLC0415  the same
    from stream.retrain import triggers  # noqa: PLC0415  the trainer does not pay for its import
    from stream.retrain.scheduler import Scheduler  # noqa: PLC0415  the same

    reach_modules(config)
    triggers.schedule_of(config.retrain, now())
    store = store_of(config)
    return Scheduler(
        config,
        path,
        lineage=Lineage(store),
        archive=Archive(store),
        codec=codec_of(config, labels_of(config)),
        presence=Presence(store, "scheduler", now),
        now=now,
        sleep=sleep,
        stopping=stopping,
    )
