"""The holdout: rows that are never learnt, and by which every snapshot is scored.

Membership is a keyed hash of the id and nothing else (promise 6). Sealing only chooses which of the claimed rows are
scored: a version is a blob named by its digest, never changed.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from snapshots.errors import DamagedError
from snapshots.records.held_rows import HeldRow, rows_of, spread
from snapshots.records.manifest import HoldoutState, HoldoutVersion, Part
from snapshots.records.place import Ranges, within

if TYPE_CHECKING:
    from learners.event import Label

FIRST_ROWS = 500
FEWEST_ROWS = 200
LONG_EVENTS = 100_000
CHUNK_ROWS = 200
#: sealed versions that a snapshot names: the newest is scored on, the one before is the floor, the rest is history
KEPT_VERSIONS = 10


class Sizes(msgspec.Struct, frozen=True):
    """How many rows a version has, and how few of a slice or a class go on being collected."""

    rows: int
    min_slice_rows: int = FEWEST_ROWS
    min_class_rows: int = 50


class Tails(msgspec.Struct):
    """The candidate's rows that no blob holds yet: ``recent`` the newest, ``kept`` the newest of those kept aside."""

    recent: list[HeldRow] = []
    kept: list[HeldRow] = []


class Rolling:
    """Rows oldest first: encoded blobs of 200, and a tail that no blob holds yet. Blobs stay encoded in memory too."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.chunks: list[tuple[Part, bytes, int]] = []
        self.tail: list[HeldRow] = []

    def __len__(self) -> int:
        return sum(count for _, _, count in self.chunks) + len(self.tail)

    def __iter__(self) -> Iterator[HeldRow]:
        for part, data, _ in self.chunks:
            yield from rows_of(data, part.name)
        yield from self.tail

    def clear(self) -> None:
        """Hold nothing."""
        self.chunks, self.tail = [], []

    def add(self, row: HeldRow) -> tuple[Part, bytes] | None:
        """Take a row; return the blob that this one completed."""
        self.tail.append(row)
        if len(self.tail) < CHUNK_ROWS:
            return None
        data = msgspec.msgpack.encode(self.tail)
        part = _part(self._what, data)
        self.chunks.append((part, data, len(self.tail)))
        self.tail = []
        return part, data

    def give_way(self, most: int) -> list[HeldRow]:
        """Take out the oldest rows, blob by blob, as long as ``most`` are left without them."""
        gone: list[HeldRow] = []
        count = len(self)
        while self.chunks and count - self.chunks[0][2] >= most:
            part, data, rows = self.chunks.pop(0)
            gone += rows_of(data, part.name)
            count -= rows
        return gone


class Holdout:
    """What the trainer keeps of the holdout: sealed versions, and the rolling candidate for the next one.

    A first version is sealed at 500 rows (or with what is there after 100,000 labelled events, if that is 200), the
    full one at ``sizes.rows``. After that the candidate is bounded: its oldest rows give way, but for those of slices
    and classes that are short, which are kept aside, up to half as many again. Blobs to be written are taken by
    ``unwritten``.
    """

    def __init__(self, sizes: Sizes, task: str) -> None:
        self.sizes, self.task = sizes, task
        self.versions: list[HoldoutVersion] = []
        self.followed = 0
        self._recent, self._kept = Rolling("rows"), Rolling("kept")
        self._slices: Counter[str] = Counter()
        self._classes: Counter[Label] = Counter()
        self._unwritten: dict[str, bytes] = {}

    def restore(self, state: HoldoutState, tails: Tails, read: Callable[[Part], bytes]) -> list[str]:
        """Take the state of a snapshot; return what of the candidate is damaged and left out."""
        self.versions, self.followed = list(state.versions), state.followed
        self._recent, self._kept, self._unwritten = Rolling("rows"), Rolling("kept"), {}
        self._recent.tail, self._kept.tail = list(tails.recent), list(tails.kept)
        damaged = []
        for part in state.chunks:
            rolling = self._kept if part.name.startswith("holdout/kept-") else self._recent
            try:
                data = read(part)
                rolling.chunks.append((part, data, len(rows_of(data, part.name))))
            except DamagedError as cause:
                damaged.append(str(cause))
        self._slices, self._classes = Counter(), Counter()
        self._count(self.candidate, 1)
        return damaged

    @property
    def candidate(self) -> list[HeldRow]:
        """The rows of the next version: those kept aside, then the recent ones, each oldest first."""
        return [*self._kept, *self._recent]

    def __len__(self) -> int:
        return len(self._kept) + len(self._recent)

    @property
    def scale(self) -> float | None:
        """The unit of errors of the newest version; None before there is one."""
        return self.versions[-1].scale if self.versions else None

    def state(self) -> HoldoutState:
        """What a manifest says of it."""
        chunks = [part for part, _, _ in (*self._kept.chunks, *self._recent.chunks)]
        return HoldoutState(list(self.versions), chunks, len(self), self.followed)

    def tails(self) -> Tails:
        """The newest rows, which no blob holds yet."""
        return Tails(list(self._recent.tail), list(self._kept.tail))

    def unwritten(self) -> dict[str, bytes]:
        """Blobs, by name, that have to be durable before the next manifest names them."""
        blobs, self._unwritten = self._unwritten, {}
        return blobs

    def add(self, row: HeldRow) -> None:
        """Take a claimed row into the candidate; when there is a full version, let old ones give way."""
        self._count([row], 1)
        self._put(self._recent, row)
        if not self._full():
            return
        for old in self._recent.give_way(self.sizes.rows):
            if self._short(old):
                self._put(self._kept, old)
            else:
                self._count([old], -1)
        self._count(self._kept.give_way(self.sizes.rows // 2), -1)

    def due(self, labelled: int) -> bool:
        """Tell whether a version is to be sealed by itself; ``labelled`` counts all labelled events so far."""
        count = len(self)
        if not self.versions:
            first = min(FIRST_ROWS, self.sizes.rows)
            return count >= first or (labelled >= LONG_EVENTS and count >= min(FEWEST_ROWS, self.sizes.rows))
        return self.versions[-1].rows < self.sizes.rows and len(self.versions) == 1 and count >= self.sizes.rows

    def seal(self, left_out: Sequence[Ranges], now: float) -> HoldoutVersion | None:
        """Seal the candidate as the next version, without rows of these ranges; None when nothing is left.

        Until there is a full version the candidate goes on growing; after that only what is short stays in it.
        """
        good = [
            row
            for row in self._recent
            if not any(within(ranges, row.topic, row.partition, row.offset) for ranges in left_out)
        ]
        kept = [
            row
            for row in self._kept
            if self._short(row) and not any(within(ranges, row.topic, row.partition, row.offset) for ranges in left_out)
        ]
        kept = kept[-max(self.sizes.rows // 2, 1) :]
        rows = [*kept, *(good[-max(self.sizes.rows - len(kept), 1) :] if self._full() else good)]
        if not rows:
            return None
        version = self._version(self.versions[-1].number + 1 if self.versions else 1, rows, now)
        self.versions = [*self.versions, version][-KEPT_VERSIONS:]
        if len(rows) >= self.sizes.rows or self._full():
            self._begin_next(rows)
        return version

    def erase(self, erased: Callable[[HeldRow], bool], now: float, read: Callable[[Part], bytes]) -> int:
        """Take out rows for good, and return how many: of the candidate, and of the newest version by a new one.

        Older versions that hold such a row, or are damaged, are left out: no snapshot from here on names them.
        """
        gone = 0
        for rolling in (self._kept, self._recent):
            rows = list(rolling)
            left = [row for row in rows if not erased(row)]
            if len(left) < len(rows):
                gone += len(rows) - len(left)
                self._count([row for row in rows if erased(row)], -1)
                rolling.clear()
                for row in left:
                    self._put(rolling, row)
        kept: list[HoldoutVersion] = []
        for one in self.versions:
            try:
                rows = rows_of(self._unwritten.get(one.part.name) or read(one.part), one.part.name)
            except DamagedError:
                continue
            left = [row for row in rows if not erased(row)]
            gone += len(rows) - len(left)
            if len(left) == len(rows):
                kept.append(one)
            elif one is self.versions[-1] and left:
                kept.append(self._version(one.number + 1, left, now))
        self.versions = kept
        named = {part.name for part in (*self.state().chunks, *(one.part for one in kept))}
        self._unwritten = {name: data for name, data in self._unwritten.items() if name in named}
        return gone

    def _version(self, number: int, rows: list[HeldRow], now: float) -> HoldoutVersion:
        data = msgspec.msgpack.encode(rows)
        part = _part("version", data)
        self._unwritten[part.name] = data
        scale = spread([row.label for row in rows]) if self.task == "regression" else 1.0
        return HoldoutVersion(number, part, len(rows), now, scale)

    def _begin_next(self, sealed: Sequence[HeldRow]) -> None:
        """Begin the next candidate, with what is short of slices and classes among the rows just sealed."""
        self._recent.clear()
        self._kept.clear()
        self._slices, self._classes = Counter(), Counter()
        self._count(sealed, 1)
        short = [row for row in sealed if self._short(row)]
        self._slices, self._classes = Counter(), Counter()
        self._count(short, 1)
        for row in short:
            self._put(self._kept, row)

    def _full(self) -> bool:
        return len(self.versions) > 1 or bool(self.versions and self.versions[0].rows >= self.sizes.rows)

    def _put(self, rolling: Rolling, row: HeldRow) -> None:
        if (blob := rolling.add(row)) is not None:
            self._unwritten[blob[0].name] = blob[1]

    def _count(self, rows: Iterable[HeldRow], by: int) -> None:
        for row in rows:
            for name in row.slices:
                self._slices[name] += by
                if not self._slices[name]:
                    del self._slices[name]
            if self.task != "regression":
                self._classes[row.label] += by

    def _short(self, row: HeldRow) -> bool:
        """Tell of a row whether it belongs to a slice or class that has too few of them."""
        few = self.task != "regression" and self._classes[row.label] < self.sizes.min_class_rows
        return few or any(self._slices[name] < self.sizes.min_slice_rows for name in row.slices)


def _part(what: str, data: bytes) -> Part:
    digest = hashlib.sha256(data).hexdigest()
    return Part(f"holdout/{what}-{digest}", len(data), digest)
