"""Whether data moved: the population stability index, and Kolmogorov and Smirnov's distance with its probability.

Both compare a sample with the data of the last retrain, feature by feature, on bounded samples.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

_BINS, _VALUES = 10, 20
#: a cell that one side does not fill counts as this share, or the index would be infinite
_LEAST = 1e-4


class Moved(msgspec.Struct, frozen=True):
    """How far a feature moved: ``psi`` (0.1 is little, 0.25 is much), ``ks`` and its ``chance`` (numbers only)."""

    feature: str
    psi: float
    ks: float | None = None
    chance: float | None = None


def psi_of(shares: Sequence[float], other: Sequence[float]) -> float:
    """The population stability index of two distributions over the same cells: Σ (q - p)·ln(q / p).

    >>> round(psi_of([0.5, 0.5], [0.6, 0.4]), 6)
    0.040547
    """
    p, q = (np.maximum(np.array(one, np.float64), _LEAST) for one in (shares, other))
    return float(((q - p) * np.log(q / p)).sum())


def psi(before: Sequence[Any], now: Sequence[Any]) -> float:
    """The index of two samples: numbers by the tenths of ``before``, else by its 20 most frequent values.

    None is a cell of its own.
    """
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (*before, *now) if v is not None)
    cells: list[list[Any]]
    there = [v for v in before if v is not None]
    if numbers and there:
        edges = np.unique(np.quantile(np.array(there, np.float64), np.linspace(0, 1, _BINS + 1)[1:-1]))
        cells = [
            [-1 if v is None else int(np.searchsorted(edges, v, side="right")) for v in one] for one in (before, now)
        ]
    else:
        frequent = {value for value, _ in Counter(map(str, there)).most_common(_VALUES)}
        cells = [
            ["" if v is None else f"={v}" if str(v) in frequent else "others" for v in one] for one in (before, now)
        ]
    counts = [Counter(one) for one in cells]
    names = sorted({*counts[0], *counts[1]})
    return psi_of(*([one[name] / max(1, one.total()) for name in names] for one in counts))


def ks(before: Sequence[float], now: Sequence[float]) -> tuple[float, float]:
    """The largest difference of the two distribution functions, and how often chance makes it as large (asymptotic)."""
    from scipy import stats  # noqa: PLC0415  slow to import, and wanted by retrains only

    found = stats.ks_2samp(before, now, method="asymp")
    return float(found.statistic), float(found.pvalue)


def moved(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]], most: int = 200) -> list[Moved]:
    """Every feature of two samples of flat features, what moved furthest first."""
    names = Counter(name for one in (*before, *now) for name in one)
    found = []
    for name, _ in names.most_common(most):
        one, other = [row.get(name) for row in before], [row.get(name) for row in now]
        numbers = [[v for v in side if type(v) is float] for side in (one, other)]
        test = ks(*numbers) if min(map(len, numbers)) > 1 else (None, None)
        found.append(Moved(name, psi(one, other), *test))
    return sorted(found, key=lambda one: -one.psi)
