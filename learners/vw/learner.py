"""Vowpal Wabbit as a learner, by its own arguments.

The binding's methods are called directly: about twice as fast as its ``Workspace`` wrappers. Features reach VW as
the JSON bytes of the event; label and weight through the API, between ``unsetup_example`` and ``setup_example``,
so that nothing inside the features can pose as a label.
"""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import orjson
import pylibvw
from vowpalwabbit import Workspace

from learners.errors import StateRefusedError
from learners.event import Event, Features, Prediction
from learners.labels import Labels
from learners.vw import header, options, text
from learners.vw.arguments import Trial, value_of

Namespaces: TypeAlias = Mapping[str, Sequence[str]]

_parse = pylibvw.vw._parse  # noqa: SLF001  measured: twice the speed of the wrapper
_finish = pylibvw.vw._finish_example  # noqa: SLF001  the same
_predict, _learn = pylibvw.vw.predict, pylibvw.vw.learn
#: the namespace of what every example has
_CONSTANT_SPACE = 128
_setup, _unsetup = pylibvw.vw.setup_example, pylibvw.vw.unsetup_example
_set_label, _set_test_only = pylibvw.example.set_label_string, pylibvw.example.set_test_only
_scalar, _scalars = pylibvw.example.get_simplelabel_prediction, pylibvw.example.get_scalars
_class = pylibvw.example.get_multiclass_prediction
_VERSION = version("vowpalwabbit")
_ALWAYS = ("--json", "--quiet", "--preserve_performance_counters")


