"""Evidence that a learner forgets: pure functions of values, and the sums that a snapshot carries of them.

Three instruments, each for the whole stream and for every slice:

* :class:`Lane`: looks at the same frozen rows. Scoring them again gives no new evidence each time, so a look counts by
  being above a level that was held before, many times in a row; no probability is claimed for a single look.
* :class:`Paired`: loss differences between the learner and its reference on the same fresh events, scored before either
  learns. The alarm is an e-detector of Shiryaev-Roberts kind: J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a
  nonparametric framework for sequential change detection" (2023), theorem 2.4: while the mean difference stays at or
  below the tolerance, the expected number of looks to an alarm at threshold c is at least c, whatever the distribution.
* intervals that people see: the empirical-Bernstein confidence sequence of S. R. Howard, A. Ramdas, J. McAuliffe and
  J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021), theorem 4 with the polynomial
  stitched boundary of theorem 1: around the mean of all events so far, whatever swings in between, at all times.

All losses lie in [0, 1]: the squared error of the probability (binary), half the squared distance of the probabilities
(multi-class), the absolute error in units of the holdout's own spread, capped (regression).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from learners.errors import StateRefusedError
from learners.event import Label, Prediction, Task

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
#: the whole stream, beside the slices
WHOLE = ""
MEDIAN_LOOKS = 21
SPREAD_LOOKS = 60
#: fixed bets of the e-detectors; a bet chosen from the data would not be valid
BETS: Floats = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
RECENT_EVENTS = 2000
FEW_EVENTS = 100
LEANING = 100.0
_WORSE, _BETTER, _WORLD = 0, 1, 2
_ALPHA = 0.05
_LARGEST = 1e300


def losses(task: Task, labels: Sequence[Label | None], predictions: Sequence[Prediction], scale: float = 1.0) -> Floats:
    """Loss of each prediction, in [0, 1] (float64, one per prediction).

    ``scale`` is the spread of the labels that an error is measured in (regression). What is not finite loses all, and
    no opinion loses what an even one does.
    """
    if task == "binary":
        chances = np.array([_chance(one) for one in predictions], np.float64)
        found = (chances - np.array([float(label or 0) for label in labels])) ** 2
    else:
        found = np.array([_loss(task, *pair, scale) for pair in zip(labels, predictions, strict=True)], np.float64)
    return np.where(np.isfinite(found), np.clip(found, 0.0, 1.0), 1.0)


def _chance(prediction: Prediction) -> float:
    if prediction.probability is not None:
        return prediction.probability
    return 0.5 if prediction.value is None else float(prediction.value)


def _loss(task: Task, label: Label | None, prediction: Prediction, scale: float) -> float:
    value = prediction.value
    if task == "regression":
        return abs(float(label or 0) - float(value)) / scale if value is not None else 1.0
    chances = prediction.probabilities
    if chances is None:
        return 0.5 if value is None else float(value != label)
    own = chances.get(label, 0.0)  # type: ignore[arg-type]
    return (sum(chance * chance for chance in chances.values()) - own * own + (1 - own) ** 2) / 2


# The holdout lane ----------------------------------------------------------------------------------------------------


class Lane(msgspec.Struct, frozen=True):
    """The looks of one slice at one holdout version.

    ``level`` is the lowest median of 21 consecutive looks so far (None before); ``spread`` the 90 % point (with slices,
    further out) of the steps from look to look (``steps``), over the first 60 that had a level: a learner's own
    fluctuation, which neither a loss that still falls nor poison that stays can widen (docs/adr/0012). ``above`` is how
    many looks in a row are above level and margin, ``far`` how many are far above.
    """

    looks: int = 0
    window: tuple[float, ...] = ()
    level: float | None = None
    level_since: int | None = None
    steps: tuple[float, ...] = ()
    spread: float = 0.0
    above: int = 0
    far: int = 0

    def margin(self, tolerance: float) -> float:
        """How far above the level a look may lie: the tolerance, or the learner's own fluctuation if that is larger."""
        return max(tolerance, self.spread)


