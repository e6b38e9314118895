"""The guard's rule ``moved = "auto"``: each snapshot against one that served a thousand events ago, and one older.

Both are scored on held-out rows that were set aside before either, so that a world that moves makes both worse alike. A
snapshot that is worse there than the stream's own fluctuation explains is not promoted, and questions are asked of the
rows that came since: is the learner better on them than what served, are the labels still to be believed
(:mod:`snapshots.moved.label_checks`), did anything like it ever happen before? What is only a moved world is followed,
what the fresh events prove to be harm is reverted, and while labels lie the older snapshot answers. docs/adr/0025.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from learners.event import Task
from learners.evidence.findings import LEANING, Found
from learners.evidence.lane import FAR_LOOKS, MEDIAN_LOOKS
from learners.evidence.losses import WHOLE, Floats
from learners.evidence.paired import Paired
from snapshots.moved.label_checks import Window, constant_loss, doubt, unlike
from snapshots.records.verdict import Finding

#: how many events ago a yardstick has passed: what creeps in below the first is seen against the second
LAGS, LAG_LOOKS = (1000, 8000), 5
#: a difference of losses that is no harm, and the one that counts before the stream's own fluctuation is known
_MARGIN, _EARLY_MARGIN, _LONG_MARGIN = 0.025, 0.15, 0.05
#: rows of a window of the newest, rows that a slice needs, looks in a row at which labels must look wrong
_FEW, _SLICE_ROWS, _CONFIRM = 30, 50, 3
#: the same where features lie elsewhere, so that a learner has time to learn another world
_CONFIRM_MOVED = 9
#: so much more than ever before is unheard of; what counts as much at the least
_SURPRISE, _LEAST_CHANGE, _LEAST_KNOWN = 1.5, 0.15, 0.07
#: it is held while what served still loses more by this share of it, on all that came since
_LASTING = 0.5
_CALM_LOOKS, _LATELY_LOOKS = 100, 10
#: fresh events over which the learner's gain is measured: at least, and at most
_GAIN_EVENTS, _GAIN_MOST, _GAIN = 300, 500, 0.03
#: events after labels last looked wrong from which fresh events prove harm again
_BELIEVED_EVENTS = 2000
#: doubts that no world raises for long by itself, held no longer than guard.hold_events: all rows since are asked
_PLAIN = {"collapsed", "misnamed"}
#: standard errors from which checked labels decide, and how long they count while nothing is suspect, in seconds
_SURE, _DAY_SECONDS = 3.0, 86_400.0


class Row(Protocol):
    """A held-out row."""

    @property
    def label(self) -> Any:
        """Its label."""

    @property
    def slices(self) -> Sequence[str]:
        """The slices that it belongs to."""


class Scene(Protocol):
    """What a rule may look at: nothing of what is true, only what a guard has. None as a model is the learner itself.

    ``held`` counts the rows set aside so far. ``passes`` are snapshot and events learnt of those that may be compared
    with, oldest first. ``now`` is the snapshot's time (Unix seconds), ``alarm`` the threshold of the fresh lane;
    ``hold_events`` and ``tolerance``: see ``guard.hold_events`` and ``guard.tolerance``.
    """

    task: Task
    number: int
    learnt: int
    now: float
    held: int
    scale: float
    tolerance: float
    paired: Paired
    passes: Sequence[tuple[int, int]]
    alarm: float
    hold_events: int
    yard_rows: int

    def rows(self, begin: int, end: int) -> Sequence[Row]:
        """The rows set aside as number ``begin`` to before ``end``; those that are gone are left out."""

    def rows_at(self, model: int, begin: int, end: int) -> Sequence[Row]:
        """The same as they were at an older snapshot, for what may be gone by now."""

    def held_at(self, model: int) -> int:
        """How many rows had been set aside at an older snapshot."""

    def trusted(self, since: float) -> Sequence[Row]:
        """Rows with labels that somebody checked, given since a moment (Unix seconds)."""

    def losses(self, model: int | None, rows: Sequence[Any]) -> Floats:
        """The loss of each row: half by the probabilities, half by whether the answer is wrong."""

    def answers(self, model: int | None, rows: Sequence[Any]) -> Sequence[Any]:
        """The class or number answered for each row."""

    def features(self, rows: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """The rows' features by name, None where one is absent."""


