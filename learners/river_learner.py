"""River as a learner: any classifier or regressor, or a pipeline that ends in one."""

import importlib
import inspect
import math
import pickle
import traceback
from collections.abc import Callable, Collection
from typing import Any

from river import base, compose

from learners import safe_pickle
from learners.canonical import canonical_state
from learners.errors import FactoryRefusedError, StateRefusedError
from learners.event import Event, Features, Prediction, Task
from learners.labels import Labels

PROTOCOL = 5
_TRIAL_ROWS = 300


class RiverLearner:
    """Wraps one River estimator; see :class:`learners.learner.Learner` for what it promises.

    ``types`` adds exact names (``module:Name``) to the allow-list of its saved state. With ``weighted`` false the
    event's weight is not handed on (``learners.NAME.ignore_weights``). ``fresh``: nothing was learnt yet, so a copy is
    asked instead: the forests of River choose their subspaces from the features of the first event that they see,
    be it only a question.
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
    ) -> None:
        self.model = model
        self.labels = labels
        self.factory = factory
        self._types = tuple(types)
        self._weighted = weighted and takes_weights(model)
        self._fresh = fresh
        self._answer = self._predictor()

    @classmethod
    def of(cls, model: Any, task: Task = "binary") -> "RiverLearner":
        """Wrap a model without configuration, for notebooks and tests."""
        return cls(model, Labels(task), fresh=True)

    def predict(self, features: Features) -> Prediction:
        """Predict; see :class:`learners.learner.Learner`."""
        if self._fresh:
            copied: Any = pickle.loads(self.save())  # noqa: S301  our own bytes of this moment
            return RiverLearner(copied, self.labels).predict(features)
        return self._answer(features)

    def _predictor(self) -> Callable[[Features], Prediction]:
        if self.labels.task == "regression":
            return self._predict_number
        final = _final(self.model)
        if type(final).predict_proba_one is base.Classifier.predict_proba_one:
            return self._predict_class
        if type(final).predict_one is not base.Classifier.predict_one:
            return self._predict_class_and_chances
        return self._predict_chances

    def _predict_number(self, features: Features) -> Prediction:
        value = self.model.predict_one(features.flat())
        return Prediction(None if value is None else float(value))

    def _predict_class(self, features: Features) -> Prediction:
        said = self.model.predict_one(features.flat())
        return Prediction(None if said is None else self._number(said))

    def _predict_class_and_chances(self, features: Features) -> Prediction:
        answer = self._predict_chances(features)
        said = self.model.predict_one(features.flat())
        return Prediction(None if said is None else self._number(said), answer.probability, answer.probabilities)

    def _predict_chances(self, features: Features) -> Prediction:
        chances = self.model.predict_proba_one(features.flat())
        if not chances:
            return Prediction(None)
        said = max(chances, key=chances.get)
        if self.labels.task == "binary":
            chance = float(chances.get(True, 0.0))
            # A model that no longer gives numbers has no opinion; the guard's fast lane sees the same.
            return Prediction(bool(said), chance) if math.isfinite(chance) else Prediction(None, chance)
        return Prediction(self._number(said), None, {self._number(name): float(p) for name, p in chances.items()})

    def _number(self, name: Any) -> bool | int:
        return bool(name) if self.labels.task == "binary" else self.labels.number_of(name)

    def step(self, event: Event) -> Prediction:
        """Predict, then learn; weight 0 is predicted only, since some trees raise on it."""
        prediction = self.predict(event.features)
        if event.weight == 0:
            return prediction
        self._fresh = False
        label: Any = event.label
        if self.labels.task == "multiclass":
            label = self.labels.names[label]
        if self._weighted and event.weight != 1.0:
            self.model.learn_one(event.features.flat(), label, w=event.weight)
        else:
            self.model.learn_one(event.features.flat(), label)
        return prediction

    def save(self) -> bytes:
        """Pickle the model (protocol 5); plain River loads it."""
        return pickle.dumps(self.model, PROTOCOL)

    def load(self, data: bytes) -> "RiverLearner":
        """A learner like this one with the saved model in it; only allow-listed types are loaded."""
        model = loads(data, self._types)
        return RiverLearner(model, self.labels, factory=self.factory, types=self._types, weighted=self._weighted)

    def state(self) -> bytes:
        """Canonical state of the model."""
        return canonical_state(self.model)

    def describe(self) -> dict[str, Any]:
        """What it was built from; :func:`learners.restore.restore` needs no more than this."""
        return {"weighted": self._weighted, "factory": self.factory, "model": type(_final(self.model)).__name__}


def loads(data: bytes, types: Collection[str] = ()) -> Any:
    """Load a saved River model through the allow-list; see :func:`learners.safe_pickle.loads` for the errors."""
    model = safe_pickle.loads(data, types)
    if not isinstance(model, base.Estimator):
        raise StateRefusedError(f"the state holds a {type(model).__name__}, not a River estimator")
    return model


def _final(model: Any) -> Any:
    return _final(list(model.steps.values())[-1]) if isinstance(model, compose.Pipeline) else model


def takes_weights(model: Any) -> bool:
    """Tell whether ``learn_one`` of the last step takes ``w``, by its signature.

    A pipeline takes any argument and drops what its steps do not name, so the last step is asked. Whether the
    weight then counts is found out by learning: see :func:`weights_count`.
    """
    return "w" in inspect.signature(_final(model).learn_one).parameters


def weights_count(build: Callable[[], Any], task: Task) -> bool:
    """Tell whether a weight changes what is learnt. ARF and SRP take one and ignore it."""
    states = set()
    for weight in (1.0, 7.0):
        model = build()
        if not takes_weights(model):
            return False
        for i in range(12):
            x = {"a": math.sin(i), "b": float(i % 3)}
            label: Any = math.cos(i) if task == "regression" else i % 2 == 0
            try:
                model.learn_one(x, label, w=weight)
            except Exception:
                return True  # wants features of its own; trust its signature
        states.add(canonical_state(model))
    return len(states) > 1


def build(
    factory: str,
    labels: Labels,
    *,
    types: Collection[str] = (),
    weights_matter: bool = False,
    ignore_weights: bool = False,
    name: str = "",
) -> RiverLearner:
    """Import ``module:function``, call it, and prove that its result can be saved and loaded again.

    Raises :class:`FactoryRefusedError` with the reason: not importable, not a classifier or regressor as the task
    needs, state outside the allow-list, a round trip that changes it, predictions that change it, or weights
    that would be dropped while ``event.weight`` is set (``weights_matter``).
    """
    make = imported(factory)
    try:
        model = make()
    except Exception as cause:
        raise FactoryRefusedError(f"learners.{name}: {factory} raised {_where(cause)}") from cause
    wanted = base.Regressor if labels.task == "regression" else base.Classifier
    if not isinstance(_final(model), wanted):
        raise FactoryRefusedError(
            f"learners.{name}: {factory} gave {_named(model)}; task {labels.task!r} needs a river {wanted.__name__}"
        )
    learner = RiverLearner(model, labels, factory=factory, types=types, weighted=not ignore_weights, fresh=True)
    try:
        again = learner.load(learner.save())
    except Exception as cause:
        raise FactoryRefusedError(f"learners.{name}: {factory} cannot be saved and loaded: {cause}") from cause
    if again.state() != learner.state():
        raise FactoryRefusedError(f"learners.{name}: {factory} comes back different from a save and a load")
    _refuse_impure(make(), labels, name, factory)
    if weights_matter and not ignore_weights and not weights_count(make, labels.task):
        raise FactoryRefusedError(
            f"learners.{name}: event.weight is set, and {type(_final(model)).__name__} ignores weights. Choose a "
            f"learner that takes them, or set learners.{name}.ignore_weights = true"
        )
    return learner


def _named(model: Any) -> str:
    """What a factory gave instead of an estimator, and what to write when that is plain."""
    if inspect.isclass(model):
        return f"the class {model.__name__}, and not one of it: write return {model.__name__}()"
    if model is None:
        return "nothing: end it with return"
    if inspect.isroutine(model):
        return f"the function {model.__name__}, and not what it returns: write return {model.__name__}()"
    return f"a {type(_final(model)).__name__}"


def _where(cause: Exception) -> str:
    """An error of the operator's own module, with file and line."""
    if isinstance(cause, SyntaxError):
        return f"{type(cause).__name__}: {cause}"
    lines = traceback.extract_tb(cause.__traceback__)
    last = f" ({lines[-1].filename}, line {lines[-1].lineno})" if lines else ""
    return f"{type(cause).__name__}: {cause}{last}"


