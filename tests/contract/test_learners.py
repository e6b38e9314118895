"""One contract for every kind of learner and many configurations of each (learners/learner.py)."""

import functools
import math
import random
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.lineages import MODEL

from learners import Event, Learner, Metrics, Prediction, learn
from learners.errors import ArgumentsRefusedError, FactoryRefusedError, TrialTooSlowError
from learners.labels import Labels
from learners.restore import restore
from learners.river.compiled.faster import faster
from learners.river.factory import build
from learners.vw.arguments import arguments, check_classes, trial
from learners.vw.learner import VwLearner

EXTRA = """
from river import ensemble, forest, neighbors, multiclass as multi, dummy, feature_extraction as fx

def numeric():
    return compose.SelectType(Number) | preprocessing.StandardScaler()

def texts():
    return compose.SelectType(str) | preprocessing.OneHotEncoder()

def both(model):
    return (numeric() + texts()) | model

def logistic(): return both(linear_model.LogisticRegression(optim.Adam(0.01)))
def pa(): return both(linear_model.PAClassifier())
def perceptron(): return both(linear_model.Perceptron())
def gaussian(): return compose.SelectType(Number) | naive_bayes.GaussianNB()
def hoeffding(): return both(tree.HoeffdingTreeClassifier(grace_period=40))
def adaptive(): return both(tree.HoeffdingAdaptiveTreeClassifier(grace_period=40, seed=1))
def arf(): return both(forest.ARFClassifier(n_models=3, seed=1))
def srp(): return both(ensemble.SRPClassifier(n_models=2, seed=1))
def bagging(): return both(ensemble.LeveragingBaggingClassifier(linear_model.LogisticRegression(), n_models=2, seed=1))
def softmax(): return both(linear_model.SoftmaxRegression())
def rest(): return both(multi.OneVsRestClassifier(linear_model.LogisticRegression()))
def regressor(): return both(linear_model.LinearRegression())
def regression_tree(): return compose.SelectType(Number) | tree.HoeffdingTreeRegressor(grace_period=40)
def forest_regressor(): return compose.SelectType(Number) | forest.ARFRegressor(n_models=2, seed=1)
def mean(): return dummy.StatisticRegressor(__import__("river.stats").stats.Mean())
"""

RIVER = [
    ("binary", name)
    for name in (
        "logistic", "pa", "perceptron", "gaussian", "hoeffding", "adaptive", "arf", "bagging",
    )
] + [("multiclass", name) for name in ("gaussian", "hoeffding", "softmax", "rest")] + [
    ("regression", name) for name in ("regressor", "regression_tree", "forest_regressor", "mean")
]  # fmt: skip
VW = [
    ("binary", args)
    for args in (
        "", "--loss_function logistic", "--loss_function logistic --link logistic", "--loss_function hinge", "--binary",
        "--loss_function logistic --ftrl", "--coin", "--pistol", "--sgd", "-q ::", "--l1 1e-5 --l2 1e-5",
        "--power_t 0.3 -l 0.1", "--boosting 3", "--nn 2", "--loss_function logistic -b 12 --noconstant",
    )
] + [
    ("multiclass", args)
    for args in ("--oaa 4", "--oaa 4 --probabilities --loss_function logistic", "--ect 4", "--oaa 7 -q ::")
] + [
    ("regression", args)
    for args in ("", "--ftrl", "--coin", "--pistol", "--loss_function quantile", "-q ::")
]  # fmt: skip
COMPILED = [
    ("binary", "logistic"), ("binary", "perceptron"), ("binary", "pa"), ("multiclass", "softmax"),
    ("regression", "regressor"),
]  # fmt: skip
CASES = [("river", task, what) for task, what in RIVER] + [("vw", task, what) for task, what in VW]
if find_spec("numba") is not None:
    CASES += [("compiled", task, what) for task, what in COMPILED]


@pytest.fixture(scope="module", autouse=True)
def _models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("models")
    Path(folder, "zoo.py").write_text(MODEL + EXTRA)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("zoo", None)


def labels_of(task: Any) -> Labels:
    return Labels(task, names=["red", "green", "blue", "4"] if task == "multiclass" else None)


tried = functools.cache(lambda what, task: trial(arguments(what, "x"), task, "x"))


def maker(kind: str, task: Any, what: str) -> Callable[[], Learner]:
    labels = labels_of(task)
    if kind == "river":
        return lambda: build(f"zoo:{what}", labels, name="x")
    if kind == "compiled":
        return lambda: compiled(build(f"zoo:{what}", labels, name="x"))
    tokens = arguments(what, "x")
    check_classes(tokens, labels, "x")
    return lambda: VwLearner(tried(what, task), labels)


