"""Held-out rows as they are written: rows, sealed versions of them, and what people are shown of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.event import Event, Features, Label
from snapshots.errors import DamagedError
from snapshots.records import manifest as manifests
from snapshots.records.manifest import HoldoutVersion
from snapshots.store.store import Store


class HeldRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One held-out event: where it was, its features as JSON bytes, its label, its time (Unix seconds), its slices.

    ``digest`` is the keyed hash of its id (empty in rows of an older version).
    """

    topic: str
    partition: str
    offset: int
    features: bytes
    label: Label
    time: float
    slices: list[str]
    digest: bytes = b""

    def event(self) -> Event:
        """The event, to be predicted."""
        return Event("", Features(self.features), self.label)


def spread(labels: Sequence[Label]) -> float:
    """From the 5 % to the 95 % point of the labels: the unit that errors of a regression are counted in."""
    low, high = np.quantile(np.array(labels, float), [0.05, 0.95])
    return float(high - low) or float(np.std(np.array(labels, float))) or 1.0


def rows_of(data: bytes, name: str) -> list[HeldRow]:
    """Decode rows; raise :class:`DamagedError` when they do not."""
    try:
        return msgspec.msgpack.decode(data, type=list[HeldRow])
    except (msgspec.DecodeError, RecursionError) as cause:
        raise DamagedError(f"{name} does not decode: {cause}") from cause


def read_version(store: Store, version: HoldoutVersion) -> list[HeldRow]:
    """Return the rows of a sealed version, verified before they are decoded."""
    return rows_of(manifests.read(store, version.part), version.part.name)


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
