"""How the older model fared on the newest rows, now and at every look before: whether labels lie, and where.

Labels that look wrong in some looks in a row are in doubt (:mod:`snapshots.moved.label_checks`), and rows that came
meanwhile are never asked again. What changed more than ever before is unheard of.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from learners.evidence.lane import FAR_LOOKS
from learners.evidence.losses import WHOLE
from snapshots.moved.label_checks import Doubt, Window, constant_loss, doubt
from snapshots.moved.memory import Changes, Memory, Row, Scene, Trouble
from snapshots.moved.neighbours import Contradictions, Sample, Told, ask, contradictions

#: rows of a window of the newest, and looks in a row at which labels must look wrong
FEW, _CONFIRM = 30, 3
#: the same where features lie elsewhere, so that a learner has time to learn another world
_CONFIRM_MOVED = 9
#: so much more than ever before is unheard of; what counts as much at the least
SURPRISE, _LEAST_CHANGE, _LEAST_KNOWN = 1.5, 0.15, 0.07
_LATELY_LOOKS = 10
#: doubts that no world raises for long by itself, held no longer than guard.hold_events: all rows since are asked
_PLAIN = {"collapsed", "misnamed"}
#: rows of before that are asked about the newest; how unlikely it is that so many contradict their neighbours: from
#: where labels are in doubt, from where they stay so, and from where nothing is promoted for a look
_NEIGHBOURS, _IMPOSSIBLE, _UNLIKELY = 600, 1e-6, 1e-3
#: the share of rows that contradict them, at least
_MOSTLY = 0.4
#: the share of rows from which classes have only other names; labels that are mixed up are believed when the learner
#: loses less than this share of what a constant loses
_RENAMED, _LEARNT = 0.8, 0.9
#: below this share they have not other names, or are not all one
_ALIKE, _SEVERAL = 0.6, 3


class History:
    """The labels' part of one look. ``memory`` is changed; without ``history_test`` nothing is unheard of."""

    def __init__(self, scene: Scene, memory: Memory, *, history_test: bool = True) -> None:
        self.scene, self.memory, self._history_test = scene, memory, history_test
        #: the newest rows contradict their neighbours more than chance does: nothing is promoted at this look
        self.contradicted = ""
        #: they do, and not as if labels had other names, or were all one: as in another world
        self.mixed = False

    def rows(self, begin: int, end: int) -> Sequence[Row]:
        """Rows from before; while there is trouble as they were when it began."""
        if (trouble := self.memory.trouble) is None:
            return self.true(self.scene.rows, begin, end)
        return self.true(functools.partial(self.scene.rows_at, trouble.yardstick), begin, end)

    def true(self, rows: Callable[[int, int], Sequence[Row]], begin: int, end: int) -> Sequence[Row]:
        """Rows of a range, without those that lied."""
        first, last = self.memory.lied
        return [*rows(begin, max(begin, min(end, first))), *rows(min(end, max(begin, last)), end)]

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

    def told(self, yardstick: int) -> dict[str, str]:
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
            first = max(memory.floor, min(seen, last) - 600)
            before = self.rows(first, last)
            newest = scene.rows(max(memory.floor if end is None else end, scene.held - 400), scene.held)
            plain = memory.trouble is None and not _PLAIN.isdisjoint(memory.told.values())
            known, many = memory.trouble.liars if memory.trouble is not None else {}, 200 if plain else FEW
            was, memory.told = memory.told, {}
            fresh = max(len(since), FEW // 3) if end is None else len(newest)
            known_before = before[: len(before) - fresh] if end is None else before
            asked = self._ask(self.rows(memory.floor, first), known_before, newest[-min(fresh, 100) :])
            self.mixed = asked is not None and asked.are_mixed()
            for name in dict.fromkeys([WHOLE, *(name for row in newest for name in row.slices)]):
                new, old = of_slice(newest, name)[-many:], of_slice(before, name)
                old = (old if end is not None else old[: -max(FEW, len(of_slice(since, name)))])[-3 * FEW :]
                why: Doubt = ""
                if min(len(new), len(old)) >= FEW:
                    windows = [self._window(yardstick, one) for one in (old, new)]
                    self._note_change(name, float(windows[1].losses.mean() - windows[0].losses.mean()))
                    why = doubt(scene.task, windows[0], windows[1], scene.losses(None, new), known.get(name, ""))
                if why:
                    memory.told[name] = why
                elif asked is not None and self._contradicts(asked, name, was.get(name) or known.get(name)):
                    memory.told[name] = "contradicted"
        if memory.trouble is not None and scene.learnt - memory.trouble.learnt >= scene.hold_events:
            memory.told = {name: why for name, why in memory.told.items() if why not in {*_PLAIN, "contradicted"}}
        memory.streak = {name: memory.streak.get(name, 0) + 1 for name in memory.told}
        if not memory.told:
            memory.doubted = None
        elif memory.doubted is None:
            fewest = 0 if "contradicted" in memory.told.values() else FEW
            memory.doubted = yardstick, max(0, min(seen, scene.held - fewest)) if end is None else end
        looks = {name: _CONFIRM_MOVED if why == "unlearnt" else _CONFIRM for name, why in memory.told.items()}
        return {name: why for name, why in memory.told.items() if memory.streak[name] >= looks[name]}

    def _ask(self, older: Sequence[Row], before: Sequence[Row], newest: Sequence[Row]) -> "_Asked | None":
        """What neighbours of before say of each other and of the newest rows."""
        before = [*older[:: max(1, len(older) // (_NEIGHBOURS // 2))], *before[-_NEIGHBOURS // 2 :]]
        samples = [Sample(self.scene.features(rows), [row.label for row in rows]) for rows in (before, newest)]
        found = ask(self.scene.task, *samples)
        if found is None:
            return None
        places, usual, now = found
        return _Asked([before[place] for place in places], newest, usual, now)

    def _contradicts(self, asked: "_Asked", name: str, was: str | None) -> bool:
        """Whether the newest rows of a slice have other labels than their neighbours; ``was``: what they were then."""
        widths = (FEW // 3, FEW) if self.memory.trouble is not None else (FEW // 3, FEW, len(asked.newest))
        found = min((asked.of(name, width) for width in widths), key=lambda one: one.chance)
        if found.share < _MOSTLY or found.chance >= _UNLIKELY:
            return False
        if found.renamed < _RENAMED and self._learnt(of_slice(asked.newest, name)[-FEW:]):
            return False
        self.contradicted = (
            f"{found.wrong} of {found.asked} rows have other labels than their nearest neighbours before"
        )
        return found.chance < (_UNLIKELY if was == "contradicted" else _IMPOSSIBLE)

    def _learnt(self, rows: Sequence[Row]) -> bool:
        """Whether the learner does better than the best constant: labels that follow from the features are no noise."""
        scene = self.scene
        constant = constant_loss(scene.task, [row.label for row in rows], scene.scale)
        return float(scene.losses(None, rows).mean()) < _LEARNT * constant

    def _window(self, yardstick: int, rows: Sequence[Row]) -> Window:
        scene, labels = self.scene, [row.label for row in rows]
        return Window(
            labels, scene.answers(yardstick, rows), scene.losses(yardstick, rows),
            constant_loss(scene.task, labels, scene.scale), scene.features(rows),
        )  # fmt: skip

    def strike(self, trouble: Trouble) -> None:
        """Rows that come while labels lie, and those that raised the doubt, are not asked again."""
        memory, scene = self.memory, self.scene
        first = memory.doubted[1] if memory.doubted is not None else scene.held - 2 * FEW
        begun = memory.lied[0] if memory.lied[1] >= trouble.held - 1 else first
        memory.lied, memory.lied_looks = (min(begun, first), scene.held), (trouble.yardstick, scene.number)
        trouble.told, trouble.held = scene.learnt, scene.held

    def lingers(self) -> bool:
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

    def one_slice(self, trouble: Trouble) -> tuple[str, float, float] | None:
        """The slice that changed most, all at once while another stayed: a producer is to blame more often."""
        if not trouble.alone and (trouble.moved_at_once or not self._stayed(trouble)):
            return None
        found = [
            (name, *change) for name in self.memory.changes
            if name and (change := self.unheard_of(trouble, name)) is not None
        ]  # fmt: skip
        return max(found, key=lambda one: one[1] / one[2], default=None)

    def _stayed(self, trouble: Trouble) -> bool:
        """Whether a slice that was looked at since did not change, but for what it always does."""
        return any(
            name and sum(at >= trouble.look for at, _ in changes.lately) >= _CONFIRM
            and self.unheard_of(trouble, name) is None
            for name, changes in self.memory.changes.items()
        )  # fmt: skip

    def unheard_of(self, trouble: Trouble, name: str) -> tuple[float, float] | None:
        """The largest change since the trouble began and the largest before, when it is far larger."""
        most, known = self._history(trouble, name)
        return (most, known) if self._history_test and most > max(_LEAST_CHANGE, SURPRISE * known) else None

    def _history(self, trouble: Trouble, name: str) -> tuple[float, float]:
        """The largest change since the trouble began, and before it; before a stream is known nothing is unheard of."""
        changes = self._changes(name)
        begun = trouble.look - _LATELY_LOOKS
        most = max((one for at, one in changes.lately if at >= begun), default=0.0)
        known = max([changes.most, *(one for at, one in changes.lately if at < begun)])
        young = 0.3 * math.exp(-self.scene.learnt / 4 / max(1, self.scene.hold_events))
        return most, max(known, _LEAST_KNOWN, young)


class _Asked(NamedTuple):
    """Some rows of before and the newest, and what neighbours of before say of them."""

    before: Sequence[Row]
    newest: Sequence[Row]
    usual: Told
    now: Told

    def of(self, name: str, width: int) -> Contradictions:
        """In the newest rows of a slice."""
        at = [
            [i for i, row in enumerate(rows) if not name or name in row.slices] for rows in (self.before, self.newest)
        ]
        return contradictions(self.usual.of(at[0]), self.now.of(at[1][-width:]))

    def are_mixed(self) -> bool:
        """Whether enough of the newest rows contradict their neighbours, some in this way and some in that.

        Of two classes nobody can tell that from noise.
        """
        found, labels = self.of(WHOLE, FEW), Counter(str(row.label) for row in self.newest[-FEW:])
        if len(labels) < _SEVERAL or found.asked < FEW // 3 or found.share < _MOSTLY:
            return False
        return found.renamed < _ALIKE and max(labels.values()) < _ALIKE * FEW


def of_slice(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of a slice; without a name all of them."""
    return [row for row in rows if not name or name in row.slices]


def unheard(most: float, known: float) -> str:
    """That something changed as it never did, in words."""
    return f"what served lost {most:.2f} more at once while the features stayed, at most {known:.2f} before"


_WORDS = {
    "relabelled": "labels fit what was known only under other names",
    "collapsed": "labels are all one",
    "uninformative": "labels no longer follow from the features",
    "unlearnt": "labels follow neither from features as they were nor from those that there are now",
    "contradicted": "labels are not those of their nearest neighbours before",
    "misnamed": "features lie where others of them lay before: names were mixed up",
}


def said(name: str, why: str) -> str:
    """A doubt in words."""
    return f"the newest {_WORDS[why]}" + (f" where {name}" if name else "")
