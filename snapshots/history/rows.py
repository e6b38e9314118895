"""One snapshot as a row of history: its time, its counts, and each learner's figures."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from snapshots.records.manifest import Manifest
from snapshots.records.verdict import Verdict

#: how many slices a row has of a learner, the largest first
_MOST_SLICES = 500


class LearnerRow(msgspec.Struct, array_like=True):
    """``recent`` are the figures over the sliding window, ``loss`` the squared error of ``own`` evidence, scaled.

    ``served`` and ``delayed`` are those of answers and of arrivals, where labels come later; ``baseline`` is the
    learner's loss minus the baseline's with its interval; ``slices`` have the main figure of the whole life each.
    ``verdict`` is empty where none had been given when the row was written.
    """

    line: int
    learnt: int
    quarantined: int
    recent: dict[str, float]
    loss: float | None = None
    served: dict[str, float] = {}
    delayed: dict[str, float] = {}
    baseline: list[float] = []
    slices: dict[str, float] = {}
    verdict: str = ""


class Row(msgspec.Struct, array_like=True):
    """One snapshot. Times are in Unix seconds."""

    snapshot: int
    created: float
    newest_event: float
    counts: dict[str, int]
    labels: dict[str, int]
    learners: dict[str, LearnerRow]
    delays: dict[str, float] = {}


def main_figure(task: str) -> str:
    """The figure that is shown first."""
    return "mae" if task == "regression" else "accuracy"


def row_of(manifest: Manifest) -> Row:
    """What history keeps of a snapshot."""
    counts = {
        name: getattr(manifest.counts, name)
        for name in ("consumed", "held_out", "dead_lettered", "duplicate", "unlabelled", "pending", "timed_out")
    }
    main = main_figure(manifest.task)
    learners = {}
    for name, part in manifest.learners.items():
        figures = part.figures
        own, against = figures.get("own") or {}, figures.get("baseline") or {}
        slices = sorted((figures.get("slices") or {}).items(), key=lambda one: -one[1].get("n", 0))[:_MOST_SLICES]
        learners[name] = LearnerRow(
            part.line, part.learnt, part.quarantined, _numbers(figures.get("recent")), _rounded(own.get("recent")),
            _numbers(figures.get("served")), _numbers(figures.get("delayed")),
            [_rounded(against[key]) for key in ("difference", "low", "high")] if "difference" in against else [],
            {key: _rounded(one[main]) for key, one in slices if one.get(main) is not None},
        )  # fmt: skip
    return Row(
        manifest.snapshot, round(manifest.created, 3), round(manifest.newest_event, 3), counts,
        dict(manifest.counts.labels), learners, _numbers(manifest.delays),
    )  # fmt: skip


def judged(row: Row, verdict: Callable[[int, str], Verdict | None]) -> Row:
    """The same row with the verdicts that there are by now."""
    learners = {}
    for name, one in row.learners.items():
        found = verdict(row.snapshot, name)
        learners[name] = msgspec.structs.replace(one, verdict=found.verdict) if found is not None else one
    return msgspec.structs.replace(row, learners=learners)


def without_slices(row: Row) -> Row:
    """The same row for where there are many: slices are most of it."""
    learners = {name: msgspec.structs.replace(one, slices={}) for name, one in row.learners.items()}
    return msgspec.structs.replace(row, learners=learners)


def _numbers(figures: Mapping[str, Any] | None) -> dict[str, float]:
    return {
        name: _rounded(value)
        for name, value in (figures or {}).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _rounded(value: Any) -> Any:
    """Six digits: a picture needs no more."""
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")
