"""History in the store: a row a snapshot for hours, one a minute for a month, one an hour for a year.

``history/LEVEL/FIRST-LAST`` holds the rows of some snapshots, numbers ``FIRST`` to ``LAST``, as msgpack; it is never
changed. Who reads takes the finest level that there is for each time, and what is not written yet from manifests.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from snapshots.errors import DamagedError
from snapshots.history.rows import Row, judged, row_of, without_slices
from snapshots.lineage import Lineage
from snapshots.store.store import Store, claim

_DIGITS = 12
_NAME = re.compile(r"history/(snapshots|minutes|hours)/(\d{12})-(\d{12})\Z")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


class Level(msgspec.Struct, frozen=True):
    """Rows that are ``seconds`` apart, ``rows`` in a blob, and how many blobs there are at most."""

    name: str
    seconds: float
    rows: int
    blobs: int
    slices: bool


#: two hours and more at a snapshot a second; 32 days; a year. At most some ten megabytes each
LEVELS = (
    Level("snapshots", 0.0, 60, 150, slices=False),
    Level("minutes", 60.0, 60, 24 * 32, slices=False),
    Level("hours", 3600.0, 24, 366, slices=True),
)
_FLUSH_SECONDS = 60.0


class Recorder:
    """Writes history as snapshots come; ``resume`` finds what it had not written when it ended.

    ``lineage`` is asked for verdicts when rows are written, by when most snapshots have theirs.
    """

    def __init__(self, lineage: Lineage) -> None:
        self._lineage, self._store = lineage, lineage.store
        self._open: dict[str, list[Row]] = {level.name: [] for level in LEVELS}
        self._last: dict[str, float] = {}

    def resume(self) -> None:
        """Take up what the levels lack, out of the finer ones and of the manifests that are still there."""
        finer: list[Row] = []
        for level in LEVELS:
            there = names(self._store, level)
            written = blob(self._store, there[-1]) if there else []
            self._last[level.name] = written[-1].created if written else 0.0
            if level is LEVELS[0]:
                last = written[-1].snapshot if written else -1
                rows = (self._lineage.manifest(number) for number in self._lineage.numbers if number > last)
                fresh = [row_of(manifest) for manifest in rows if manifest is not None]
                finer = [row for name in there for row in blob(self._store, name)] + fresh
                self._open[level.name] = [without_slices(row) for row in fresh]
            else:
                finer = thinned(finer, level.seconds, self._last[level.name])
                self._open[level.name] = finer if level.slices else [without_slices(row) for row in finer]
            if self._open[level.name]:
                self._last[level.name] = self._open[level.name][-1].created

    def note(self, row: Row) -> None:
        """Take the row of a snapshot that is durable."""
        for level in LEVELS:
            if level.seconds and row.created // level.seconds == self._last.get(level.name, 0.0) // level.seconds:
                continue
            self._open[level.name].append(row if level.slices else without_slices(row))
            self._last[level.name] = row.created
            old = level is LEVELS[0] and row.created - self._open[level.name][0].created >= _FLUSH_SECONDS
            if len(self._open[level.name]) >= level.rows or old:
                self._write(level)

    def _write(self, level: Level) -> None:
        rows = self._open[level.name]
        name = f"history/{level.name}/{rows[0].snapshot:0{_DIGITS}d}-{rows[-1].snapshot:0{_DIGITS}d}"
        claim(self._store, name, _encode([judged(row, self._lineage.verdict) for row in rows]))
        self._open[level.name] = []
        for old in names(self._store, level)[: -level.blobs]:
            self._store.delete(old)


def names(store: Store, level: Level) -> list[str]:
    """The blobs of a level, oldest first."""
    return [name for name in store.names(f"history/{level.name}/") if _NAME.match(name)]


def blob(store: Store, name: str) -> list[Row]:
    """The rows of a blob; none where it is gone or damaged, since history is only looked at."""
    with contextlib.suppress(DamagedError, msgspec.DecodeError, RecursionError):
        return _decode(store.get(name) or b"\x90")
    return []


def thinned(rows: Iterable[Row], seconds: float, after: float) -> list[Row]:
    """The first row of each span of so many seconds, of those later than ``after``'s."""
    found: list[Row] = []
    last = int(after // seconds)
    for row in rows:
        if (span := int(row.created // seconds)) > last:
            found.append(row)
            last = span
    return found


class Reader:
    """Reads history; blobs are kept once they were read, since they never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blobs: dict[str, list[Row]] = {}
        self._fresh: dict[int, Row] = {}

    def rows(self, lineage: Lineage, since: float, until: float, most: int) -> list[Row]:
        """Rows between two times in Unix seconds, about evenly apart, at most so many; the newest is among them."""
        found = list(self._all(lineage, since, until))
        if len(found) <= most:
            return found
        return evenly(found, since, until, most)

    def _all(self, lineage: Lineage, since: float, until: float) -> Iterator[Row]:
        """The coarsest first, each up to where the finer one begins."""
        fresh = self._of_manifests(lineage)
        begins = fresh[0].created if fresh else float("inf")
        finest = [row for row in fresh if since <= row.created <= until]
        layers = [finest]
        for level in LEVELS:
            rows = [row for row in self._level(level) if row.created < begins]
            begins = min(begins, rows[0].created) if rows else begins
            layers.append([row for row in rows if since <= row.created <= until])
        for layer in reversed(layers):
            yield from layer

    def _level(self, level: Level) -> Iterator[Row]:
        there = names(self._store, level)
        for name in there:
            if name not in self._blobs:
                self._blobs[name] = blob(self._store, name)
            yield from self._blobs[name]
        gone = {name for name in self._blobs if name.startswith(f"history/{level.name}/")} - set(there)
        for name in gone:
            del self._blobs[name]

    def _of_manifests(self, lineage: Lineage) -> list[Row]:
        """The snapshots since the last blob of the finest level; before that there are only some left."""
        there = names(self._store, LEVELS[0])
        last = int(there[-1].rsplit("-", 1)[1]) if there else -1
        numbers = [number for number in lineage.numbers if number > last]
        for number in numbers:
            if number not in self._fresh and (manifest := lineage.manifest(number)) is not None:
                self._fresh[number] = row_of(manifest)
        self._fresh = {number: self._fresh[number] for number in numbers if number in self._fresh}
        return [judged(row, lineage.verdict) for row in self._fresh.values()]


def evenly(rows: Sequence[Row], since: float, until: float, most: int) -> list[Row]:
    """The last row of each of ``most`` equal spans of time."""
    width = max(until - max(since, rows[0].created), 1e-9) / most
    begin = max(since, rows[0].created)
    spans: dict[int, Row] = {}
    for row in rows:
        spans[min(int((row.created - begin) / width), most - 1)] = row
    return list(spans.values())
