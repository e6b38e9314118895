"""Softmax regression as the last step."""

from collections.abc import Callable
from typing import Any

import numpy as np
from river import linear_model, optim

from learners.event import Prediction, Task
from learners.river.compiled.arrays.block import Block, Floats, Integers, Names
from learners.river.compiled.arrays.stages import Flags
from learners.river.compiled.loops import softmax
from learners.river.compiled.steps.linear import OPTIMIZERS, SCHEDULES

_ARGUMENTS = 3


def refusal(model: linear_model.SoftmaxRegression) -> str:
    """Why a softmax regression is not compiled; empty when it is."""
    optimizer = model.optimizer
    if type(model.loss) is not optim.losses.CrossEntropy:
        return f"the loss {type(model.loss).__name__}"
    if type(optimizer) not in (optim.SGD, optim.AdaGrad, optim.Adam):
        return f"the optimizer {type(optimizer).__name__}"
    return "" if type(optimizer.lr) in SCHEDULES else f"the schedule {type(optimizer.lr).__name__}"


class Softmax:
    """``SoftmaxRegression`` over arrays, a row for each class that was learnt, in River's order."""

    exact = True

    def __init__(
        self,
        model: linear_model.SoftmaxRegression,
        names: Names[Any],
        task: Task,
        name_of: Callable[[Any], Any],
        number_of: Callable[[Any], Any],
    ) -> None:
        self._model, self._names = model, names
        self._task, self._name_of, self._number_of = task, name_of, number_of
        parameters, self._kept = OPTIMIZERS[type(model.optimizer)]
        self._optimizer = list(OPTIMIZERS).index(type(model.optimizer))
        own = parameters(model.optimizer)
        rate = SCHEDULES[type(model.optimizer.lr)](model.optimizer.lr)
        self._settings = np.array([model.l2, *rate, *own, *[0.0] * (_ARGUMENTS - len(own)), 0.5, 2.0], np.float64)
        self._weights: Any = None
        self._known: Any = None
        self._first: Any = None
        self._second: Any = None
        self.read()

    def learn(self, block: Block, labels: Floats, weights: Floats, learns: Flags) -> tuple[int, Floats]:  # noqa: ARG002  it takes none
        """Predict and learn each event; a class that comes for the first time is River's to add."""
        self._fit()
        said = np.empty((len(labels), len(self._classes)))
        if not self._classes:
            return 0, said[:0]
        rows = {name: row for row, name in enumerate(self._classes)}
        given = zip(self._labels_of(labels), learns.tolist(), strict=True)
        numbers = np.array([rows.get(self._name_of(label), -1) if learnt else -1 for label, learnt in given], np.int64)
        done = softmax.learn_softmax(
            block.starts, block.ids, block.before, block.after, numbers, learns, self._weights, self._known,
            self._first, self._second, self._counts, self._iterations, self._of_class, self._settings,
            len(self._classes), self._optimizer, said,
        )  # fmt: skip
        return int(done), said[: int(done)]

    def _labels_of(self, labels: Floats) -> list[Any]:
        return [bool(one) if self._task == "binary" else int(one) for one in labels.tolist()]

    def predictions(self, said: Floats) -> list[Prediction]:
        """The likeliest class, the first of equals, with probabilities."""
        numbers = [self._number_of(name) for name in self._classes]
        best = said.argmax(axis=1).tolist() if len(said) else []
        if self._task == "binary":
            yes = numbers.index(True) if True in numbers else None
            chances = said[:, yes].tolist() if yes is not None else [0.0] * len(said)
            return [Prediction(numbers[at], chance) for at, chance in zip(best, chances, strict=True)]
        return [
            Prediction(numbers[at], None, dict(zip(numbers, row, strict=True)))
            for at, row in zip(best, said.tolist(), strict=True)
        ]

    def _fit(self) -> None:
        """Have room for every feature."""
        lacking = len(self._names) - self._weights.shape[1]
        if lacking > 0:
            wider = ((0, 0), (0, max(lacking, self._weights.shape[1])))
            self._weights, self._known = np.pad(self._weights, wider), np.pad(self._known, wider)
            self._first, self._second = np.pad(self._first, wider), np.pad(self._second, wider)

    def read(self) -> None:
        """Classes, their weights, and what their optimizers keep."""
        model = self._model
        self._classes = list(model.weights)
        ids = {name: [self._names.id_of(key) for key in model.weights[name]] for name in self._classes}
        shape = len(self._classes), len(self._names)
        self._weights, self._first, self._second = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._known = np.zeros(shape, np.int64)
        self._counts: Integers = np.array([len(model.weights[name]) for name in self._classes], np.int64)
        self._iterations = np.array([float(model.optimizers[name].n_iterations) for name in self._classes])
        self._of_class = np.array([float(model.loss.class_weight.get(name, 1.0)) for name in self._classes])
        for row, name in enumerate(self._classes):
            self._weights[row, ids[name]] = list(model.weights[name].values())
            self._known[row, ids[name]] = np.arange(1, len(ids[name]) + 1)  # their order is that of sums, now and then
            for part, kept in zip((self._first, self._second), self._kept, strict=False):
                for key, value in (getattr(model.optimizers[name], kept) or {}).items():
                    part[row, self._names.id_of(key)] = value

    def write(self) -> None:
        """Classes, their weights, and what their optimizers keep."""
        for row, name in enumerate(self._classes):
            ranks = self._known[row]
            known = np.argsort(ranks, kind="stable")[np.count_nonzero(ranks == 0) :].tolist()
            weights, optimizer = self._model.weights[name], self._model.optimizers[name]
            weights.update((self._names.all[i], float(self._weights[row, i])) for i in known)
            optimizer.n_iterations = int(self._iterations[row])
            for part, kept in zip((self._first, self._second), self._kept, strict=False):
                if getattr(optimizer, kept) is not None:
                    getattr(optimizer, kept).update((self._names.all[i], float(part[row, i])) for i in known)