class VwLearner:
    """Wraps one VW model; see :class:`learners.learner.Learner` for what it promises.

    ``trial`` holds the arguments and what was found out about them. ``namespaces`` maps a namespace to the names of
    top-level features that go into it. A saved model
    holds neither its loss function nor its link, so it is always restored with all the original arguments.
    """

    kind = "vw"

    def __init__(
        self,
        trial: Trial,
        labels: Labels,
        *,
        namespaces: Namespaces | None = None,
        weighted: bool = True,
        data: bytes | None = None,
    ) -> None:
        self.tokens = list(trial.tokens)
        self.labels = labels
        self.trial = trial
        self.namespaces = {space: list(names) for space, names in (namespaces or {}).items()}
        self._place = {name: space for space, names in self.namespaces.items() for name in names}
        self._weighted = weighted and trial.weights
        self._apart = trial.apart
        self._bytes = self._regrouped if self._place else text.bytes_of if self._apart else attrgetter("raw")
        self._vw = self._workspace(data)
        loss, link = value_of(self.tokens, "--loss_function", "squared"), value_of(self.tokens, "--link", "identity")
        by_sign = {"--binary", "--ksvm"}.intersection(self.tokens)  # labels of -1 and 1, whatever the loss
        self.zero_one = loss in ("squared", "classic") and not by_sign and link == "identity"
        self._loss, self._link = loss, link
        self._read: Callable[[Any], Prediction] = self._reader()

    def _workspace(self, data: bytes | None) -> Any:
        options.read(self.tokens)  # they may come out of a store
        if data is None:
            return Workspace(arg_list=[*_ALWAYS, *self.tokens])
        header.check(data, self.tokens, _VERSION)
        with file_of(data) as path:
            try:
                return Workspace(arg_list=[*_ALWAYS, *self.tokens, "-i", path])
            except RuntimeError as cause:
                if "random_seed" not in str(cause):
                    raise StateRefusedError(f"Vowpal Wabbit cannot load the model: {cause}") from cause
            # Reductions that draw random numbers keep the state of the generator in the file as its seed.
            return Workspace(arg_list=[*_ALWAYS, *_without_seed(self.tokens), "-i", path])

    def _reader(self) -> Callable[[Any], Prediction]:
        if self.labels.task == "regression":
            return _read_number
        if self.labels.task == "multiclass":
            return self._read_class_chances if self.trial.probabilities else self._read_class
        if self.zero_one:
            return _read_zero_one
        if self._link in ("logistic", "glf1"):
            return _read_logistic if self._link == "logistic" else _read_glf1
        return _read_margin if self._loss == "logistic" and "--binary" not in self.tokens else _read_sign

    def _read_class(self, example: Any) -> Prediction:
        number = int(_class(example)) - 1
        return Prediction(number if 0 <= number < len(self.labels.names) else None)

    def _read_class_chances(self, example: Any) -> Prediction:
        known = _scalars(example)[: len(self.labels.names)]
        if not known or not all(map(math.isfinite, known)):
            return Prediction(None, None, dict(enumerate(known)))
        return Prediction(max(range(len(known)), key=known.__getitem__), None, dict(enumerate(known)))

    def _example(self, features: Features) -> Any:
        return _parse(self._vw, self._bytes(features))[0]

    def _regrouped(self, features: Features) -> bytes:
        """The features as JSON with the configured namespaces."""
        grouped: dict[str, Any] = {}
        for name, value in features.values.items():  # by the names of the configuration
            space = self._place.get(name)
            if space is not None:
                grouped.setdefault(space, {})[name] = value
            elif isinstance(value, dict):
                grouped.setdefault(name, {}).update(value)
            else:
                grouped[name] = value
        return orjson.dumps(text.told_apart(grouped) if self._apart else grouped)

    def predict(self, features: Features) -> Prediction:
        """Predict; VW's own counters of unlabelled examples are all that moves."""
        example = self._example(features)
        _predict(self._vw, example)
        prediction = self._read(example)
        _finish(self._vw, example)
        return prediction

    def step(self, event: Event) -> Prediction:
        """Predict, then learn; one call where the trial showed that learning leaves the served prediction."""
        example = self._example(event.features)
        try:
            self._set_label(example, event)
            if event.weight == 0 or not self.trial.one_call:
                _predict(self._vw, example)
                prediction = self._read(example)
                if event.weight != 0:
                    _learn(self._vw, example)
            else:
                _learn(self._vw, example)
                prediction = self._read(example)
        finally:
            _finish(self._vw, example)
        return prediction

    def _set_label(self, example: Any, event: Event) -> None:
        weight = event.weight if self._weighted else 1.0
        text = f"{self._label_text(event)} {weight!r}"
        if self.trial.weights:
            _unsetup(self._vw, example)
            _set_label(example, self._vw, text, 0)
            _setup(self._vw, example)
        else:
            _set_label(example, self._vw, text, 0)
            _set_test_only(example, False)

    def _label_text(self, event: Event) -> str:
        label = event.label
        if self.labels.task == "multiclass":
            return str(int(label or 0) + 1)
        if self.labels.task == "regression":
            return repr(label)
        return "1" if label else "0" if self.zero_one else "-1"

    def save(self) -> bytes:
        """The model as a VW regressor file; plain VW loads it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            self._vw.save(path)
            return path.read_bytes()

    def load(self, data: bytes) -> "VwLearner":
        """Return a learner like this one with the saved model in it; :class:`StateRefusedError` if VW refuses it."""
        return self.with_state(data, self.trial)

    def with_state(self, data: bytes, trial: Trial) -> "VwLearner":
        """Return a learner like this one with the saved model in it and other arguments."""
        return VwLearner(trial, self.labels, namespaces=self.namespaces, weighted=self._weighted, data=data)

    def says(self, features: Features) -> float | int | list[float]:
        """What Vowpal Wabbit itself answers, before it is read: a number, a class from 1 on, or a number for each."""
        example = self._example(features)
        try:
            _predict(self._vw, example)
            if self.labels.task != "multiclass":
                return float(_scalar(example))
            return list(_scalars(example)) if self.trial.probabilities else int(_class(example))
        finally:
            _finish(self._vw, example)

    def has_weight(self, features: Features) -> bool:
        """Whether any of these features has a weight, the constant apart."""
        example, stride = self._example(features), self._vw.get_stride()
        try:
            return any(
                self._vw.get_weight(place // stride, output)
                for space in (example.namespace(n) for n in range(example.num_namespaces()))
                if space != _CONSTANT_SPACE
                for place in (example.feature(space, n) for n in range(example.num_features_in(space)))
                for output in range(max(1, len(self.labels.names)))
            )
        finally:
            _finish(self._vw, example)

    def state(self) -> bytes:
        """The saved model: byte for byte the same for two that behave identically."""
        return self.save()

    def describe(self) -> dict[str, Any]:
        """What it was built from; :func:`learners.restore.restore` needs no more than this."""
        return {"trial": msgspec.structs.asdict(self.trial), "namespaces": self.namespaces}


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[str]:
    """Give a path to bytes in memory: who loads a model need not be able to write anywhere."""
    descriptor = os.memfd_create("model")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _without_seed(tokens: Sequence[str]) -> list[str]:
    at = tokens.index("--random_seed") if "--random_seed" in tokens else len(tokens)
    kept = [*tokens[:at], *tokens[at + 2 :]]
    return [token for token in kept if not token.startswith("--random_seed=")]


def _read_number(example: Any) -> Prediction:
    return Prediction(_scalar(example))


def _read_zero_one(example: Any) -> Prediction:
    value = _scalar(example)
    if not math.isfinite(value):
        return Prediction(None, value)
    return Prediction(value > 0.5, min(1.0, max(0.0, value)))


def _read_logistic(example: Any) -> Prediction:
    value = _scalar(example)
    return Prediction(value > 0.5 if math.isfinite(value) else None, value)


def _read_glf1(example: Any) -> Prediction:
    value = _scalar(example)
    return Prediction(value > 0 if math.isfinite(value) else None, (value + 1) / 2)


def _read_sign(example: Any) -> Prediction:
    value = _scalar(example)
    return Prediction(value > 0 if math.isfinite(value) else None)


def _read_margin(example: Any) -> Prediction:
    margin = _scalar(example)
    if not math.isfinite(margin):
        return Prediction(None, math.nan)
    chance = 1 / (1 + math.exp(-margin)) if margin > -700 else 0.0
    return Prediction(margin > 0, chance)
