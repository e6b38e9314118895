"""How the baseline stands on the newest holdout: judged anew with every version, since it may rot where it stands.

One that fails is not fallen back to. The gates said once that it may count; this says whether that still holds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from learners.errors import LearnersError
from learners.event import Task
from snapshots.errors import DamagedError
from snapshots.lineage import Lineage
from snapshots.records import baselines
from snapshots.records.held_rows import HeldRow, read_version
from snapshots.store.store import Store, claim

if TYPE_CHECKING:
    from snapshots.judging.gates import Asked


class Standing(msgspec.Struct, frozen=True):
    """The guard's verdict on a baseline. ``loss`` is the mean on ``rows`` rows of a holdout version.

    ``plain`` is that of the shares of the labels, which any model has to beat; ``judged`` is in Unix seconds, UTC.
    """

    baseline: int
    holdout: int
    rows: int
    loss: float | None
    plain: float | None
    verdict: Literal["pass", "fail"]
    why: str
    judged: float


def _name(number: int, holdout: int) -> str:
    return f"baselines/{number:06d}/verdict-{holdout:06d}.json"


def current(lineage: Lineage) -> tuple[int, int] | None:
    """The baseline that counts and the newest holdout version; None while there is no such pair. Reads nothing."""
    number, newest = lineage.decided.baseline, lineage.newest()
    if number is None or newest is None or not newest.holdout.versions:
        return None
    return number, newest.holdout.versions[-1].number


def is_due(lineage: Lineage, pair: tuple[int, int]) -> bool:
    """Tell whether the one was not judged on the other yet."""
    return lineage.store.get(_name(*pair)) is None


def newest(lineage: Lineage) -> Standing | None:
    """The last verdict on the baseline that counts; None before there is one."""
    number, snapshot = lineage.decided.baseline, lineage.newest()
    if number is None or snapshot is None:
        return None
    for version in reversed(snapshot.holdout.versions):
        data = lineage.store.get(_name(number, version.number))
        if data is not None:
            return msgspec.json.decode(data, type=Standing)
    return None


def judge(lineage: Lineage, number: int, task: Task, tolerance: float, now: float) -> Standing:
    """Ask the baseline about the newest holdout; one that does not load fails, with no loss."""
    snapshot = lineage.newest()
    if snapshot is None or not snapshot.holdout.versions:
        raise DamagedError("there is no holdout to judge a baseline on")
    version = snapshot.holdout.versions[-1]
    rows = read_version(lineage.store, version)
    try:
        from learners.baseline.served import Baseline  # noqa: PLC0415  only where there is one

        model = Baseline(baselines.model_of(lineage.store, number)[1])
    except (LearnersError, DamagedError) as cause:
        return Standing(number, version.number, len(rows), None, None, "fail", str(cause), now)
    return _judged(model, number, version.number, task, rows, version.scale, tolerance, now)


def keep(store: Store, found: Standing) -> None:
    """Keep a verdict in the store, but for one on a baseline that did not load: its file may be put back."""
    if found.loss is not None:
        claim(store, _name(found.baseline, found.holdout), msgspec.json.encode(found) + b"\n")


def _judged(
    model: "Asked", number: int, version: int, task: Task, rows: Sequence[HeldRow], scale: float, tolerance: float,
    now: float,
) -> Standing:  # fmt: skip
    from snapshots.judging import gates  # noqa: PLC0415  scipy is slow to import, and status needs none of it

    kept = list(rows)
    judged = gates.compare(model, gates.Constant(task, kept), task, gates.Rows(f"holdout {version}", kept, scale))
    loss, plain = float(judged.own.mean()), float(judged.other.mean())
    fast = gates.fast_gate(judged)
    why = f"loss {loss:.4f} on {len(kept):,} rows of holdout {version}, and {plain:.4f} of the shares of the labels"
    if not fast.passed:
        return Standing(number, version, len(kept), loss, plain, "fail", f"{fast.why}; {why}", now)
    if loss > plain + tolerance:
        return Standing(number, version, len(kept), loss, plain, "fail", f"worse than no model at all: {why}", now)
    return Standing(number, version, len(kept), loss, plain, "pass", why, now)
