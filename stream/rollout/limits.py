"""What takes a candidate back, by tests that hold at any time: errors, slow answers, shifted answers, worse ones.

Each is a value against its limit under an error budget: a candidate just at every limit is taken back by mistake no
more often than ``rollout.false_aborts_per_year``, if one begins each month. Too few events say nothing.
"""

import math
from collections.abc import Mapping

from stream.settings import RolloutConfig

_BEGUN_A_YEAR = 12
#: errors, slowness, shift and loss share the budget
_KINDS = 4
#: the share of predictions that may be slower than ``rollout.max_p99_ms``
SLOW_SHARE = 0.01
_TIMES = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 90.0)


def alpha_of(settings: RolloutConfig) -> float:
    """The probability with which one limit of one roll-out may be found broken although it is kept."""
    return min(0.2, settings.false_aborts_per_year / _BEGUN_A_YEAR / _KINDS)


def too_often(events: int, bad: int, most: float, alpha: float) -> bool:
    """Tell whether more than the share ``most`` of events is bad, for certain but for ``alpha``, whenever asked.

    A mixture of likelihood ratios, which is at most 1/alpha for ever with that probability (Ville's inequality).

    >>> [too_often(n, bad, 0.01, 0.02) for n, bad in ((20, 0), (20, 1), (30, 4), (1000, 12))]
    [False, False, True, False]
    """
    if bad == 0:
        return False
    if most <= 0:
        return True
    rates = [times * most for times in _TIMES if times * most < 1] or [(1 + most) / 2]
    logs = [bad * math.log(q / most) + (events - bad) * math.log((1 - q) / (1 - most)) for q in rates]
    highest = max(logs)
    return highest + math.log(sum(math.exp(one - highest) for one in logs) / len(logs)) >= math.log(1 / alpha)


def band(events: int, alpha: float) -> float:
    """How far a cumulative distribution may lie from the true one at any time, but for ``alpha``.

    Howard & Ramdas (2022), Sequential estimation of quantiles, corollary 2.
    """
    if events == 0:
        return 1.0
    return 0.85 * math.sqrt((math.log(math.log(math.e * events)) + 0.8 * math.log(1612 / alpha)) / events)


def shift(candidate: Mapping[int, int], champion: Mapping[int, int], alpha: float) -> tuple[float, float]:
    """The greatest difference between two cumulative distributions, and the least that it is but for ``alpha``.

    Both are counts by cell; cells are in order.

    >>> shift({0: 100}, {0: 100}, 0.02)[0], round(shift({0: 9000}, {5: 9000}, 0.02)[1], 2)
    (0.0, 0.94)
    """
    one, other = sum(candidate.values()), sum(champion.values())
    if not one or not other:
        return 0.0, 0.0
    greatest, reached, there = 0.0, 0, 0
    for cell in sorted({*candidate, *champion}):
        reached += candidate.get(cell, 0)
        there += champion.get(cell, 0)
        greatest = max(greatest, abs(reached / one - there / other))
    return greatest, max(0.0, greatest - band(one, alpha / 2) - band(other, alpha / 2))
