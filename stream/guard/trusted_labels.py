"""The trusted voice: checked labels out of ``[holdout.trusted]``, into the store, where the guard finds them."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from snapshots import Lineage
from snapshots.decisions import trusted
from snapshots.errors import RefusedError, SnapshotsError
from snapshots.records.held_rows import HeldRow
from snapshots.store.size_limits import escaped
from stream.errors import StreamError
from stream.guard.checked_rows import Checking
from stream.record import Record
from stream.refusal import counted
from stream.source.source import Source

if TYPE_CHECKING:
    from snapshots.records.place import Place

log = logging.getLogger("holdfast.guard")
_LIMIT = 500
#: lots come no faster, in seconds: each is an entry of the ledger
_EVERY_SECONDS = 10.0
#: but before they take more memory, or name more files, than this, in bytes
_HELD_BYTES, _NAMED_BYTES = 16_000_000, 100_000
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0


class Voice:
    """Reads checked labels and writes them in lots, each named by an entry that also says how far was read.

    A lot says how far was read of the files (or partitions) that were read for it, and all lots together say it of all.
    So a label is taken once, whoever reads, and one that was erased is not read again. It belongs to one thread.
    """

    def __init__(
        self,
        lineage: Lineage,
        checking: Callable[[], Checking],
        source: Callable[[], Source],
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._lineage, self._checking, self._make, self._now, self._sleep = lineage, checking, source, now, sleep
        self._source: Source | None = None
        self._read_on: Place = {}
        self._held = self._named = 0
        self._after: int | None = None
        self._rows: list[HeldRow] = []
        self._written = -_EVERY_SECONDS
        self._said = ""

    def run(self, stopping: Callable[[], bool]) -> None:
        """Read until asked to stop; what cannot be read just now is tried again, and said once."""
        wait = _FIRST_WAIT
        while not stopping():
            try:
                self.step()
                wait, self._said = _FIRST_WAIT, ""
            except (StreamError, SnapshotsError) as cause:
                self._say(f"holdout.trusted: {cause}")
                self.close()
                self._sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
        self.close()

    def take(self) -> None:
        """Read what is there now, and no more; what cannot be read is said."""
        try:
            source = self._opened()
            source.mark_end()
            while not source.ended():
                self._read(source)
                if self._full():
                    self._write()
                    if self._source is not source:  # another process has read on
                        return
            self._write()
        except StreamError as cause:
            log.error("holdout.trusted: %s", cause)
        self.close()

    def step(self) -> None:
        """Read what has come, and write a lot when one is due."""
        self._read(self._opened())
        if self._full() or not 0.0 <= self._now() - self._written < _EVERY_SECONDS:
            self._write()

    def close(self) -> None:
        """Leave the source; what was read and not written is read again."""
        if self._source is not None:
            self._source.close()
        self._source = None
        self._clear()

    def _clear(self) -> None:
        self._rows, self._read_on, self._held, self._named = [], {}, 0, 0

    def _full(self) -> bool:
        return self._held > _HELD_BYTES or self._named > _NAMED_BYTES

    def _opened(self) -> Source:
        if self._source is None:
            self._after, place = trusted.read_to(self._lineage.refresh().entries)
            source = self._make()
            there = source.open(place or source.resolve(), {})
            self._source = source
            for topic, ends in place.items():
                for gone in ends.keys() - there.get(topic, {}).keys():
                    self._note(topic, gone, 0)
        return self._source

    def _read(self, source: Source) -> None:
        records = source.poll(_LIMIT)
        if not records:
            return
        checking, refused = self._checking(), Counter[str]()
        for one in records:
            found = checking.row(one)
            if isinstance(found, HeldRow):
                self._rows.append(found)
                self._held += len(one.value or b"")
            else:
                refused[found] += 1
            self._note(one.topic, one.partition, one.following)
        if refused:
            log.warning("holdout.trusted: %s of %d labels were not taken (%s), the last before %s",
                        sum(refused.values()), len(records), counted(refused), _where(records[-1]))  # fmt: skip

    def _note(self, topic: str, partition: str, end: int) -> None:
        """Note how far was read, to be said with the next lot."""
        ends = self._read_on.setdefault(topic, {})
        self._named += 0 if partition in ends else escaped(partition)
        ends[partition] = end

    def _write(self) -> None:
        rows = self._rows
        if not rows and not self._full():
            return
        try:
            entry = trusted.give(
                self._lineage.store, self._lineage.ledger, rows, by="holdout.trusted", now=self._now(),
                why=f"{len(rows):,} labels", place=self._read_on, after=self._after,
            )  # fmt: skip
        except RefusedError as cause:
            log.info("%s: going on from there", cause)
            self.close()
            return
        self._after, self._written = entry.seq, self._now()
        self._clear()
        log.info("%d checked labels were taken: ledger entry %d", len(rows), entry.seq)

    def _say(self, what: str) -> None:
        if what != self._said:
            log.error("%s; trying again", what)
        self._said = what


def _where(record: Record) -> str:
    return f"{record.topic}/{record.partition} {record.following}"
