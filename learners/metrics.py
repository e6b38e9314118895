"""Prequential metrics: over the whole life, over a sliding window, and per slice.

Updates are made per batch and give the same bits however the events are cut into batches: integer counts are
exact, and sums of floats are accumulated strictly left to right (``np.add.accumulate`` and ``np.add.at``). So a
trainer that was killed ends with the metrics of one that was not (promise 1).

Definitions follow ``river.metrics`` and are unweighted as ``river.evaluate.progressive_val_score`` is. Events
that got no prediction are counted and left out. ``roc_auc`` over the whole life comes from a histogram of log
odds, 8,192 cells of 0.005 wide, with ties counted half; over the window it is exact.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from learners.errors import StateRefusedError
from learners.event import Event, Prediction, Task

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Figures: TypeAlias = dict[str, float | int | None]

CELLS = 8192
_LOGIT_SPAN = 20.0
_SMALLEST = 1e-15
OTHER_SLICES = "(other)"


class Metrics:
    """Metrics of one learner: ``window`` is the sliding window's length in events, ``max_slices`` bounds memory.

    Slices beyond ``max_slices`` are counted together under ``(other)``. Row 0 of every table is the whole.
    """

    def __init__(self, task: Task, window: int = 2000, max_slices: int = 200) -> None:
        self.task = task
        self.window = window
        self.max_slices = max_slices
        self.slices: dict[str, int] = {}
        self._counts: dict[str, Integers] = {name: np.zeros(1, np.int64) for name in _COUNTS[task]}
        self._sums: dict[str, Floats] = {name: np.zeros(1) for name in _SUMS[task]}
        self._origin: float | None = None
        self._scores = np.zeros((2, CELLS), np.int64)
        self._classes = np.zeros((3, 0), np.int64)  # rows: hits, true, predicted
        self._recent: Floats = np.zeros((3, 0))  # rows: label, prediction, probability (nan: none)

    def update(
        self,
        events: Sequence[Event],
        predictions: Sequence[Prediction],
        slices: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Score a batch. ``slices`` holds, for each event, the names of the slices it belongs to."""
        labels = np.array([float(event.label) for event in events if event.label is not None])
        values = np.array([np.nan if p.value is None else float(p.value) for p in predictions])
        chances = np.array([_chance(e, p) for e, p in zip(events, predictions, strict=True)])
        known = np.isfinite(values)
        rows: list[tuple[Integers, npt.NDArray[np.intp]]] = [(np.zeros(len(events), np.int64), np.arange(len(events)))]
        if slices is not None:
            rows += self._rows(slices)
        columns = self._columns(labels, values, chances)
        for row, index in rows:
            scored = known[index]
            np.add.at(self._counts["unpredicted"], row[~scored], 1)
            row, index = row[scored], index[scored]  # noqa: PLW2901  the scored part of the same rows
            for name, column in columns.items():
                if name in self._sums:
                    present = np.isfinite(column[index])
                    np.add.at(self._sums[name], row[present], column[index][present])
                else:
                    np.add.at(self._counts[name], row, column[index].astype(np.int64))
        self._whole(labels[known], values[known], chances[known])
        fresh = np.stack((labels[known], values[known], chances[known]))
        self._recent = np.concatenate((self._recent, fresh), axis=1)[:, -self.window :]

    def _rows(self, slices: Sequence[Sequence[str]]) -> list[tuple[Integers, npt.NDArray[np.intp]]]:
        """Pairs of (row of the tables, index of the event), in the order of the events."""
        pairs = [(self._row(name), i) for i, names in enumerate(slices) for name in names]
        if not pairs:
            return []
        table = np.array(pairs, np.int64)
        return [(table[:, 0], table[:, 1].astype(np.intp))]

    def _row(self, name: str) -> int:
        row = self.slices.get(name)
        if row is None:
            if len(self.slices) >= self.max_slices:
                name = OTHER_SLICES
                if name in self.slices:
                    return self.slices[name]
            row = self.slices[name] = len(self.slices) + 1
            for table in (self._counts, self._sums):
                for column in table:
                    table[column] = np.append(table[column], table[column].dtype.type(0))
        return row

    def _columns(self, labels: Floats, values: Floats, chances: Floats) -> dict[str, Floats]:
        """What each event adds to each column."""
        one = np.ones_like(labels)
        if self.task == "regression":
            error = np.where(np.isfinite(values), labels - values, 0.0)
            if self._origin is None and len(labels):
                self._origin = float(labels[0])
            shifted = labels - (self._origin or 0.0)
            return {"n": one, "absolute": np.abs(error), "squared": error * error, "y": shifted, "yy": shifted**2}
        hit = (labels == values).astype(float)
        clamped = np.clip(chances, _SMALLEST, 1 - _SMALLEST)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.task == "multiclass":
                return {"n": one, "correct": hit, "loss": -np.log(clamped), "chances": np.isfinite(chances) * 1.0}
            loss = np.where(labels > 0, -np.log(clamped), -np.log(1 - clamped))
        yes, said = labels > 0, values > 0
        return {
            "n": one,
            "correct": hit,
            "true_positive": (yes & said) * 1.0,
            "false_positive": (~yes & said) * 1.0,
            "false_negative": (yes & ~said) * 1.0,
            "chances": np.isfinite(chances) * 1.0,
            "loss": np.where(np.isfinite(chances), loss, np.nan),
            "brier": (chances - labels) ** 2,
        }

    def _whole(self, labels: Floats, values: Floats, chances: Floats) -> None:
        """Tables kept only for the whole: scores for the ROC curve, and counts per class."""
        if self.task == "binary":
            given = np.isfinite(chances)
            np.add.at(self._scores, (labels[given].astype(np.int64), _cell(chances[given])), 1)
        elif self.task == "multiclass" and len(labels):
            true, said = labels.astype(np.int64), values.astype(np.int64)
            size = int(max(true.max(), said.max())) + 1
            if size > self._classes.shape[1]:
                self._classes = np.pad(self._classes, ((0, 0), (0, size - self._classes.shape[1])))
            np.add.at(self._classes[0], true[true == said], 1)
            np.add.at(self._classes[1], true, 1)
            np.add.at(self._classes[2], said, 1)

    def overall(self) -> Figures:
        """Figures over the whole life; None where nothing was scored yet."""
        figures = self._figures(0)
        if self.task == "binary":
            figures["roc_auc"] = _auc_of_cells(self._scores)
        elif self.task == "multiclass":
            figures["macro_f1"] = _macro_f1(self._classes)
        return figures

    def by_slice(self) -> dict[str, Figures]:
        """Figures per slice, by the slice's name (``country=de``)."""
        return {name: self._figures(row) for name, row in self.slices.items()}

    def recent(self) -> Figures:
        """Figures over the sliding window."""
        window = Metrics(self.task, window=0)
        labels, values, chances = self._recent
        window._origin = self._origin
        for name, column in window._columns(labels, values, chances).items():
            if name in window._sums:
                window._sums[name][0] = column[np.isfinite(column)].sum()
            else:
                window._counts[name][0] = column.sum()
        figures = window._figures(0)
        if self.task == "binary":
            given = np.isfinite(chances)
            figures["roc_auc"] = roc_auc(labels[given], chances[given])
        elif self.task == "multiclass":
            window._whole(labels, values, chances)
            figures["macro_f1"] = _macro_f1(window._classes)
        return figures

    def _figures(self, row: int) -> Figures:
        count = {name: int(column[row]) for name, column in self._counts.items()}
        total = {name: float(column[row]) for name, column in self._sums.items()}
        n = count["n"]
        figures: Figures = {"n": n, "unpredicted": count["unpredicted"]}
        if self.task == "regression":
            mse = _ratio(total["squared"], n)
            spread = total["yy"] - total["y"] ** 2 / n if n else 0.0
            figures |= {"mae": _ratio(total["absolute"], n), "mse": mse, "rmse": None if mse is None else mse**0.5}
            figures["r2"] = 1 - total["squared"] / spread if n > 1 and spread > 0 else 0.0 if n else None
            return figures
        figures["accuracy"] = _ratio(count["correct"], n)
        if self.task == "binary":
            hits = count["true_positive"]
            figures["f1"] = _ratio(
                2 * hits, 2 * hits + count["false_positive"] + count["false_negative"], 0.0 if n else None
            )
            figures["brier"] = _ratio(total["brier"], count["chances"])
        figures["log_loss"] = _ratio(total["loss"], count["chances"])
        return figures

    def dump(self) -> bytes:
        """Encode the whole state as msgpack; equal states give equal bytes."""
        cells = np.flatnonzero(self._scores)
        return msgspec.msgpack.encode(
            {
                "task": self.task,
                "window": self.window,
                "max_slices": self.max_slices,
                "slices": list(self.slices),
                "counts": {name: column.tolist() for name, column in self._counts.items()},
                "sums": {name: column.tolist() for name, column in self._sums.items()},
                "origin": self._origin,
                "cells": [cells.astype("<i4").tobytes(), self._scores.ravel()[cells].astype("<i8").tobytes()],
                "classes": self._classes.tolist(),
                "recent": self._recent.astype("<f8").tobytes(),
            }
        )

    @classmethod
    def load(cls, data: bytes) -> "Metrics":
        """Return the metrics that :meth:`dump` wrote; raise :class:`StateRefusedError` when they do not decode."""
        try:
            return cls._decode(msgspec.msgpack.decode(data))
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError, ValueError, IndexError) as cause:
            raise StateRefusedError(f"the metric state does not decode: {cause}") from cause

    @classmethod
    def _decode(cls, saved: dict[str, Any]) -> "Metrics":
        metrics = cls(saved["task"], saved["window"], saved["max_slices"])
        metrics.slices = {name: row for row, name in enumerate(saved["slices"], 1)}
        metrics._counts = {name: np.array(column, np.int64) for name, column in saved["counts"].items()}
        metrics._sums = {name: np.array(column, float) for name, column in saved["sums"].items()}
        metrics._origin = saved["origin"]
        cells, counts = saved["cells"]
        metrics._scores.ravel()[np.frombuffer(cells, "<i4")] = np.frombuffer(counts, "<i8")
        metrics._classes = np.array(saved["classes"], np.int64).reshape(3, -1)
        metrics._recent = np.frombuffer(saved["recent"], "<f8").reshape(3, -1)
        return metrics


