"""``guard.moved = "auto"``: harm is seen at the first looks, a moving world is left alone, labels that lie are held."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from learners.event import Prediction
from learners.evidence.losses import Floats, losses
from learners.evidence.paired import Paired
from snapshots.moved.label_checks import Window, constant_loss, doubt, misnamed, unlike
from snapshots.moved.memory import Answer, Memory
from snapshots.moved.yardsticks import Lagged

EVENTS = 50  # between two looks
WEIGHTS = np.array([2.0, -1.0, 0.5])


class Row(NamedTuple):
    """A held-out row."""

    x: Floats
    label: bool
    slices: Sequence[str]


class Model:
    """Logistic regression by gradient descent."""

    def __init__(self, weights: Floats) -> None:
        self.weights = weights

    def predict(self, x: Floats) -> Prediction:
        chance = float(1 / (1 + np.exp(-np.clip(x @ self.weights, -30, 30))))
        return Prediction(chance > 0.5, chance)

    def learn(self, x: Floats, label: bool) -> None:
        self.weights = self.weights + 0.05 * (label - self.predict(x).probability) * x  # type: ignore[operator]


class World:
    """A learner, its snapshots, and a guard over them; also the scene that the rule looks at."""

    task, scale, tolerance, alarm, hold_events, yard_rows = "binary", 1.0, 0.01, 1e6, 5000, 400

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.model, self.memory, self.paired = Model(np.zeros(3)), Memory(), Paired(0.01)
        self.models: dict[int, Model] = {}
        self.set_aside: list[Row] = []
        self.counts: dict[int, int] = {}
        self.checked: list[tuple[float, Row]] = []
        self.passes: list[tuple[int, int]] = []
        self.number = self.learnt = self.held = 0
        self.answers_given: list[Answer] = []
        self.every, self.slices = EVENTS, 2

    def event(self) -> Row:
        """Three features, a slice, a label that mostly follows from the features."""
        x = self.rng.normal(size=3)
        return Row(x, bool(x @ WEIGHTS + self.rng.normal(0, 0.5) > 0), (f"s={int(self.rng.integers(self.slices))}",))

    def look(self, change: Callable[[Row, "World"], Row] | None = None) -> Answer:
        """Some events, a snapshot, a judgement."""
        for _ in range(self.every):
            row = self.event() if change is None else change(self.event(), self)
            if self.rng.random() < 0.15:
                self.set_aside.append(row)
                continue
            mine = losses("binary", [row.label], [self.model.predict(row.x)])
            other = self.models.get(self.paired.reference or -1)
            theirs = losses("binary", [row.label], [other.predict(row.x)]) if other is not None else None
            self.paired.update(mine, theirs, [row.slices])
            self.model.learn(row.x, row.label)
            self.learnt += 1
        self.paired.close_look()
        return self.judge()

    def judge(self) -> Answer:
        """Judge the learner as it is."""
        self.number += 1
        self.held = self.counts[self.number] = len(self.set_aside)
        self.models[self.number] = Model(self.model.weights)
        answer = Lagged(self, self.memory).judge()  # type: ignore[arg-type]
        if answer.verdict == "pass":
            self.passes.append((self.number, self.learnt))
        if answer.refer is not None:
            self.paired.refer(answer.refer)
        self.answers_given.append(answer)
        return answer

    def looks(self, count: int, change: Callable[[Row, "World"], Row] | None = None) -> list[Answer]:
        return [self.look(change) for _ in range(count)]

    # The scene -------------------------------------------------------------------------------------------------------

    def rows(self, begin: int, end: int) -> Sequence[Row]:
        return self.set_aside[begin:end]

    def rows_at(self, model: int, begin: int, end: int) -> Sequence[Row]:
        return self.set_aside[begin:end]

    def held_at(self, model: int) -> int:
        return self.counts[model]

    def trusted(self, since: float) -> Sequence[Row]:
        return [row for given, row in self.checked if given >= since]

    @property
    def now(self) -> float:
        return float(self.number)

    def _said(self, model: int | None, rows: Sequence[Row]) -> list[Prediction]:
        asked = self.model if model is None else self.models[model]
        return [asked.predict(row.x) for row in rows]

    def losses(self, model: int | None, rows: Sequence[Row]) -> Floats:
        said = self._said(model, rows)
        wrong = np.array([one.value != row.label for one, row in zip(said, rows, strict=True)])
        return (losses("binary", [row.label for row in rows], said) + wrong) / 2  # type: ignore[no-any-return]

    def answers(self, model: int | None, rows: Sequence[Row]) -> Sequence[Any]:
        return [one.value for one in self._said(model, rows)]

    def features(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
        return {str(n): [float(row.x[n]) for row in rows] for n in range(3)}


def flipped(row: Row, _: World) -> Row:
    return row._replace(label=not row.label)


def slice_flipped(row: Row, _: World) -> Row:
    return row._replace(label=not row.label) if "s=1" in row.slices else row


def all_one(row: Row, _: World) -> Row:
    return row._replace(label=True)


def noise(row: Row, world: World) -> Row:
    return row._replace(label=bool(world.rng.integers(2)))


def turning(row: Row, world: World) -> Row:
    """The weights turn slowly, so that old rows are answered otherwise than new ones."""
    angle = world.learnt / 4000
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return row._replace(label=bool(row.x @ (turn @ WEIGHTS) > 0))


def elsewhere(row: Row, _: World) -> Row:
    """Other features, and another rule for them."""
    x = row.x + np.array([4.0, 0.0, 0.0])
    return row._replace(x=x, label=bool(x @ np.array([-0.2, 2.0, 1.0]) > -0.8))


@pytest.fixture(params=[1, 2])
def settled(request: pytest.FixtureRequest) -> World:
    """Sixty looks into a stream on which nothing happens."""
    world = World(request.param)
    world.looks(60)
    return world


def test_a_quiet_stream_is_left_alone(settled: World) -> None:
    """No look is suspect."""
    settled.looks(60)
    assert {answer.verdict for answer in settled.answers_given} == {"pass"}


@pytest.mark.parametrize("look", [12, 21, 22, 30, 60])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_model_that_is_destroyed_never_passes(look: int, seed: int) -> None:
    """While levels are being established, too, and without a single event of its own: cause 1 of what went wrong."""
    world = World(seed)
    world.looks(look)
    world.model.weights = -5 * world.model.weights
    assert world.judge().verdict != "pass"


def test_a_world_that_turns_is_served(settled: World) -> None:
    """Old rows are answered worse by every snapshot, and hardly anything is held."""
    answers = settled.looks(150, turning)
    assert sum(answer.verdict != "pass" for answer in answers) <= 15
    assert "fail" not in {answer.verdict for answer in answers}


@pytest.mark.parametrize("lie", [flipped, all_one, noise])
def test_labels_that_lie_are_not_served_and_are_over_when_they_are_over(
    settled: World, lie: Callable[[Row, World], Row]
) -> None:
    """An older snapshot answers while it lasts; nothing is reverted; afterwards the newest is served again."""
    begun = settled.number
    poisoned = settled.looks(25, lie)
    late = poisoned[12:]
    assert {answer.verdict for answer in late} == {"suspect"}
    assert all(answer.serve is not None and answer.serve <= begun + 2 for answer in late)
    after = settled.looks(80)
    assert after[-1].verdict == "pass"
    assert "fail" not in {answer.verdict for answer in [*poisoned, *after]}


def test_one_slice_that_lies_is_not_followed(settled: World) -> None:
    """However long it lasts: that is for somebody to decide."""
    settled.looks(25, slice_flipped)
    answers = settled.looks(200, slice_flipped)
    assert {answer.verdict for answer in answers} == {"suspect"}
    assert any("s=1" in answer.where for answer in answers)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("every", [500, 2000])
def test_one_slice_that_lies_is_seen_by_a_guard_that_looks_seldom(every: int, seed: int) -> None:
    """A slow machine or a fast stream: between two looks lie more rows than the labels are compared on."""
    world = World(seed)
    world.every, world.slices, world.tolerance = every, 5, 0.2  # what lies makes no look bad by itself
    assert all(one.verdict == "pass" for one in world.looks(24))
    serves = [one.serve for one in world.looks(8, slice_flipped)]
    assert any(serve is not None and serve <= 24 for serve in serves)


def test_another_world_is_followed_when_it_can_be_learnt(settled: World) -> None:
    """Features lie elsewhere and the rule is another: held for a moment, then served; never reverted."""
    answers = settled.looks(60, elsewhere)
    assert answers[-1].verdict == "pass"
    assert "fail" not in {answer.verdict for answer in answers}


class Forgetful(Model):
    """Wrong wherever the third feature is large."""

    def predict(self, x: Floats) -> Prediction:
        said = super().predict(x)
        return Prediction(not said.value, 1 - said.probability) if x[2] > 0.7 else said  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(3))
def test_one_good_look_does_not_end_what_is_wrong_in_a_slice(seed: int) -> None:
    """A slice that lies by itself hovers about the margin: three good looks in a row are wanted."""
    world = World(seed)
    sliced = world.event
    world.event = lambda: (row := sliced())._replace(slices=(f"large={bool(row.x[2] > 0.7)}",))  # type: ignore[method-assign]
    world.looks(60)
    world.every = 1  # nothing comes that could be asked
    good, bad = Model(world.model.weights), Forgetful(world.model.weights)

    def judged(model: Model) -> str:
        world.model = model
        world.models[world.number + 1] = model
        return world.judge().verdict

    assert [judged(bad), judged(good), judged(bad), judged(good), judged(good)] == ["suspect"] * 5
    assert judged(good) == "pass"


def test_another_world_has_time_to_be_learnt(settled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that follow from nothing while features lie elsewhere are doubted after nine looks, not after three."""
    monkeypatch.setattr("snapshots.moved.history.doubt", lambda *_: "unlearnt")
    assert [one.verdict for one in settled.looks(10)] == ["pass"] * 8 + ["suspect"] * 2


