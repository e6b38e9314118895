"""The trial at the start takes what River's documentation shows, and refuses what learns nothing or changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from river import (
    compose,
    dummy,
    ensemble,
    feature_extraction,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    preprocessing,
    stats,
    tree,
)
from support.lineages import Folder

from learners.errors import FactoryRefusedError
from learners.event import Event
from learners.labels import Labels
from learners.learnability import Lesson
from learners.purity import Purity
from learners.river.factory import build
from learners.river.learner import RiverLearner
from learners.river.trial import trial, unsuited

LOGISTIC = linear_model.LogisticRegression
TAKEN: dict[str, tuple[str, Callable[[], Any]]] = {
    "words": ("binary", lambda: feature_extraction.BagOfWords(on="text") | naive_bayes.MultinomialNB()),
    "pairs": ("binary", lambda: feature_extraction.BagOfWords(on="t", ngram_range=(1, 2)) | naive_bayes.BernoulliNB()),
    "tfidf": ("binary", lambda: feature_extraction.TFIDF(on="text") | LOGISTIC()),
    "words and numbers": ("binary", lambda: (
        (feature_extraction.BagOfWords(on="text") + compose.Select("a")) | LOGISTIC()
    )),
    "words of three": ("multiclass", lambda: feature_extraction.BagOfWords(on="text") | naive_bayes.MultinomialNB()),
    "texts only": ("binary", lambda: compose.SelectType(str) | preprocessing.OneHotEncoder() | LOGISTIC()),
    "chosen": ("binary", lambda: compose.Select("amount", "age", "hour") | preprocessing.StandardScaler() | LOGISTIC()),
    "own features": ("binary", lambda: compose.FuncTransformer(own) | LOGISTIC()),
    "grouped": ("regression", lambda: (
        feature_extraction.TargetAgg(by="shop", how=stats.Mean()) | linear_model.LinearRegression()
    )),
    "imputed": ("binary", lambda: preprocessing.StatImputer(("age", stats.Mean())) | LOGISTIC()),
    "scaled target": ("regression", lambda: preprocessing.TargetStandardScaler(
        regressor=preprocessing.StandardScaler() | linear_model.LinearRegression())),
    "target between 0 and 1": ("regression", lambda: preprocessing.StandardScaler() | preprocessing.TargetMinMaxScaler(
        regressor=linear_model.LinearRegression(intercept_lr=0.15))),
    "constant": ("binary", dummy.PriorClassifier),
    "mean": ("regression", lambda: dummy.StatisticRegressor(stats.Mean())),
    "rest": ("multiclass", lambda: preprocessing.StandardScaler() | multiclass.OneVsRestClassifier(LOGISTIC())),
    "slow": ("binary", lambda: tree.HoeffdingTreeClassifier(grace_period=2000)),
    "bagged": ("binary", lambda: ensemble.BaggingClassifier(LOGISTIC(), n_models=3, seed=1)),
}  # fmt: skip

WORDED = {"words", "pairs", "tfidf", "words and numbers", "words of three", "texts only", "own features", "grouped"}


def own(x: dict[str, Any]) -> dict[str, Any]:
    """Features of somebody's own, from names that no trial can know."""
    return {"large": float(x.get("amount", 0.0) > 100), "night": float(x.get("hour", 12.0) < 6)}


@pytest.mark.parametrize("name", TAKEN)
def test_what_rivers_documentation_shows_is_taken(name: str) -> None:
    """And it is saved and loaded exactly, after it has learnt what it asks for."""
    task, make = TAKEN[name]
    labels = Labels(task, names=["a", "b", "c"] if task == "multiclass" else None)  # type: ignore[arg-type]
    assert trial(make(), labels) == ""
    learner = RiverLearner(make(), labels, types=[f"{__name__}:own"], fresh=True)
    texts = ("text", "t", "shop") if name in WORDED else ()
    for row in Lesson.of(labels.task, 60, 3, texts=texts, numbers=("amount", "age", "hour")).rows:
        learner.step(row)
    again = learner.load(learner.save())
    assert again.state() == learner.state()


def test_functions_of_a_target_are_named_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way in for TargetTransformRegressor: of the standard library or of one's own, by exact names."""
    (tmp_path / "logs.py").write_text("""
import math
from river import compose, linear_model, preprocessing
def unlog(y): return math.exp(min(y, 50.0))
def make(): return preprocessing.StandardScaler() | compose.TargetTransformRegressor(
    regressor=linear_model.LinearRegression(), func=math.log, inverse_func=unlog)
""")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FactoryRefusedError, match=r'types = \["math:log"\]'):
        build("logs:make", Labels("regression"), name="m")
    assert build("logs:make", Labels("regression"), types=["math:log", "logs:unlog"], name="m")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_lesson_tells_who_learnt_and_who_did_not(task: Any) -> None:
    """Whoever says the right answer has learnt; the same answer always, none, or the wrong one is refused."""
    lesson = Lesson.of(task, 200, 3)
    labels = Labels(task, names=["a", "b", "c"] if task == "multiclass" else None)
    model = tree.HoeffdingTreeRegressor() if task == "regression" else naive_bayes.GaussianNB()
    learner = RiverLearner(model, labels, fresh=True)
    rows = [Event.of({key: row.features.values[key] for key in "abc"}, row.label) for row in lesson.rows]
    said = [learner.step(row) for row in rows]
    assert lesson.learnt(said) == ""
    assert lesson.learnt([said[-1]] * 200)
    assert "no answer" in lesson.learnt([type(said[0])(None)] * 200)


