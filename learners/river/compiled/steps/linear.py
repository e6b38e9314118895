"""River's generalised linear models as the last stage: logistic and linear regression, and the perceptron."""

from collections.abc import Callable
from typing import Any

import numpy as np
from river import linear_model, optim

from learners.event import Prediction
from learners.river.compiled.arrays.block import Block, Floats, Names
from learners.river.compiled.arrays.figures import Figures
from learners.river.compiled.arrays.stages import Flags
from learners.river.compiled.loops import linear as loops
from learners.river.compiled.steps.model import predictions_of

Loss = optim.losses
#: in the order of ``loops.slope``: the loss, and its two parameters
LOSSES: dict[type, Callable[[Any], tuple[float, float]]] = {
    Loss.Log: lambda one: (one.weight_pos, one.weight_neg),
    Loss.Hinge: lambda one: (one.threshold, 0.0),
    Loss.BinaryFocalLoss: lambda one: (one.gamma, one.beta),
    Loss.Squared: lambda _: (0.0, 0.0),
    Loss.Absolute: lambda _: (0.0, 0.0),
    Loss.Huber: lambda one: (one.epsilon, 0.0),
    Loss.Quantile: lambda one: (one.alpha, 0.0),
    Loss.Cauchy: lambda one: (one.C, 2.0),  # the exponent of its square
    Loss.EpsilonInsensitiveHinge: lambda one: (one.eps, 0.0),
}
#: in the order of ``loops.learn_linear``: the optimizer, its parameters, and the dicts that it keeps by feature
OPTIMIZERS: dict[type, tuple[Callable[[Any], list[float]], tuple[str, ...]]] = {
    optim.SGD: (lambda _: [], ()),
    optim.AdaGrad: (lambda one: [one.eps], ("g2",)),
    optim.Adam: (lambda one: [one.beta_1, one.beta_2, one.eps], ("m", "v")),
    optim.FTRLProximal: (lambda one: [one.alpha, one.beta, one.l1, one.l2], ("z", "n")),
}
SCHEDULES: dict[type, Callable[[Any], list[float]]] = {
    optim.schedulers.Constant: lambda one: [0.0, one.learning_rate, 0.0],
    optim.schedulers.InverseScaling: lambda one: [1.0, one.learning_rate, one.power],
    optim.schedulers.Optimal: lambda one: [2.0, one.alpha, one.t0],
}
MODELS = (linear_model.LogisticRegression, linear_model.LinearRegression, linear_model.Perceptron)
_ARGUMENTS = ("first", "second")


def refusal(model: Any) -> str:
    """Why a linear model is not compiled; empty when it is."""
    optimizer = model.optimizer
    if model.l1:
        return "a penalty l1"
    if type(model.loss) not in LOSSES:
        return f"the loss {type(model.loss).__name__}"
    if type(optimizer) not in OPTIMIZERS:
        return f"the optimizer {type(optimizer).__name__}"
    rates = [model.intercept_lr, *([optimizer.lr] if hasattr(optimizer, "lr") else [])]
    if other := next((one for one in rates if type(one) not in SCHEDULES), None):
        return f"the schedule {type(other).__name__}"
    if not isinstance(model.initializer, optim.initializers.Constant):
        return f"the initializer {type(model.initializer).__name__}"
    return ""


class Linear:
    """One of River's generalised linear models, over arrays."""

    exact = True

    def __init__(self, model: Any, names: Names[Any]) -> None:
        self._model = model
        self._figures = Figures(names, weights=0.0, first=0.0, second=0.0)
        self._state = np.zeros(2)
        self._loss = list(LOSSES).index(type(model.loss))
        self._binary = isinstance(model, linear_model.LogisticRegression)
        parameters, self._kept = OPTIMIZERS[type(model.optimizer)]
        self._optimizer = list(OPTIMIZERS).index(type(model.optimizer))
        self._settings = self._settings_of(parameters(model.optimizer))

    def _settings_of(self, parameters: list[float]) -> Floats:
        model, optimizer = self._model, self._model.optimizer
        rate = SCHEDULES[type(optimizer.lr)](optimizer.lr) if hasattr(optimizer, "lr") else [0.0, 0.0, 0.0]
        intercept = SCHEDULES[type(model.intercept_lr)](model.intercept_lr)
        loss = LOSSES[type(model.loss)](model.loss)
        own = [*parameters, *[0.0] * (4 - len(parameters))]
        rest = [model.l2, model.clip_gradient, model.initializer.value]
        return np.array([*loss, *rest, *rate, *intercept, *own, 0.5, 2.0, -1.0], np.float64)

    def learn(self, block: Block, labels: Floats, weights: Floats, learns: Flags) -> tuple[int, Floats]:
        """Predict and learn each event; how many were, and what was said of them.

        That is the probability of yes, or the number. The event after the last is River's own to handle.
        """
        self._figures.fit()
        of, said = self._figures.of, np.empty(len(labels))
        done = int(
            loops.learn_linear(
                block.starts, block.ids, block.before, block.after, labels, weights, learns, of["weights"],
                self._figures.seen, of["first"], of["second"], self._state, self._settings, self._loss,
                self._optimizer, said,
            )
        )  # fmt: skip
        return done, (loops.sigmoids(said[:done]) if self._binary else said[:done])

    def read(self) -> None:
        """Weights, intercept, and what the optimizer keeps."""
        model, figures = self._model, self._figures
        figures.clear()
        figures.take("weights", model.weights, 1)
        for argument, name in zip(_ARGUMENTS, self._kept, strict=False):
            figures.take(argument, dict(getattr(model.optimizer, name) or {}))
        self._state[:] = model.intercept, model.optimizer.n_iterations

    def write(self) -> None:
        """Weights, intercept, and what the optimizer keeps."""
        model = self._model
        model._weights.update(dict(self._figures.pairs("weights")))  # noqa: SLF001  River has no other door
        model.intercept, iterations = float(self._state[0]), int(self._state[1])
        optimizer = model.optimizer
        optimizer.n_iterations = iterations
        if not iterations:
            return
        for argument, name in zip(_ARGUMENTS, self._kept, strict=False):
            if getattr(optimizer, name) is None:
                setattr(optimizer, name, type(model._weights)())  # noqa: SLF001  Adam makes its own at the first step
            getattr(optimizer, name).update(dict(self._figures.pairs(argument)))

    def predictions(self, said: Floats) -> list[Prediction]:
        """What was said as predictions. A sum that is not finite never comes here."""
        return predictions_of(said, number=not self._binary)
