"""River as a learner: any classifier or regressor, or a pipeline that ends in one."""

import inspect
import math
import pickle
from collections.abc import Callable, Collection, Sequence
from typing import Any

from river import base

from learners.errors import StateRefusedError
from learners.event import Event, Features, Prediction, Task
from learners.labels import Labels, LabelValue
from learners.river import safe_pickle
from learners.river.canonical import canonical_state
from learners.river.structure.parts import final, takes_nulls
from learners.river.structure.tables import Tables

PROTOCOL = 5


class RiverLearner:
    """Wraps one River estimator; see :class:`learners.learner.Learner` for what it promises.

    ``types`` adds exact names (``module:Name``) to the allow-list of its saved state. With ``weighted`` false the
    event's weight is not handed on (``learners.NAME.ignore_weights``). ``fresh``: nothing was learnt yet, so a copy is
    asked instead: the forests of River choose their subspaces from the features of the first event that they see,
    be it only a question.

    Of a model that was trained elsewhere: ``classes`` is what it calls the labels (binary: no, yes; multi-class: by
    number), and with ``whole`` whole numbers reach it as int, as it knows them.
    """

    kind = "river"

    def __init__(
        self,
        model: Any,
        labels: Labels,
        *,
        factory: str = "",
        types: Collection[str] = (),
        weighted: bool = True,
        fresh: bool = False,
        classes: Sequence[LabelValue] = (),
        whole: bool = False,
    ) -> None:
        self.model = model
        self.labels = labels
        self.classes = list(classes)
        self.whole = whole
        self._yes = self.classes[1] if classes and labels.task == "binary" else True
        self._read = self._reader(nulls=takes_nulls(model))
        self.factory = factory
        self.types = tuple(types)
        self.weighted = weighted and takes_weights(model)
        self.fresh = fresh
        self._twin: RiverLearner | None = None
        self._tables: Tables | None = None
        self._learnt = False
        self._answer = self._predictor()

    @classmethod
    def of(cls, model: Any, task: Task = "binary") -> "RiverLearner":
        """Wrap a model without configuration, for notebooks and tests."""
        return cls(model, Labels(task), fresh=True)

    def predict(self, features: Features) -> Prediction:
        """Predict; see :class:`learners.learner.Learner`."""
        if self.fresh:
            if self._twin is None:  # a model that has learnt nothing may change when it is asked: another is asked
                copied: Any = pickle.loads(self.save())  # noqa: S301  our own bytes of this moment
                self._twin = RiverLearner(copied, self.labels)
            return self._twin.predict(features)
        if self._tables is None:
            self._tables = Tables(self.model)
        elif self._learnt:
            self._tables.look()
        self._learnt = False
        mark = self._tables.mark()
        try:
            return self._answer(self._read(features))
        finally:
            self._tables.back(mark)

    def _reader(self, *, nulls: bool) -> Callable[[Features], dict[str, Any]]:
        if self.whole:
            return lambda features: features.as_sent(nulls=nulls)
        return Features.with_nulls if nulls else Features.flat

    def _predictor(self) -> Callable[[dict[str, Any]], Prediction]:
        if self.labels.task == "regression":
            return self._predict_number
        last = final(self.model)
        if type(last).predict_proba_one is base.Classifier.predict_proba_one:
            return self._predict_class
        if type(last).predict_one is not base.Classifier.predict_one:
            return self._predict_class_and_chances
        return self._predict_chances

    def _predict_number(self, x: dict[str, Any]) -> Prediction:
        value = self.model.predict_one(x)
        return Prediction(None if value is None else float(value))

    def _predict_class(self, x: dict[str, Any]) -> Prediction:
        said = self.model.predict_one(x)
        return Prediction(None if said is None else self.number_of(said))

    def _predict_class_and_chances(self, x: dict[str, Any]) -> Prediction:
        answer = self._predict_chances(x)
        said = self.model.predict_one(x)
        return Prediction(None if said is None else self.number_of(said), answer.probability, answer.probabilities)

    def _predict_chances(self, x: dict[str, Any]) -> Prediction:
        chances = self.model.predict_proba_one(x)
        if not chances:
            return Prediction(None)
        said = max(chances, key=chances.get)
        if self.labels.task == "binary":
            chance = float(chances.get(self._yes, 0.0))
            # A model that no longer gives numbers has no opinion; the guard's fast lane sees the same.
            return Prediction(self.number_of(said), chance) if math.isfinite(chance) else Prediction(None, chance)
        return Prediction(self.number_of(said), None, {self.number_of(name): float(p) for name, p in chances.items()})

    def number_of(self, name: Any) -> bool | int:
        """The label that the model knows by this name."""
        if self.labels.task != "binary":
            return self.labels.number_of(name)
        return name == self._yes if self.classes else bool(name)

    def name_of(self, label: Any) -> Any:
        """The label as the model knows it."""
        if self.classes and label < len(self.classes):
            return self.classes[label]
        return self.labels.names[label] if self.labels.task == "multiclass" else label

    def step(self, event: Event) -> Prediction:
        """Predict, then learn; weight 0 is predicted only, since some trees raise on it."""
        if self.fresh or event.weight == 0:
            prediction = self.predict(event.features)
            if event.weight == 0:
                return prediction
            self.fresh, self._twin = False, None
        else:
            prediction = self._answer(self._read(event.features))
        self._learnt = True
        if self.weighted and event.weight != 1.0:
            self.model.learn_one(self._read(event.features), self.name_of(event.label), w=event.weight)
        else:
            self.model.learn_one(self._read(event.features), self.name_of(event.label))
        return prediction

    def save(self) -> bytes:
        """Pickle the model (protocol 5); plain River loads it."""
        return pickle.dumps(self.model, PROTOCOL)

    def load(self, data: bytes) -> "RiverLearner":
        """A learner like this one with the saved model in it; only allow-listed types are loaded."""
        return self.around(loads(data, self.types), self.classes, whole=self.whole)

    def around(self, model: Any, classes: Sequence[LabelValue], *, whole: bool) -> "RiverLearner":
        """A learner like this one with another model in it."""
        return RiverLearner(
            model, self.labels, factory=self.factory, types=self.types, weighted=self.weighted, classes=classes,
            whole=whole,
        )  # fmt: skip

    def state(self) -> bytes:
        """Canonical state of the model."""
        return canonical_state(self.model)

    def describe(self) -> dict[str, Any]:
        """What it was built from; :func:`learners.restore.restore` needs no more than this."""
        found = {"weighted": self.weighted, "factory": self.factory, "model": type(final(self.model)).__name__}
        return found | ({"classes": self.classes} if self.classes else {}) | ({"whole": True} if self.whole else {})


def loads(data: bytes, types: Collection[str] = ()) -> Any:
    """Load a saved River model through the allow-list; see :func:`learners.river.safe_pickle.loads` for the errors."""
    model = safe_pickle.loads(data, types)
    if not isinstance(model, base.Estimator):
        raise StateRefusedError(f"the state holds a {type(model).__name__}, not a River estimator")
    return model


def takes_weights(model: Any) -> bool:
    """Tell whether ``learn_one`` of the last step takes ``w``, by its signature.

    A pipeline takes any argument and drops what its steps do not name, so the last step is asked. Whether the
    weight then counts is found out by learning: see :func:`weights_count`.
    """
    return "w" in inspect.signature(final(model).learn_one).parameters
