"""Gates that a full retrain passes before it becomes the baseline. They fail closed: missing evidence is a fail.

All losses are those of :mod:`learners.evidence.findings`, in [0, 1], on rows that were never learnt.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from learners.bounded import Amount, Gain, Positive, Seconds
from learners.event import Features, Prediction, Task
from learners.evidence.losses import WHOLE, losses
from snapshots.records.held_rows import HeldRow
from snapshots.records.holdout import FEWEST_ROWS

_LATENCY_ROWS = 1000
_BINS, _BIN_ROWS = 15, 200
_FEWEST_ROWS = 100
_ERROR = 0.05


class Limits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``[gates]`` asks of a candidate. Losses and gains in [0, 1].

    ``retrains_per_year`` divides the error of the paired interval.
    """

    min_gain: Gain = 0.0
    tolerance: Amount = 0.01
    retrains_per_year: Positive = 365.0
    max_slice_loss: Amount = 0.02
    floor_tolerance: Amount = 0.05
    p99_ms: Positive = 5.0
    max_megabytes: Positive = 500.0
    max_seconds: Seconds = 86_400.0
    max_calibration_loss: Amount = 0.02


class Rules(Limits, kw_only=True):
    """The same, with the rows that a slice needs (``[holdout]``)."""

    min_slice_rows: int = FEWEST_ROWS


class Asked(Protocol):
    """What is asked for predictions."""

    def predict(self, features: Features) -> Prediction:
        """Predict one event."""

    def predict_many(self, rows: Sequence[Features]) -> list[Prediction]:
        """Predict several."""


class Gate(msgspec.Struct, frozen=True):
    """One gate: its figure (None: there is no evidence), its limit, whether it is passed, and a sentence."""

    name: str
    figure: float | None
    limit: float
    passed: bool
    why: str


class Rows(msgspec.Struct, frozen=True):
    """Rows that were never learnt: what they are called, the rows, and the unit of a regression's errors."""

    name: str
    rows: list[HeldRow]
    scale: float = 1.0


class Constant:
    """Says the same of everything: the shares of the classes, or the mean. What a first baseline has to beat."""

    def __init__(self, task: Task, rows: Sequence[HeldRow]) -> None:
        labels = np.array([float(row.label) for row in rows])
        mean = float(labels.mean()) if len(labels) else 0.5
        if task == "multiclass":
            shares = {int(one): float((labels == one).mean()) for one in np.unique(labels)}
            self._said = Prediction(max(shares, key=shares.__getitem__, default=0), None, shares)
        else:
            self._said = Prediction(mean > 0.5, mean) if task == "binary" else Prediction(mean)

    def predict(self, _: Features) -> Prediction:
        """The same."""
        return self._said

    def predict_many(self, rows: Sequence[Features]) -> list[Prediction]:
        """The same for all."""
        return [self._said] * len(rows)


class Judged(msgspec.Struct):
    """A candidate and what it is held against on the same rows: losses and predictions of both."""

    rows: Rows
    own: npt.NDArray[np.float64]
    other: npt.NDArray[np.float64]
    said: list[Prediction]
    other_said: list[Prediction]


def compare(candidate: Asked, current: Asked, task: Task, rows: Rows) -> Judged:
    """Ask both about every row."""
    features = [Features(row.features) for row in rows.rows]
    labels = [row.label for row in rows.rows]
    said, other = candidate.predict_many(features), current.predict_many(features)
    return Judged(rows, losses(task, labels, said, rows.scale), losses(task, labels, other, rows.scale), said, other)


def holdout_gate(judged: Judged | None, against: str, rules: Rules) -> Gate:
    """Not worse than what counts now, for certain, and better by ``min_gain`` in the mean."""
    if judged is None or len(judged.own) < _FEWEST_ROWS:
        count = 0 if judged is None else len(judged.own)
        of = f" of {judged.rows.name}" if judged is not None else ""
        return Gate("holdout", None, rules.min_gain, passed=False, why=(
            f"only {count} rows{of} were never learnt, and {_FEWEST_ROWS} are needed: set holdout.rate and wait for "
            "events"
        ))  # fmt: skip
    gain = judged.other - judged.own
    mean, half = float(gain.mean()), half_width(gain, _ERROR / rules.retrains_per_year)
    sure = mean - half >= rules.min_gain - rules.tolerance
    passed = mean >= rules.min_gain - 1e-12 and sure
    low, high = mean - half, mean + half
    how = f"better than {against} by {mean:.4f} [{low:+.4f}, {high:+.4f}]"
    if mean < 0:
        how = f"worse than {against} by {-mean:.4f} [{-high:+.4f}, {-low:+.4f}]"
    said = f"{how} on {len(gain):,} rows of {judged.rows.name}"
    if not passed:
        said += (
            f"; at least {rules.min_gain:.4f} better is wanted" if mean < rules.min_gain
            else f", which may be worse than gates.tolerance ({rules.tolerance}) allows: more rows would tell"
        )  # fmt: skip
    return Gate("holdout", round(mean, 6), rules.min_gain, passed=passed, why=said)


