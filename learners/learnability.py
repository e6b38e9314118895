"""Rows that any learner of a task can learn, and the question whether one did: it must beat a constant on them.

The bar is low on purpose. What learns slowly (a small rate, a tree that has not split yet) ranks the rows rightly long
before its numbers are right, so ranks are compared for two classes and for numbers, and only who learns nothing fails.
"""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.event import Event, Features, Label, Prediction, Task, Value

#: of how many classes rows are made, at most
MOST_CLASSES = 3
_SEED = 5
_LEAST_AREA, _LEAST_CORRELATION, _LEAST_GAIN = 0.53, 0.1, 0.05


class Lesson(msgspec.Struct, frozen=True):
    """Rows of one task. ``constant`` is what always saying the most frequent class would get right."""

    task: Task
    rows: list[Event]
    constant: float

    @classmethod
    def of(
        cls, task: Task, count: int, classes: int = 2, texts: Sequence[str] = ("t",), numbers: Sequence[str] = (),
        spaces: Sequence[str] = (),
    ) -> "Lesson":  # fmt: skip
        """So many rows: ``a``, ``b``, ``c`` and ``numbers`` are numbers, ``texts`` texts, and each tells the answer.

        ``spaces`` are namespaces that have the same features once more.
        """
        draw = random.Random(_SEED)
        kinds = max(2, min(classes, MOST_CLASSES))
        rows = []
        for _ in range(count):
            kind = draw.randrange(kinds)
            x = _features(kind, draw, texts) | dict.fromkeys(numbers, 2.0 * kind - 1)
            x |= {space: {name: value for name, value in x.items() if not isinstance(value, dict)} for space in spaces}
            label: Label = {"binary": kind == 1, "multiclass": kind, "regression": 1.0 + 2 * kind}[task]
            rows.append(Event("", Features(msgspec.json.encode(x)), label))
        answers = [row.label for row in rows[count // 2 :]]
        return cls(task, rows, max(answers.count(one) for one in set(answers)) / len(answers))

    def learnt(self, said: Sequence[Prediction]) -> str:
        """Why the answers of its second half are no better than a constant; empty when they are.

        ``said`` has the prediction of every row, made before it was learnt.
        """
        half = len(self.rows) // 2
        answers, said = [row.label for row in self.rows[half:]], said[half:]
        silent = sum(one.value is None for one in said)
        if silent > len(said) // 2:
            return f"it gave no answer to {silent} of {len(said)} plain rows after {half} others"
        measured = _MEASURES[self.task](answers, said, self.constant)
        return "" if measured is None else f"after {half} plain rows that tell the answer, {measured}"


def _features(kind: int, draw: random.Random, texts: Sequence[str]) -> dict[str, Value]:
    a = 2.0 * kind - 1 + draw.gauss(0, 0.2)
    numbers: dict[str, Value] = {"a": a, "b": (5.0, -5.0, 1.0)[kind] + draw.gauss(0, 0.3), "c": float(3 * (kind == 1))}
    return numbers | dict.fromkeys(texts, ("lunch at noon", "win a prize", "rain in may")[kind])


def _binary(answers: Sequence[Any], said: Sequence[Prediction], _constant: float) -> str | None:
    """The area under the curve; a decision without a probability counts as 0 or 1, none at all as one half."""
    scores = np.array([_score(one) for one in said])
    yes, no = scores[[bool(one) for one in answers]], scores[[not one for one in answers]]
    above = (yes[:, None] > no[None, :]).mean() + (yes[:, None] == no[None, :]).mean() / 2
    return None if above > _LEAST_AREA else f"it ranks them no better than chance (area under the curve {above:.2f})"


def _score(one: Prediction) -> float:
    if one.probability is not None and np.isfinite(one.probability):
        return one.probability
    return 0.5 if one.value is None else float(one.value)


def _multiclass(answers: Sequence[Any], said: Sequence[Prediction], constant: float) -> str | None:
    right = sum(one.value == answer for answer, one in zip(answers, said, strict=True)) / len(answers)
    if right > constant + _LEAST_GAIN:
        return None
    return f"{right:.0%} of its answers are right, and always the same answer would be right in {constant:.0%}"


def _regression(answers: Sequence[Any], said: Sequence[Prediction], _constant: float) -> str | None:
    numbers = np.array([np.nan if one.value is None else float(one.value) for one in said])
    there = np.isfinite(numbers)
    truth = np.array(answers, float)[there]
    if there.sum() < len(answers) // 2 or np.ptp(numbers[there]) == 0:
        return "its answers are all the same, or none"
    related = float(np.corrcoef(numbers[there], truth)[0, 1])
    return None if related > _LEAST_CORRELATION else f"its answers do not go with theirs (correlation {related:.2f})"


_MEASURES = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}
