"""``holdfast archive run``: a reader of its own that keeps every valid labelled event; learning never waits for it."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from snapshots import Lineage
from snapshots.decisions.erasure import Erased, erasures
from snapshots.errors import DamagedError, RefusedError, StoreError
from snapshots.records.membership import Membership
from snapshots.records.place import Place
from stream.archive import rewriting
from stream.archive.eraser import meant
from stream.archive.files import IMPORTED, NO_ID, Archive, Part, Row, place_of
from stream.errors import CommandError, SourceAwayError
from stream.process.patience import patiently
from stream.process.presence import Presence
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import ArchiveConfig
from stream.source.codec import Codec
from stream.source.source import Source

log = logging.getLogger("holdfast.archive")
_DAY_SECONDS = 86_400.0
#: a file is written when its events take so many bytes, whatever their number
_FILE_BYTES = 32 * 2**20
#: files are compacted and old ones deleted once in so many written ones
_TIDY_FILES = 16
#: a compacted file holds so many times the events of a plain one
_COMPACTED = 10


class Open(msgspec.Struct):
    """The file of a partition that is being collected."""

    begin: int
    following: int
    since: float
    rows: list[Row] = []
    bytes: int = 0
    passed: int = 0


class Archiver:
    """Reads from where the archive ends, and writes a file of a partition when it is due.

    ``now`` is the clock in Unix seconds, ``elapsed`` one that nobody sets. Two archivers at once do no harm: each file
    is created by one of them, and the other begins again where that file ends.
    """

    def __init__(  # noqa: PLR0913  the composition root hands in every part
        self,
        config: ArchiveConfig,
        batch: int,
        *,
        source: Source,
        codec: Codec,
        archive: Archive,
        lineage: Lineage,
        membership: Membership,
        presence: Presence,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        stopping: Callable[[], bool],
        elapsed: Callable[[], float] = time.monotonic,
        progress: Callable[[int, int | None], None] = lambda _count, _lag: None,
        joins: bool = False,
    ) -> None:
        self.joins = joins
        self.config, self.batch, self.source, self.codec = config, batch, source, codec
        self.archive, self.lineage, self.presence = archive, lineage, presence
        self.now, self.sleep, self.stopping, self.elapsed, self.progress = now, sleep, stopping, elapsed, progress
        self.events = 0
        self._open: dict[Part, Open] = {}
        self._ids: dict[str, str] = {}
        self._ends: dict[Part, int] = {}
        self._written = 0
        self._membership = membership
        self._erased = Erased(membership, [])
        self._followed = 0
        self._told: set[str] = set()

    def run(self, *, until_end: bool = False) -> bool:
        """Archive until asked to stop, or to where the source ended at the start; tell whether that was reached."""
        try:
            self.patiently(self.begin)
            if until_end:
                self.patiently(self.source.mark_end)
            while not (self.stopping() or (until_end and self.source.ended())):
                self.patiently(self.step)
            self.patiently(lambda: self.close_files(everything=True))
            return not until_end or self.source.ended()
        except InterruptedError:
            return False
        finally:
            self.presence.close()
            self.source.close()

    def begin(self) -> None:
        """Open the source where the archive ends; where it has nothing yet, where the lineage began."""
        self._open.clear()
        swept = rewriting.sweep(self.archive, self.now())
        if swept:
            log.info("%d files that a rewrite had replaced are removed", swept)
        place = self.first_place()
        self.source.open(place, {})
        self._ids = self.source.identities()
        self._ends = self.archive.ends()
        ends = place_of(self._ends, self._ids)
        for topic, partitions in ends.items():
            place.setdefault(topic, {}).update(partitions)
        before = self.lineage.newest_before(place) if self.joins else None
        if before is not None:  # what waits there is known, and what is archived already is passed over
            place, topics = before.place, before.topics
        self.source.open(place, topics if before is not None else {})
        self.follow_erasures()
        log.info("archiving from %s", place)

    def first_place(self) -> Place:
        """Where the lineage began, when it has; else what ``source.start`` says now."""
        self.lineage.refresh()
        first = self.lineage.manifest(self.lineage.numbers[0]) if self.lineage.numbers else None
        place = first.place if first is not None else self.source.resolve()
        return {topic: dict(partitions) for topic, partitions in place.items()}

    def step(self) -> None:
        """Take what the source has; write what is due."""
        self.take(self.source.poll(self.batch))
        self.close_files()
        self.progress(self.events, self.source.lag())
        self.presence.say(state="archiving", events=self.events, waiting=sum(len(o.rows) for o in self._open.values()))

    def take(self, records: Iterable[Record]) -> None:
        """Keep each valid labelled event with its bytes; what is refused or unlabelled is passed."""
        for record in records:
            part, joined = Part(record.topic, self._ids.get(record.topic, NO_ID), record.partition), record.joined
            if joined is not None and record.offset < self._ends.get(part, 0):
                continue  # read again for what waits
            file = self._open.get(part)
            if file is None:
                begin = self._ends.get(part, record.offset)
                file = self._open[part] = Open(begin, begin, self.elapsed())
            event = self.codec.decode(record)
            file.following = record.following
            file.passed += 1
            if isinstance(event, Refusal) or event.label is None or (joined and joined.mode == "negative"):
                continue
            value = record.value if record.value is not None else self.codec.encode(event)
            time_ = event.time or record.time or self.now()
            if self._erased and self._erased.event(event.id, event.features, time_):
                continue
            file.rows.append(Row(record.offset, record.following, time_, event.id, value))
            file.bytes += len(value)
            self.events += 1

    def close_files(self, *, everything: bool = False) -> None:
        """Write the files that are due; a partition where nothing is valid gets one when it would be read again."""
        for part, file in list(self._open.items()):
            full = len(file.rows) >= self.config.every_events or file.bytes >= _FILE_BYTES
            old = file.rows and self.elapsed() - file.since >= self.config.every_seconds
            due = full or old or file.passed >= 10 * self.config.every_events or (everything and file.rows)
            if not due:
                continue
            if not self.archive.write(part, file.begin, file.following, file.rows, self.now()):
                log.warning("%s: another archiver wrote from offset %d on; beginning again", part.folder, file.begin)
                self.begin()
                return
            log.info("%s: %d events up to offset %d are archived", part.folder, len(file.rows), file.following)
            self._open[part] = Open(file.following, file.following, self.elapsed())
            self._written += 1
            self.patiently(self.follow_erasures)
            if self._written % _TIDY_FILES == 0:
                self.tidy()

    def follow_erasures(self) -> None:
        """Keep nothing that ``holdfast forget`` has erased, not even what was being written at that moment.

        The command says so in the ledger before it lists the files, and this looks there after it wrote one (the newest
        of its partition, then): so one of the two sees what the other did.
        """
        entries = self.lineage.ledger.entries()
        found = erasures(entries, self._followed)
        self._followed = len(entries)
        if not found:
            return
        self._erased = Erased(self._membership, erasures(entries))
        new = Erased(self._membership, found)
        is_meant = meant(self.codec, new)
        for part, file in self._open.items():
            file.rows = [row for row in file.rows if not is_meant(part, row)]
        newest = {file.part: file for file in self.archive.files()}
        with rewriting.lease_of(self.archive.store, self.now).held():
            erased = rewriting.erase(self.archive, list(newest.values()), is_meant, self.now())
            gone = sum(len(rows) for _, rows in erased)
        if gone:
            log.warning("%d events just written are erased, as ledger entry %d asks", gone, found[-1].seq)

    def tidy(self) -> None:
        """Put small files together, and delete what is too old or too much."""
        rules = self.config
        gone = []
        try:
            with contextlib.suppress(RefusedError), rewriting.lease_of(self.archive.store, self.now).held():
                rewriting.compact(self.archive, self.now(), events=_COMPACTED * rules.every_events)
                rewriting.sweep(self.archive, self.now())
                gone = rewriting.forget_old(
                    self.archive,
                    self.now(),
                    seconds=rules.keep_days * _DAY_SECONDS,
                    most_bytes=int(rules.keep_gigabytes * 1e9),
                )
        except DamagedError as cause:
            log.error("the archive is not put together: %s", cause)
        for name, why in self.archive.damaged.items():
            if name not in self._told:
                self._told.add(name)
                log.error("%s; archiving goes on", why)
        for file in gone:
            log.info("%s is deleted: archive.keep_days or archive.keep_gigabytes is reached", file.name)

    def patiently(self, what: Callable[[], object]) -> None:
        """Do it, trying again while source or store are away; :class:`InterruptedError` when asked to stop."""

        def trouble(cause: Exception, _: float) -> None:
            if self.stopping():
                raise InterruptedError from cause
            log.error("%s; trying again", cause)
            self.presence.say(state="waiting", why=str(cause), events=self.events, waiting=0)

        patiently(what, (SourceAwayError, StoreError, RefusedError), trouble, self.sleep)


class Brought(msgspec.Struct):
    """What an import came to: events kept, refused (and ``why`` the first of these was), and the labels of the kept."""

    kept: int
    refused: int
    why: str
    labels: Counter[bool | int]


def bring_in(  # noqa: PLR0913  a command's parts
    path: Path,
    events: Iterable[bytes],
    *,
    name: str,
    archive: Archive,
    codec: Codec,
    every: int,
    erased: Erased,
    now: Callable[[], float],
    progress: Callable[[int], None] = lambda _count: None,
) -> Brought:
    """Archive the events of a file under a name; return what was kept, and what was refused or has no label.

    A file's events are numbered by their lines, so a second import of the same file changes nothing, and one that was
    cut off is completed. Another file under the same name is refused.
    """
    part = Part(IMPORTED, NO_ID, name)
    end = archive.ends().get(part, 0)
    there = (row for file in archive.files() if file.part == part for row in archive.rows(file))
    kept = refused = number = 0
    why, labels = "", Counter[bool | int]()
    begin, rows, began = end, list[Row](), now()
    for number, value in enumerate(events):
        event = codec.decode(Record(IMPORTED, name, number, number + 1, value))
        if isinstance(event, Refusal) or event.label is None:
            refused += 1
            no_label = "it has no label: name its column with --label, or set event.label"
            why = why or (f"{event.field}: {event.message}" if isinstance(event, Refusal) else no_label)
            if not kept and refused >= every:
                raise CommandError(f"{path}: none of the first {refused:,} events is valid: {why}")
            continue
        if erased.event(event.id, event.features, event.time):
            continue
        kept += 1
        if isinstance(event.label, bool | int):
            labels[event.label] += 1
        row = Row(number, number + 1, event.time or began, event.id, value)
        if number < end:
            if not _same(next(there, None), row):
                raise CommandError(f"another file was imported as {name!r} before: name this one with --as NAME")
            continue
        rows.append(row)
        if len(rows) >= every:
            _written(archive.write(part, begin, number + 1, rows, now()), name)
            begin, rows = number + 1, []
            progress(number + 1)
    if rows:
        _written(archive.write(part, begin, number + 1, rows, now()), name)
    return Brought(kept, refused, why, labels)


def _same(one: Row | None, other: Row) -> bool:
    """The same event; one that has no time of its own got that of its import."""
    return one is not None and (one.offset, one.id, one.value) == (other.offset, other.id, other.value)


def _written(created: bool, name: str) -> None:
    if not created:
        raise CommandError(f"somebody else imports {name!r} just now; run this again when they are done")