def doubts(newest: Rows | None, current: Asked | None, task: Task, rules: Rules, against: str) -> list[str]:
    """Why the gates cannot, or can hardly, pass, whatever is trained: told before anything is.

    A candidate can win back no more than what counts now loses, and the interval of the difference is about as wide as
    that of these losses.
    """
    rows = newest.rows if newest is not None else []
    if newest is None or len(rows) < _FEWEST_ROWS:
        lack = f"{len(rows)} rows were never learnt, and {_FEWEST_ROWS} are needed"
        return [f"gate holdout cannot pass: {lack}. Set holdout.rate and wait for events"]
    found = []
    said = (current or Constant(task, rows)).predict_many([Features(row.features) for row in rows])
    lost = losses(task, [row.label for row in rows], said, newest.scale)
    wanted = max(rules.min_gain, half_width(lost, _ERROR / rules.retrains_per_year) + rules.min_gain - rules.tolerance)
    mean = float(lost.mean())
    if wanted > mean / 2:
        can = "cannot" if wanted > mean else "can hardly"
        found.append(
            f"gate holdout {can} pass: with {len(rows):,} rows a candidate has to be better by about {wanted:.4f}, and "
            f"{against} loses {mean:.4f} in all. More held-out rows would tell, or a larger gates.tolerance"
        )
    slices = {name: sum(name in row.slices for row in rows) for row in rows for name in row.slices}
    if slices and max(slices.values()) < 2:
        found.append(f"gate slices cannot pass: none of the {len(slices)} slices has two rows")
    return found


