"""How long labels take to come: a histogram in steps of a tenth of a decade, over all and for each slice."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

_PER_DECADE, _LEAST = 10, 0.001
_CELLS = 130
_OTHER = "(other)"


class Delays(msgspec.Struct):
    """Counts of labels by delay, and of those that came after the wait, for each slice; ``""`` is all of them."""

    counts: dict[str, list[int]] = {}
    late: dict[str, int] = {}

    def note(self, seconds: float, slices: Sequence[str], most_slices: int, *, late: bool) -> None:
        """Count one label."""
        cell = _cell(seconds)
        for name in ("", *slices):
            if name not in self.counts and len(self.counts) > most_slices:
                name = _OTHER  # noqa: PLW2901  too many of them to tell apart
            self.counts.setdefault(name, [0] * _CELLS)[cell] += 1
            self.late[name] = self.late.get(name, 0) + late

    def figures(self) -> dict[str, Any]:
        """Seconds at p50, p90 and p99, the share of labels that came late, and the wait that would catch 99 %."""
        found = {name: self._figures(name) for name in self.counts}
        return {**found.pop(""), "slices": found} if "" in found else {}

    def _figures(self, name: str) -> dict[str, Any]:
        counts = self.counts[name]
        total = sum(counts)
        at = {share: _quantile(counts, total, share) for share in (0.5, 0.9, 0.99)}
        return {
            "labels": total, "p50": at[0.5], "p90": at[0.9], "p99": at[0.99],
            "late_share": self.late.get(name, 0) / total, "wait_for_99": at[0.99],
        }  # fmt: skip


def _cell(seconds: float) -> int:
    """The cell of a delay.

    >>> [_cell(one) for one in (-3, 0, 0.001, 0.01, 1, 1e12)]
    [0, 0, 1, 11, 31, 129]
    """
    return 0 if seconds < _LEAST else min(_CELLS - 1, 1 + math.floor(_PER_DECADE * math.log10(seconds / _LEAST) + 1e-9))


def _quantile(counts: Sequence[int], total: int, share: float) -> float:
    """The upper end of the cell in which this share is reached, in seconds."""
    reached = 0
    for cell, count in enumerate(counts):
        reached += count
        if reached >= share * total:
            return float(f"{_LEAST * 10 ** (cell / _PER_DECADE):.3g}")
    return 0.0