@pytest.mark.parametrize("name", ["", "s=1"])
def test_the_largest_change_of_many_looks_is_not_held_when_it_did_not_last(settled: World, name: str) -> None:
    """What served lost far more in one window, and not on all that came since: chance makes the largest of many."""
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    def turned(row: Row, _: World) -> Row:
        return row._replace(label=bool(row.x @ (turn @ WEIGHTS) > 0))

    while settled.look(turned).verdict == "pass":
        assert settled.number < 100
    settled.memory.changes[name].lately.append((settled.memory.looks, 0.6))
    assert "pass" in {one.verdict for one in settled.looks(40, turned)}


def test_a_learner_that_is_worse_on_fresh_events_is_reverted(settled: World) -> None:
    """Harm: worse on held-out rows, and on what comes."""

    def broken(row: Row, world: World) -> Row:
        world.model.weights = np.array([-3.0, 3.0, -3.0])
        return row

    answers = settled.looks(20, broken)
    assert "fail" in {answer.verdict for answer in answers}
    assert answers[0].verdict == "suspect"


def test_an_approved_change_begins_anew(settled: World) -> None:
    """What an operator said is final: nothing is compared with what was before."""
    settled.looks(20, flipped)
    settled.memory.follow(settled.number, settled.held)
    settled.passes = settled.passes[-1:]
    assert settled.looks(40, flipped)[-1].verdict == "pass"


