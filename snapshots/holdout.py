"""The holdout: rows that are never learnt, and by which every snapshot is scored.

Membership is a keyed hash of the id and nothing else (promise 6). Sealing only chooses which of the claimed rows are
scored: a version is a blob named by its digest, never changed.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from learners.event import Event, Features, Label
from snapshots import manifest as manifests
from snapshots.errors import DamagedError
from snapshots.manifest import HoldoutState, HoldoutVersion, Part, Ranges
from snapshots.store import Store

_DIGEST = 16
FIRST_ROWS = 500
FEWEST_ROWS = 200
LONG_EVENTS = 100_000
CHUNK_ROWS = 200
_MOVED = 0.1


class Membership:
    """Hashes ids with the lineage's key (32 bytes). ``rate`` is the share of labelled events set aside.

    The key keeps producers from choosing what is scored. One hash serves both uses: its first half decides
    membership, its second finds duplicates.
    """

    def __init__(self, key: bytes, rate: float) -> None:
        self._seed = hashlib.blake2b(key=key, digest_size=_DIGEST)
        self._below = int(rate * 2**64)

    def digest(self, identity: str) -> bytes:
        """Return the keyed hash of an id (16 bytes)."""
        seeded = self._seed.copy()
        seeded.update(identity.encode("utf-8", "surrogatepass"))
        return seeded.digest()

    def claims(self, digest: bytes) -> bool:
        """Tell whether the id with this hash is held out."""
        return int.from_bytes(digest[:8], "big") < self._below


class HeldRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One held-out event: where it was, its features as JSON bytes, its label, its time (Unix seconds), its slices."""

    topic: str
    partition: str
    offset: int
    features: bytes
    label: Label
    time: float
    slices: list[str]

    def event(self) -> Event:
        """The event, to be predicted."""
        return Event("", Features(self.features), self.label)


class Sizes(msgspec.Struct, frozen=True):
    """How many rows a version has, and how few of a slice or a class go on being collected."""

    rows: int
    min_slice_rows: int = FEWEST_ROWS
    min_class_rows: int = 50


class Holdout:
    """What the trainer keeps of the holdout: sealed versions, and the rolling candidate for the next one.

    A first version is sealed at 500 rows (or with what is there after 100,000 labelled events, if that is 200), the
    full one at ``sizes.rows``. After that the candidate is bounded: its oldest rows give way, but for those of slices
    and classes that are still short. Blobs to be written are taken by ``unwritten``.
    """

    def __init__(self, sizes: Sizes, task: str) -> None:
        self.sizes, self.task = sizes, task
        self.versions: list[HoldoutVersion] = []
        self.followed = 0
        self._chunks: list[tuple[Part, list[HeldRow]]] = []
        self._tail: list[HeldRow] = []
        self._unwritten: dict[str, bytes] = {}

    def restore(self, state: HoldoutState, tail: Sequence[HeldRow], read: Callable[[Part], bytes]) -> list[str]:
        """Take the state of a snapshot; return what of the candidate is damaged and left out."""
        self.versions, self.followed = list(state.versions), state.followed
        self._chunks, self._tail, self._unwritten = [], list(tail), {}
        damaged = []
        for part in state.chunks:
            try:
                self._chunks.append((part, rows_of(read(part), part.name)))
            except DamagedError as cause:
                damaged.append(str(cause))
        return damaged

    @property
    def candidate(self) -> list[HeldRow]:
        """The rows of the next version, oldest first."""
        return [*itertools.chain.from_iterable(rows for _, rows in self._chunks), *self._tail]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._chunks) + len(self._tail)

    def state(self) -> HoldoutState:
        """What a manifest says of it."""
        return HoldoutState(list(self.versions), [part for part, _ in self._chunks], len(self), self.followed)

    def tail(self) -> list[HeldRow]:
        """The newest rows, which no chunk holds yet."""
        return list(self._tail)

    def unwritten(self) -> dict[str, bytes]:
        """Blobs, by name, that have to be durable before the next manifest names them."""
        blobs, self._unwritten = self._unwritten, {}
        return blobs

    def add(self, row: HeldRow) -> None:
        """Take a claimed row into the candidate."""
        self._tail.append(row)
        if len(self._tail) >= CHUNK_ROWS:
            self._freeze()

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
        rows = [row for row in self.candidate if not any(_within(row, ranges) for ranges in left_out)]
        rows = rows[-max(self.sizes.rows, 1) :] if self._full() else rows
        if not rows:
            return None
        data = msgspec.msgpack.encode(rows)
        part = self._blob("version", data)
        scale = spread([row.label for row in rows]) if self.task == "regression" else 1.0
        version = HoldoutVersion(len(self.versions) + 1, part, len(rows), now, scale)
        self.versions.append(version)
        if len(rows) >= self.sizes.rows or self._full():
            short = self._short(rows)
            self._chunks, self._tail = [], [row for row in rows if short(row)]
        return version

    def _full(self) -> bool:
        return len(self.versions) > 1 or bool(self.versions and self.versions[0].rows >= self.sizes.rows)

    def _freeze(self) -> None:
        """Make a chunk of the newest rows; the oldest give way, but for rows that are short, up to twice as many."""
        rows, self._tail = self._tail, []
        kept: list[HeldRow] = []
        short = self._short([*self.candidate, *rows]) if self._full() else None
        while short is not None and self._chunks:
            count = len(self) + len(kept) + len(rows)
            if count - len(self._chunks[0][1]) < self.sizes.rows:
                break
            _, oldest = self._chunks.pop(0)
            kept += [row for row in oldest if short(row)] if count <= 2 * self.sizes.rows else []
        rows = kept + rows
        self._chunks.append((self._blob("rows", msgspec.msgpack.encode(rows)), rows))

    def _short(self, rows: Iterable[HeldRow]) -> Callable[[HeldRow], bool]:
        """Tell of a row whether it belongs to a slice or class that has too few of them."""
        slices: Counter[str] = Counter()
        classes: Counter[Label] = Counter()
        for row in rows:
            slices.update(row.slices)
            if self.task != "regression":
                classes[row.label] += 1

        def short(row: HeldRow) -> bool:
            few = self.task != "regression" and classes[row.label] < self.sizes.min_class_rows
            return few or any(slices[name] < self.sizes.min_slice_rows for name in row.slices)

        return short

    def _blob(self, what: str, data: bytes) -> Part:
        digest = hashlib.sha256(data).hexdigest()
        part = Part(f"holdout/{what}-{digest}", len(data), digest)
        self._unwritten[part.name] = data
        return part


