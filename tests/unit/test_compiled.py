"""Compiled loops end where River ends, bit for bit: predictions, state, and what is raised where (promises 1 and 5)."""

import os
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, optim, preprocessing

from learners import Event, Prediction
from learners.errors import LearnerRaisedError
from learners.labels import Labels
from learners.learner import COMPILED
from learners.prequential import learn_batch, opinion
from learners.river.columns import DateParts, Pick, Under
from learners.river.compiled.faster import _alike, faster
from learners.river.learner import RiverLearner

NotCompiledError = pytest.importorskip("learners.river.compiled.execution", exc_type=ImportError).NotCompiledError
CompiledRiver = pytest.importorskip("learners.river.compiled.learner", exc_type=ImportError).CompiledRiver

#: the same examples each time where a failure would be news to nobody; others each time elsewhere
CI = bool(os.environ.get("CI"))
Loss, Schedule = optim.losses, optim.schedulers
TYPES = [f"learners.river.columns:{name}" for name in ("Pick", "Under", "DateParts")]
OPTIMIZERS: list[Callable[[], Any]] = [
    lambda: optim.SGD(0.05),
    lambda: optim.SGD(Schedule.InverseScaling(0.3, 0.7)),
    lambda: optim.SGD(Schedule.Optimal(Loss.Log())),
    lambda: optim.AdaGrad(0.2),
    lambda: optim.Adam(0.03),
    lambda: optim.FTRLProximal(l1=0.05, l2=0.3),
]
SCALERS: list[Callable[[], Any]] = [
    preprocessing.StandardScaler,
    lambda: preprocessing.StandardScaler(with_std=False),
    preprocessing.MinMaxScaler,
    preprocessing.MaxAbsScaler,
    lambda: preprocessing.StandardScaler() | preprocessing.MaxAbsScaler(),
]
BINARY: list[Callable[[], Any]] = [
    Loss.Log,
    lambda: Loss.Log(2.0, 0.5),
    Loss.Hinge,
    Loss.BinaryFocalLoss,
]
REGRESSION: list[Callable[[], Any]] = [
    Loss.Squared,
    Loss.Absolute,
    Loss.Huber,
    lambda: Loss.Quantile(0.3),
    Loss.Cauchy,
    Loss.EpsilonInsensitiveHinge,
]
SHAPES: list[Callable[[Any, Any], Any]] = [
    lambda scaler, last: compose.SelectType(float) | scaler | last,
    lambda scaler, last: compose.Discard("word", "flag", "code", "day", "deep.a", "deep.b") | scaler | last,
    lambda scaler, last: compose.Select("n0", "n1", "n2") | scaler | last,
    lambda scaler, last: (compose.SelectType(float) | scaler) + (_words() | preprocessing.OneHotEncoder()) | last,
    lambda scaler, last: (
        (_words() | preprocessing.OneHotEncoder(drop_zeros=True)) + (compose.SelectType(float) | scaler) | last
    ),
    lambda _, last: compose.SelectType(float) | last,
    lambda scaler, last: (
        (Pick(["n3", "n0", "n6"]) | scaler)
        + (Pick(["code", "word", "flag"]) | preprocessing.OneHotEncoder())
        + (DateParts({"day": "iso", "n4": "%Y"}) | preprocessing.OneHotEncoder())
        | last
    ),
    lambda scaler, last: (
        (Pick(["n1", "n2"]) | scaler)
        + (Pick(["word", "code", "n5"]) | preprocessing.FeatureHasher(n_features=64, seed=1))
        + (Under(["deep"]) | preprocessing.OneHotEncoder())
        | last
    ),
    lambda scaler, last: scaler | last,  # a text is refused by River, at the same event
]


def _words() -> Any:
    return compose.SelectType(str, bool)


