"""Tables over River: every estimator with its documented parameters, as a state, at the start, and as an import."""

import operator
import pickle
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from river import base, compose, feature_extraction, linear_model, naive_bayes, preprocessing
from support.estimators import estimators, trained
from support.variants import variants

from learners.errors import StateRefusedError, UnsafeStateError
from learners.event import Event
from learners.labels import Labels
from learners.purity import changes
from learners.river.canonical import canonical_state
from learners.river.imported import adopted
from learners.river.learner import RiverLearner
from learners.river.safe_pickle import loads
from learners.river.trial import trial, unsuited

#: models of another library inside; and one that draws new random numbers for each question, plain River too
FOREIGN, RANDOM = {"SKL2RiverClassifier", "SKL2RiverRegressor"}, {"RandomClassifier"}
#: changed by being asked; learns the mean alone, inside the rules of AMRules
REFUSED = {"BayesianLinearRegression": "changed by being asked", "MeanRegressor": "learns nothing"}


def test_every_estimator_with_every_documented_parameter_is_saved_and_loaded_exactly() -> None:
    """Or is refused by the name of what is not River's own."""
    count = 0
    for name, model in variants():
        trained(model, 20)
        data = pickle.dumps(model)
        if b"sklearn.linear_model" in data:
            with pytest.raises(UnsafeStateError, match=r"sklearn.*types = "):
                loads(data)
            continue
        assert canonical_state(loads(data)) == canonical_state(model), name
        count += 1
    assert count > 1000


def models(kind: type) -> Iterator[Any]:
    for model in estimators():
        if not isinstance(model, compose.Pipeline) and isinstance(model, kind):
            yield model


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_estimator_is_taken_at_the_start_or_refused_with_the_reason(task: Any) -> None:
    """What learns slowly is not refused; what says of itself that it knows two classes is, in a task of several."""
    warnings.simplefilter("ignore")
    count = 0
    for model in models(base.Regressor if task == "regression" else base.Classifier):
        name = type(model).__name__
        if name in FOREIGN or name.startswith(("AMF", "ARF", "SRP", "OXT")):  # a second or more each
            continue
        if reason := unsuited(model, task):
            assert any(one in reason for one in ("two classes", "LazySearch", "several targets"))
            continue
        labels = Labels(task, names=["x", "y", "z"] if task == "multiclass" else None)
        assert REFUSED.get(name, "") in (said := trial(model, labels)), name
        assert bool(said) == (name in REFUSED), f"{name}: {said}"
        count += 1
    assert count > 15


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_every_classifier_that_learns_texts_as_they_are_is_not_changed_by_being_asked(task: Any) -> None:
    """Beside numbers, with some missing; of trees too, which note a class that they are asked for (promise 5)."""
    warnings.simplefilter("ignore")
    draw, events, learnt = random.Random(1), [], set()
    for number in range(250):
        kind = draw.randrange(3 if task == "multiclass" else 2)
        x: dict[str, Any] = {"a": draw.gauss(3.0 * kind, 1.0), "word": draw.choice("abc"), "door": draw.choice("xy")}
        del x[draw.choice(["a", "word", "door"])]
        events.append(Event.of(x, kind if task == "multiclass" else kind == 1, id=str(number)))
    for model in models(base.Classifier):
        if unsuited(model, task):
            continue
        labels = Labels(task, names=["x", "y", "z"] if task == "multiclass" else None)
        learner = RiverLearner(model, labels, fresh=True)
        try:
            for event in events:
                learner.step(event)
        except Exception:  # noqa: S112  it takes no texts, or wants a selector before it
            continue
        name = type(model).__name__
        assert changes(learner, [event.features for event in events[-30:]]) == (name in RANDOM), name
        learnt.add(name)
    assert {"ARFClassifier", "HoeffdingTreeClassifier"} <= learnt


def row(draw: random.Random, kind: int) -> dict[str, Any]:
    return {"len": draw.gauss(3.0 * kind, 0.3), "hour": draw.choice([3, 4, 5]) + kind, "b": draw.random()}


