"""Do the newest rows have the labels that rows of before had where the features were the same? No model is asked.

A world that moves brings features that were not there before, or shifts little by little which label they have. Labels
that lie are others where nothing else is: rows contradict nearest neighbours of before that all agreed. A row without
such neighbours says nothing, so that a new region is no evidence. (k nearest neighbours: Fix and Hodges, 1951.)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learners.event import Task
from snapshots.moved.label_checks import pairing

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
#: neighbours that are asked, that have to be near, and the share of them that has to agree
_ASKED, _NEAR, _AGREE = 5, 3, 0.8
#: near is this many times the distance that three quarters of the rows of before have to their nearest
_REACH = 1.5
#: rows of before at least; equal shares that numbers (regression) are told apart by; features at most
_FEWEST, _SHARES, _MOST_FEATURES = 60, 3, 100
#: where a value that is missing, or is no number, lies beside ranks between 0 and 1
_MISSING = 2.0
#: rows of before that are asked about themselves
_OF_BEFORE = 200
#: how much more often than before is chance still
_MORE = 1.5


class Told(NamedTuple):
    """Which rows have neighbours of before that agree, the class that those have, and the rows' own; shape (rows,)."""

    asked: Flags
    said: Numbers
    own: Numbers

    @property
    def wrong(self) -> Flags:
        """Where the neighbours agree on another class."""
        found: Flags = self.asked & (self.said != self.own)
        return found

    def of(self, places: Sequence[int]) -> "Told":
        """Of some of the rows."""
        at = list(places)
        return Told(self.asked[at], self.said[at], self.own[at])


class Contradictions(NamedTuple):
    """How many rows were asked, how many contradict their neighbours, and how likely that was by chance.

    ``renamed`` is the share of them that would be right if each class had another name.
    """

    asked: int
    wrong: int
    chance: float
    renamed: float

    @property
    def share(self) -> float:
        """Of those that were asked."""
        return self.wrong / self.asked if self.asked else 0.0


class Sample(NamedTuple):
    """Rows as they are compared: features by name (None absent), and labels: classes, or numbers (regression)."""

    features: Mapping[str, Sequence[Any]]
    labels: Sequence[Any]


def ask(task: Task, before: Sample, now: Sample) -> tuple[Numbers, Told, Told] | None:
    """Ask the neighbours of before: about some of each other (their places come first), and about the newest rows.

    None: there are too few rows.
    """
    names = list(before.features)[:_MOST_FEATURES]
    if len(before.labels) < _FEWEST or not names or not now.labels:
        return None
    old, new = _places(names, before.features, before.features), _places(names, before.features, now.features)
    some = np.arange(0, len(before.labels), max(1, len(before.labels) // _OF_BEFORE))
    own = _distances((old[0][some], old[1][some]), old)
    own[np.arange(len(some)), some] = np.inf
    reach = _REACH * float(np.quantile(own.min(axis=1), 0.75)) + 1e-9
    known, labels = _classes(task, before.labels, now.labels)
    usual = _contradicted(own, reach, known, known[some])
    return some, usual, _contradicted(_distances(new, old), reach, known, labels)


def contradictions(usual: Told, newest: Told) -> Contradictions:
    """How far the newest rows contradict their neighbours beyond what rows of before do."""
    asked, wrong = int(newest.asked.sum()), int(newest.wrong.sum())
    rate = min(1.0, _MORE * (int(usual.wrong.sum()) + 1) / (int(usual.asked.sum()) + 2))
    chance = sum(math.comb(asked, n) * rate**n * (1 - rate) ** (asked - n) for n in range(wrong, asked + 1))
    return Contradictions(asked, wrong, min(1.0, chance), _renamed(newest) if wrong else 0.0)


def _renamed(newest: Told) -> float:
    said, own = newest.said[newest.asked], newest.own[newest.asked]
    kinds = int(max(said.max(), own.max())) + 1
    table = np.zeros((kinds, kinds))
    np.add.at(table, (said, own), 1)
    named = len(np.unique(said))
    return float(table[pairing(-table)].sum() / len(said)) if len(said) >= 2 * named else 0.0


def _places(
    names: Sequence[str], before: Mapping[str, Sequence[Any]], of: Mapping[str, Sequence[Any]]
) -> tuple[Floats, Floats]:
    """Numbers as their rank among those of before; everything else as a number for each value."""
    ranks, values = [], []
    rows = len(next(iter(of.values())))
    for name in names:
        was, now = before[name], of.get(name, [None] * rows)
        if (known := _numbers(was)) is not None:
            ranks.append(_ranks(known[~np.isnan(known)], now))
        else:
            seen = {value: number for number, value in enumerate(dict.fromkeys(map(str, was)))}
            values.append(np.array([seen.get(str(one), -1) for one in now], float))
    return tuple(np.array(columns, float).reshape(-1, rows).T for columns in (ranks, values))  # type: ignore[return-value]


def _numbers(values: Sequence[Any]) -> Floats | None:
    """Values as numbers, None as not a number; None where some are texts."""
    if isinstance(next((one for one in values if one is not None), None), str):
        return None
    try:
        return np.array(values, float)
    except (TypeError, ValueError):
        return None


def _ranks(before: Floats, now: Sequence[Any]) -> Floats:
    """Where numbers lie among those of before; beyond the outermost by how far, in units of their spread."""
    found = _numbers(now)
    own = np.array([np.nan if isinstance(one, str) else one for one in now], float) if found is None else found
    if not len(before):
        return np.where(np.isnan(own), _MISSING, 0.0)
    known = np.sort(before)
    spread = float(np.subtract(*np.quantile(known, [0.95, 0.05]))) or float(known[-1] - known[0]) or 1.0
    inside = (np.searchsorted(known, own) + np.searchsorted(known, own, side="right")) / (2 * len(known))
    beyond = np.clip((own - known[-1]) / spread, 0, 1) - np.clip((known[0] - own) / spread, 0, 1)
    return np.where(np.isnan(own), _MISSING, inside + beyond)


def _distances(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> Floats:
    """The sum over features: how far ranks lie apart, and 1 where values differ."""
    from scipy.spatial.distance import cdist  # noqa: PLC0415  slow to import

    apart = np.zeros((len(one[0]), len(other[0])))
    for kind, metric, scale in ((0, "cityblock", 1), (1, "hamming", one[1].shape[1])):
        if one[kind].shape[1]:
            apart += scale * cdist(one[kind], other[kind], metric)
    return apart


def _classes(task: Task, before: Sequence[Any], now: Sequence[Any]) -> tuple[Numbers, Numbers]:
    if task == "regression":
        cuts = np.quantile(np.array(before, float), np.arange(1, _SHARES) / _SHARES)
        return np.searchsorted(cuts, np.array(before, float)), np.searchsorted(cuts, np.array(now, float))
    kinds = {one: n for n, one in enumerate(dict.fromkeys((*before, *now)))}
    return np.array([kinds[one] for one in before]), np.array([kinds[one] for one in now])


def _contradicted(apart: Floats, reach: float, labels: Numbers, own: Numbers) -> Told:
    nearest = np.argpartition(apart, min(_ASKED, apart.shape[1] - 1), axis=1)[:, :_ASKED]
    near = np.take_along_axis(apart, nearest, axis=1) <= reach
    votes = np.zeros((len(apart), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(apart))[:, None], labels[nearest]), near)
    count = near.sum(axis=1)
    asked = (count >= _NEAR) & (votes.max(axis=1) >= _AGREE * count)
    return Told(asked, votes.argmax(axis=1), own)