def compiled(river: Learner) -> Learner:
    """The same model, learnt by compiled loops."""
    learner, said = faster(river)
    assert said == "compiled"
    return learner


def events(task: str, count: int, seed: int = 3) -> list[Event]:
    """Features that appear, vanish, change type, are unicode, nested, empty; labels of the task."""
    found = []
    for i in range(count):
        draw = random.Random(f"{seed}-{i}")
        x: dict[str, Any] = {"a": draw.gauss(0, 1), "b": float(i % 5), "色": draw.choice(["赤", "青", "a b|c:d"])}
        if i % 3 == 0:
            x["u"] = {"deep": draw.gauss(0, 2), "t": draw.choice("xyz"), "yes": i % 2 == 0}
        if i % 7 == 0:
            x["late" if i > count // 2 else "early"] = draw.random()
        if i % 11 == 10:
            x["b"] = draw.choice(["five", True])
        if i % 50 == 49:
            x = {}
        y: Any = {"binary": x.get("a", 0) > 0, "multiclass": i % 4, "regression": 3 * x.get("a", 0) + i * 0.01}[task]
        found.append(Event.of(x, y, id=str(i)))
    return found


def predictions(learner: Learner, rows: list[Event]) -> list[str]:
    return [repr(learner.predict(row.features)) for row in rows]


@pytest.mark.parametrize(("kind", "task", "what"), CASES)
def test_contract(kind: str, task: str, what: str) -> None:
    """Promise 1 and 5, and that predicting before the first learning works.

    Save, load, learn on = never saved; predictions in between change nothing; the prediction returned by a step is
    the one that would have been served; every number predicted is finite.
    """
    make = maker(kind, task, what)
    stream, rows = events(task, 300), events(task, 20, seed=9)
    first = make()
    assert all(isinstance(first.predict(row.features), Prediction) for row in rows)

    plain, asked, saved = make(), make(), make()
    for i, event in enumerate(stream):
        served = repr(plain.predict(event.features)) if i % 10 == 0 else None
        answer = repr(plain.step(event))
        assert served in (None, answer)
        if i % 20 == 0:
            for row in rows[:5]:
                asked.predict(row.features)
        assert repr(asked.step(event)) == answer
        if i == 150:
            saved = saved.load(saved.save())
        assert repr(saved.step(event)) == answer
    assert predictions(plain, rows) == predictions(asked, rows) == predictions(saved, rows)
    again = restore(plain.kind, plain.describe(), labels_of(task), plain.save())
    assert predictions(again, rows) == predictions(plain, rows)
    for row in rows:
        said = plain.predict(row.features)
        numbers = [said.probability, *(said.probabilities or {}).values()]
        assert all(math.isfinite(number) for number in numbers if number is not None)


@pytest.mark.parametrize(("kind", "task", "what"), CASES)
def test_saved_state_is_exact(kind: str, task: str, what: str) -> None:
    """Promise 1: canonical state after save, load and learning on is that of a learner never saved.

    Where the trial says that arguments cannot be continued exactly, the user was warned, and it is not asked.
    """
    make = maker(kind, task, what)
    plain, saved = make(), make()
    if isinstance(plain, VwLearner) and not plain.trial.exact:
        pytest.fail(f"{what} was thought to be exact; name it in docs/learners.md as one that is not")
    for i, event in enumerate(events(task, 300)):
        plain.step(event)
        if i % 75 == 0:
            saved = saved.load(saved.save())
        saved.step(event)
    assert plain.state() == saved.state()


@pytest.mark.parametrize(("kind", "task", "what"), [case for case in CASES if case[1] == "binary"])
def test_it_learns_something(kind: str, task: str, what: str) -> None:
    """The sign of a feature is learnt better than chance, so labels reach the learner the right way round."""
    learner = maker(kind, task, what)()
    right = total = 0
    for event, said in learn(learner, events(task, 600)):
        if int(event.id) >= 300 and said.value is not None and event.features.values:
            total += 1
            right += said.value == event.label
    assert right / total > 0.7


@pytest.mark.parametrize(
    ("kind", "what"), [("river", "logistic"), ("vw", "--loss_function logistic"), ("vw", "--ftrl")]
)
def test_weights_count(kind: str, what: str) -> None:
    """A weight changes what is learnt; weight 0 is predicted and not learnt."""
    make = maker(kind, "binary", what)
    light, heavy, none = make(), make(), make()
    for event in events("binary", 50):
        light.step(event)
        heavy.step(Event(event.id, event.features, event.label, weight=5.0))
        none.step(Event(event.id, event.features, event.label, weight=0.0))
    row = events("binary", 1, seed=5)[0].features
    assert light.state() != heavy.state()
    assert none.predict(row) == make().predict(row)


def test_weighting_by_two_is_learning_like_vw_learns_it() -> None:
    """The weight reaches VW as its own importance weight: the same as in VW's text format."""
    from vowpalwabbit import Workspace

    learner = maker("vw", "binary", "--loss_function logistic")()
    reference = Workspace("--loss_function logistic --quiet")
    for i in range(50):
        x, y, w = math.sin(i), i % 3 == 0, 1.0 + i % 4
        learner.step(Event.of({"a": x}, y, w=w))
        reference.learn(f"{1 if y else -1} {w} | a:{x}")
    chance = learner.predict(Event.of({"a": 0.3}).features).probability
    assert chance is not None
    assert math.log(chance / (1 - chance)) == pytest.approx(reference.predict("| a:0.3"), abs=1e-5)


def test_vw_predicts_a_quarter_for_a_quarter() -> None:
    """0/1 labels with logistic loss learn silently wrong (0.62 for 0.25); -1/1 do not."""
    learner = maker("vw", "binary", "--loss_function logistic")()
    draw = random.Random(2)
    for _ in range(20_000):
        learner.step(Event.of({"a": 1.0}, draw.random() < 0.25))
    assert learner.predict(Event.of({"a": 1.0}).features).probability == pytest.approx(0.25, abs=0.03)


def test_a_feature_cannot_pose_as_a_label() -> None:
    """Label and weight reach VW through its API; names that its JSON parser reads are refused by the codec anyway."""
    honest, posing = (maker("vw", "binary", "--loss_function logistic")() for _ in range(2))
    for _ in range(100):
        honest.step(Event.of({"a": 1.0}, y=True))
        posing.step(Event.of({"a": 1.0, "label": -1, "Label": "-1", "tag": "'x"}, y=True))
    assert honest.predict(Event.of({"a": 1.0}).features).value is True
    assert posing.predict(Event.of({"a": 1.0}).features).value is True


def test_vw_namespaces() -> None:
    """Features go into configured namespaces; nested objects are namespaces of their own."""
    labels = labels_of("binary")
    found = trial(arguments("--loss_function logistic -q cu", "x"), "binary", "x")
    crossed = VwLearner(found, labels, namespaces={"c": ["country"]})
    plain = VwLearner(found, labels)
    rows = [Event.of({"country": c, "user": {"kind": k}}, c == k) for c in "ab" for k in "ab"] * 100
    for row in rows:
        crossed.step(row)
        plain.step(row)
    assert all(crossed.predict(row.features).value == row.label for row in rows)
    assert not all(plain.predict(row.features).value == row.label for row in rows)


def test_multiclass_vw_knows_any_label_values() -> None:
    """Labels are names or numbers; VW's own class numbers stay inside."""
    learner = maker("vw", "multiclass", "--oaa 4 --probabilities --loss_function logistic")()
    for _ in range(3):
        for event in events("multiclass", 200):
            learner.step(Event.of({f"c{event.label}": 1.0}, event.label))
    assert learner.predict(Event.of({"c2": 1.0}).features).value == 2


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ("-f model", "-f"), ("-fmodel", "-f"), ("--final_regressor=x", "--final_regressor"), ("-i x", "-i"),
        ("--daemon", "--daemon"), ("--active", "--active"), ("-t", "-t"), ("--passes 3", "--passes"),
        ("--cache_file x", "--cache_file"), ("-d x", "-d"), ("-p /dev/stdout", "-p"), ("--nosuch", "--nosuch"),
        ("--cb 2", "do not predict"), ("--oaa 3", "do not predict"), ("--loss_function poisson", "poisson"),
        ("--bootstrap 3", "predictions change"), ("junk", "junk"), ('"', "quotation"),
    ],
)  # fmt: skip
def test_unsafe_vw_arguments_are_refused_by_name(args: str, word: str) -> None:
    """Input, output, cache, passes, daemon, test-only, active, and prediction types outside the task."""
    with pytest.raises(ArgumentsRefusedError, match=word):
        trial(arguments(args, "x"), "binary", "x")