class Trouble(msgspec.Struct):
    """What is known since looks are bad: the snapshot of before, where its rows end, and when it began.

    ``began`` is its time, ``lag`` that of the yardstick; ``lies``: labels looked wrong, in ``liars`` and how, last when
    ``told`` events were learnt; ``alone``: one slice changed alone, which stays for somebody to decide; ``moved``:
    features lie elsewhere; ``where`` was bad at some look; ``good``: looks since that were good again.
    """

    yardstick: int
    end: int
    held: int
    learnt: int
    look: int
    began: float
    lag: int = LAGS[0]
    lies: bool = False
    liars: dict[str, str] = {}
    told: int = -1_000_000
    alone: bool = False
    moved_at_once: bool = False
    moved: bool = False
    compared: int = 0
    good: int = 0
    where: list[str] = []


class Changes(msgspec.Struct):
    """By how much the older snapshot lost more on the newest rows than before: ever (``most``), and in late looks."""

    most: float = 0.0
    lately: list[tuple[int, float]] = []


class Gains(msgspec.Struct):
    """How much less the learner lost than its reference, summed over fresh events: a few points (events, sum)."""

    reference: int | None = None
    points: list[tuple[int, float]] = []


class Memory(msgspec.Struct):
    """What a look leaves for the next one. ``since``: passes before this snapshot are of a world that was left.

    ``doubted`` are the yardstick and the rows by which labels are held against what was before, since they look wrong;
    ``lied`` the rows, and ``lied_looks`` after which snapshot and up to which, while labels lied last: not asked again.
    ``approved`` is the last entry of the ledger by which somebody said that the world changed.
    """

    looks: int = 0
    since: int = -1
    floor: int = 0
    calm: dict[str, list[float]] = {}
    changes: dict[str, Changes] = {}
    streak: dict[str, int] = {}
    told: dict[str, str] = {}
    asked: tuple[int, int] = (-1, -1)
    doubted: tuple[int, int] | None = None
    lied: tuple[int, int] = (0, 0)
    lied_looks: tuple[int, int] = (-1, -1)
    gains: Gains = msgspec.field(default_factory=Gains)
    trouble: Trouble | None = None
    approved: int = 0

    def copy(self) -> "Memory":
        """Another that may be changed."""
        return msgspec.json.decode(msgspec.json.encode(self), type=Memory)

    def follow(self, number: int, held: int) -> None:
        """From this snapshot and these rows on the stream is another one."""
        self.floor, self.since, self.trouble, self.streak, self.told = held, number, None, {}, {}
        self.calm = {name: of[-MEDIAN_LOOKS:] for name, of in self.calm.items()}
        for changes in self.changes.values():  # what was followed has been heard of
            changes.most, changes.lately = max([changes.most, *(one for _, one in changes.lately)]), []

    def after_revert(self) -> "Memory":
        """What counted against the old line does not count against the new one; doubt of the labels stays."""
        found = self.copy()
        trouble = found.trouble if found.trouble is not None and found.trouble.lies else None
        return msgspec.structs.replace(found, trouble=trouble, streak={}, gains=Gains())


class Answer(NamedTuple):
    """A verdict, what was found, where and why.

    ``loss`` is what the choice of a reference goes by; ``serve`` the older snapshot that is to answer meanwhile,
    ``refer`` the one to compare with from here on.
    """

    verdict: Finding
    found: Found = "pass"
    where: Sequence[str] = ()
    why: str = ""
    loss: float = 0.0
    difference: float = 0.0
    yardstick: int | None = None
    serve: int | None = None
    refer: int | None = None


class _Compared(NamedTuple):
    """A learner against one yardstick: by slice the differences of loss on ``rows``, and which are too large."""

    lag: int
    yardstick: int
    end: int
    rows: Sequence[Row]
    loss: float
    differences: dict[str, Floats]
    bad: dict[str, float]

    @property
    def difference(self) -> float:
        """Over the whole stream."""
        return float(self.differences[WHOLE].mean())


