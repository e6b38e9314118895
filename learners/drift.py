"""Whether data moved: the population stability index, and Kolmogorov and Smirnov's distance with its probability.

Both compare a sample with the data of the last retrain, feature by feature, on bounded samples. And whether a learner
does worse than it did: its losses against its own past, by an e-detector (see :mod:`learners.evidence.evidence`).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.errors import StateRefusedError
from learners.evidence.evidence import BETS, RECENT_EVENTS, Floats

_BINS, _VALUES = 10, 20
#: a cell that one side does not fill counts as this share, or the index would be infinite
_LEAST = 1e-4


class Moved(msgspec.Struct, frozen=True):
    """How far a feature moved: ``psi`` (0.1 is little, 0.25 is much), ``ks`` and its ``chance`` (numbers only)."""

    feature: str
    psi: float
    ks: float | None = None
    chance: float | None = None


class OwnLoss:
    """A learner's fresh losses against the best that it held before, for whatever reason it now does worse.

    The level is the lowest of all blocks of 2,000 scored events so far: a block's mean and three of its standard
    errors, so that a lucky block does not become the measure. While the mean loss stays at or below level and
    tolerance, the expected number of looks to an alarm at threshold c is at least c. ``since`` is the ledger's entry
    from which on it is measured; another begins anew.
    """

    def __init__(self, tolerance: float, since: int = 0) -> None:
        self.tolerance, self.since = tolerance, since
        self.level: float | None = None
        self.n = 0
        self.recent = math.nan
        self._block = np.zeros(3)  # events, sum, sum of squares
        self._r, self._s = np.zeros(len(BETS)), np.zeros(len(BETS))

    def update(self, losses: Floats) -> None:
        """Take the losses of a batch of fresh events, scored before the learner learnt them."""
        if not len(losses):
            return
        if self.level is not None:
            grown = (losses - self.level - self.tolerance) / (1 + self.tolerance)
            self._s += np.log1p(grown[:, None] * BETS).sum(axis=0)
        self.n += len(losses)
        mean = float(losses.mean())
        share = min(1.0, len(losses) / min(self.n, RECENT_EVENTS))
        self.recent = mean if math.isnan(self.recent) else self.recent + share * (mean - self.recent)
        self._block += (len(losses), losses.sum(), (losses * losses).sum())
        count, total, square = self._block
        if count >= RECENT_EVENTS:
            deviation = math.sqrt(max(0.0, square / count - (total / count) ** 2))
            highest = float(total / count + 3 * deviation / math.sqrt(count))
            self.level = highest if self.level is None else min(self.level, highest)
            self._block[:] = 0

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        if self._s.any():
            with np.errstate(over="ignore"):
                self._r = np.minimum((self._r + 1) * np.exp(self._s), 1e300)
            self._s[:] = 0

    def figures(self) -> dict[str, float | None]:
        """What a snapshot's manifest says; ``alarm`` is the e-detector."""
        recent = None if math.isnan(self.recent) else self.recent
        return {"level": self.level, "recent": recent, "events": self.n, "alarm": float(self._r.mean()),
                "since": self.since}  # fmt: skip

    def dump(self) -> bytes:
        """Encode the whole state as msgpack."""
        return msgspec.msgpack.encode((
            self.tolerance, self.since, self.level, self.n, self.recent, self._block.tolist(), self._r.tolist(),
            self._s.tolist(),
        ))  # fmt: skip

    @classmethod
    def load(cls, data: bytes) -> "OwnLoss":
        """Return what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            tolerance, since, level, n, recent, block, r, s = msgspec.msgpack.decode(data)
            found = cls(tolerance, since)
            found.level, found.n, found.recent = level, n, recent
            found._block, found._r, found._s = (np.array(one, np.float64) for one in (block, r, s))
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as cause:
            raise StateRefusedError(f"the evidence about a learner's own loss does not decode: {cause}") from cause
        return found


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