def imported(factory: str) -> Callable[[], Any]:
    """Return the function that a factory names; :class:`FactoryRefusedError` says why there is none."""
    module, _, function = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as cause:
        raise FactoryRefusedError(
            f"factory {factory!r} cannot be imported: {cause}. Write it as module:function; "
            "a file model.py beside the configuration is the module model"
        ) from cause
    except Exception as cause:
        raise FactoryRefusedError(f"the module of factory {factory!r} cannot be imported: {_where(cause)}") from cause
    if not callable(make):
        raise FactoryRefusedError(
            f"factory {factory!r} is {_thing(make)}, and not a function: every start needs a fresh one. Write "
            f"def {function}(): return …, with what makes it behind return"
        )
    return make  # type: ignore[no-any-return]


def _thing(found: Any) -> str:
    return f"a {type(found).__name__} that is made already" if isinstance(found, base.Estimator) else f"{found!r:.50}"


def _refuse_impure(model: Any, labels: Labels, name: str, factory: str) -> None:
    """Promise 5: refuse a model whose predictions change what it is, or what it becomes."""
    known = labels if labels.task != "multiclass" else Labels("multiclass", names=["a", "b"])
    learner = RiverLearner(model, known, fresh=True)
    rows = [Features.of({"a": math.sin(i), "b": math.cos(3 * i), "c": float(i % 5)}) for i in range(_TRIAL_ROWS)]
    try:
        twin = RiverLearner(pickle.loads(learner.save()), known, fresh=True)  # noqa: S301  our own bytes of a moment ago
        twin.predict(Features.of({"other": 1.0}))
        for i, row in enumerate(rows):
            high = row.flat()["a"] > 0.0  # type: ignore[operator]
            event = Event("", row, math.sin(i) if labels.task == "regression" else high)
            learner.step(event)
            twin.step(event)
        before = learner.state()
        asked = rows[:20]
        same = [repr(learner.predict(row)) for row in asked] == [repr(twin.predict(row)) for row in asked]
    except Exception:
        return  # wants features of its own: the contract suite of its owner has to tell
    if learner.state() != before or not same:
        raise FactoryRefusedError(
            f"learners.{name}: predictions of {factory} change the model, so what is served would depend on who "
            "asked before. Move what learns during prediction out of the pipeline, or choose another model"
        )
