"""What looks and pairs say, in a word each, and the table of what follows from the two."""

from typing import Literal, TypeAlias

from learners.evidence.lane import FAR_LOOKS, Lane
from learners.evidence.paired import Paired

LEANING = 100.0
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