def test_vw_arguments_that_hang_are_given_up_and_not_called_wrong() -> None:
    """The trial runs in a child that may not stand still; twice, since the machine may be slow."""
    with pytest.raises(TrialTooSlowError, match=r"did not answer within 0.01 s .*, 2 times.*learners.x.trial_seconds"):
        trial(arguments("", "x"), "binary", "x", seconds=0.01)


def test_oaa_with_too_few_classes_is_refused() -> None:
    """--oaa 3 would learn nothing, silently, from label 4."""
    with pytest.raises(ArgumentsRefusedError, match="--oaa 4"):
        check_classes(arguments("--oaa 3", "x"), labels_of("multiclass"), "x")
    with pytest.raises(ArgumentsRefusedError, match="needs --oaa"):
        check_classes(arguments("", "x"), labels_of("multiclass"), "x")


def test_oaa_is_continued_exactly_with_an_argument_of_our_own() -> None:
    """Several models in one need --per_model_save_load, which the trial finds out and adds."""
    assert "--per_model_save_load" in trial(arguments("--oaa 4", "x"), "multiclass", "x").tokens
    assert not trial(arguments("--lrq ab3", "x"), "binary", "x").exact


BAD_FACTORIES = {
    "import": ("zoo:nothing", "cannot be imported"),
    "module": ("nowhere:x", "cannot be imported"),
    "form": ("zoo", "cannot be imported"),
    "kind": ("zoo:linear", "needs a river Classifier"),
}


