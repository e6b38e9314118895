"""Do labels still answer to the features as they did? Pure functions over two windows of held-out rows.

The older model's answers are the witness: a change of the world moves features or makes the answers worse here and
there; labels that lie fit those answers only under other names, or not at all, or are all one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from learners.event import Task
from snapshots.moved.jumps import distance

Floats: TypeAlias = npt.NDArray[np.float64]
Doubt: TypeAlias = Literal["", "relabelled", "collapsed", "uninformative", "unlearnt", "misnamed", "contradicted"]
_MOST_FEATURES = 100
#: features lie elsewhere when chance does this once in ten thousand times
_CHANCE = 1e-4
_APART = 0.15
#: the share of one label from which labels count as all one, and that which it had at most before
_ALL_ONE, _DIVERSE = 0.97, 0.8
#: labels that are one are too unlikely from here on (logarithm to base 10), by what the answers meant before
_UNLIKELY = -6.0
#: a feature of fewer values looks like others by itself
_LEAST_VALUES = 2
#: features that are compared with each other's, at most and at least; how far apart, and how near, they have to be
_MOST_NAMES, _LEAST_NAMES, _FAR, _NEAR = 40, 3, 0.4, 0.4


class Window(NamedTuple):
    """Rows as the tests see them: labels, and what a model answers and loses on each; features by name, None absent.

    ``constant`` is what the best constant answer loses. Answers and labels are classes, or numbers (regression).
    """

    labels: Sequence[Any]
    answers: Sequence[Any]
    losses: Floats
    constant: float
    features: Mapping[str, Sequence[Any]]


def constant_loss(task: Task, labels: Sequence[Any], scale: float) -> float:
    """What the best constant answer loses: half by its probabilities and half by being wrong, as each row does."""
    if task == "regression":
        numbers = np.array(labels, float)
        return float(np.minimum(1.0, np.abs(numbers - np.median(numbers)) / scale).mean())
    shares = np.unique([str(one) for one in labels], return_counts=True)[1] / len(labels)
    return float((1 - (shares**2).sum()) / 4 + (1 - shares.max()) / 2)


def doubt(task: Task, before: Window, now: Window, own: Floats, known: str = "") -> Doubt:
    """How the newest labels lie, by a model from before them; empty when they do not.

    ``own`` are the losses of the learner itself on the newest rows: what it can predict is no noise. ``known`` is how
    they lay so far: labels that were all one are believed when they are no longer. Labels that follow from nothing are
    ``unlearnt`` where features lie elsewhere: that may be another world, which has to be learnt first.
    """
    if misnamed(before.features, now.features):
        return "misnamed"
    return _of_numbers(before, now, own) if task == "regression" else _of_classes(before, now, own, known)


def _of_classes(before: Window, now: Window, own: Floats, known: str) -> Doubt:
    kinds = {one: n for n, one in enumerate({*before.labels, *now.labels, *before.answers, *now.answers})}
    said = [np.array([kinds[one] for one in of.answers]) for of in (before, now)]
    true = [np.array([kinds[one] for one in of.labels]) for of in (before, now)]
    right = [float((one == other).mean()) for one, other in zip(said, true, strict=True)]
    shares = [np.bincount(one, minlength=len(kinds)) / len(one) for one in true]
    common = int(shares[1].argmax())
    most = float(shares[1][common])
    one_answer = float(np.bincount(said[1]).max() / len(said[1]))
    if most > _ALL_ONE and shares[0][common] < _DIVERSE:
        alike = not unlike(before.features, now.features)
        unlikely = one_answer < _DIVERSE and _likely(true, said, common) < _UNLIKELY
        if unlikely or (alike and known == "collapsed"):
            return "collapsed"
        if right[1] < 0.6 * right[0]:
            return "collapsed" if one_answer < 0.9 or alike else ""
    table = np.zeros((len(kinds), len(kinds)))
    np.add.at(table, (said[1], true[1]), 1)
    renamed = float(table[pairing(-table)].sum() / len(true[1]))
    if renamed - right[1] > 0.3 and right[0] - right[1] > 0.3 and renamed > max(most, one_answer) + 0.1:
        return "relabelled"
    skill = [1 - float(of.losses.mean()) / max(of.constant, 1e-6) for of in (before, now)]
    worse = now.losses.mean() - before.losses.mean()
    sure = worse > 4 * math.sqrt(sum(of.losses.var() / len(of.losses) for of in (before, now)))
    learnt = 1 - float(own.mean()) / max(now.constant, 1e-6)
    nothing = skill[0] > 0.2 and skill[1] < min(0.0, skill[0] - 0.4) and learnt < 0.05
    return _of_nothing(before, now) if nothing and sure and most < _ALL_ONE and renamed < most + 0.1 else ""


def _of_nothing(before: Window, now: Window) -> Doubt:
    return "unlearnt" if unlike(before.features, now.features) else "uninformative"


def _likely(true: Sequence[Any], said: Sequence[Any], label: int) -> float:
    """How likely it is that all of the newest labels are this one, by what each answer meant before (log10)."""
    found = 0.0
    share = float((true[0] == label).mean())
    for answer, count in zip(*np.unique(said[1], return_counts=True), strict=True):
        own = true[0][said[0] == answer]
        found += count * math.log10((float((own == label).sum()) + max(share, 0.01)) / (len(own) + 1))
    return found


def misnamed(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> bool:
    """Whether features lie elsewhere, and where others lay before: their names were mixed up on the way."""
    names = [
        name for name in list(before)[:_MOST_NAMES]
        if name in now and min(len(set(of[name])) for of in (before, now)) >= _LEAST_VALUES
    ]  # fmt: skip
    own = {name: distance(before[name], now[name])[0] for name in names}
    far = [name for name in names if own[name] > _FAR]
    if len(far) < _LEAST_NAMES:
        return False
    apart = np.array([[distance(before[other], now[name])[0] for other in far] for name in far])
    np.fill_diagonal(apart, 1.0)
    as_named, otherwise = np.median([own[name] for name in far]), np.median(apart[pairing(apart)])
    return bool(otherwise < _NEAR and otherwise < as_named / 2)


def pairing(costs: Floats) -> Any:
    """Which row goes with which column, at the least cost together."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  slow to import, and wanted by looks that doubt

    return linear_sum_assignment(costs)


def _of_numbers(before: Window, now: Window, own: Floats) -> Doubt:
    was, is_ = (_correlation(of.answers, of.labels) for of in (before, now))
    if was < 0.4:
        return ""
    spread = [np.std(of.answers) for of in (before, now)]
    if np.std(now.labels) < 0.2 * np.std(before.labels) and spread[1] > 0.4 * spread[0]:
        return "collapsed"
    if is_ < -0.3:
        return "relabelled"
    return _of_nothing(before, now) if is_ < 0.25 and own.mean() > 0.9 * now.constant else ""


def _correlation(one: Sequence[Any], other: Sequence[Any]) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if np.std(one) > 0 and np.std(other) > 0 else 0.0


def unlike(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> bool:
    """Tell whether a feature that stood still before lies elsewhere now, beyond what chance does.

    Chance: Hoeffding's bound of the difference of two means, over all sets of cells.
    """
    for name in list(before)[:_MOST_FEATURES]:
        was, new = before[name], now.get(name, ())
        if not was or not new:
            continue
        half = len(was) // 2
        apart, cells = distance(was, new)
        by_chance = math.sqrt((cells * math.log(2) - math.log(_CHANCE)) / 2 * (1 / len(was) + 1 / len(new)))
        if apart > max(_APART, by_chance) and half and distance(was[:half], was[half:])[0] < apart / 2:
            return True
    return False
