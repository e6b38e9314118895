"""Looks: the same frozen rows scored again and again, against a level that was held before."""

import math

import msgspec
import numpy as np

MEDIAN_LOOKS = 21
SPREAD_LOOKS = 60


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