def _within(row: HeldRow, ranges: Ranges) -> bool:
    found = ranges.get(row.topic, {}).get(row.partition)
    return found is not None and found[0] <= row.offset and (found[1] is None or row.offset < found[1])


def spread(labels: Sequence[Label]) -> float:
    """From the 5 % to the 95 % point of the labels: the unit that errors of a regression are counted in."""
    low, high = np.quantile(np.array(labels, float), [0.05, 0.95])
    return float(high - low) or float(np.std(np.array(labels, float))) or 1.0


def rows_of(data: bytes, name: str) -> list[HeldRow]:
    """Decode rows; raise :class:`DamagedError` when they do not."""
    try:
        return msgspec.msgpack.decode(data, type=list[HeldRow])
    except msgspec.DecodeError as cause:
        raise DamagedError(f"{name} does not decode: {cause}") from cause


def read_version(store: Store, version: HoldoutVersion) -> list[HeldRow]:
    """Return the rows of a sealed version, verified before they are decoded."""
    return rows_of(manifests.verify(version.part, store.get(version.part.name)), version.part.name)


def shares(rows: Sequence[HeldRow], task: str) -> dict[str, Any]:
    """Rows, shares of labels and of slices, and the span of time, as ``holdfast holdout show`` prints them."""
    slices = Counter(name for row in rows for name in row.slices)
    labels = Counter(str(row.label) for row in rows) if task != "regression" else Counter()
    times = [row.time for row in rows]
    return {
        "rows": len(rows),
        "labels": {name: count / len(rows) for name, count in labels.most_common(20)},
        "mean_label": float(np.mean([float(row.label) for row in rows])) if rows else None,
        "slices": dict(slices.most_common(50)),
        "from": min(times, default=None),
        "to": max(times, default=None),
    }


def moved_away(sealed: dict[str, Any], fresh: dict[str, Any]) -> str | None:
    """Say when rows collected since differ much from those that are sealed, in labels or slices; None when not."""
    if fresh["rows"] < FEWEST_ROWS:
        return None
    label = abs((fresh["mean_label"] or 0.0) - (sealed["mean_label"] or 0.0))
    far = []
    for name in sorted({*sealed["slices"], *fresh["slices"]}):
        by = abs(sealed["slices"].get(name, 0) / sealed["rows"] - fresh["slices"].get(name, 0) / fresh["rows"])
        far += [f"{name} by {by:.0%}"] if by > _MOVED else []
    if label > _MOVED * max(1.0, abs(sealed["mean_label"] or 0.0)):
        far.insert(0, f"the mean label by {label:.3g}")
    if not far:
        return None
    return f"recent events have moved away from holdout {sealed['version']}: {', '.join(far[:5])}; see holdout refresh"