def test_checked_labels_tell_lies_from_a_change_at_once(settled: World) -> None:
    """A hundred of them: what is real is followed at the next look, what lies is not served."""
    settled.looks(8, flipped)
    assert settled.answers_given[-1].verdict == "suspect"
    settled.checked = [(settled.now, flipped(settled.event(), settled)) for _ in range(100)]
    answer = settled.look(flipped)
    assert (answer.verdict, answer.found) == ("pass", "moved")
    assert "the world changed" in answer.why
    assert "pass" in {answer.verdict for answer in settled.looks(40, flipped)[-10:]}


def test_checked_labels_find_lies_that_nothing_else_shows(settled: World) -> None:
    """In one slice, too: the older snapshot answers while the stream's labels lie."""
    settled.looks(6, slice_flipped)
    settled.checked = [(settled.now, settled.event()) for _ in range(120)]
    answer = settled.look(slice_flipped)
    assert answer.verdict == "suspect"
    assert "checked" in answer.why
    assert answer.serve is not None


def test_what_is_remembered_is_bounded(settled: World) -> None:
    """A look leaves a few kilobytes, however long trouble lasts."""
    import msgspec

    settled.looks(150, slice_flipped)
    assert len(msgspec.json.encode(settled.memory)) < 8000


NUMBERS = np.linspace(-1, 1, 40)


def window(labels: Sequence[float], answers: Sequence[float]) -> Window:
    lost = np.minimum(1.0, np.abs(np.array(labels) - np.array(answers)))
    return Window(labels, answers, lost, constant_loss("regression", labels, 1.0), {"a": list(NUMBERS)})


@pytest.mark.parametrize(
    ("labels", "found"),
    [(NUMBERS, ""), (-NUMBERS, "relabelled"), (NUMBERS * 0 + 0.3, "collapsed"), (NUMBERS + 0.4, "")],
)
def test_numbers_that_lie(labels: Floats, found: str) -> None:
    """Turned round or all the same; a level that moved is no lie."""
    good = window(list(NUMBERS), list(NUMBERS))
    now = window(list(labels), list(NUMBERS))
    assert doubt("regression", good, now, now.losses) == found


