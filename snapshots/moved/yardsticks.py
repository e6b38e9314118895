"""The guard's rule ``moved = "auto"``: each snapshot against one that served a thousand events ago, and one older.

Both are scored on held-out rows that were set aside before either, so that a world that moves makes both worse alike. A
snapshot that is worse there than the stream's own fluctuation explains is not promoted, and questions are asked of the
rows that came since: is the learner better on them than what served, are the labels still to be believed
(:mod:`snapshots.moved.history`), did anything like it ever happen before? What is only a moved world is followed,
what the fresh events prove to be harm is reverted, and while labels lie the older snapshot answers. docs/adr/0025.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from learners.evidence.findings import LEANING, Found
from learners.evidence.lane import MEDIAN_LOOKS
from learners.evidence.losses import WHOLE, Floats
from snapshots.moved.history import FEW, SURPRISE, History, of_slice, said, unheard
from snapshots.moved.label_checks import constant_loss, unlike
from snapshots.moved.memory import LAGS, Answer, Memory, Row, Scene, Trouble

#: looks ago that a yardstick has passed, at least
_LAG_LOOKS = 5
#: a difference of losses that is no harm, and the one that counts before the stream's own fluctuation is known
_MARGIN, _EARLY_MARGIN, _LONG_MARGIN = 0.025, 0.15, 0.05
#: rows that a slice needs, looks from which the stream's own fluctuation is taken
_SLICE_ROWS, _CALM_LOOKS = 50, 100
#: what is unheard of is held while what served still loses more by this share of it, on all that came since
_LASTING = 0.5
#: fresh events over which the learner's gain is measured: at least, and at most
_GAIN_EVENTS, _GAIN_MOST, _GAIN = 300, 500, 0.03
#: events after labels last looked wrong from which fresh events prove harm again
_BELIEVED_EVENTS = 2000
#: standard errors from which checked labels decide, and how long they count while nothing is suspect, in seconds
_SURE, _DAY_SECONDS = 3.0, 86_400.0


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
        self._label_tests, self._history = label_tests, History(scene, memory, history_test=history_test)

    def judge(self) -> Answer:
        """Compare, and when that is bad, ask."""
        memory = self.memory
        memory.looks += 1
        self._note_gain()
        trouble = memory.trouble
        yardsticks = [trouble.yardstick] if trouble is not None else self._yardsticks()
        if not yardsticks:
            return Answer("pass", why="nothing older to compare with yet")
        told = self._history.told(yardsticks[0]) if self._label_tests else {}
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
        rows = self._history.rows(begin, end)
        if len(rows) < min(_SLICE_ROWS, end - begin):  # gone by now, since nothing has passed for long
            rows = self._history.true(functools.partial(scene.rows_at, yardstick), begin, end)
        if len(rows) < min(_SLICE_ROWS, end - begin):  # better unfair to the learner than not compared at all
            rows = self._history.true(scene.rows, max(0, scene.held - scene.yard_rows), scene.held)
        if len(rows) < FEW:
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
        ago = passes[: -_LAG_LOOKS + 1]
        found = [old[-1] for lag in LAGS if (old := [one for one, then in ago if then <= self.scene.learnt - lag])]
        return found or [number for number, _ in passes[:1]]

    def _end(self, yardstick: int) -> int:
        """Before the newest quarter, and before the yardstick, once there are some."""
        scene = self.scene
        return max(min(scene.held, 200), min(scene.held - scene.yard_rows // 4, scene.held_at(yardstick)))

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
            own = of_slice(rows, name)
            if len(own) < FEW:
                continue
            difference = scene.losses(None, own) - scene.losses(yardstick, own)
            if abs(difference.mean()) > max(_MARGIN, _SURE * difference.std() / math.sqrt(len(own))):
                found[name] = float(difference.mean())
        return found

    def _answer(self, compared: "_Compared", told: dict[str, str], checked: dict[str, float]) -> Answer:
        scene, memory, worse, rows, bad = self.scene, self.memory, self._worse(), compared.rows, compared.bad
        yardstick, end, differences = compared.yardstick, compared.end, compared.differences
        lies = {name: by for name, by in checked.items() if by > 0}
        if not bad and not told and not lies and not self._history.lingers():
            memory.trouble = None
            return self._calm(worse)
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
        trouble.kept = trouble.kept or (begun and bool(told) and {*told.values()} == {"contradicted"})
        if told or lies:  # what comes after the lies is asked, not they
            self._history.strike(trouble)
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
            words = [said(WHOLE, told[WHOLE])] if WHOLE in told else [said(name, why) for name, why in told.items()]
            found = Answer("suspect", "moved", [*told], "; ".join(words))
        elif worse and scene.learnt - trouble.told >= _BELIEVED_EVENTS:  # before, fresh labels prove nothing
            found = Answer("fail", "forgetting", worse, "worse on held-out rows and on fresh events")
        else:
            found = self._asked(trouble, rows, bad)
        if found.verdict == "pass":
            memory.follow(self.scene.number, trouble.held)
            return found
        serve = trouble.yardstick if trouble.lies and not trouble.kept and found.verdict == "suspect" else None
        return found._replace(serve=serve, refer=trouble.yardstick if begun else None)

    def _calm(self, worse: list[str]) -> Answer:
        """What is said where nothing is bad on held-out rows; labels that look odd are not yet in doubt."""
        if worse:
            return Answer("fail", "diverged", worse, "worse than its reference on fresh events")
        if self._history.contradicted:
            return Answer("suspect", why=self._history.contradicted)
        return Answer("pass")

    def _worse(self) -> list[str]:
        """The slices whose fresh events are worse, by the detector and in the mean since the reference."""
        paired = self.scene.paired
        return [
            name for name in paired.slices
            if paired.worse(name) >= self.scene.alarm and paired.interval(name).mean > 0
        ]  # fmt: skip

    def _note(self, compared: "_Compared") -> None:
        """Learn what the stream does by itself from a look that is good."""
        for name, one in compared.differences.items():
            key = f"{compared.lag}:{name}"
            self.memory.calm[key] = [*self.memory.calm.get(key, []), round(float(one.mean()), 4)][-_CALM_LOOKS:]

    # What came since -------------------------------------------------------------------------------------------------

    def _asked(self, trouble: Trouble, rows: Sequence[Row], bad: dict[str, float]) -> Answer:
        """What the rows that came since say; all slices have to agree to follow."""
        self._compare_features(trouble)
        alone = self._history.one_slice(trouble)
        if alone is not None and self._lasts(trouble, rows, *alone[:2]):
            name, most, known = alone
            trouble.lies = trouble.alone = True
            why = f"{unheard(most, known)}, in {name} alone: somebody has to decide"
            return Answer("suspect", "moved", [*dict.fromkeys([*bad, name])], why)
        for name, difference in bad.items():
            why, found = self._slice(trouble, rows, name, difference)
            if why:
                return Answer("suspect", found, [*bad], why)
        return Answer("pass", "moved", [*bad], "the world moved: better on what came since, and it can be learnt")

    def _slice(self, trouble: Trouble, rows: Sequence[Row], name: str, difference: float) -> tuple[str, Found]:
        """Why it is not followed (empty: it is), and what that is called."""
        scene = self.scene
        new = of_slice(scene.rows(trouble.held, scene.held), name)[-100:]
        if len(new) < FEW:
            return f"{len(new)} held-out rows came since, {FEW} are needed to tell", "suspect"
        mine, theirs = scene.losses(None, new), scene.losses(trouble.yardstick, new)
        if not self._better(trouble.yardstick, name, theirs - mine):
            return "no better than what served on what came since", "suspect"
        waited = scene.learnt - trouble.learnt
        level = float(scene.losses(trouble.yardstick, of_slice(rows, name)).mean())
        constant = constant_loss(scene.task, [row.label for row in new], scene.scale)
        if self._label_tests and mine.mean() > level + 0.05 and mine.mean() > 0.85 * constant:
            trouble.lies = True
            return "what came since cannot be learnt: the labels may be noise", "moved"
        change = None if name or trouble.moved or self._history.mixed else self._history.unheard_of(trouble, name)
        if change is not None and self._lasts(trouble, rows, name, change[0]):
            trouble.lies = True
            most, known = change
            patience = scene.hold_events * min(4.0, most / known / SURPRISE)
            if waited < patience:
                return f"{unheard(most, known)}; held for {patience - waited:,.0f} events more", "moved"
        hold = 0 if difference < 0.1 else 300 if trouble.moved else 500
        return ("" if waited >= hold else f"held for {hold - waited} events more"), "moved"

    def _lasts(self, trouble: Trouble, rows: Sequence[Row], name: str, most: float) -> bool:
        """Whether what served still loses more on all that came since: chance alone makes the largest of many looks."""
        since = of_slice(self.scene.rows(trouble.held, self.scene.held), name)
        if len(since) < FEW:
            return True
        lost = [float(self.scene.losses(trouble.yardstick, one).mean()) for one in (of_slice(rows, name), since)]
        return lost[1] > lost[0] + _LASTING * most

    def _compare_features(self, trouble: Trouble) -> None:
        scene = self.scene
        new = scene.rows(max(trouble.held, scene.held - 200), scene.held)
        if len(new) >= FEW and scene.held - trouble.compared >= 10:
            trouble.compared = scene.held
            before = self._history.rows(max(0, trouble.end - 300), trouble.end)
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


def _slices(rows: Sequence[Row]) -> dict[str, Any]:
    """Where the rows of each slice are that has enough of them; the whole first."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for name in row.slices:
            places.setdefault(name, []).append(place)
    found = {name: np.array(at) for name, at in places.items() if len(at) >= _SLICE_ROWS}
    return {WHOLE: np.arange(len(rows)), **found}
