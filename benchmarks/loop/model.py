"""A fast linear learner: scaled numbers and one-hot texts, by gradient descent, an event at a time."""

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from data import Event

Floats = npt.NDArray[np.float64]
_MOST_VALUES = 40


class Encoder:
    """Events as rows of numbers: a column for each number, and one for each of the commonest values of a text."""

    def __init__(self, events: list[Event], task: str) -> None:
        sample = events[0]["x"]
        self.task = task
        self.names = [name for name, value in sample.items() if isinstance(value, float)]
        self.columns: dict[tuple[str, Any], int] = {}
        for name in sample.keys() - set(self.names):
            for value, _ in Counter(one["x"][name] for one in events).most_common(_MOST_VALUES):
                self.columns[name, value] = len(self.names) + len(self.columns)
        self.width = len(self.names) + len(self.columns)
        self.classes = sorted({one["y"] for one in events}) if task == "multiclass" else []
        self._index = {label: number for number, label in enumerate(self.classes)}
        self._rows: dict[int, tuple[Event, Floats]] = {}  # the event is kept, so that its id stays its own

    def arrays(self, events: list[Event]) -> tuple[Floats, Floats]:
        """Features of shape (events, columns), and labels; a class is its number. An event is encoded once."""
        return np.array([self._row(one) for one in events]).reshape(-1, self.width), np.array(
            [self._index[e["y"]] if self._index else e["y"] for e in events], float
        )

    def _row(self, event: Event) -> Floats:
        if (known := self._rows.get(id(event))) is None:
            row, x = np.zeros(self.width), event["x"]
            for column, name in enumerate(self.names):
                value = x.get(name)
                row[column] = value if isinstance(value, float) else 0.0
            for pair in x.items():
                if (column := self.columns.get(pair, -1)) >= 0:
                    row[column] = 1.0
            known = self._rows[id(event)] = (event, row)
        return known[1]


class Model:
    """Logistic, softmax or linear regression on features that are scaled by what was seen so far."""

    def __init__(self, encoder: Encoder, rate: float) -> None:
        self.task, self.rate = encoder.task, rate
        self.outputs = len(encoder.classes) or 1
        self.numbers = np.arange(encoder.width) < len(encoder.names)
        self.weights = np.zeros((self.outputs, encoder.width + 1))
        self.count = 0
        self.mean, self.square = np.zeros(encoder.width), np.zeros(encoder.width)

    def copy(self) -> "Model":
        """A snapshot."""
        other: Model = object.__new__(Model)
        other.__dict__.update(self.__dict__)
        other.weights = self.weights.copy()
        return other

    def predict(self, features: Floats) -> Floats:
        """A probability, one for each class, or a number; shape (events, outputs)."""
        return self._said(self._scaled(features, self.mean, self.square, self.count) @ self.weights.T)

    def learn(self, features: Floats, labels: Floats) -> Floats:
        """Learn one after the other; what is returned was predicted before each was learnt."""
        n = len(labels)
        shift = self.mean if self.count else features[0]
        apart = np.vstack((np.zeros(features.shape[1]), features - shift)).cumsum(axis=0)
        squared = np.vstack((np.zeros(features.shape[1]), (features - shift) ** 2)).cumsum(axis=0)
        counts = (self.count + np.arange(n + 1))[:, None]
        means = shift + apart / np.maximum(counts, 1)
        squares = self.square + squared - counts * (means - shift) ** 2
        before = self._scaled(features, means[:-1], squares[:-1], counts[:-1])
        after = self._scaled(features, means[1:], squares[1:], counts[1:])
        if self.outputs > 1:
            said = self._walk(before, after, np.eye(self.outputs)[labels.astype(int)])
        else:
            said = self._walk_one(before, after, labels)
        self.count, self.mean, self.square = int(counts[-1, 0]), means[-1], squares[-1]
        return said

    def _walk(self, before: Floats, after: Floats, wanted: Floats) -> Floats:
        said = np.empty_like(wanted)
        for i in range(len(said)):
            said[i], error = self._said(before[i] @ self.weights.T), self._said(after[i] @ self.weights.T) - wanted[i]
            self.weights -= (self.rate * error)[:, None] * after[i]
        return said

    def _walk_one(self, before: Floats, after: Floats, labels: Floats) -> Floats:
        said, weights = np.empty((len(labels), 1)), self.weights[0]
        for i, label in enumerate(labels.tolist()):
            score = float(after[i] @ weights)
            answer = score if self.task == "regression" else 1 / (1 + math.exp(-min(max(score, -30.0), 30.0)))
            said[i] = before[i] @ weights
            weights -= self.rate * min(max(answer - label, -5.0), 5.0) * after[i]
        return self._said(said)

    def _scaled(self, features: Floats, mean: Floats, square: Floats, count: Any) -> Floats:
        variance = square / np.maximum(count, 1)
        known = variance > 1e-12
        scaled = np.where(known, (features - mean) / np.sqrt(np.where(known, variance, 1.0)), 0.0)
        return np.hstack((np.where(self.numbers, scaled, features), np.ones((*features.shape[:-1], 1))))

    def _said(self, scores: Floats) -> Floats:
        if self.task == "regression":
            return scores
        if self.task == "binary":
            return 1 / (1 + np.exp(-np.clip(scores, -30.0, 30.0)))
        grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return grown / grown.sum(axis=-1, keepdims=True)


def losses(model: Model, said: Floats, labels: Floats, scale: float) -> Floats:
    """As ``learners.evidence.findings.losses``, for arrays."""
    if model.task == "regression":
        return np.minimum(1.0, np.abs(said[:, 0] - labels) / scale)
    if model.task == "binary":
        return (said[:, 0] - labels) ** 2
    own = said[np.arange(len(labels)), labels.astype(int)]
    return ((said * said).sum(axis=1) - own * own + (1 - own) ** 2) / 2


def answers(task: str, said: Floats) -> Floats:
    """What is answered: a class, or the number."""
    if task == "multiclass":
        return said.argmax(axis=1).astype(float)
    return said[:, 0] if task == "regression" else (said[:, 0] > 0.5).astype(float)


def score(task: str, said: Floats, labels: Floats) -> float:
    """How many answers are right, or the sum of absolute errors (regression)."""
    found = answers(task, said)
    return float(np.abs(found - labels).sum() if task == "regression" else (found == labels).sum())