def look(lane: Lane, loss: float, tolerance: float, snapshot: int, slices: int = 1) -> Lane:
    """Return the lane after one more look: ``loss`` is the mean over the slice's rows, ``snapshot`` whose it is.

    ``slices`` is how many lanes are looked at together: the more, the further out of its steps the spread lies, or one
    of them would be above its level at every other look (docs/adr/0012).
    """
    level, steps, spread = lane.level, lane.steps, lane.spread
    above = far = 0
    if level is not None:
        margin = lane.margin(tolerance)
        above = lane.above + 1 if loss > level + margin else 0
        far = lane.far + 1 if loss > level + far_margin(margin) else 0
        if lane.window and len(steps) < SPREAD_LOOKS:
            steps = (*steps, abs(loss - lane.window[-1]))
            spread = float(np.quantile(steps, 1 - 0.1 / max(1, slices)))
    window = (*lane.window, loss)[-MEDIAN_LOOKS:]
    since = lane.level_since
    if len(window) == MEDIAN_LOOKS:
        middle = sorted(window)[MEDIAN_LOOKS // 2]
        if level is None or middle < level:
            level, since = middle, snapshot
    return Lane(lane.looks + 1, window, level, since, steps, spread, above, far)


def far_margin(margin: float) -> float:
    """How far above the level a look is far above it: no waiting for many of those."""
    return max(0.1, 5 * margin)


FAR_LOOKS = 3


def after_revert(lane: Lane) -> Lane:
    """The lane of the line that a revert begins: the level is kept, what counted against the old line is not."""
    return msgspec.structs.replace(lane, window=(), above=0, far=0)


def looks_in_a_row(looks_a_year: float, slices: int, false_reverts_per_year: float) -> int:
    """How many looks in a row must be above the level to count as worse.

    >>> [looks_in_a_row(31_536_000, slices, 1.0) for slices in (1, 20, 200)]
    [13, 15, 17]
    """
    return max(1, math.ceil(math.log(max(1.0, looks_a_year * max(1, slices) / false_reverts_per_year)) / math.log(4)))


def alarm_at(looks_a_year: float, slices: int, learners: int, false_reverts_per_year: float) -> float:
    """The threshold of the e-detectors: the expected number of looks to a false alarm, all tests together."""
    return max(1.0, looks_a_year * max(1, slices) * max(1, learners) / false_reverts_per_year)


# The fresh lane ------------------------------------------------------------------------------------------------------


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

    def interval(self, name: str = WHOLE) -> Interval:
        """The mean difference with its confidence sequence."""
        row = self.slices.get(name)
        if row is None or not self.n[row]:
            return Interval(0.0, -1.0, 1.0, 0)
        total, square = self._cs[row]
        n = int(self.n[row])
        mean, half = 2 * float(total) / n - 1, 2 * stitched(float(square), _ALPHA / 2) / n
        return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), n)

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

# The table -----------------------------------------------------------------------------------------------------------

Holdout: TypeAlias = Literal["absent", "early", "same", "above", "worse", "far"]
Fresh: TypeAlias = Literal["absent", "inconclusive", "leans_better", "worse", "better"]
Found: TypeAlias = Literal["broken", "forgetting", "diverged", "suspect", "moved", "world_changed", "pass"]
#: the worst first: between slices it wins
ORDER: tuple[Found, ...] = ("broken", "forgetting", "diverged", "suspect", "moved", "world_changed", "pass")


def holdout_finding(lane: Lane | None, in_a_row: int) -> Holdout:
    """What a slice's looks say; ``early`` before its level is known."""
    if lane is None:
        return "absent"
    if lane.level is None:
        return "early"
    if lane.above >= in_a_row:
        return "worse"
    if lane.far >= FAR_LOOKS:
        return "far"
    return "above" if lane.above else "same"


def fresh_finding(paired: Paired, name: str, threshold: float) -> Fresh:
    """What a slice's fresh events say of learner and reference."""
    if not paired.events(name):
        return "absent"
    if paired.worse(name) >= threshold:
        return "worse"
    if paired.better(name) >= threshold:
        return "better"
    leaning = paired.better(name) > max(paired.worse(name), LEANING)
    return "leans_better" if leaning else "inconclusive"


def finding(holdout: Holdout, fresh: Fresh, *, waited: bool, world_changed: bool) -> Found:  # noqa: PLR0911  one line per row of the table
    """The table of the design, for one slice.

    ``waited``: enough fresh events or time went by since the holdout became worse. ``world_changed``: the reference
    itself loses more on fresh events than when it became the reference.
    """
    if holdout == "far" and fresh not in ("better", "leans_better"):
        return "broken"
    if holdout == "worse":
        if fresh in ("worse", "absent"):
            return "forgetting"
        if fresh == "better" or (fresh == "leans_better" and waited):
            return "moved"
        return "forgetting" if waited else "suspect"
    if fresh == "worse":
        return "diverged" if holdout in ("same", "early", "absent") else "forgetting"
    if holdout in ("above", "far"):
        return "suspect"
    return "world_changed" if world_changed else "pass"
