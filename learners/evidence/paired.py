"""Pairs: the learner and its reference on the same fresh events, by e-detectors and confidence sequences."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.errors import StateRefusedError
from learners.evidence.losses import WHOLE, Floats, Integers

#: fixed bets of the e-detectors; a bet chosen from the data would not be valid
BETS: Floats = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
RECENT_EVENTS = 2000
FEW_EVENTS = 100
_WORSE, _BETTER, _WORLD = 0, 1, 2
_ALPHA = 0.05
_LARGEST = 1e300


class Interval(msgspec.Struct, frozen=True):
    """A mean with its 95 % confidence sequence over ``n`` events; ``n`` 0: nothing is known."""

    mean: float
    low: float
    high: float
    n: int


def stitched(variance: float, alpha: float) -> float:
    """How far a sum of values in [0, 1] gets from its mean at any time, but for a probability ``alpha``.

    ``variance`` is the sum of squared differences from predictions made before. Howard et al. (2021), equation 10, with
    η = 2, s = 1.4, m = 1, c = 1.

    >>> [round(stitched(one, 0.025), 1) for one in (0.0, 50.0, 5000.0)]
    [12.4, 38.2, 305.3]
    """
    eta, s, zeta = 2.0, 1.4, 3.10555
    v = max(variance, 1.0)
    level = s * math.log(math.log(eta * v)) + math.log(zeta / (alpha * math.log(eta) ** s))
    k1, k2 = (eta**0.25 + eta**-0.25) / math.sqrt(2), (math.sqrt(eta) + 1) / 2
    return math.sqrt(k1 * k1 * v * level + (k2 * level) ** 2) + k2 * level


class Paired:
    """Differences of loss, learner minus reference, on fresh events; row 0 is the whole stream, the others slices.

    Every look (``close_look``) multiplies what the events since the last one bet into the detectors:
    R ← (R + 1)·∏(1 + λ(d - tolerance)/(1 + tolerance)), for each λ of ``BETS``; the alarm looks at their average. The
    same for "better" with -d, and for "the world": the reference's own loss above what it was when it became reference.
    """

    def __init__(self, tolerance: float, reference: int | None = None, max_slices: int = 200) -> None:
        self.tolerance = tolerance
        self.reference = reference
        self.max_slices = max_slices
        self.slices: dict[str, int] = {WHOLE: 0}
        self.learner: Floats = np.full(1, np.nan)
        self._recent: Integers = np.zeros(1, np.int64)
        self._begin()

    def _begin(self) -> None:
        rows = len(self.slices)
        self.n: Integers = np.zeros(rows, np.int64)
        self._open: Integers = np.zeros(rows, np.int64)
        self._levels: Floats = np.where(self._recent >= FEW_EVENTS, self.learner, np.nan)
        self._r: Floats = np.zeros((rows, 3, len(BETS)))
        self._s: Floats = np.zeros((rows, 3, len(BETS)))
        self._cs: Floats = np.zeros((rows, 2))  # sums of x, and of (x - mean before)², for x = (d + 1) / 2

    def refer(self, reference: int | None) -> None:
        """Compare with another reference from here on; the detectors start again."""
        self.reference = reference
        self._begin()

    def row(self, name: str) -> int | None:
        """The row of a slice, made when it is new; None when there are too many."""
        found = self.slices.get(name)
        if found is None and len(self.slices) <= self.max_slices:
            found = self.slices[name] = len(self.slices)
            self.learner = np.append(self.learner, np.nan)
            self._levels = np.append(self._levels, np.nan)
            self.n, self._open, self._recent = (np.append(one, 0) for one in (self.n, self._open, self._recent))
            self._r, self._s, self._cs = (
                np.concatenate((one, np.zeros((1, *one.shape[1:])))) for one in (self._r, self._s, self._cs)
            )
        return found

    def update(self, learner: Floats, reference: Floats | None, slices: Sequence[Sequence[str]] | None) -> None:
        """Take the losses of a batch of fresh events (both of shape (events,)), scored before either learnt them."""
        rows = [[row for name in names if (row := self.row(name)) is not None] for names in slices or ()]
        belongs = np.zeros((len(self.slices), len(learner)))
        belongs[0] = 1.0
        for index, found in enumerate(rows):
            belongs[found, index] = 1.0
        count = belongs.sum(axis=1).astype(np.int64)
        if reference is not None:
            difference = learner - reference
            self._bet(belongs, difference, reference)
            self._sum(belongs, difference, count)
            self.n += count
            self._open += count
        seen = count > 0
        means = (belongs[seen] @ learner) / count[seen]
        share = count[seen] / np.minimum(self._recent[seen] + count[seen], RECENT_EVENTS)
        before = np.where(self._recent[seen] > 0, self.learner[seen], means)
        self.learner[seen] = before + np.minimum(share, 1.0) * (means - before)
        self._recent[seen] += count[seen]

    def _bet(self, belongs: Floats, difference: Floats, reference: Floats) -> None:
        """Add up, row by row, the logarithms of what each event bets; ``belongs`` is of shape (rows, events)."""
        stakes = (np.stack((difference, -difference)) - self.tolerance) / (1 + self.tolerance)
        logs = np.log1p(stakes[:, :, None] * BETS)
        self._s[:, _WORSE] += belongs @ logs[0]
        self._s[:, _BETTER] += belongs @ logs[1]
        rows, events = np.nonzero((belongs > 0) & np.isfinite(self._levels)[:, None])
        if len(rows):
            grown = (reference[events] - self._levels[rows] - self.tolerance) / (1 + self.tolerance)
            np.add.at(self._s[:, _WORLD], rows, np.log1p(grown[:, None] * BETS))

    def _sum(self, belongs: Floats, difference: Floats, count: Integers) -> None:
        """Add to the confidence sequences; the mean is that from before this batch, so it is predictable."""
        x = (difference + 1) / 2
        mean = (0.5 + self._cs[:, 0]) / (self.n + 1)
        total = belongs @ x
        square = np.maximum(belongs @ (x * x) - 2 * mean * total + mean * mean * count, 0.0)
        self._cs += np.stack((total, square), axis=1)

    def close_look(self) -> None:
        """Let what was bet since the last look count; slices without events since stay as they are."""
        fresh = self._open > 0
        with np.errstate(over="ignore"):
            self._r[fresh] = np.minimum((self._r[fresh] + 1) * np.exp(self._s[fresh]), _LARGEST)
        self._s[fresh] = 0.0
        self._open[:] = 0

    def worse(self, name: str = WHOLE) -> float:
        """The e-detector for "the learner is worse than its reference" (0 where nothing was seen)."""
        return self._detector(name, _WORSE)

    def better(self, name: str = WHOLE) -> float:
        """The e-detector for "the learner is better than its reference"."""
        return self._detector(name, _BETTER)

    def world(self, name: str = WHOLE) -> float:
        """The e-detector for "the reference itself loses more than when it became the reference"."""
        return self._detector(name, _WORLD)

    def _detector(self, name: str, which: int) -> float:
        row = self.slices.get(name)
        return 0.0 if row is None else float(self._r[row, which].mean())

    def events(self, name: str = WHOLE) -> int:
        """How many fresh events of a slice were scored against this reference."""
        row = self.slices.get(name)
        return 0 if row is None else int(self.n[row])

    def interval(self, name: str = WHOLE, alpha: float = _ALPHA) -> Interval:
        """The mean difference with its confidence sequence, which holds at any time but for ``alpha``."""
        row = self.slices.get(name)
        if row is None or not self.n[row]:
            return Interval(0.0, -1.0, 1.0, 0)
        total, square = self._cs[row]
        n = int(self.n[row])
        mean, half = 2 * float(total) / n - 1, 2 * stitched(float(square), alpha / 2) / n
        return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), n)

    def slice_names(self) -> list[str]:
        """The slices of which events were compared."""
        return [name for name in self.slices if name != WHOLE and self.events(name)]

    def figures(self, alpha: float = _ALPHA) -> dict[str, Any]:
        """Mean and interval of the whole and of each slice; each interval holds at any time but for ``alpha``."""
        whole, slices = self.interval(alpha=alpha), {name: self.interval(name, alpha) for name in self.slice_names()}
        return {
            "events": whole.n, "difference": whole.mean, "low": whole.low, "high": whole.high,
            "slices": {name: [one.mean, one.low, one.high, one.n] for name, one in slices.items()},
        }  # fmt: skip

    def figures_together(self, alpha: float) -> dict[str, Any]:
        """As :meth:`figures`, but all the intervals hold together but for ``alpha``."""
        return self.figures(alpha / (1 + len(self.slice_names())))

    def dump(self) -> bytes:
        """Encode the whole state as msgpack."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return msgspec.msgpack.encode(
            {
                "tolerance": self.tolerance,
                "reference": self.reference,
                "max_slices": self.max_slices,
                "slices": list(self.slices),
                **arrays,
            }
        )

    @classmethod
    def load(cls, data: bytes) -> "Paired":
        """Return what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            saved: dict[str, Any] = msgspec.msgpack.decode(data)
            found = cls(saved["tolerance"], saved["reference"], saved["max_slices"])
            found.slices = {name: row for row, name in enumerate(saved["slices"])}
            for name in _ARRAYS:
                setattr(found, name, np.array(saved[name], np.int64 if name in _WHOLE_NUMBERS else np.float64))
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError, ValueError) as cause:
            raise StateRefusedError(f"the evidence does not decode: {cause}") from cause
        return found


_ARRAYS = ("learner", "_recent", "n", "_open", "_levels", "_r", "_s", "_cs")
_WHOLE_NUMBERS = ("_recent", "n", "_open")