SHIFTY = """
from river import base, compose, linear_model
class Shifty(base.Transformer):
    def __init__(self):
        self.seen = {}
    def transform_one(self, x):
        if "amount" in x:
            self.seen[x["amount"]] = self.seen.get(x["amount"], 0) + 1
            return {"often": float(self.seen[x["amount"]])}
        return {k: v for k, v in x.items() if k in "abc"}
def make():
    return Shifty() | linear_model.LogisticRegression()
"""


def test_a_transformer_that_changes_on_being_asked_is_found_by_the_first_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5: its name is none that the trial could know, so the trial takes it, and the first events do not."""
    (tmp_path / "shifty.py").write_text(SHIFTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    learner = build("shifty:make", Labels("binary"), types=["shifty:Shifty"], name="m")
    rows = [Event.of({"amount": float(number % 5)}, number % 2 == 0) for number in range(50)]
    for row in rows:
        learner.step(row)
    with pytest.raises(FactoryRefusedError, match=r"learners\.m: its first events .* changed by being asked"):
        Purity(learner, "m").look(rows)


def test_it_is_stopped_before_anything_is_saved(folder: Callable[..., Folder]) -> None:
    """Promise 5, and 3: the trainer says so and ends as for any configuration that is wrong; nothing is learnt."""
    here = folder(
        learners={"m": {"kind": "river", "factory": "model:make", "role": "champion", "types": ["model:Shifty"]}}
    )
    (here.path / "model.py").write_text(SHIFTY)
    here.write([{"id": str(number), "x": {"amount": number % 5}, "y": number % 2} for number in range(300)])
    done = here.run("train", "--until-end", code=2)
    assert "changed by being asked" in done.stderr
    assert "Traceback" not in done.stderr
    newest = here.lineage.newest()
    assert newest is None or newest.learners["m"].learnt == 0


def test_a_challenger_that_changes_on_being_asked_is_lost_alone(folder: Callable[..., Folder]) -> None:
    """The champion learns every event; the log, the ledger and status say why the other learns none."""
    learners = {
        "m": {"kind": "river", "factory": "model:make", "types": ["model:Shifty"]},
        "good": {"kind": "vw", "role": "champion"},
    }
    here = folder(learners=learners)
    (here.path / "model.py").write_text(SHIFTY)
    here.write([{"id": str(number), "x": {"amount": number % 5}, "y": number % 2} for number in range(300)])
    done = here.run("train", "--until-end")
    assert "changed by being asked" in done.stderr
    assert "The others go on without it" in done.stderr
    newest = here.lineage.newest()
    assert newest is not None
    assert newest.learners["good"].learnt == 300
    assert (newest.learners["m"].learnt, newest.learners["m"].quarantined) == (0, 300)
    (entry,) = here.lineage.entries
    assert (entry.action, entry.learner) == ("stop_learning", "m")
    assert "changed by being asked" in here.run("status").stdout
    here.write([{"id": f"more {number}", "x": {"amount": 1}, "y": 1} for number in range(10)])
    here.run("train", "--until-end")
    assert here.lineage.newest().learners["good"].learnt == 310  # type: ignore[union-attr]


RULE = """
from river import base
class Rule(base.Classifier):
    def learn_one(self, x, y): pass
    def predict_proba_one(self, x):
        large = float(x.get("amount", 0.0) > 100)
        return {True: large, False: 1 - large}
def make():
    return Rule()
"""


def test_a_rule_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no estimator of River, reads a feature that no trial can know, and is worth comparing with."""
    (tmp_path / "rule.py").write_text(RULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert build("rule:make", Labels("binary"), types=["rule:Rule"], name="m")


LYING = """
from river import linear_model
class Lying(linear_model.LogisticRegression):
    _multiclass = True
def make():
    return Lying()
"""


def test_who_says_that_it_does_several_classes_must_do_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are none of the labels are found on the trial's rows, not by the first caller."""
    (tmp_path / "lying.py").write_text(LYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FactoryRefusedError, match=r"several classes|two classes"):
        build("lying:make", Labels("multiclass"), types=["lying:Lying"], name="m")


def test_neighbours_that_are_found_by_chance_are_refused_with_the_way_out() -> None:
    """Promise 5: SWINN searches with the random numbers that it learns with, but only after its first 500 rows."""
    assert "engine=neighbors.LazySearch()" in unsuited(
        preprocessing.StandardScaler() | neighbors.KNNClassifier(), "binary"
    )
    assert unsuited(neighbors.KNNClassifier(engine=neighbors.LazySearch()), "binary") == ""