def _rows(seed: int, count: int = 260) -> list[Event]:
    """Numbers that come, vanish and come new; words, flags, weights, questions; now and then a text for a number."""
    draw = random.Random(seed)
    texts, wild = draw.random() < 0.3, draw.random() < 0.3
    events = []
    for number in range(count):
        x: dict[str, Any] = {f"n{i}": draw.gauss(i, 2) for i in range(5) if i < 3 or draw.random() < 0.7}
        x |= {f"n{i}": draw.gauss(0, 1) for i in range(5, 8) if number > 30 * i}
        x |= {"code": draw.choice([1, 2, 3.5, -0.0, 0.0]), "deep": {"a": draw.choice("xy"), "b": draw.random() < 0.5}}
        x |= {"day": draw.choice(["2026-02-03", "2026-11-30T10:00:00", "no date"])}
        x |= {"word": draw.choice(["a", "b", "c", f"w{number % 40}"]), "flag": draw.random() < 0.5}
        if texts and draw.random() < 0.05:
            x["n1"] = "text"
        if texts and draw.random() < 0.05:
            del x["n2"]
        if wild and draw.random() < 0.02:
            x["n0"] = draw.choice([1e30, -3e38, 1e-40])
        y = None if draw.random() < 0.1 else x["n0"] > 0
        events.append(Event.of(x, y, draw.choice([0.0, 1.0, 1.0, 1.0, 2.5]), f"e{number}"))
    return events


def _regression(events: list[Event], seed: int) -> list[Event]:
    draw = random.Random(seed)
    return [
        Event(one.id, one.features, None if one.label is None else draw.gauss(float(one.label), 1), one.weight)
        for one in events
    ]


def _learn(learner: Any, events: list[Event], draw: random.Random) -> tuple[list[Prediction], Any]:
    """Learn all, however they are cut; what was said, and what was raised."""
    said: list[Prediction] = []
    at = 0
    try:
        while at < len(events):
            size = draw.choice([1, 2, 7, 50, 200])
            learn_batch(learner, events[at : at + size], said)
            at += size
            if draw.random() < 0.2:
                learner.save()
            if draw.random() < 0.1:
                opinion(learner, events[0].features)
    except LearnerRaisedError as raised:
        return said, str(raised)
    return said, None


def _same(model: Any, events: list[Event], task: Any, seed: int) -> None:
    saved = pickle.dumps(
        model
    )  # twice from the same bytes: the order of a set, and so of a sum, may be another in a copy
    names = ["red", "green", "blue", "4", "5"] if task == "multiclass" else None
    slow = RiverLearner(pickle.loads(saved), Labels(task, names=names), types=TYPES, fresh=True)
    fast = CompiledRiver(RiverLearner(pickle.loads(saved), Labels(task, names=names), types=TYPES, fresh=True))
    expected, said = (_learn(one, events, random.Random(seed)) for one in (slow, fast))
    assert repr(said) == repr(expected)
    if expected[1] is None:  # what raised is no longer what it was, and is thrown away
        assert fast.state() == slow.state()
        assert fast.save() == fast.save()
        again = slow.load(fast.save())
        assert repr(opinion(again, events[0].features)) == repr(opinion(slow, events[0].features))


@settings(max_examples=120, deadline=None, derandomize=CI)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_binary_models_are_rivers_own_to_the_last_bit(seed: int, data: st.DataObject) -> None:
    """Random pipelines over random events."""
    choose = lambda table: data.draw(st.sampled_from(table))
    last = linear_model.LogisticRegression(
        choose(OPTIMIZERS)(), loss=choose(BINARY)(), l2=choose([0.0, 0.0, 0.01]),
        intercept_lr=choose([0.01, 0.0, Schedule.InverseScaling(0.1)]), clip_gradient=choose([1e12, 0.4]),
    )  # fmt: skip
    last = choose([last, linear_model.Perceptron()])
    _same(choose(SHAPES)(choose(SCALERS)(), last), _rows(seed), "binary", seed)


@settings(max_examples=80, deadline=None, derandomize=CI)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_regressions_are_rivers_own_to_the_last_bit(seed: int, data: st.DataObject) -> None:
    """The same for numbers."""
    choose = lambda table: data.draw(st.sampled_from(table))
    last = linear_model.LinearRegression(
        choose(OPTIMIZERS)(), loss=choose(REGRESSION)(), l2=choose([0.0, 0.01]),
        initializer=choose([None, optim.initializers.Constant(0.3)]),
    )  # fmt: skip
    _same(choose(SHAPES)(choose(SCALERS)(), last), _regression(_rows(seed), seed), "regression", seed)


