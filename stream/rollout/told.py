"""What serving processes saw of a roll-out: counts that can be added up, and what they break."""

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from learners.event import Prediction
from snapshots.decisions.rollout import Rollout
from stream.rollout.limits import SLOW_SHARE, alpha_of, shift, too_often
from stream.settings import RolloutConfig

#: cells of probabilities; numbers fall into 20 cells a decade of their size
_CELLS, _PER_DECADE = 100, 20
_LEAST_MS, _LATENCY_PER_DECADE = 0.001, 20
#: how many cells a distribution may have
_MOST_CELLS = 2000
_WINDOW = 1000
_NOT_FINITE = 10**6


_Count = Annotated[int, Meta(ge=0, le=10**12)]
_Cells = dict[Annotated[int, Meta(ge=-(10**7), le=10**7)], _Count]
_Latencies = dict[Annotated[int, Meta(ge=0, le=200)], _Count]


class Window(msgspec.Struct):
    """The newest predictions, up to a thousand: a candidate that was fine for long is seen to fail as soon as ever."""

    number: _Count = 0
    predicted: _Count = 0
    errors: _Count = 0
    slow: _Count = 0


class Route(msgspec.Struct):
    """What one of the two predicted: how many requests it answered, how many it predicted at all, and how."""

    answered: _Count = 0
    predicted: _Count = 0
    errors: _Count = 0
    slow: _Count = 0
    window: Window = msgspec.field(default_factory=Window)
    cells: _Cells = {}
    milliseconds: _Latencies = {}

    def __post_init__(self) -> None:
        """Refuse counts that no process can have, which somebody wrote into the store."""
        for one in (self, self.window):
            if one.errors + one.slow > one.predicted:
                raise ValueError("more failed than were asked")

    def note(self, prediction: Prediction, seconds: float, most_ms: float) -> None:
        """Count a prediction and how long it took."""
        milliseconds = seconds * 1000
        self._count(errors=False, slow=milliseconds > most_ms)
        _count(self.cells, cell_of(prediction))
        _count(self.milliseconds, _latency_cell(milliseconds))

    def fail(self) -> None:
        """Count a prediction that was none."""
        self._count(errors=True, slow=False)

    def _count(self, *, errors: bool, slow: bool) -> None:
        window = self.window
        if window.predicted >= _WINDOW:
            window = self.window = Window(window.number + 1)
        for one in (self, window):
            one.predicted += 1
            one.errors += errors
            one.slow += slow

    def add(self, other: "Route") -> None:
        """Add what another process counted."""
        self.answered += other.answered
        self.predicted += other.predicted
        self.errors += other.errors
        self.slow += other.slow
        for mine, theirs in ((self.cells, other.cells), (self.milliseconds, other.milliseconds)):
            for cell, count in theirs.items():
                mine[cell] = mine.get(cell, 0) + count

    def quantile(self, share: float) -> float | None:
        """The upper end of the cell in which this share of the predictions is reached, in milliseconds."""
        total, reached = sum(self.milliseconds.values()), 0
        for cell in sorted(self.milliseconds):
            reached += self.milliseconds[cell]
            if reached >= share * total:
                return float(f"{_LEAST_MS * 10 ** (cell / _LATENCY_PER_DECADE):.3g}")
        return None


class Told(msgspec.Struct):
    """What one process saw since the roll-out of ledger entry ``entry`` began there, and since the newest ``step``.

    ``both``: requests that both predicted; ``agreed``: of these, where they said the same. ``skipped``: requests that
    were to be shadowed and were not, since there was no time. ``trouble``: what it last failed with, ``absent``: why it
    cannot be asked at all just now.
    """

    entry: int
    step: int
    candidate: Route = msgspec.field(default_factory=Route)
    champion: Route = msgspec.field(default_factory=Route)
    since_step: _Count = 0
    both: _Count = 0
    agreed: _Count = 0
    skipped: _Count = 0
    trouble: str = ""
    absent: str = ""

    def at_step(self, step: int) -> None:
        """Begin to count for another step."""
        if step != self.step:
            self.step, self.since_step = step, 0


def together(told: Iterable[Told], rollout: Rollout) -> Told:
    """What all processes saw of one roll-out, and of its newest step."""
    whole = Told(rollout.entry, rollout.step)
    for one in told:
        if one.entry == rollout.entry:
            whole.candidate.add(one.candidate)
            whole.champion.add(one.champion)
            whole.since_step += one.since_step if one.step == rollout.step else 0
            whole.both += one.both
            whole.agreed += one.agreed
            whole.skipped += one.skipped
            whole.trouble = whole.trouble or one.trouble
            whole.absent = whole.absent or one.absent
    return whole