@pytest.mark.parametrize(("factory", "word"), BAD_FACTORIES.values(), ids=BAD_FACTORIES)
def test_factories_that_cannot_be_used_are_refused(factory: str, word: str) -> None:
    """With the reason."""
    with pytest.raises(FactoryRefusedError, match=word):
        build(factory, labels_of("binary"), name="x")


def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_model_with_types_of_its_own_needs_them_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """learners.NAME.types adds exact names to the allow-list."""
    _zoo(tmp_path, monkeypatch, "own", """
from river import linear_model
class Mine(linear_model.LogisticRegression):
    pass
def make():
    return Mine()
""")  # fmt: skip
    with pytest.raises(FactoryRefusedError, match="own:Mine"):
        build("own:make", labels_of("binary"), name="x")
    assert build("own:make", labels_of("binary"), types=["own:Mine"], name="x")


def test_a_model_that_learns_while_predicting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 5: what is served must not depend on who asked before."""
    _zoo(tmp_path, monkeypatch, "impure", """
from river import linear_model
class Counting(linear_model.LogisticRegression):
    asked = 0
    def predict_proba_one(self, x):
        self.asked += 1
        self.intercept_lr.__dict__["asked"] = self.asked
        return super().predict_proba_one(x)
def make():
    return Counting()
""")  # fmt: skip
    with pytest.raises(FactoryRefusedError, match="changed by being asked"):
        build("impure:make", labels_of("binary"), types=["impure:Counting"], name="x")


@pytest.mark.parametrize(("factory", "counts"), [("logistic", True), ("pa", False), ("arf", False), ("srp", False)])
def test_a_learner_that_drops_weights_is_refused_when_they_are_set(factory: str, counts: bool) -> None:
    """ARF and SRP take a weight and ignore it; PA takes none; pipelines drop it silently."""
    make = lambda **more: build(f"zoo:{factory}", labels_of("binary"), name="x", weights_matter=True, **more)
    if counts:
        assert make()
    else:
        with pytest.raises(FactoryRefusedError, match="ignores weights"):
            make()
        assert make(ignore_weights=True)


@pytest.mark.parametrize("args", ["", "-q ::", "--loss_function squared -l 0.1"])
def test_mean_squared_error_is_vws_own_average_loss(args: str) -> None:
    """Where VW's loss is the loss of what it would have served, the metric equals what VW prints."""
    from vowpalwabbit import Workspace

    learner, metrics = maker("vw", "regression", args)(), Metrics("regression")
    reference = Workspace(f"{args} --quiet")
    for event, _ in learn(learner, events("regression", 500), metrics):
        parts = [f"{event.label}"]
        plain = {k: v for k, v in event.features.values.items() if not isinstance(v, dict)}
        parts.append("| " + " ".join(_text(k, v) for k, v in plain.items()))
        parts += [
            f"|{k} " + " ".join(_text(i, j) for i, j in v.items())
            for k, v in event.features.values.items()
            if isinstance(v, dict)
        ]
        reference.learn(" ".join(parts))
    own = reference.get_sum_loss() / reference.get_weighted_examples()
    assert metrics.overall()["mse"] == pytest.approx(own, rel=1e-4)


def _text(name: str, value: Any) -> str:
    """A feature as VW's text format writes what its JSON means."""
    if isinstance(value, bool):
        return name if value else ""
    if isinstance(value, str):
        return f"{name}{value}".replace(" ", "_").replace("|", "_").replace(":", "_")
    return f"{name}:{value!r}"