class Lagged:
    """One look. ``memory`` is that of the look before and is changed; the flags leave a part out, to try it."""

    def __init__(self, scene: Scene, memory: Memory, *, label_tests: bool = True, history_test: bool = True) -> None:
        self.scene, self.memory = scene, memory
        self._label_tests, self._history_test = label_tests, history_test

    def judge(self) -> Answer:
        """Compare, and when that is bad, ask."""
        memory = self.memory
        memory.looks += 1
        self._note_gain()
        trouble = memory.trouble
        yardsticks = [trouble.yardstick] if trouble is not None else self._yardsticks()
        if not yardsticks:
            return Answer("pass", why="nothing older to compare with yet")
        told = self._told(yardsticks[0]) if self._label_tests else {}
        lags = LAGS if trouble is None else (trouble.lag,)
        pairs = zip(lags, yardsticks, strict=False)
        compared = [found for lag, one in pairs if (found := self._compared(lag, one)) is not None]
        if not compared:
            return Answer("pass" if trouble is None else "suspect", why="too few held-out rows to compare on yet")
        checked = self._checked(trouble, yardsticks[-1])
        worst = next((one for one in compared if one.bad), compared[-1 if checked else 0])
        answer = self._answer(worst, told, checked)
        if answer.verdict == "pass" and memory.trouble is None and trouble is None:
            for one in compared:
                self._note(one)
        return answer._replace(loss=worst.loss, difference=worst.difference, yardstick=worst.yardstick)

    def _compared(self, lag: int, yardstick: int) -> "_Compared | None":
        """The learner against a yardstick, on rows from before it; None where there are too few."""
        scene, trouble = self.scene, self.memory.trouble
        end = trouble.end if trouble is not None else self._end(yardstick)
        begin = max(0, end - scene.yard_rows, min(self.memory.floor, end - 50))
        rows = self._rows(trouble, begin, end)
        if len(rows) < min(_SLICE_ROWS, end - begin):  # gone by now, since nothing has passed for long
            rows = self._true(functools.partial(scene.rows_at, yardstick), begin, end)
        if len(rows) < min(_SLICE_ROWS, end - begin):  # better unfair to the learner than not compared at all
            rows = self._true(scene.rows, max(0, scene.held - scene.yard_rows), scene.held)
        if len(rows) < _FEW:
            return None
        lost, before = scene.losses(None, rows), scene.losses(yardstick, rows)
        differences = {name: lost[at] - before[at] for name, at in _slices(rows).items()}
        bad = {name: float(d.mean()) for name, d in differences.items() if d.mean() > self._margin(lag, name, d)}
        return _Compared(lag, yardstick, end, rows, float(lost.mean()), differences, bad)

    def _yardsticks(self) -> list[int]:
        """The newest that passed a thousand events and five looks ago, or else the oldest; and one far older."""
        first, last = self.memory.lied_looks
        passes = [
            one for one in self.scene.passes if one[0] >= self.memory.since and not first < one[0] <= last
        ] or list(self.scene.passes[-1:])  # fmt: skip
        ago = passes[: -LAG_LOOKS + 1]
        found = [old[-1] for lag in LAGS if (old := [one for one, then in ago if then <= self.scene.learnt - lag])]
        return found or [number for number, _ in passes[:1]]

    def _end(self, yardstick: int) -> int:
        """Before the newest quarter, and before the yardstick, once there are some."""
        scene = self.scene
        return max(min(scene.held, 200), min(scene.held - scene.yard_rows // 4, scene.held_at(yardstick)))

    def _rows(self, trouble: Trouble | None, begin: int, end: int) -> Sequence[Row]:
        """Rows from before; while there is trouble as they were when it began."""
        if trouble is None:
            return self._true(self.scene.rows, begin, end)
        return self._true(functools.partial(self.scene.rows_at, trouble.yardstick), begin, end)

    def _margin(self, lag: int, name: str, differences: Floats) -> float:
        """The least that counts: what the stream does by itself, and what chance does to so few rows."""
        chance = (4.5 if name else 3.0) * float(differences.std()) / math.sqrt(len(differences))
        least, usual = max(_MARGIN, self.scene.tolerance), self._own(lag, name)
        if usual is None and lag != LAGS[0] and (nearer := self._own(LAGS[0], name)) is not None:
            least, usual = max(_LONG_MARGIN, least), 3 * nearer
        return max(_EARLY_MARGIN, least, chance) if usual is None else max(least, 1.5 * usual, chance)

    def _own(self, lag: int, name: str) -> float | None:
        """What differences the stream makes by itself; None while there were too few looks."""
        usual = self.memory.calm.get(f"{lag}:{name}", [])
        return float(np.quantile(usual, 0.98)) if len(usual) >= MEDIAN_LOOKS else None

    def _checked(self, trouble: Trouble | None, yardstick: int) -> dict[str, float]:
        """By how much a yardstick is better on checked labels (below 0: worse), in the slices where they tell."""
        scene, found = self.scene, {}
        rows = scene.trusted(scene.now - _DAY_SECONDS if trouble is None else trouble.began)
        for name in dict.fromkeys([WHOLE, *(name for row in rows for name in row.slices)]):
            own = _of(rows, name)
            if len(own) < _FEW:
                continue
            difference = scene.losses(None, own) - scene.losses(yardstick, own)
            if abs(difference.mean()) > max(_MARGIN, _SURE * difference.std() / math.sqrt(len(own))):
                found[name] = float(difference.mean())
        return found

    def _answer(self, compared: "_Compared", told: dict[str, str], checked: dict[str, float]) -> Answer:
        scene, memory, worse, rows, bad = self.scene, self.memory, self._worse(), compared.rows, compared.bad
        yardstick, end, differences = compared.yardstick, compared.end, compared.differences
        lies = {name: by for name, by in checked.items() if by > 0}
        if not bad and not told and not lies and not self._lingers():
            memory.trouble = None
            if worse:
                return Answer("fail", "diverged", worse, "worse than its reference on fresh events")
            return Answer("pass")
        begun = memory.trouble is None
        if memory.trouble is None:
            memory.trouble = Trouble(
                yardstick, end, self.scene.held, self.scene.learnt, memory.looks, self.scene.now, compared.lag
            )  # fmt: skip
        trouble = memory.trouble
        trouble.good = 0 if bad or told or lies else trouble.good
        trouble.where = [*dict.fromkeys([*trouble.where, *bad])]
        trouble.lies = trouble.lies or bool(told or lies)
        trouble.liars |= told
        if told or lies:  # what comes after the lies is asked, not they
            self._strike(trouble)
        names = [] if bad else [WHOLE, *trouble.where]  # where a look is good in between, what was bad is asked
        bad = bad or {name: float(differences[name].mean()) for name in names if name in differences}
        if lies:
            name = max(lies, key=lambda one: lies[one])
            where = f" where {name}" if name else ""
            why = f"by labels that were checked the older one is better by {lies[name]:.2f}{where}: "
            why += "the stream's labels lie"
            found = Answer("suspect", "moved", [*lies], why)
        elif WHOLE in checked:  # better: what happened is real
            why = f"by labels that were checked it is better by {-checked[WHOLE]:.2f}: the world changed"
            found = Answer("pass", "moved", [*bad], why)
        elif told:
            said = [_said(WHOLE, told[WHOLE])] if WHOLE in told else [_said(name, why) for name, why in told.items()]
            found = Answer("suspect", "moved", [*told], "; ".join(said))
        elif worse and scene.learnt - trouble.told >= _BELIEVED_EVENTS:  # before, fresh labels prove nothing
            found = Answer("fail", "forgetting", worse, "worse on held-out rows and on fresh events")
        else:
            found = self._asked(trouble, rows, bad)
        if found.verdict == "pass":
            memory.follow(self.scene.number, trouble.held)
            return found
        serve = trouble.yardstick if trouble.lies and found.verdict == "suspect" else None
        return found._replace(serve=serve, refer=trouble.yardstick if begun else None)

    def _strike(self, trouble: Trouble) -> None:
        """Rows that come while labels lie, and those that raised the doubt, are not asked again."""
        memory, scene = self.memory, self.scene
        first = memory.doubted[1] if memory.doubted is not None else scene.held - 2 * _FEW
        begun = memory.lied[0] if memory.lied[1] >= trouble.held - 1 else first
        memory.lied, memory.lied_looks = (min(begun, first), scene.held), (trouble.yardstick, scene.number)
        trouble.told, trouble.held = scene.learnt, scene.held

    def _true(self, rows: Callable[[int, int], Sequence[Row]], begin: int, end: int) -> Sequence[Row]:
        """Rows of a range, without those that lied."""
        first, last = self.memory.lied
        return [*rows(begin, max(begin, min(end, first))), *rows(min(end, max(begin, last)), end)]

    def _worse(self) -> list[str]:
        """The slices whose fresh events are worse, by the detector and in the mean since the reference."""
        paired = self.scene.paired
        return [
            name for name in paired.slices
            if paired.worse(name) >= self.scene.alarm and paired.interval(name).mean > 0
        ]  # fmt: skip

    def _lingers(self) -> bool:
        """Whether a look that is good is not yet the end of it: that takes three in a row.

        Of labels that have lied, which have to answer to the features of before; and of a slice that was worse, since a
        slice that lies hovers about the margin. The whole stream has rows enough for one look to tell.
        """
        trouble = self.memory.trouble
        if trouble is None:
            return False
        since = [
            [change for at, change in self._changes(name).lately if at >= trouble.look - _LATELY_LOOKS]
            for name in trouble.liars
        ]
        apart = any(of and of[-1] > max(0.1, max(of) / 2) for of in since)
        trouble.good = 0 if apart else trouble.good + 1
        return (trouble.lies or any(trouble.where)) and trouble.good < FAR_LOOKS

    def _note(self, compared: "_Compared") -> None:
        """Learn what the stream does by itself from a look that is good."""
        for name, one in compared.differences.items():
            key = f"{compared.lag}:{name}"
            self.memory.calm[key] = [*self.memory.calm.get(key, []), round(float(one.mean()), 4)][-_CALM_LOOKS:]

    # What came since -------------------------------------------------------------------------------------------------

    def _asked(self, trouble: Trouble, rows: Sequence[Row], bad: dict[str, float]) -> Answer:
        """What the rows that came since say; all slices have to agree to follow."""
        self._compare_features(trouble)
        if (alone := self._one_slice(trouble)) is not None:
            name, most, known = alone
            trouble.lies = trouble.alone = True
            why = f"{_unheard(most, known)}, in {name} alone: somebody has to decide"
            return Answer("suspect", "moved", [*dict.fromkeys([*bad, name])], why)
        for name, difference in bad.items():
            why, found = self._slice(trouble, rows, name, difference)
            if why:
                return Answer("suspect", found, [*bad], why)
        return Answer("pass", "moved", [*bad], "the world moved: better on what came since, and it can be learnt")

    def _slice(self, trouble: Trouble, rows: Sequence[Row], name: str, difference: float) -> tuple[str, Found]:
        """Why it is not followed (empty: it is), and what that is called."""
        scene = self.scene
        new = _of(scene.rows(trouble.held, scene.held), name)[-100:]
        if len(new) < _FEW:
            return f"{len(new)} held-out rows came since, {_FEW} are needed to tell", "suspect"
        mine, theirs = scene.losses(None, new), scene.losses(trouble.yardstick, new)
        if not self._better(trouble.yardstick, name, theirs - mine):
            return "no better than what served on what came since", "suspect"
        waited = scene.learnt - trouble.learnt
        level = float(scene.losses(trouble.yardstick, _of(rows, name)).mean())
        constant = constant_loss(scene.task, [row.label for row in new], scene.scale)
        if self._label_tests and mine.mean() > level + 0.05 and mine.mean() > 0.85 * constant:
            trouble.lies = True
            return "what came since cannot be learnt: the labels may be noise", "moved"
        change = None if name or trouble.moved else self._unheard_of(trouble, name)
        if change is not None and self._lasts(trouble, level, change[0]):
            trouble.lies = True
            most, known = change
            patience = scene.hold_events * min(4.0, most / known / _SURPRISE)
            if waited < patience:
                return f"{_unheard(most, known)}; held for {patience - waited:,.0f} events more", "moved"
        hold = 0 if difference < 0.1 else 300 if trouble.moved else 500
        return ("" if waited >= hold else f"held for {hold - waited} events more"), "moved"

    def _lasts(self, trouble: Trouble, level: float, most: float) -> bool:
        """Whether what served still loses more on all that came since: chance alone makes the largest of many looks."""
        since = self.scene.rows(trouble.held, self.scene.held)
        return float(self.scene.losses(trouble.yardstick, since).mean()) > level + _LASTING * most

    def _one_slice(self, trouble: Trouble) -> tuple[str, float, float] | None:
        """The slice that changed most, all at once while another stayed: a producer is to blame more often."""
        if not trouble.alone and (trouble.moved_at_once or not self._stayed(trouble)):
            return None
        found = [
            (name, *change) for name in self.memory.changes
            if name and (change := self._unheard_of(trouble, name)) is not None
        ]  # fmt: skip
        return max(found, key=lambda one: one[1] / one[2], default=None)

    def _stayed(self, trouble: Trouble) -> bool:
        """Whether a slice that was looked at since did not change, but for what it always does."""
        return any(
            name and sum(at >= trouble.look for at, _ in changes.lately) >= _CONFIRM
            and self._unheard_of(trouble, name) is None
            for name, changes in self.memory.changes.items()
        )  # fmt: skip

    def _unheard_of(self, trouble: Trouble, name: str) -> tuple[float, float] | None:
        """The largest change since the trouble began and the largest before, when it is far larger."""
        most, known = self._history(trouble, name)
        return (most, known) if self._history_test and most > max(_LEAST_CHANGE, _SURPRISE * known) else None

    def _history(self, trouble: Trouble, name: str) -> tuple[float, float]:
        """The largest change since the trouble began, and before it; before a stream is known nothing is unheard of."""
        changes = self._changes(name)
        begun = trouble.look - _LATELY_LOOKS
        most = max((one for at, one in changes.lately if at >= begun), default=0.0)
        known = max([changes.most, *(one for at, one in changes.lately if at < begun)])
        young = 0.3 * math.exp(-self.scene.learnt / 4 / max(1, self.scene.hold_events))
        return most, max(known, _LEAST_KNOWN, young)

    def _compare_features(self, trouble: Trouble) -> None:
        scene = self.scene
        new = scene.rows(max(trouble.held, scene.held - 200), scene.held)
        if len(new) >= _FEW and scene.held - trouble.compared >= 10:
            trouble.compared = scene.held
            before = self._rows(trouble, max(0, trouble.end - 300), trouble.end)
            trouble.moved = unlike(scene.features(before), scene.features(new))
            if scene.held - trouble.held <= 100:
                trouble.moved_at_once = trouble.moved

    def _note_gain(self) -> None:
        """Keep the sums of fresh differences at a few points, so that the newest hundreds can be told from the rest."""
        paired, gains = self.scene.paired, self.memory.gains
        now = paired.interval()
        if gains.reference != paired.reference or (gains.points and now.n < gains.points[-1][0]):
            gains.reference, gains.points = paired.reference, [(0, 0.0)]
        if not gains.points or now.n - gains.points[-1][0] >= _GAIN_MOST // 10:
            gains.points = [*gains.points, (now.n, round(now.n * now.mean, 4))][-12:]

    def _better(self, yardstick: int, name: str, gains: Floats) -> bool:
        """Whether the learner is better than the yardstick: on rows set aside, or on the newest fresh events."""
        if gains.mean() > _GAIN and gains.mean() > 3 * gains.std() / math.sqrt(len(gains)):
            return True
        paired = self.scene.paired
        if paired.reference != yardstick:
            return False
        if name:
            return paired.better(name) > LEANING
        now, points = paired.interval(), self.memory.gains.points
        then = next((one for one in reversed(points) if now.n - one[0] >= _GAIN_MOST), points[0])
        events = now.n - then[0]
        gain = (then[1] - now.n * now.mean) / max(events, 1)
        return (events >= _GAIN_EVENTS and gain > _GAIN) or (gain > 0 and paired.better() > LEANING)

    # Labels ----------------------------------------------------------------------------------------------------------

    def _changes(self, name: str) -> Changes:
        return self.memory.changes.setdefault(name, Changes())

    def _note_change(self, name: str, change: float) -> None:
        changes, trouble = self._changes(name), self.memory.trouble
        changes.lately = [*changes.lately, (self.memory.looks, round(change, 4))]
        begun = (trouble.look if trouble is not None else self.memory.looks) - _LATELY_LOOKS
        gone = [one for at, one in changes.lately if at < begun]
        changes.most = max([changes.most, *gone])
        late = [one for one in changes.lately if one[0] >= begun]
        if len(late) > 3 * _LATELY_LOOKS:  # of a long trouble the largest and the newest are enough
            late = [max(late[:-_LATELY_LOOKS], key=lambda one: one[1]), *late[-_LATELY_LOOKS:]]
        changes.lately = late

    def _told(self, yardstick: int) -> dict[str, str]:
        """Slices whose newest labels no longer answer to the features as they did, in enough looks in a row."""
        scene, memory = self.scene, self.memory
        end, seen = memory.trouble.end if memory.trouble is not None else None, scene.held
        if memory.trouble is None and memory.doubted is not None:
            yardstick, end = memory.doubted
        if memory.asked != (scene.held, yardstick):
            seen = memory.asked[0] if 0 <= memory.asked[0] < scene.held else scene.held
            since = scene.rows(seen, scene.held)  # what may be lies as a whole, when looks are far apart
            memory.asked = (scene.held, yardstick)
            last = scene.held if end is None else end
            before = self._rows(memory.trouble, max(memory.floor, min(seen, last) - 600), last)
            newest = scene.rows(max(memory.floor if end is None else end, scene.held - 400), scene.held)
            plain = memory.trouble is None and not _PLAIN.isdisjoint(memory.told.values())
            known, many = memory.trouble.liars if memory.trouble is not None else {}, 200 if plain else _FEW
            memory.told = {}
            for name in dict.fromkeys([WHOLE, *(name for row in newest for name in row.slices)]):
                new, old = _of(newest, name)[-many:], _of(before, name)
                old = (old if end is not None else old[: -max(_FEW, len(_of(since, name)))])[-3 * _FEW :]
                if len(new) < _FEW or len(old) < _FEW:
                    continue
                windows = [self._window(yardstick, one) for one in (old, new)]
                self._note_change(name, float(windows[1].losses.mean() - windows[0].losses.mean()))
                if why := doubt(scene.task, windows[0], windows[1], scene.losses(None, new), known.get(name, "")):
                    memory.told[name] = why
        if memory.trouble is not None and scene.learnt - memory.trouble.learnt >= scene.hold_events:
            memory.told = {name: why for name, why in memory.told.items() if why not in _PLAIN}
        memory.streak = {name: memory.streak.get(name, 0) + 1 for name in memory.told}
        if not memory.told:
            memory.doubted = None
        elif memory.doubted is None:
            memory.doubted = yardstick, max(0, min(seen, scene.held - _FEW)) if end is None else end
        looks = {name: _CONFIRM_MOVED if why == "unlearnt" else _CONFIRM for name, why in memory.told.items()}
        return {name: why for name, why in memory.told.items() if memory.streak[name] >= looks[name]}

    def _window(self, yardstick: int, rows: Sequence[Row]) -> Window:
        scene, labels = self.scene, [row.label for row in rows]
        return Window(
            labels, scene.answers(yardstick, rows), scene.losses(yardstick, rows),
            constant_loss(scene.task, labels, scene.scale), scene.features(rows),
        )  # fmt: skip


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if not name or name in row.slices]


def _slices(rows: Sequence[Row]) -> dict[str, Any]:
    """Where the rows of each slice are that has enough of them; the whole first."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for name in row.slices:
            places.setdefault(name, []).append(place)
    found = {name: np.array(at) for name, at in places.items() if len(at) >= _SLICE_ROWS}
    return {WHOLE: np.arange(len(rows)), **found}


def _unheard(most: float, known: float) -> str:
    return f"what served lost {most:.2f} more at once while the features stayed, at most {known:.2f} before"


_WORDS = {
    "relabelled": "labels fit what was known only under other names",
    "collapsed": "labels are all one",
    "uninformative": "labels no longer follow from the features",
    "unlearnt": "labels follow neither from features as they were nor from those that there are now",
    "misnamed": "features lie where others of them lay before: names were mixed up",
}


def _said(name: str, why: str) -> str:
    return f"the newest {_WORDS[why]}" + (f" where {name}" if name else "")
