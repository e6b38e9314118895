"""Whether a River learner is learnt with compiled loops; where not, why."""

import copy
import importlib
import math
import random
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from river import base, compose, preprocessing

from learners.event import Event, Prediction, Value
from learners.extras import install
from learners.learner import COMPILED, Learner
from learners.prequential import learn
from learners.river.learner import RiverLearner
from learners.river.structure.parts import final, parts

#: last steps for which there are loops; others need not pay for the compiler
_MODELS = (
    "ALMAClassifier", "LinearRegression", "LogisticRegression", "PAClassifier", "PARegressor", "Perceptron",
    "SoftmaxRegression",
)  # fmt: skip
_ROWS, _CLOSE = 120, 1e-9


def faster(learner: Learner) -> tuple[Learner, str]:
    """The learner, with compiled loops where there are some for its model; and a word on it for ``status``.

    They must end where River ends on rows that are made up: else the learner stays River's.
    """
    if not isinstance(learner, RiverLearner):
        return learner, ""
    if reason := _obstacle(learner):
        return learner, f"River's own: {reason}"
    from learners.river.compiled.execution import NotCompiledError  # noqa: PLC0415  only where numba is
    from learners.river.compiled.learner import CompiledRiver  # noqa: PLC0415

    try:
        if reason := _difference(learner, CompiledRiver(_copied(learner))):
            return learner, f"River's own: {reason}"
        return CompiledRiver(learner), COMPILED
    except NotCompiledError as cause:
        return learner, f"River's own: there is no compiled loop for {cause}"


def _obstacle(learner: RiverLearner) -> str:
    """Why there can be no compiled loops, as far as is seen without the compiler; empty when there may be."""
    if learner.classes or learner.whole:
        return "the model was trained elsewhere"
    if (kind := type(final(learner.model)).__name__) not in _MODELS:
        return f"there is no compiled loop for {kind}"
    return f"{install('fast')} brings compiled loops" if find_spec("numba") is None else ""


def prepare(built_from: Mapping[str, Any]) -> None:
    """Load the loops of a model that may have some, or compile them, which writes to a cache: before the wall."""
    if built_from.get("model") in _MODELS and find_spec("numba") is not None:
        importlib.import_module("learners.river.compiled.learner")


def _copied(learner: RiverLearner) -> RiverLearner:
    again = copy.copy(learner)
    return again.around(copy.deepcopy(learner.model), (), whole=False)


def _difference(learner: RiverLearner, compiled: Any) -> str:
    """How the two end apart after the same rows; empty when they do not."""
    events = list(_rows(learner))
    plain, said = _copied(learner), list[Prediction]()
    try:
        expected = [prediction for _, prediction in learn(plain, events)]
    except Exception:
        return ""  # the rows are not what this model wants; what real events bring is compared by nobody
    compiled.learn_many(events, said)
    if not all(map(_alike, expected, said)):
        return "compiled loops predict something else here"
    return ""


def _alike(one: Prediction, other: Prediction) -> bool:
    return all(map(_near, _figures(one), _figures(other)))


def _figures(prediction: Prediction) -> list[float]:
    chances = sorted((prediction.probabilities or {}).items())
    found = [prediction.value, prediction.probability, *(number for pair in chances for number in pair)]
    return [math.nan if one is None else float(one) for one in found]


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE) or (math.isnan(one) and math.isnan(other))


def _rows(learner: RiverLearner) -> Iterator[Event]:
    """Events with the names that the model chooses, texts where it encodes them, and some of other names."""
    draw = random.Random(1)
    words, names = _names(learner.model)
    wide = len(learner.labels.names) or 2
    for number in range(_ROWS):
        x: dict[str, Value] = {name: draw.gauss(1, 2) for name in names}
        x |= {name: draw.choice("abc") for name in words}
        x |= {f"number {i}": draw.gauss(0, 1) for i in range(3) if not names and draw.random() < 0.9}
        sign = sum(value for value in x.values() if isinstance(value, float)) > 0
        label = {"binary": sign, "regression": draw.gauss(float(sign), 1), "multiclass": number % wide}
        yield Event.of(x, label[learner.labels.task], draw.choice([0.0, 1.0, 1.0, 2.0]))


def _names(model: base.Estimator) -> tuple[set[str], set[str]]:
    """Names of features that are chosen to be encoded as texts, and those that are chosen otherwise."""
    words, names = set[str](), set[str]()
    for part in parts(model):
        if isinstance(part, compose.Pipeline):
            steps = list(part.steps.values())
            encoded = any(isinstance(step, preprocessing.OneHotEncoder) for step in steps)
            for step in steps:
                if isinstance(step, compose.Select):
                    (words if encoded else names).update(map(str, step.keys))
    return words, names
