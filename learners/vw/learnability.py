"""Whether Vowpal Wabbit learns anything with these arguments, and whether its chances are chances."""

import math
from collections.abc import Sequence

from learners.event import Prediction, Task
from learners.learnability import Lesson
from learners.learner import Learner
from learners.vw import options

_ROWS = 400
_CLOSE = 1e-3
#: options that name namespaces by their first letter, of which one may be all that is learnt from
_SPACES = ("keep", "quadratic", "cubic", "interactions", "lrq", "lrqfa", "stage_poly")


def spaces_of(tokens: Sequence[str]) -> list[str]:
    """Namespaces that the arguments name, as far as they can be names: each of one letter."""
    named = "".join(value for one in options.read(tokens) if one.name in _SPACES for value in one.values)
    return sorted({letter for letter in named if letter.isalpha()})


def taught(learner: Learner, tokens: Sequence[str], task: Task, classes: int) -> str:
    """Teach plain rows; say why these arguments are refused, or nothing."""
    lesson = Lesson.of(task, _ROWS, classes, spaces=spaces_of(tokens))
    said = [learner.step(row) for row in lesson.rows]
    if not all(_are_chances(one) for one in said[_ROWS // 2 :]):
        return (
            "its numbers for the classes are no probabilities: they are below 0, above 1 or do not add up to 1. "
            "Leave out --scores, or write --probabilities --loss_function logistic"
        )
    reason = lesson.learnt(said)
    return f"Vowpal Wabbit learns nothing with these arguments: {reason}" if reason else ""


def _are_chances(said: Prediction) -> bool:
    chances = said.probabilities
    if not chances or not all(map(math.isfinite, chances.values())):
        return True  # no numbers, or none just now: that is another matter
    return all(-_CLOSE <= one <= 1 + _CLOSE for one in chances.values()) and abs(sum(chances.values()) - 1) < _CLOSE