@pytest.mark.parametrize(("shift", "found"), [(0.0, "uninformative"), (3.0, "unlearnt")])
def test_labels_that_follow_from_nothing_where_features_moved(shift: float, found: str) -> None:
    """They may be another world, which the learner has not learnt yet: doubted as well, but not at once."""
    rng = np.random.default_rng(1)

    def classes(labels: Sequence[bool], said: Sequence[bool], lost: float, shift: float) -> Window:
        at = list(rng.normal(shift, 1, size=len(said)))
        return Window(labels, said, np.full(len(said), lost), constant_loss("binary", labels, 1.0), {"a": at})

    truth = [n % 2 == 0 for n in range(90)]
    before = classes(truth, truth, 0.05, 0.0)
    now = classes(truth[:28], [n % 4 < 2 for n in range(28)], 0.5, shift)
    assert doubt("binary", before, now, np.full(28, 0.4)) == found


def test_features_of_few_rows_that_lie_elsewhere() -> None:
    """Half of the newest thirty lie where none lay: chance makes that once in far more than ten thousand times."""
    before = [float(one) for one in range(90)]
    now = [float(one) for one in range(0, 90, 6)] + [100.0 + one for one in range(15)]
    steady = [float((one * 37) % 90) for one in range(90)]  # the same from first to last
    assert sorted(steady) == before
    assert unlike({"a": steady}, {"a": now})
    assert not unlike({"a": steady}, {"a": now[:15] * 2})


CHANNELS = {"a": (0.0, 1.0), "b": (5.0, 1.0), "c": (10.0, 2.0), "d": (30.0, 5.0)}


def channels(rows: int, seed: int, **named: str) -> dict[str, Sequence[Any]]:
    """Values of four sensors; ``named``: under this name comes another one."""
    rng = np.random.default_rng(seed)
    drawn = {name: list(rng.normal(*of, size=rows)) for name, of in CHANNELS.items()}
    return {name: drawn[named.get(name, name)] for name in drawn}


@pytest.mark.parametrize(
    ("named", "shift", "found"),
    [
        ({}, 0.0, False),
        ({"a": "b", "b": "c", "c": "d", "d": "a"}, 0.0, True),
        ({"a": "c", "c": "b", "b": "a"}, 0.0, True),
        ({"a": "b"}, 0.0, False),  # one that moved
        ({}, 50.0, False),  # all of them moved, to where none was
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_names_that_were_mixed_up(named: dict[str, str], shift: float, found: bool, seed: int) -> None:
    """Features that lie where others lay are no other world."""
    now = {name: [one + shift for one in values] for name, values in channels(30, seed + 100, **named).items()}
    assert misnamed(channels(90, seed), now) == found


@pytest.mark.parametrize("seed", range(5))
def test_labels_that_are_one_where_answers_differ(seed: int) -> None:
    """Also where most of them would have been right: thirty in a row are too unlikely for what the answers meant."""
    rng = np.random.default_rng(seed)
    truth = [list(rng.random(size) < 0.6) for size in (90, 30)]
    answers = [[bool(one) if rng.random() < 0.75 else not one for one in of] for of in truth]

    def classes(labels: Sequence[Any], said: Sequence[Any]) -> Window:
        lost = np.array([float(one != other) for one, other in zip(labels, said, strict=True)])
        return Window(labels, said, lost, constant_loss("binary", labels, 1.0), {"a": list(rng.normal(size=len(said)))})

    before, own = classes(truth[0], answers[0]), np.zeros(30)
    assert doubt("binary", before, classes(truth[1], answers[1]), own) == ""
    assert doubt("binary", before, classes([True] * 30, answers[1]), own) == "collapsed"
    assert doubt("binary", before, classes([True] * 30, [True] * 28 + [False] * 2), own) == ""  # they follow
    assert doubt("binary", before, classes([True] * 30, [True] * 28 + [False] * 2), own, "collapsed") == "collapsed"


def sure(row: Row, world: World) -> Row:
    """Labels without noise, so that neighbours agree."""
    return row._replace(label=bool(row.x @ WEIGHTS > 0))


def sure_and_flipped(row: Row, world: World) -> Row:
    """The same under the other name."""
    return (found := sure(row, world))._replace(label=not found.label)


@pytest.mark.parametrize("seed", range(3))
def test_labels_that_contradict_their_neighbours_stop_promotion_at_once(seed: int) -> None:
    """At the first look that has rows enough; what serves is from before, and goes on serving."""
    world = World(seed)
    world.every = 80
    before = world.looks(60, sure)
    assert [answer.verdict for answer in before[-10:]] == ["pass"] * 10
    (first,) = world.looks(1, sure_and_flipped)
    assert first.verdict == "suspect"
    rest = world.looks(1, sure_and_flipped)
    assert "contradicted" in world.memory.told.values()
    rest += world.looks(2, sure_and_flipped)
    assert {answer.verdict for answer in rest} == {"suspect"}
    assert all(answer.serve is None or answer.serve <= 60 for answer in rest)
    assert world.looks(12, sure)[-1].verdict == "pass"
