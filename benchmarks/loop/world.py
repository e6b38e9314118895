"""The closed loop: callers ask what serves, the learner learns what comes, a snapshot is cut, judged, and acted upon.

A rule that is wrong therefore pays for what it does to the stream afterwards. Time is scaled: a look is ten seconds,
1,000 false reverts a year are allowed, a hold is a tenth of the stream.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from data import Event, Plan, Stream
from model import Encoder, Floats, Model, losses, score

from learners.evidence.lane import MEDIAN_LOOKS, alarm_at
from learners.evidence.losses import WHOLE
from learners.evidence.paired import Paired
from snapshots.moved import jumps

SECONDS = 10.0
_SEALED_FIRST, _SLICE_ROWS = 500, 200
#: labels that somebody checks in a look
_CHECKED_A_LOOK = 25


class Row(NamedTuple):
    """A row that is never learnt."""

    features: Floats
    label: float
    event: Event
    slices: tuple[str, ...]


class Rows:
    """Rows as arrays; ``scale`` is the spread of the labels that an error is measured in (regression)."""

    def __init__(self, task: str, rows: Sequence[Row], scale: float | None = None) -> None:
        self.task, self.rows = task, rows
        self.features = np.array([row.features for row in rows])
        self.labels = np.array([row.label for row in rows])
        low, high = np.quantile(self.labels, [0.05, 0.95])
        self.scale = scale or (float(high - low) or 1.0)

    def losses(self, model: Model) -> Floats:
        """The loss of each row."""
        return losses(model, model.predict(self.features), self.labels, self.scale)

    def slices(self, fewest: int) -> dict[str, Any]:
        """Where the rows of each slice are that has enough of them; the whole first."""
        places: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows):
            for name in row.slices:
                places.setdefault(name, []).append(place)
        found = {name: np.array(at) for name, at in places.items() if len(at) >= fewest}
        return {WHOLE: np.arange(len(self.rows)), **found}


@dataclass(frozen=True)
class Budget:
    """The guard's settings, scaled to the stream."""

    rows: int
    look_events: int
    reference_events: int
    wait_events: int
    hold_events: int
    tolerance: float = 0.01
    floor_tolerance: float = 0.1
    false_reverts_per_year: float = 1000.0
    looks_a_year: float = 31_536_000.0 / SECONDS

    def alarm(self, slices: int = 1) -> float:
        """The threshold of the fresh lane."""
        return alarm_at(self.looks_a_year, slices, 1, self.false_reverts_per_year)


@dataclass
class View:
    """What a rule may look at: nothing of what is true, only what a guard has.

    ``held`` are the rows set aside so far, ``counts`` how many there were at each look, ``sealed`` the frozen versions
    of them.
    """

    number: int
    learnt: int
    task: str
    model: Model
    served: int
    models: dict[int, Model]
    held: list[Row]
    counts: list[int]
    sealed: list[Rows]
    paired: Paired
    reverts: list[tuple[str, list[str]]]
    budget: Budget
    checked: list[tuple[float, Row]]

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.number * SECONDS


class Answer(NamedTuple):
    """A verdict, what was found, and where.

    ``loss`` is what the choice of a reference goes by. ``serve`` is the older snapshot that is to answer meanwhile,
    ``refer`` the one to compare with from here on, ``refresh`` seals the holdout anew; ``counted``: see the guard.
    """

    verdict: str
    found: str = "pass"
    where: Sequence[str] = (WHOLE,)
    loss: float = 0.0
    counted: bool = True
    refresh: bool = False
    serve: int | None = None
    refer: int | None = None
    why: str = ""


class Rule(Protocol):
    """A rule: ``jump`` is ``breaker.jump``, ``checks`` how many labels somebody checks once something is held."""

    jump: float
    checks: int

    def judge(self, view: View) -> Answer:
        """Judge a snapshot."""

    def reverted(self) -> None:
        """A new line begins after a revert."""


class Look(NamedTuple):
    """One look: how many were asked, the score of what served (None before), and what was decided."""

    asked: int
    served: float | None
    verdict: str
    state: str