@pytest.mark.parametrize("names", [("ham", "spam"), (1, 2), (False, True), (0, 1), (-1, 1)], ids=str)
def test_every_classifier_that_was_trained_elsewhere_answers_here_as_it_did(names: tuple[Any, Any]) -> None:
    """With its own names for the classes: mapped to the labels, before and after it learns on; or refused."""
    warnings.simplefilter("ignore")
    labels = Labels("binary", positive=names[1], negative=names[0])
    taken = 0
    for model in models(base.Classifier):
        name, draw = type(model).__name__, random.Random(2)
        if name in FOREIGN | RANDOM or name.startswith(("AMF", "SRP", "OXT")):
            continue
        try:
            for number in range(80):
                model.learn_one(row(draw, number % 2), names[number % 2])
            data = pickle.dumps(model)
            learner: Any = adopted(RiverLearner(model.clone(), labels), lambda data=data: loads(data))
        except StateRefusedError:
            continue
        except Exception:  # noqa: S112  it does not learn such labels, in plain River either
            continue
        plain = pickle.loads(data)
        for number in range(30):
            x = row(draw, number % 2)
            try:
                wanted = plain.predict_one(x)
            except ValueError:
                break  # plain River comes to no answer
            said = learner.step(Event.of(dict(x), number % 2 == 1))
            yes = names[1] if learner.classes else True  # some only know True and False, whatever they are told
            assert said.value == (None if wanted is None else wanted == yes), name
            plain.learn_one(x, names[number % 2] if learner.classes else number % 2 == 1)
        taken += 1
    assert taken >= 20


def by_words() -> Iterator[tuple[str, Any]]:
    """Every way in which a step of River takes a text apart, alone and beside numbers, by its name."""
    naive = (naive_bayes.MultinomialNB, naive_bayes.BernoulliNB, naive_bayes.ComplementNB)
    for step in (feature_extraction.BagOfWords, feature_extraction.TFIDF):
        for more in ({}, {"ngram_range": (1, 2)}, {"lowercase": False}, {"stop_words": {"a"}}):
            for last in (*naive, linear_model.LogisticRegression):
                yield f"{step.__name__} {more} {last.__name__}", step(on="text", **more) | last()
        beside = compose.Select("n") | preprocessing.StandardScaler()
        words = compose.Select("text") | step(on="text")
        yield f"{step.__name__} beside numbers", (beside + words) | linear_model.LogisticRegression()
        two = step(on="text") + feature_extraction.BagOfWords(on="subject")
        yield f"{step.__name__} and another", two | linear_model.LogisticRegression()


SAID = (("win a free prize", True), ("see you at lunch", False), ("free cash today", True), ("call me tonight", False))


@pytest.mark.parametrize(("name", "model"), list(by_words()))
def test_a_model_of_texts_is_asked_texts(name: str, model: Any) -> None:
    """A number would be taken for a damaged file; the words that it knows are what tells two models apart."""
    rows = [({"text": said, "subject": said[::-1], "n": float(len(said))}, spam) for said, spam in SAID]
    for x, spam in rows * 5:
        model.learn_one(x, spam)
    data = pickle.dumps(model)
    learner = adopted(RiverLearner(model, Labels("binary")), lambda: loads(data))
    for x, _ in rows:
        wanted = pickle.loads(data).predict_proba_one(x)[True]
        assert learner.predict(Event.of(dict(x)).features).probability == wanted


@pytest.mark.parametrize("step", [feature_extraction.BagOfWords, feature_extraction.TFIDF])
def test_a_model_of_bare_texts_is_refused_with_the_way_out(step: Any) -> None:
    """A row has named features; once the step is told which is the text, the same model is taken."""
    model = step() | naive_bayes.MultinomialNB()
    for said, spam in SAID * 5:
        model.learn_one(said, spam)
    bare = pickle.dumps(model)
    with pytest.raises(StateRefusedError, match=r'processing_steps.insert\(0, operator.itemgetter\("text"\)\)'):
        adopted(RiverLearner(model, Labels("binary")), lambda: loads(bare))
    first = model[step.__name__]
    first.on = "text"
    first.processing_steps.insert(0, operator.itemgetter("text"))
    told = pickle.dumps(model)
    learner = adopted(RiverLearner(model, Labels("binary")), lambda: loads(told))
    assert learner.predict(Event.of({"text": "free cash"}).features).value is True