def broken(told: Told, settings: RolloutConfig) -> str:
    """Why a candidate has to be taken back for what serving shows; empty when nothing is broken for certain."""
    candidate, alpha = told.candidate, alpha_of(settings)
    window = candidate.window
    of_window = alpha / 2 / ((window.number + 1) * (window.number + 2))  # all windows together: half of the budget
    for counts, budget in ((candidate, alpha / 2), (window, of_window)):
        if too_often(counts.predicted, counts.errors, settings.max_error_rate, budget):
            return (
                f"it failed on {counts.errors} of {counts.predicted} requests, "
                f"and rollout.max_error_rate is {settings.max_error_rate:g}"
            )
        if too_often(counts.predicted, counts.slow, SLOW_SHARE, budget):
            return (
                f"{counts.slow} of {counts.predicted} predictions took more than "
                f"rollout.max_p99_ms = {settings.max_p99_ms:g} (p99 {candidate.quantile(0.99)} ms)"
            )
    seen, least = shift(candidate.cells, told.champion.cells, alpha)
    if least > settings.max_prediction_shift:
        return (
            f"its predictions are distributed otherwise than the champion's by {seen:.2f} (at least {least:.2f}), "
            f"and rollout.max_prediction_shift is {settings.max_prediction_shift:g}"
        )
    return ""


def figures(told: Told, settings: RolloutConfig) -> dict[str, Any]:
    """Each guard's figure against its limit, for people."""
    candidate, champion = told.candidate, told.champion
    seen, least = shift(candidate.cells, champion.cells, alpha_of(settings))
    return {
        "answered": {"candidate": candidate.answered, "champion": champion.answered},
        "predicted": {"candidate": candidate.predicted, "champion": champion.predicted},
        "errors": {"candidate": candidate.errors, "champion": champion.errors, "limit": settings.max_error_rate},
        "p99_ms": {
            "candidate": candidate.quantile(0.99), "champion": champion.quantile(0.99), "limit": settings.max_p99_ms,
        },
        "p50_ms": {"candidate": candidate.quantile(0.5), "champion": champion.quantile(0.5)},
        "prediction_shift": {
            "seen": round(seen, 4), "at_least": round(least, 4), "limit": settings.max_prediction_shift,
        },
        "agreement": round(told.agreed / told.both, 4) if told.both else None,
        "both": told.both, "skipped": told.skipped, "trouble": told.trouble or told.absent,
    }  # fmt: skip


def cell_of(prediction: Prediction) -> int:
    """The cell of a prediction: of its probability, its class, or the size of its number, in order.

    >>> [cell_of(one) for one in (Prediction(True, 0.995), Prediction(3, None, {3: 1.0}), Prediction(-9.0))]
    [99, 3, -20]
    """
    if prediction.probability is not None:
        chance = prediction.probability
        return min(_CELLS - 1, int(chance * _CELLS)) if math.isfinite(chance) else _NOT_FINITE
    value = prediction.value
    if prediction.probabilities is not None or isinstance(value, bool) or value is None:
        return -1 if value is None else int(value)
    if not math.isfinite(value):
        return _NOT_FINITE
    return int(math.copysign(round(_PER_DECADE * math.log10(1 + abs(value))), value))


def agree(one: Prediction, other: Prediction) -> bool:
    """Tell whether two predictions are the same: the class, or a number to a hundredth of its size."""
    if one.value is None or other.value is None or one.probability is not None or one.probabilities is not None:
        return one.value == other.value
    return math.isclose(one.value, other.value, rel_tol=0.01, abs_tol=1e-9)


def _latency_cell(milliseconds: float) -> int:
    if milliseconds <= _LEAST_MS:
        return 0
    return min(200, math.ceil(_LATENCY_PER_DECADE * math.log10(milliseconds / _LEAST_MS)))


def _count(cells: dict[int, int], cell: int) -> None:
    if cell in cells or len(cells) < _MOST_CELLS:
        cells[cell] = cells.get(cell, 0) + 1


def told_by(words: Iterable[Mapping[str, Any]]) -> list[Told]:
    """What the serving processes that speak just now say of roll-outs."""
    found: list[Told] = []
    for word in words:
        if word["rollout"] is not None:
            with contextlib.suppress(msgspec.ValidationError, ValueError):
                found.append(msgspec.convert(word["rollout"], Told, strict=False, str_keys=True))
    return found
