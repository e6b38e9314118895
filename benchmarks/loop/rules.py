"""Guard rules: everything is served, the table over frozen rows, and the rule that the service has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from model import Floats, Model, answers, losses
from world import Answer, Row, Rows, View

from learners.evidence.findings import ORDER, Found, finding, fresh_finding, holdout_finding
from learners.evidence.lane import Lane, after_revert, look, looks_in_a_row
from learners.evidence.losses import WHOLE
from snapshots.moved import memory, yardsticks


class Unguarded:
    """Everything is served at once."""

    jump, checks = 1.0, 0

    def judge(self, view: View) -> Answer:  # noqa: ARG002  it looks at nothing
        """Pass."""
        return Answer("pass")

    def reverted(self) -> None:
        """Nothing is remembered."""


# The table over frozen rows -------------------------------------------------------------------------------------------


class Frozen:
    """The table of ``snapshots.judging``: a frozen holdout, and fresh events beside it."""

    def __init__(self, moved: str = "hold", jump: float = 0.4) -> None:
        self.moved, self.jump, self.checks = moved, jump, 0
        self.lanes: dict[int, dict[str, Lane]] = {}
        self.waits: dict[str, tuple[int, float]] = {}
        self.holds: dict[str, tuple[int, float]] = {}
        self.learnt = -1

    def reverted(self) -> None:
        """Levels stay; what counted against the old line does not."""
        self.lanes = {n: {name: after_revert(one) for name, one in of.items()} for n, of in self.lanes.items()}
        self.waits, self.holds, self.learnt = {}, {}, -1

    def judge(self, view: View) -> Answer:
        """The worst slice wins."""
        newest = len(view.sealed)
        losses = {n: _by_slice(view.sealed[n - 1], view.model, 200) for n in (newest - 1, newest) if n}
        if newest not in self.lanes:
            self.lanes, self.waits, self.holds = {}, {}, {}
        counted = not self.lanes or view.learnt - self.learnt >= view.budget.look_events
        if counted:
            self._look(view, losses)
        names = dict.fromkeys([WHOLE, *losses[newest], *view.paired.slices])
        found = {name: self._slice(view, name, len(losses[newest])) for name in names}
        worst = min(found.values(), key=ORDER.index)
        where = [name for name, one in found.items() if one == worst]
        verdict = self._verdict(view, worst, where, view.budget.alarm(len(losses[newest])))
        return Answer(
            verdict, worst, where, losses[newest][WHOLE], counted, refresh=worst == "moved" and verdict == "pass"
        )

    def _look(self, view: View, losses: dict[int, dict[str, float]]) -> None:
        self.learnt, newest = view.learnt, max(losses)
        budget = view.budget
        self.lanes = {
            n: {
                name: look(
                    self.lanes.get(n, {}).get(name, Lane()), loss,
                    budget.tolerance if n == newest else budget.floor_tolerance, view.number, len(of),
                )
                for name, loss in of.items()
            }
            for n, of in losses.items()
        }  # fmt: skip

    def _slice(self, view: View, name: str, slices: int) -> Found:
        budget, now = view.budget, (view.learnt, view.now)
        in_a_row = looks_in_a_row(budget.looks_a_year, slices, budget.false_reverts_per_year)
        holdout, floor = (
            holdout_finding(self.lanes[n].get(name), in_a_row) for n in (max(self.lanes), min(self.lanes))
        )
        if holdout in ("early", "same", "above") and floor in ("worse", "far"):
            holdout = floor
        alarm = budget.alarm(slices)
        began = self.waits.setdefault(name, now) if holdout == "worse" else None
        if began is None:
            self.waits.pop(name, None)
        found = finding(
            holdout, fresh_finding(view.paired, name, alarm),
            waited=began is not None and view.learnt - began[0] >= budget.wait_events,
            world_changed=view.paired.world(name) >= alarm,
        )  # fmt: skip
        if found in ("forgetting", "diverged") and sum(found == c and name in at for c, at in view.reverts) >= 2:
            found = "moved"
        if found == "moved":
            self.holds.setdefault(name, now)
        else:
            self.holds.pop(name, None)
        return found

    def _verdict(self, view: View, worst: str, where: list[str], alarm: float) -> str:
        if worst in ("pass", "world_changed", "suspect"):
            return "suspect" if worst == "suspect" else "pass"
        if worst != "moved":
            return "fail"
        fresh = [fresh_finding(view.paired, name, alarm) for name in where]
        if self.moved == "follow" and "worse" not in fresh:
            return "pass"
        held = [(view.learnt - n, view.now - at) for n, at in (self.holds[name] for name in where)]
        return "fail" if all(n >= view.budget.hold_events and at >= 60.0 for n, at in held) else "suspect"


def _by_slice(rows: Rows, model: Model, fewest: int) -> dict[str, float]:
    lost = rows.losses(model)
    return {name: float(lost[at].mean()) for name, at in rows.slices(fewest).items()}


# The one that the service has ----------------------------------------------------------------------------------------


class _Scene:
    """A view as ``snapshots.moved.yardsticks`` wants it."""

    def __init__(self, view: View, passes: Sequence[tuple[int, int]]) -> None:
        self._view, self.passes = view, passes
        self.task, self.number, self.learnt, self.held = view.task, view.number, view.learnt, len(view.held)
        self.scale, self.paired, self.alarm = view.sealed[0].scale, view.paired, view.budget.alarm()
        self.tolerance, self.now, self.hold_events, self.yard_rows = (
            view.budget.tolerance,
            view.now,
            view.budget.hold_events,
            view.budget.rows,
        )

    def rows(self, begin: int, end: int) -> Sequence[Row]:
        """A slice of what was set aside."""
        return self._view.held[begin:end]

    def rows_at(self, model: int, begin: int, end: int) -> Sequence[Row]:  # noqa: ARG002  nothing is ever gone
        """The same."""
        return self._view.held[begin:end]

    def trusted(self, since: float) -> Sequence[Row]:
        """What somebody checked."""
        return [row for at, row in self._view.checked if at >= since]

    def held_at(self, model: int) -> int:
        """How many had been set aside."""
        return self._view.counts[model]

    def losses(self, model: int | None, rows: Sequence[Row]) -> Floats:
        """Half by the probabilities, half by whether the answer is wrong."""
        found = Rows(self.task, rows, self.scale)
        asked = self._view.model if model is None else self._view.models[model]
        said = asked.predict(found.features)
        lost = losses(asked, said, found.labels, self.scale)
        return lost if self.task == "regression" else (lost + (answers(self.task, said) != found.labels)) / 2

    def answers(self, model: int | None, rows: Sequence[Row]) -> Sequence[Any]:
        """Classes as numbers, or numbers."""
        asked = self._view.model if model is None else self._view.models[model]
        return answers(self.task, asked.predict(np.array([row.features for row in rows]))).tolist()

    def features(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        """By name, as they were sent."""
        return {name: [row.event["x"].get(name) for row in rows] for name in (rows[0].event["x"] if rows else ())}


class Auto:
    """``snapshots.moved.yardsticks``, the rule of ``guard.moved = "auto"``."""

    jump = 1.0

    def __init__(self, checks: int = 0, **parts: bool) -> None:
        self.checks = checks
        self.memory, self.passes, self.parts = memory.Memory(), [], parts  # type: ignore[var-annotated]

    def reverted(self) -> None:
        """What counted against the old line does not count against the new one."""
        self.memory = self.memory.after_revert()

    def judge(self, view: View) -> Answer:
        """Ask the rule, and remember what passed."""
        passes = self.passes or [(view.served, 0)]
        found = yardsticks.Lagged(_Scene(view, passes), self.memory, **self.parts).judge()
        if found.verdict == "pass":
            self.passes = [*self.passes, (view.number, view.learnt)][-200:]
        return Answer(
            found.verdict, found.found, found.where or [WHOLE], found.loss, serve=found.serve, refer=found.refer,
            why=found.why,
        )  # fmt: skip


RULES = {
    "unguarded": Unguarded,
    "hold": Frozen,
    "hold-no-jumps": lambda: Frozen(jump=1.0),
    "follow": lambda: Frozen("follow", jump=1.0),
    "auto": Auto,
    "auto-100-checked": lambda: Auto(checks=100),
    "auto-labels-believed": lambda: Auto(label_tests=False),
    "auto-no-history": lambda: Auto(history_test=False),
}