@dataclass
class _Reference:
    """The snapshot that the learner is compared with: of the last 21 that passed the median, moved seldom."""

    wanted: int | None = None
    passing: list[tuple[int, float]] = field(default_factory=list)
    recent: list[bool] = field(default_factory=list)

    def note(self, number: int, answer: Answer, *, ripe: bool) -> None:
        passed = answer.verdict == "pass"
        if passed:
            self.passing = [*self.passing, (number, answer.loss)][-MEDIAN_LOOKS:]
        self.recent = [*self.recent, passed][-MEDIAN_LOOKS:]
        settled = self.wanted is None or (ripe and sum(self.recent) >= 17)
        if len(self.passing) == MEDIAN_LOOKS and settled:
            self.wanted = sorted(self.passing, key=lambda one: one[1])[MEDIAN_LOOKS // 2][0]


class _Breaker:
    """``stream.guard.breaker``: three reverts in an hour, or a jump, stop learning; it is tried 15 min later."""

    def __init__(self, jump: float) -> None:
        self.state, self.since, self.reverts, self.jump = "closed", -1.0, [], jump  # type: ignore[var-annotated]
        self._learnt, self._looked = 0, 0

    def step(self, world: "World", now: float, *, passed: bool) -> None:
        if self.state == "open":
            if now - self.since >= 900.0:
                self._become("half_open", now, world.learnt)
        elif self.state == "half_open" and self.reverts:
            self._become("open", now, world.learnt)
        elif self.state == "half_open":
            if passed and world.learnt - self._learnt >= 5000:
                self._become("closed", now, world.learnt)
        elif sum(one > now - 3600.0 for one in self.reverts) >= 3 or self._jumped(world):
            self._become("open", now, world.learnt)

    def _become(self, state: str, now: float, learnt: int) -> None:
        self.state, self.since, self.reverts, self._learnt = state, now, [], learnt

    def _jumped(self, world: "World") -> bool:
        """As ``snapshots.moved.jumps.find``, over rows in memory."""
        now, base = len(world.held), world.compared
        if self.jump >= 1 or base is None or now - self._looked < 10:
            return False
        then = world.counts[max(base, int(self.since / SECONDS) + 1)]
        if now - then < jumps.FEWEST_ROWS:
            return False
        self._looked = now
        size = jumps.WINDOW_ROWS
        older = [n for n in world.counts if jumps.FEWEST_ROWS <= n <= then - size]
        if not older:
            return False
        rows = [world.held[max(0, at - size) : at] for at in (older[-1], then)]
        newest = world.held[max(then, now - size) : now]
        for name in [jumps.LABEL, *list(newest[0].event["x"])[:100]]:
            was, before, found = ([_value(one, name) for one in of] for of in (*rows, newest))
            apart, cells = jumps.distance(before, found)
            far = apart >= max(self.jump, jumps.chance(cells, len(before), len(found)))
            if far and jumps.distance(was, before)[0] < apart / 2:
                return True
        return False


def _value(row: Row, name: str) -> Any:
    return row.event["y"] if name == jumps.LABEL else row.event["x"].get(name)


class World:
    """One stream, one plan of what is fed, one rule."""

    def __init__(self, stream: Stream, encoder: Encoder, events: int, rule: Rule) -> None:
        tenth = events // 10
        self.stream, self.rule, self.encoder = stream, rule, encoder
        self.budget = Budget(stream.rows, min(50, stream.chunk // 2), tenth // 2, tenth // 4, tenth)
        self.model = Model(encoder, stream.rate)
        self.paired, self.reference, self.breaker = Paired(0.01), _Reference(), _Breaker(rule.jump)
        self.models: dict[int, Model] = {}
        self.served: int | None = None
        self.passed: list[int] = []
        self.held: list[Row] = []
        self.sealed: list[Rows] = []
        self.counts = [0]
        self.compared: int | None = None
        self.learnt = 0
        self.candidates = 0
        self.reverts: list[tuple[str, list[str]]] = []
        self.acts: list[tuple[int, str, str]] = []
        self.looks: list[Look] = []
        self.checked: list[tuple[float, Row]] = []
        self.to_check = 0

    def fork(self) -> "World":
        """Another that goes its own way from here; what never changes is shared."""
        kept: list[Any] = [self.stream, self.encoder, *self.models.values(), *self.held, *self.sealed]
        return copy.deepcopy(self, {id(one): one for one in kept})

    def run(self, plan: Plan, drawn: dict[int, bool], until: int | None = None) -> "World":
        """Go on from where it stands to a look, or to the end; ``drawn`` says which ids are set aside."""
        for asked, fed in plan.chunks[len(self.looks) : until]:
            served = None
            if self.served is not None:
                features, labels = self.encoder.arrays(asked)
                served = score(self.stream.task, self.models[self.served].predict(features), labels)
            if self.compared != self.reference.wanted:
                self._compare(self.reference.wanted)
            self._learn(fed, np.array([drawn[one["id"]] for one in fed]))
            self._check(asked, fed)
            number = len(self.counts)
            self.models[number] = self.model.copy()
            self.counts.append(len(self.held))
            answer = self._judge(number)
            self._act(number, answer)
            before = self.breaker.state
            self.breaker.step(self, number * SECONDS, passed=answer.verdict == "pass")
            if self.breaker.state == "open" != before:
                self.acts.append((number, "open", ""))
            self.looks.append(Look(len(asked), served, answer.verdict, self.breaker.state))
        return self

    def _check(self, asked: list[Event], fed: list[Event]) -> None:
        """Somebody looks up what is true of some of the events that came, since something is held."""
        true = {one["id"]: one["y"] for one in asked}
        for event in [one for one in fed if one["id"] in true][: min(self.to_check, _CHECKED_A_LOOK)]:
            features, labels = self.encoder.arrays([{**event, "y": true[event["id"]]}])
            self.checked.append((len(self.counts) * SECONDS, Row(features[0], labels[0], event, self._slices(event))))
            self.to_check -= 1

    def _slices(self, event: Event) -> tuple[str, ...]:
        watched = self.stream.slice[0] if self.stream.slice else None
        return (f"{watched}={event['x'].get(watched)}",) if watched else ()

    def _compare(self, number: int | None) -> None:
        self.compared = number
        self.paired.refer(number)

    def _learn(self, events: list[Event], aside: Any) -> None:
        features, labels = self.encoder.arrays(events)
        slices = [self._slices(one) for one in events]
        for i in np.flatnonzero(aside):
            self._hold_out(Row(features[i], labels[i], events[i], slices[i]))
        kept = np.flatnonzero(~aside)
        if not len(kept):
            return
        learning = self.breaker.state != "open"
        said = self.model.learn(features[kept], labels[kept]) if learning else self.model.predict(features[kept])
        scale = self.sealed[-1].scale if self.sealed else 1.0
        mine = losses(self.model, said, labels[kept], scale)
        theirs = None
        if self.compared is not None:
            other = self.models[self.compared]
            theirs = losses(other, other.predict(features[kept]), labels[kept], scale)
        self.paired.update(mine, theirs, [slices[i] for i in kept] if self.stream.slice else None)
        self.paired.close_look()
        self.learnt += len(kept) if learning else 0

    def _hold_out(self, row: Row) -> None:
        self.held.append(row)
        self.candidates += 1
        first = min(_SEALED_FIRST, self.stream.rows)
        full = bool(self.sealed) and len(self.sealed[0].rows) >= self.stream.rows
        wanted = self.stream.rows if self.sealed else first
        if len(self.sealed) < (1 if full else 2) and len(self.held) >= wanted:
            self._seal()

    def _seal(self) -> None:
        self.sealed.append(Rows(self.stream.task, self.held[-self.stream.rows :]))
        self.candidates = 0
        self.reference.passing, self.reference.recent = [], []

    def _judge(self, number: int) -> Answer:
        if not self.sealed:
            return Answer("pass", counted=False)
        view = View(
            number, self.learnt, self.stream.task, self.model, self.served or number, self.models, self.held,
            self.counts, self.sealed, self.paired, self.reverts, self.budget, self.checked,
        )  # fmt: skip
        answer = self.rule.judge(view)
        if answer.counted:
            ripe = self.compared == self.reference.wanted and self.paired.events() >= self.budget.reference_events
            self.reference.note(number, answer, ripe=ripe)
        return answer

    def _act(self, number: int, answer: Answer) -> None:
        if answer.refer is not None:
            self.reference.wanted = answer.refer
        if answer.verdict == "pass":
            self.passed.append(number)
            self.served = number
        elif answer.serve is not None:
            self.served = answer.serve
        if answer.verdict == "fail" and self.breaker.state != "open" and self.passed:
            self._revert(number, answer)
        elif answer.found == "moved" and answer.verdict == "suspect" and (not self.acts or self.acts[-1][1] != "hold"):
            self.acts.append((number, "hold", answer.why))
            self.to_check = self.rule.checks
        elif answer.found == "moved" and answer.verdict == "pass":
            self.acts.append((number, "follow", answer.why))
            self.reverts = []
        if answer.refresh:
            self._seal()

    def _revert(self, number: int, answer: Answer) -> None:
        to = self.compared if self.compared in self.passed else self.passed[-1]
        self.acts.append((number, "revert", answer.found))
        self.reverts.append((answer.found, list(answer.where)))
        self.breaker.reverts.append(number * SECONDS)
        self.model, self.served = self.models[to].copy(), to
        self.passed = [one for one in self.passed if one <= to]
        self.reference.wanted, self.reference.recent = to, []
        self.reference.passing = [one for one in self.reference.passing if one[0] <= to]
        self._compare(to)
        self.rule.reverted()