@pytest.mark.parametrize("drop", [False, True])
def test_two_features_that_make_one_class_are_rivers(drop: bool) -> None:
    """``a_b`` = ``c`` and ``a`` = ``b_c`` are one name."""
    draw = random.Random(4)
    events = [
        Event.of({"a": draw.choice(["b_c", "x"]), "a_b": draw.choice(["c", "y"])}, draw.random() < 0.6)
        for _ in range(200)
    ]
    _same(preprocessing.OneHotEncoder(drop_zeros=drop) | linear_model.LogisticRegression(), events, "binary", 1)


@pytest.mark.parametrize("first", [0.0, -0.0])
@pytest.mark.parametrize("drop", [False, True])
def test_zeros_of_both_signs_are_classes_as_river_has_them(first: float, drop: bool) -> None:
    """One to a set, two by name: whichever came first is known."""
    draw = random.Random(5)
    values = [first, *(draw.choice([0.0, -0.0, 1.0, 2.0]) for _ in range(200))]
    events = [Event.of({"a": value}, draw.random() < 0.6) for value in values]
    _same(preprocessing.OneHotEncoder(drop_zeros=drop) | linear_model.LogisticRegression(), events, "binary", 1)


def test_a_model_of_several_classes_is_asked_before_it_knows_one() -> None:
    """After a restart from a snapshot in which nothing was learnt."""
    model = preprocessing.StandardScaler() | linear_model.SoftmaxRegression()
    learners = [RiverLearner(model, Labels("multiclass"), types=TYPES)]
    learners.append(CompiledRiver(RiverLearner(pickle.loads(pickle.dumps(model)), Labels("multiclass"), types=TYPES)))
    said: list[list[Prediction]] = [[], []]
    for learner, found in zip(learners, said, strict=True):
        learn_batch(learner, [Event.of({"a": 1.0}), Event.of({"a": 2.0})], found)
    assert repr(said[0]) == repr(said[1])


