"""Loss of a prediction, in [0, 1]: what every instrument of evidence compares."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from learners.event import Label, Prediction, Task

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
#: the whole stream, beside the slices
WHOLE = ""


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
