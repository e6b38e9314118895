"""``retrain.rule = "regret"``: a retrain is due once what was lost since the last one is dearer than the next.

What answers loses more and more than it did right after the last retrain; summed over events and times
``retrain.gain`` that is money, and so is a retrain. To wait until both are equal is the rule of the ski-rental problem
(Karlin et al. 1988, Competitive snoopy caching), which pays at most twice what somebody would who knew the future.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from snapshots.decisions.decided import Decided
from snapshots.history.rows import Row
from stream.settings import RetrainConfig

#: go on from the last baseline, begin from nothing, or do both and keep the better
Arm: TypeAlias = Literal["warm", "full", "compare"]
#: every so many retrains a warm start is held against a full one
_COMPARE_EVERY = 10


class Regret(msgspec.Struct, frozen=True):
    """What was lost since the last retrain, in the money of ``retrain.gain``, and what the next one costs.

    ``above`` is how much more what answers loses now than right after the last retrain, for one event.
    """

    lost: float
    events: int
    above: float
    price: float

    @property
    def due(self) -> bool:
        """Whether the next retrain is the cheaper."""
        return self.lost > self.price

    def words(self, gain: float) -> str:
        """The sum, spelled out."""
        return (
            f"what answers lost {self.lost:,.2f} more over {self.events:,} events than as it was right after the last "
            f"retrain (now {self.above:+.4f} an event, at {gain:g} for a loss lower by 1), and a retrain costs "
            f"{self.price:,.2f}"
        )


def regret_of(
    rows: Sequence[Row], champion: str, rules: RetrainConfig, seconds: float, fell: Callable[[float], bool]
) -> Regret:
    """Add up what was lost since the first of ``rows``, which are of the time since the last retrain.

    ``seconds`` are those that a retrain takes, times its processes; ``fell`` tells whether the baseline answered then.
    A good time pays nothing back that was lost before, and does not count against what is lost later.
    """
    price = seconds * rules.price_per_hour / 3600 + rules.cost + rules.attention + rules.churn
    first: float | None = None
    lost = above = 0.0
    events, before = 0, 0
    for row in rows:
        loss = _loss(row, champion, answers_baseline=fell(row.created))
        consumed = row.counts.get("consumed", 0)
        if loss is None:
            continue
        if first is None:
            first, before = loss, consumed
            continue
        came, before = max(0, consumed - before), consumed
        above = loss - first
        events += came
        lost = max(0.0, lost + above * came * rules.gain)
    return Regret(lost, events, above, price)


def _loss(row: Row, champion: str, *, answers_baseline: bool) -> float | None:
    """What answered lost lately; None where nobody knows."""
    one = row.learners.get(champion)
    if one is None or one.loss is None:
        return None
    return one.loss - one.baseline[0] if answers_baseline and one.baseline else one.loss


def arm_of(found: Decided, warm_from: Mapping[int, int | None], events: int, rules: RetrainConfig) -> Arm:
    """Which kind of retrain promises most, by what gates measured of each so far; one that is not known is tried.

    ``warm_from`` says of each baseline what it went on from. Every tenth decision compares both.
    """
    if found.baseline is None:
        return "full"
    if len(found.outcomes) % _COMPARE_EVERY == _COMPARE_EVERY - 1:
        return "compare"
    promise: dict[Arm, float] = {}
    arms: tuple[Arm, ...] = ("full", "warm")
    for arm in arms:
        past = [
            (gate["figure"], entry.seconds)
            for entry in found.outcomes if entry.baseline is not None and entry.baseline in warm_from
            if (warm_from[entry.baseline] is not None) == (arm == "warm")
            for gate in entry.gates if gate["name"] == "holdout" and gate["figure"] is not None
        ]  # fmt: skip
        if not past:
            return arm
        gains, seconds = (sum(one) / len(past) for one in zip(*past, strict=True))
        promise[arm] = gains * events * rules.gain - seconds * rules.price_per_hour / 3600
    return max(arms, key=lambda arm: promise[arm])
