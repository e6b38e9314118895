"""Guard rules: everything is served, the guard of today, and the one that is tried to follow it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from model import Floats, Model, answers
from scipy.optimize import linear_sum_assignment
from world import Answer, Row, Rows, View

from learners import evidence
from learners.evidence import FAR_LOOKS, MEDIAN_LOOKS, WHOLE, Lane, after_revert, look
from snapshots import jumps


class Unguarded:
    """Everything is served at once."""

    jump, wrong = 1.0, 0.0

    def judge(self, view: View) -> Answer:  # noqa: ARG002  it looks at nothing
        """Pass."""
        return Answer("pass")

    def reverted(self) -> None:
        """Nothing is remembered."""


# Today ---------------------------------------------------------------------------------------------------------------


class Today:
    """``snapshots.guard`` with ``guard.moved`` and ``breaker.jump``: a frozen holdout, and fresh events beside it."""

    wrong = 0.0

    def __init__(self, moved: str = "hold", jump: float = 0.4) -> None:
        self.moved, self.jump = moved, jump
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
        worst = min(found.values(), key=evidence.ORDER.index)
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

    def _slice(self, view: View, name: str, slices: int) -> evidence.Found:
        budget, now = view.budget, (view.learnt, view.now)
        in_a_row = evidence.looks_in_a_row(budget.looks_a_year, slices, budget.false_reverts_per_year)
        holdout, floor = (
            evidence.holdout_finding(self.lanes[n].get(name), in_a_row) for n in (max(self.lanes), min(self.lanes))
        )
        if holdout in ("early", "same", "above") and floor in ("worse", "far"):
            holdout = floor
        alarm = budget.alarm(slices)
        began = self.waits.setdefault(name, now) if holdout == "worse" else None
        if began is None:
            self.waits.pop(name, None)
        found = evidence.finding(
            holdout, evidence.fresh_finding(view.paired, name, alarm),
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
        fresh = [evidence.fresh_finding(view.paired, name, alarm) for name in where]
        if self.moved == "follow" and "worse" not in fresh:
            return "pass"
        held = [(view.learnt - n, view.now - at) for n, at in (self.holds[name] for name in where)]
        return "fail" if all(n >= view.budget.hold_events and at >= 60.0 for n, at in held) else "suspect"


def _by_slice(rows: Rows, model: Model, fewest: int) -> dict[str, float]:
    lost = rows.losses(model)
    return {name: float(lost[at].mean()) for name, at in rows.slices(fewest).items()}


# The one that is tried -----------------------------------------------------------------------------------------------


@dataclass
class Trouble:
    """What is known since looks are bad: the snapshot of before, where its rows end, and when it began."""

    yardstick: int
    end: int
    held: int
    learnt: int
    look: int
    lies: bool = False
    liars: set[str] = field(default_factory=set)
    moved_at_once: bool = False
    moved: bool = False
    compared: int = 0
    good: int = 0


@dataclass
class Lagged:
    """Each snapshot against one that served a thousand events ago, on rows set aside before both; only then questions.

    Worse there than the stream's own fluctuation explains: it is not promoted. Then, on rows that came since, whether
    the learner is better than what served; whether it has learnt anything; whether the labels still answer to the
    features as they did (*relabelled*, *uninformative*, *collapsed*); and whether what came ever changed so much while
    the features stayed (*unheard of*). What is none of these is followed as soon as it is seen to be better.
    """

    jump: float = 1.0
    wrong: float = 0.5  # a probability that is too sure, of answers that are right, is no harm to revert
    margin: float = 0.025  # what is smaller is no harm
    lag_events: int = 1000
    lag_looks: int = 5
    few: int = 30  # rows of a window
    confirm: int = 3  # looks in a row at which labels must look wrong
    surprise: float = 1.5  # so much more than ever before is unheard of
    label_tests: bool = True
    history_test: bool = True
    trouble: Trouble | None = None
    floor: int = 0  # rows before it are from a world that was left
    looks: int = 0
    passes: list[tuple[int, int]] = field(default_factory=list)
    calm: dict[str, list[float]] = field(default_factory=dict)
    changes: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    streak: dict[str, int] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    kept: tuple[Any, ...] = (None,)
    asked: tuple[int, int] = (-1, -1)

    def reverted(self) -> None:
        """What counted against the old line does not count against the new one."""
        self.trouble = None

    def judge(self, view: View) -> Answer:
        """Compare, and when that is bad, ask."""
        self.looks += 1
        yardstick = self.trouble.yardstick if self.trouble else self._yardstick(view)
        end = (
            self.trouble.end if self.trouble else max(min(len(view.held), 200), len(view.held) - view.budget.rows // 4)
        )
        rows, places, before = self._yard(view, yardstick, end)
        lost = rows.losses(view.model)
        differences = {name: lost[at] - before[at] for name, at in places.items()}
        bad = {name: float(d.mean()) for name, d in differences.items() if d.mean() > self._margin(name, d)}
        told = self._told(view, yardstick, rows.scale) if self.label_tests else {}
        answer = self._answer(view, yardstick, end, rows, bad, told, differences)
        if answer.verdict == "pass":
            self.passes = [*self.passes, (view.number, view.learnt)][-100:]
        return answer._replace(loss=float(lost.mean()))

    def _answer(
        self, view: View, yardstick: int, end: int, rows: Rows, bad: dict[str, float], told: dict[str, str],
        differences: dict[str, Floats],
    ) -> Answer:  # fmt: skip
        worse = view.paired.worse() >= view.budget.alarm() and view.paired.interval().mean > 0
        if self.looks <= MEDIAN_LOOKS:  # the first looks teach what is usual
            self._note(differences)
            return Answer("pass")
        if not bad and not told and (self.trouble is None or not self._lingers()):
            if self.trouble is None:
                self._note(differences)
            self.trouble = None
            return Answer("fail", "diverged") if worse else Answer("pass")
        begun = self.trouble is None
        trouble = self.trouble or Trouble(yardstick, end, len(view.held), view.learnt, self.looks)
        self.trouble = trouble
        trouble.good = 0 if bad or told else trouble.good
        trouble.lies = trouble.lies or bool(told)
        trouble.liars |= set(told)
        bad = bad or {WHOLE: float(differences[WHOLE].mean())}
        found = (
            Answer("suspect", "moved", [*told], why=str(told)) if told else self._asked(view, rows, bad, worse=worse)
        )
        if found.verdict == "pass":
            self.floor, self.passes, self.trouble = trouble.held, [], None
            self.calm = {name: of[-MEDIAN_LOOKS:] for name, of in self.calm.items()}
            return found
        serve = trouble.yardstick if trouble.lies and found.verdict == "suspect" else None
        return found._replace(serve=serve, refer=trouble.yardstick if begun else None)

    def _lingers(self) -> bool:
        """Labels that have lied are believed again when they answer to the features of before, three looks in a row."""
        trouble = self.trouble
        assert trouble is not None
        since = [
            [change for at, change in self.changes.get(name, ()) if at >= trouble.look - 10] for name in trouble.liars
        ]  # fmt: skip
        apart = any(of and of[-1] > max(0.1, max(of) / 2) for of in since)
        trouble.good = 0 if apart else trouble.good + 1
        return trouble.lies and trouble.good < FAR_LOOKS

    def _note(self, differences: dict[str, Floats]) -> None:
        for name, one in differences.items():
            self.calm[name] = [*self.calm.get(name, []), float(one.mean())][-200:]

    def _yardstick(self, view: View) -> int:
        old = [
            n for n, learnt in self.passes
            if learnt <= view.learnt - self.lag_events and n <= view.number - self.lag_looks
        ]  # fmt: skip
        return old[-1] if old else self.passes[0][0] if self.passes else view.served

    def _yard(self, view: View, yardstick: int, end: int) -> tuple[Rows, dict[str, Any], Floats]:
        if self.kept[0] != (end, yardstick):
            begin = max(0, end - view.budget.rows, min(self.floor, end - 50))
            rows = Rows(view.task, view.held[begin:end])
            self.kept = ((end, yardstick), rows, rows.slices(50), rows.losses(view.models[yardstick]))
        _, rows, places, before = self.kept
        return rows, places, before

    def _margin(self, name: str, differences: Floats) -> float:
        """The least that counts: what the stream does by itself, and what chance does to so few rows."""
        usual = self.calm.get(name, [])
        own = 1.5 * float(np.quantile(usual, 0.98)) if len(usual) >= MEDIAN_LOOKS else 0.0
        chance = (4.5 if name else 3.0) * float(differences.std()) / math.sqrt(len(differences))
        return max(self.margin, own, chance)

    def _asked(self, view: View, rows: Rows, bad: dict[str, float], *, worse: bool) -> Answer:
        """What the rows that came since say; all slices have to agree to follow."""
        trouble = self.trouble
        assert trouble is not None
        if worse:
            return Answer("fail", "forgetting", [*bad])
        self._compare_features(view, trouble)
        for name, difference in bad.items():
            why, found = self._slice(view, trouble, rows, name, difference)
            if why:
                return Answer("suspect", found, [*bad], why=why)
        return Answer("pass", "moved", [*bad], why="better, and learnable")

    def _slice(self, view: View, trouble: Trouble, rows: Rows, name: str, difference: float) -> tuple[str, str]:
        """Why it is not followed (empty: it is), and what that is called."""
        since = _of(view.held[trouble.held :], name)[-100:]
        if len(since) < self.few:
            return "few rows", "suspect"
        new, yardstick = Rows(view.task, since, rows.scale), view.models[trouble.yardstick]
        old = Rows(view.task, _of(rows.rows, name), rows.scale)
        mine, theirs = new.losses(view.model), new.losses(yardstick)
        if not _better(view, trouble.yardstick, name, theirs - mine):
            return "no better", "suspect"
        waited = view.learnt - trouble.learnt
        constant = _constant_loss(new, view.model.wrong)
        level = float(old.losses(yardstick).mean())
        if self.label_tests and mine.mean() > level + 0.05 and mine.mean() > 0.85 * constant:
            trouble.lies = True
            return "not learnable", "moved"
        if self.history_test and not (trouble.moved_at_once if name else trouble.moved):
            changes = self.changes.get(name, ())
            most = max((one for at, one in changes if at >= trouble.look - 10), default=0.0)
            known = max((one for at, one in changes if at < trouble.look - 10), default=0.0)
            known = max(known, 0.07, 0.3 * math.exp(-view.learnt / 4 / view.budget.hold_events))
            if most > max(0.15, self.surprise * known):
                trouble.lies = True
                if waited < view.budget.hold_events * min(4.0, most / known / self.surprise) * (2 if name else 1):
                    return f"unheard of: {most:.2f}, at most {known:.2f} before", "moved"
        hold = 0 if difference < 0.1 else 300 if trouble.moved else 500
        return ("" if waited >= hold else "held for a moment"), "moved"

    @staticmethod
    def _compare_features(view: View, trouble: Trouble) -> None:
        new = view.held[trouble.held :][-200:]
        if len(new) >= 30 and len(view.held) - trouble.compared >= 10:
            trouble.compared = len(view.held)
            trouble.moved = _unlike(view.held[max(0, trouble.end - 300) : trouble.end], new)
            if len(view.held) - trouble.held <= 100:
                trouble.moved_at_once = trouble.moved

    def _told(self, view: View, yardstick: int, scale: float) -> dict[str, str]:
        """Slices whose newest labels no longer answer to the features as they did, in enough looks in a row."""
        end = self.trouble.end if self.trouble else None
        key = (len(view.held), yardstick)
        if self.asked != key:
            self.asked = key
            before, newest = view.held[self.floor : end][-600:], view.held[end or self.floor :][-400:]
            model = view.models[yardstick]
            self.told = {}
            for name in {WHOLE, *(name for row in newest for name in row.slices)}:
                new = _of(newest, name)[-self.few :]
                old = _of(before, name)
                old = (old if end is not None else old[: -self.few])[-3 * self.few :]
                if len(new) < self.few or len(old) < self.few:
                    continue
                pair = Rows(view.task, old, scale), Rows(view.task, new, scale)
                change = float(pair[1].losses(model).mean() - pair[0].losses(model).mean())
                self.changes.setdefault(name, []).append((self.looks, change))
                if why := _labels(*pair, model, view.model):
                    self.told[name] = why
        self.streak = {name: self.streak.get(name, 0) + 1 for name in self.told}
        return {name: why for name, why in self.told.items() if self.streak[name] >= self.confirm}


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if not name or name in row.slices]


def _better(view: View, yardstick: int, name: str, gains: Floats) -> bool:
    """Whether the learner is better than the yardstick: on rows set aside, or on the fresh events compared so far."""
    if gains.mean() > 0.03 and gains.mean() > 3 * gains.std() / math.sqrt(len(gains)):
        return True
    if view.reference != yardstick:
        return False
    if name:
        return view.paired.better(name) > evidence.LEANING
    events, total = 0, 0.0
    for n, mine, theirs in reversed(view.fresh):
        events, total = events + n, total + n * (theirs - mine)
        if events >= 500:
            break
    gain = total / max(events, 1)
    return (events >= 300 and gain > 0.03) or (gain > 0 and view.paired.better() > evidence.LEANING)


def _constant_loss(rows: Rows, wrong: float) -> float:
    """What the best constant answer loses."""
    if rows.task == "regression":
        return float(np.minimum(1.0, np.abs(rows.labels - np.median(rows.labels)) / rows.scale).mean())
    shares = np.unique(rows.labels, return_counts=True)[1] / len(rows.labels)
    return (1 - wrong) * float((1 - (shares**2).sum()) / 2) + wrong * float(1 - shares.max())


def _labels(old: Rows, new: Rows, yardstick: Model, model: Model) -> str:
    """How the newest labels lie, judged by a model from before them; empty when they do not."""
    if old.task == "regression":
        return _numbers(old, new, yardstick, model)
    said = [answers(rows.task, yardstick.predict(rows.features)).astype(int) for rows in (old, new)]
    true = [rows.labels.astype(int) for rows in (old, new)]
    right = [float((one == other).mean()) for one, other in zip(said, true, strict=True)]
    kinds = int(max(map(np.max, (*said, *true)))) + 1
    shares = [np.bincount(one, minlength=kinds) / len(one) for one in true]
    common = int(shares[1].argmax())
    if shares[1][common] > 0.97 and shares[0][common] < 0.8 and right[1] < 0.6 * right[0]:
        diverse = np.bincount(said[1]).max() / len(said[1]) < 0.9
        if diverse or not _unlike(old.rows, new.rows):
            return "collapsed"
    table = np.zeros((kinds, kinds))
    np.add.at(table, (said[1], true[1]), 1)
    renamed = float(table[linear_sum_assignment(-table)].sum() / len(true[1]))
    constant = max(shares[1].max(), np.bincount(said[1]).max() / len(said[1]))
    if renamed - right[1] > 0.3 and right[0] - right[1] > 0.3 and renamed > constant + 0.1:
        return "relabelled"
    lost = [rows.losses(yardstick) for rows in (old, new)]
    constants = [max(_constant_loss(rows, model.wrong), 1e-6) for rows in (old, new)]
    skill = [1 - float(one.mean()) / best for one, best in zip(lost, constants, strict=True)]
    sure = lost[1].mean() - lost[0].mean() > 4 * math.sqrt(sum(one.var() / len(one) for one in lost))
    own = 1 - float(new.losses(model).mean()) / constants[1]
    nothing = skill[0] > 0.2 and skill[1] < min(0.0, skill[0] - 0.4) and own < 0.05
    return (
        "uninformative" if nothing and sure and shares[1][common] < 0.97 and renamed < shares[1][common] + 0.1 else ""
    )


def _numbers(old: Rows, new: Rows, yardstick: Model, model: Model) -> str:
    before, now, own = (
        _correlation(one.predict(rows.features)[:, 0], rows.labels)
        for one, rows in ((yardstick, old), (yardstick, new), (model, new))
    )
    if before < 0.4:
        return ""
    spread = [yardstick.predict(rows.features)[:, 0].std() for rows in (old, new)]
    if new.labels.std() < 0.2 * old.labels.std() and spread[1] > 0.4 * spread[0]:
        return "collapsed"
    if now < -0.3:
        return "relabelled"
    return "uninformative" if now < 0.25 and own < 0.25 else ""


def _correlation(one: Floats, other: Floats) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def _unlike(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """Whether a feature that stood still before lies elsewhere now, beyond chance (once in 10,000 times)."""
    half = len(before) // 2
    for name in list(before[0].event["x"])[:100]:
        was, new = [[row.event["x"].get(name) for row in of] for of in (before, now)]
        apart, cells = jumps.distance(was, new)
        level = cells * math.log(2) + math.log(1e4)
        chance = sum(math.sqrt(level / (2 * len(of))) for of in (was, new))
        if apart > max(0.15, chance) and jumps.distance(was[:half], was[half:])[0] < apart / 2:
            return True
    return False


RULES = {
    "unguarded": Unguarded,
    "today": Today,
    "today-no-jumps": lambda: Today(jump=1.0),
    "today-follow": lambda: Today("follow", jump=1.0),
    "lagged": Lagged,
    "lagged-labels-believed": lambda: Lagged(label_tests=False),
    "lagged-no-history": lambda: Lagged(history_test=False),
    "lagged-probabilities-only": lambda: Lagged(wrong=0.0),
}