def test_values_that_never_come_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays, and so do the bits."""
    from learners.river.compiled import execution

    monkeypatch.setattr(execution, "MOST_VALUES", 50)
    events = [
        Event.of(
            {"n": float(at % 7), "word": f"w{at}", "day": f"2026-01-{at % 28 + 1:02}T00:{at % 60:02}:00"}, at % 3 == 0
        )
        for at in range(900)
    ]
    model = (Pick(["n"]) | preprocessing.StandardScaler()) + (
        Pick(["word"]) | preprocessing.FeatureHasher(n_features=2**14, seed=1)
    ) + (DateParts({"day": "iso"}) | preprocessing.OneHotEncoder()) | linear_model.LogisticRegression()
    _same(model, events, "binary", 1)
    fast, said = CompiledRiver(RiverLearner(model, Labels("binary"), types=TYPES)), list[Prediction]()
    for at in range(0, 900, 30):
        learn_batch(fast, events[at : at + 30], said)
        assert len(fast._execution._source.tokens) < 50 + 30 * 6


@settings(max_examples=80, deadline=None, derandomize=CI)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_softmax_is_rivers_own_to_the_last_bit(seed: int, data: st.DataObject) -> None:
    """Classes that come later, one that never does; the same for two classes."""
    choose = lambda table: data.draw(st.sampled_from(table))
    last = linear_model.SoftmaxRegression(
        choose([optimizer for optimizer in OPTIMIZERS if not isinstance(optimizer(), optim.FTRLProximal)])(),
        loss=choose([None, Loss.CrossEntropy({"red": 2.0})]), l2=choose([0, 0.01]),
    )  # fmt: skip
    events, task = _rows(seed), choose(["multiclass", "binary"])
    if task == "multiclass":
        draw = random.Random(seed)
        for number, event in enumerate(events):
            wide = 2 if number < 100 else 4
            event.label = None if event.label is None else draw.choice(range(wide))
    _same(choose(SHAPES)(choose(SCALERS)(), last), events, task, seed)


MARGINS: list[Callable[[], Any]] = [
    *(lambda mode=mode: linear_model.PAClassifier(C=0.3, mode=mode, learn_intercept=mode != 1) for mode in (0, 1, 2)),
    *(lambda mode=mode: linear_model.PARegressor(C=0.3, mode=mode, learn_intercept=mode != 2) for mode in (0, 1, 2)),
    linear_model.ALMAClassifier,
]


@settings(max_examples=80, deadline=None, derandomize=CI)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_margins_are_rivers_own_but_for_the_last_digits(seed: int, data: st.DataObject) -> None:
    """Norms are summed in another order: predictions agree to 1e-9."""
    last, shape = data.draw(st.sampled_from(MARGINS))(), data.draw(st.sampled_from(SHAPES))
    task: Any = "regression" if isinstance(last, linear_model.PARegressor) else "binary"
    events = [
        event for event in _rows(seed) if all(abs(v) < 1e6 for v in event.features.flat().values() if type(v) is float)
    ]
    events = _regression(events, seed) if task == "regression" else events
    saved = pickle.dumps(shape(preprocessing.StandardScaler(), last))
    slow = RiverLearner(pickle.loads(saved), Labels(task), types=TYPES, fresh=True)
    fast = CompiledRiver(RiverLearner(pickle.loads(saved), Labels(task), types=TYPES, fresh=True))
    expected, said = (_learn(one, events, random.Random(seed)) for one in (slow, fast))
    assert said[1] == expected[1]
    assert all(map(_alike, said[0], expected[0]))
    assert len(said[0]) == len(expected[0])
    if task == "binary":
        assert [one.value for one in said[0]] == [one.value for one in expected[0]]
    assert fast.save()


REFUSED = {
    "StandardScaler": lambda: preprocessing.StandardScaler(window_size=10) | linear_model.LogisticRegression(),
    "RobustScaler": lambda: preprocessing.RobustScaler() | linear_model.LogisticRegression(),
    "LogisticRegression with a penalty l1": lambda: linear_model.LogisticRegression(l1=0.1),
    "the loss Poisson": lambda: linear_model.LinearRegression(loss=Loss.Poisson()),
    "the optimizer RMSProp": lambda: linear_model.LogisticRegression(optim.RMSProp()),
    "SoftmaxRegression with the optimizer FTRLProximal": lambda: linear_model.SoftmaxRegression(optim.FTRLProximal()),
    "ALMAClassifier with another norm": lambda: linear_model.ALMAClassifier(p=3),
    "the initializer Normal": lambda: linear_model.LogisticRegression(initializer=optim.initializers.Normal(seed=1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_loops_stays_rivers_and_says_so(name: str) -> None:
    """The learner that comes back is River's."""
    model = REFUSED[name]()
    task: Any = "regression" if "Linear" in repr(model) else "binary"
    river = RiverLearner(model, Labels(task), fresh=True)
    with pytest.raises(NotCompiledError, match=name.split(maxsplit=1)[0]):
        CompiledRiver(river)
    learner, said = faster(river)
    assert learner is river
    assert said.startswith("River's own:")
    assert name in said


def test_a_model_with_loops_gets_them_after_a_trial() -> None:
    """And one whose loops differed would not."""
    model = (compose.Select("a") | preprocessing.StandardScaler()) + (
        compose.Select("c") | preprocessing.OneHotEncoder()
    ) | linear_model.LogisticRegression()
    learner, said = faster(RiverLearner(model, Labels("binary"), fresh=True))
    assert (type(learner), said) == (CompiledRiver, COMPILED)


def test_loops_that_differ_are_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in ``status``, and River learns."""
    from learners.river.compiled.steps import linear

    right = linear.Linear.predictions
    monkeypatch.setattr(linear.Linear, "predictions", lambda self, said: right(self, said * 0.9))
    river = RiverLearner(preprocessing.StandardScaler() | linear_model.LogisticRegression(), Labels("binary"))
    learner, said = faster(river)
    assert learner is river
    assert "predict something else" in said
