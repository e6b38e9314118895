"""Passive-aggressive models and ALMA as last steps; their norms are summed in another order than River's."""

from typing import Any

import numpy as np
from river import linear_model

from learners.event import Prediction
from learners.river.compiled.arrays.block import Block, Floats, Integers, Names
from learners.river.compiled.arrays.stages import Flags
from learners.river.compiled.loops import linear, margins
from learners.river.compiled.steps.model import predictions_of

MODELS = (linear_model.PAClassifier, linear_model.PARegressor, linear_model.ALMAClassifier)


def refusal(model: Any) -> str:
    """Why such a model is not compiled; empty when it is."""
    return "another norm than p = 2" if isinstance(model, linear_model.ALMAClassifier) and model.p != 2 else ""


class Margins:
    """One of these models, over arrays."""

    exact = False

    def __init__(self, model: Any, names: Names[Any]) -> None:
        self._model, self._names = model, names
        self._weights: Floats = np.zeros(0)
        self._ranks: Integers = np.zeros(0, np.int64)
        self._alma = isinstance(model, linear_model.ALMAClassifier)
        self._number = isinstance(model, linear_model.PARegressor)
        self._state = np.zeros(2)
        if self._alma:
            self._settings = np.array([model.alpha, model.B, model.C], np.float64)
        else:
            eps = model.eps if self._number else 0.0
            self._settings = np.array([model.C, model.mode, model.learn_intercept, eps], np.float64)

    def _fit(self) -> None:
        if (lacking := len(self._names) - len(self._weights)) > 0:
            self._weights = np.append(self._weights, np.zeros(lacking))
            self._ranks = np.append(self._ranks, np.zeros(lacking, np.int64))

    def learn(self, block: Block, labels: Floats, weights: Floats, learns: Flags) -> tuple[int, Floats]:  # noqa: ARG002  none take weights
        """Predict and learn each event."""
        self._fit()
        said = np.empty(len(labels))
        common = block.starts, block.ids, block.before, block.after, labels, learns, self._weights, self._ranks
        if self._alma:
            done = int(margins.learn_alma(*common, self._state, self._settings, said))
        else:
            done = int(margins.learn_passive_aggressive(*common, self._state, self._settings, self._number, said))
        return done, (said[:done] if self._number else linear.sigmoids(said[:done]))

    def predictions(self, said: Floats) -> list[Prediction]:
        """Numbers, or classes with their probability."""
        return predictions_of(said, number=self._number)

    def read(self) -> None:
        """Weights in the order in which they came, intercept or k."""
        kept = self._model.w if self._alma else self._model.weights
        ids = [self._names.id_of(name) for name in kept]
        self._weights, self._ranks = np.zeros(len(self._names)), np.zeros(len(self._names), np.int64)
        self._weights[ids], self._ranks[ids] = list(kept.values()), np.arange(1, len(ids) + 1)
        self._state[:] = self._model.k if self._alma else self._model.intercept, len(ids)

    def write(self) -> None:
        """Weights in the order in which they came, intercept or k."""
        kept = self._model.w if self._alma else self._model.weights
        known = np.flatnonzero(self._ranks)
        for index in known[np.argsort(self._ranks[known])].tolist():
            kept[self._names.all[index]] = float(self._weights[index])
        if self._alma:
            self._model.k = int(self._state[0])
        else:
            self._model.intercept = float(self._state[0])