def half_width(values: npt.NDArray[np.float64], error: float) -> float:
    """Half of the interval of a mean that is wrong with this probability (Student's t; one look, at a fixed number)."""
    if len(values) < 2:
        return math.inf
    from scipy import stats  # noqa: PLC0415  half a second and 40 MB, and every command imports the gates' limits

    return float(stats.t.ppf(1 - error / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


def floor_gate(judged: Judged, against: str, rules: Rules) -> Gate:
    """On an older holdout it may lose a little more, and no more than that."""
    loss = float((judged.own - judged.other).mean()) if len(judged.own) else None
    passed = loss is not None and loss <= rules.floor_tolerance
    why = (
        f"worse than {against} by {loss:+.4f} on {judged.rows.name}"
        if loss is not None
        else f"{judged.rows.name} has no rows"
    )
    return Gate(f"floor: {judged.rows.name}", loss, rules.floor_tolerance, passed=passed, why=why)


def slices_gate(judged: Judged | None, against: str, rules: Rules) -> Gate:
    """No slice is worse by more than is allowed: in the mean, or for certain where it has few rows."""
    if judged is None:
        return Gate("slices", None, rules.max_slice_loss, passed=False, why="there are no rows that were never learnt")
    names = sorted({name for row in judged.rows.rows for name in row.slices})
    worst, where, looked, few = 0.0, WHOLE, 0, 0
    for name in names:
        chosen = np.array([name in row.slices for row in judged.rows.rows])
        losses_ = (judged.own - judged.other)[chosen]
        loss = float(losses_.mean())
        if len(losses_) < rules.min_slice_rows:
            few += 1
            loss -= half_width(losses_, _ERROR)
        looked += len(losses_) > 1
        if loss > worst:
            worst, where = loss, name
    if names and not looked:
        return Gate("slices", None, rules.max_slice_loss, passed=False, why=(
            f"none of the {len(names)} slices has rows enough to look at: wait for more, or raise holdout.rate"
        ))  # fmt: skip
    why = f"{len(names) - few} of {len(names)} slices have {rules.min_slice_rows} rows"
    if few:
        why += "; the others are worse only where that is certain"
    if where:
        why = f"{where} is worse than {against} by {worst:+.4f}; {why}"
    return Gate("slices", worst, rules.max_slice_loss, passed=worst <= rules.max_slice_loss, why=why)


def calibration_gate(judged: Judged | None, task: Task, rules: Rules) -> Gate:
    """The error of the probabilities is not larger than that of what counts now, but for a little."""
    limit = rules.max_calibration_loss
    if task == "regression":
        return Gate("calibration", 0.0, limit, passed=True, why="a regression has no probabilities")
    if judged is None:
        return Gate("calibration", None, limit, passed=False, why="there are no rows that were never learnt")
    labels = [row.label for row in judged.rows.rows]
    own, margin = calibration_error(task, labels, judged.said)
    other, _ = calibration_error(task, labels, judged.other_said)
    figure = own - other
    return Gate("calibration", figure, limit, passed=figure - margin <= limit, why=(
        f"expected calibration error {own:.4f} (chance makes up to {margin:.4f}), and {other:.4f} of what counts now"
    ))  # fmt: skip


def calibration_error(task: Task, labels: Sequence[Any], said: Sequence[Prediction]) -> tuple[float, float]:
    """Expected calibration error: of the positive class, or of the class that was named.

    Over up to 15 bins of as many rows each. What chance alone makes of it in the mean, were every probability right, is
    taken off (not below 0): of few rows that would be all that is seen. The second figure is how much more chance makes
    of it in one case of twenty.
    """
    if task == "binary":
        chances = np.array([0.5 if one.probability is None else one.probability for one in said])
        hits = np.array([float(label) for label in labels])
    else:
        chances = np.array([max((one.probabilities or {0: 0.5}).values()) for one in said])
        hits = np.array([float(one.value == label) for one, label in zip(said, labels, strict=True)])
    order = np.argsort(chances, kind="stable")
    parts = np.array_split(order, min(_BINS, max(2, len(order) // _BIN_ROWS)))
    found = chance = variance = 0.0
    for part in parts:
        if len(part):
            mean = float(chances[part].mean())
            found += len(part) * abs(mean - float(hits[part].mean()))
            spread = float((chances[part] * (1 - chances[part])).clip(0.0).mean())
            chance += math.sqrt(2 * spread * len(part) / math.pi)  # the mean of the absolute value of a normal
            variance += (1 - 2 / math.pi) * spread * len(part)
    return max(0.0, found - chance) / len(order), 1.645 * math.sqrt(variance) / len(order)


def fast_gate(judged: Judged | None) -> Gate:
    """It answers with finite numbers, and not with the same for everything."""
    if judged is None or not judged.said:
        return Gate("fast lane", None, 0.0, passed=False, why="there are no rows to ask it about")
    values = [_numbers(one) for one in judged.said]
    wrong = sum(not all(map(math.isfinite, one)) for one in values)
    same = len(set(map(tuple, values))) == 1 and len(values) > 1
    why = "it gives the same answer to everything" if same else f"{wrong} answers are not finite"
    return Gate("fast lane", float(wrong), 0.0, passed=not wrong and not same, why=why)


def _numbers(one: Prediction) -> list[float]:
    if one.probabilities is not None:
        return list(one.probabilities.values())
    return [math.nan if one.value is None else float(one.value) if one.probability is None else one.probability]


def latency_gate(candidate: Asked, rows: Rows | None, rules: Rules) -> Gate:
    """The 99 % point of single predictions, from bytes on as serving makes them (milliseconds)."""
    raw = [row.features for row in rows.rows[:_LATENCY_ROWS]] if rows is not None else []
    if not raw:
        return Gate("latency", None, rules.p99_ms, passed=False, why="there are no rows to ask it about")
    times = []
    for one in (*raw[:20], *raw):
        began = time.perf_counter()
        candidate.predict(Features(one))
        times.append(1000 * (time.perf_counter() - began))
    figure = float(np.quantile(times[20:], 0.99))
    return Gate("latency", figure, rules.p99_ms, passed=figure <= rules.p99_ms, why=f"{figure:.3f} ms, the 99 % point")


def limit_gate(name: str, figure: float, limit: float, unit: str) -> Gate:
    """A figure within its limit."""
    return Gate(name, figure, limit, passed=figure <= limit, why=f"{figure:,.1f} {unit} of at most {limit:,.1f}")


def all_gates(  # noqa: PLR0913  everything that a gate looks at
    candidate: Asked,
    current: Asked | None,
    task: Task,
    newest: Rows | None,
    floors: Sequence[Rows],
    rules: Rules,
    *,
    against: str,
    megabytes: float,
    seconds: float,
) -> list[Gate]:
    """Every gate, in the order in which they are told."""
    judged = None
    if newest is not None and newest.rows:
        judged = compare(candidate, current or Constant(task, newest.rows), task, newest)
    found = [
        fast_gate(judged), holdout_gate(judged, against, rules), slices_gate(judged, against, rules),
        calibration_gate(judged, task, rules), latency_gate(candidate, newest, rules),
        limit_gate("size", megabytes, rules.max_megabytes, "MB"),
        limit_gate("cost", seconds, rules.max_seconds, "s of training"),
    ]  # fmt: skip
    if current is not None:
        found += [floor_gate(compare(candidate, current, task, one), against, rules) for one in floors]
    return found