def test_classes_that_are_no_labels_are_refused_with_both() -> None:
    """Text or number, binary or not; so is a file of another task."""
    model = preprocessing.StandardScaler() | linear_model.SoftmaxRegression()
    for number in range(60):
        model.learn_one({"a": float(number % 3)}, ["red", "green", "blue"][number % 3])
    data = pickle.dumps(model)

    def taken(labels: Labels) -> Any:
        return adopted(RiverLearner(model, labels), lambda: loads(data))

    with pytest.raises(StateRefusedError, match=r"event.labels = \['red', 'green', 'blue'\]"):
        taken(Labels("multiclass"))
    with pytest.raises(StateRefusedError, match="'blue' is not among"):
        taken(Labels("multiclass", names=["red", "green"]))
    with pytest.raises(StateRefusedError, match="the same label"):
        taken(Labels("binary", positive="red"))
    with pytest.raises(StateRefusedError, match="needs a river Regressor"):
        taken(Labels("regression"))
    learner = taken(Labels("multiclass", names=["blue", "red", "green"]))
    assert learner.predict(Event.of({"a": 2.0}).features).value == 0


@pytest.mark.parametrize("kind", [int, float, str])
def test_one_hot_over_what_the_file_was_trained_on_still_matches(kind: Any) -> None:
    """Whole numbers reach it as int, where it knows them as such; JSON says which they are."""
    model = preprocessing.OneHotEncoder() | linear_model.LogisticRegression()
    for number in range(200):
        model.learn_one({"hour": kind(number % 4)}, number % 4 == 1)
    data = pickle.dumps(model)
    learner = adopted(RiverLearner(model, Labels("binary")), lambda: loads(data))
    assert learner.whole == (kind is int)
    again = learner.load(learner.save())
    for hour in range(5):
        asked = Event.of({"hour": kind(hour)}).features
        wanted = pickle.loads(data).predict_proba_one({"hour": kind(hour)})[True]
        assert learner.predict(asked).probability == again.predict(asked).probability == wanted


@pytest.mark.parametrize("scaled", [False, True], ids=["alone", "behind a scaler"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_questions_with_new_names_leave_no_trace_in_any_estimator(task: Any, scaled: bool) -> None:
    """Promise 5: River's tables note each name that they are asked about; whoever asks could fill the memory."""
    warnings.simplefilter("ignore")
    count = 0
    for model in models(base.Regressor if task == "regression" else base.Classifier):
        name, draw = type(model).__name__, random.Random(3)
        if name in FOREIGN | set(REFUSED) or name.startswith(("AMF", "ARF", "SRP", "OXT")):
            continue
        whole = preprocessing.StandardScaler() | model if scaled else model
        learner = RiverLearner(whole, Labels(task, names=["x", "y", "z"] if task == "multiclass" else None))
        try:
            for number in range(120):
                kind = draw.randrange(2 if task == "binary" else 3)
                label = kind == 1 if task == "binary" else kind if task == "multiclass" else draw.gauss(kind, 1)
                learner.step(Event.of({"a": draw.gauss(kind, 1), "b": draw.random()}, label, id=str(number)))
        except Exception:  # noqa: S112  it takes other features
            continue
        before = canonical_state(learner.model)
        for number in range(10):
            asked = {"a": 0.5, **{f"new {number} {other}": 1.0 for other in range(10)}}
            first, again = (learner.predict(Event.of(dict(asked)).features) for _ in range(2))
            assert repr(first) == repr(again), name
        assert canonical_state(learner.model) == before, name
        count += 1
    assert count > 10