_COUNTS: dict[Task, tuple[str, ...]] = {
    "binary": ("n", "unpredicted", "correct", "true_positive", "false_positive", "false_negative", "chances"),
    "multiclass": ("n", "unpredicted", "correct", "chances"),
    "regression": ("n", "unpredicted"),
}
_SUMS: dict[Task, tuple[str, ...]] = {
    "binary": ("loss", "brier"),
    "multiclass": ("loss",),
    "regression": ("absolute", "squared", "y", "yy"),
}


def _chance(event: Event, prediction: Prediction) -> float:
    """The probability that the score is made of: of the positive class, or of the class that was true."""
    if prediction.probabilities is not None:
        # A class that the learner does not name adds no loss, as in river.metrics.CrossEntropy.
        return prediction.probabilities.get(event.label, 1.0)  # type: ignore[arg-type]
    return np.nan if prediction.probability is None else prediction.probability


def _ratio(part: float, whole: float, nothing: float | None = None) -> float | None:
    return part / whole if whole else nothing


def _cell(chances: Floats) -> Integers:
    """The cell of each probability, on an even grid of log odds within ±20."""
    clamped = np.clip(chances, 1e-9, 1 - 1e-9)
    odds = np.log(clamped / (1 - clamped))
    return np.clip((odds / _LOGIT_SPAN + 1) / 2 * CELLS, 0, CELLS - 1).astype(np.int64)


def _auc_of_cells(scores: Integers) -> float | None:
    negatives, positives = scores.astype(float)
    pairs = negatives.sum() * positives.sum()
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)


def roc_auc(labels: Floats, scores: Floats) -> float | None:
    """Exact area under the ROC curve, ties counted half; None without both classes."""
    _, index = np.unique(scores, return_inverse=True)
    if not len(index):
        return None
    cells = np.zeros((2, int(index.max()) + 1), np.int64)
    np.add.at(cells, (labels.astype(np.int64), index), 1)
    return _auc_of_cells(cells)


def _macro_f1(classes: Integers) -> float | None:
    hits, true, said = classes
    seen = (true + said) > 0
    if not seen.any():
        return None
    return float((2 * hits[seen] / (true[seen] + said[seen])).mean())
