"""Null is None to a River pipeline that has an imputer, and absent to every other learner."""

from typing import Any

import pytest
from river import compose, linear_model, preprocessing, stats

from learners.event import Event, Features
from learners.labels import Labels
from learners.restore import restore
from learners.river.learner import RiverLearner


def row(number: int) -> dict[str, Any]:
    a, b = None if number % 3 == 0 else 5.0 + number % 2, None if number % 4 == 0 else 1.5
    return {"a": a, "u": {"b": b}, "c": 1}


ROWS = [(row(number), number % 2 == 0) for number in range(200)]


def imputing() -> Any:
    by_group = compose.Select("a", "c") | compose.Grouper(preprocessing.StatImputer(("a", stats.Mean())), by="c")
    union = compose.Select("u.b") | preprocessing.StatImputer(("u.b", -1.0))
    return (by_group + union) | linear_model.LogisticRegression()


PIPELINES = {
    "stat": lambda: preprocessing.StatImputer(("a", stats.Mean()), ("u.b", 0.0)) | linear_model.LogisticRegression(),
    "previous": lambda: compose.Discard("u.b") | preprocessing.PreviousImputer() | linear_model.LogisticRegression(),
    "inside": imputing,
}


def flat(values: dict[str, Any]) -> dict[str, Any]:
    return {"a": values["a"], "u.b": values["u"]["b"], "c": float(values["c"])}


@pytest.mark.parametrize("name", PIPELINES)
def test_imputers_do_what_they_do_in_plain_river(name: str) -> None:
    """In the first steps or deep inside, before and after a save; what is asked is read as what is learnt."""
    labels = Labels("binary")
    plain, learner = PIPELINES[name](), RiverLearner.of(PIPELINES[name]())
    for number, (values, label) in enumerate(ROWS[1:]):
        assert learner.step(Event.of(values, label)).probability == plain.predict_proba_one(flat(values))[True]
        plain.learn_one(flat(values), label)
        if number == 100:
            learner = restore("river", learner.describe(), labels, learner.save())  # type: ignore[assignment]
    asked = Event.of({"a": None, "u": {"b": None}, "c": 1.0})
    assert learner.predict(asked.features).probability == plain.predict_proba_one(flat(asked.features.values))[True]


def test_without_an_imputer_a_null_is_absent() -> None:
    """As before, in training and in serving alike."""
    plain, learner = (linear_model.LogisticRegression() for _ in range(2))
    wrapped = RiverLearner.of(learner)
    for values, label in ROWS:
        there = {key: value for key, value in flat(values).items() if value is not None}
        assert wrapped.step(Event.of(values, label)).probability == plain.predict_proba_one(there)[True]
        plain.learn_one(there, label)


def test_nulls_are_there_only_for_who_asks() -> None:
    """The features of an event are shared by its learners, so neither way spoils the other."""
    features = Features(b'{"a": null, "b": 3, "u": {"c": null, "d": 2.5}, "t": "null"}')
    for _ in range(2):
        assert features.flat() == {"b": 3.0, "u.d": 2.5, "t": "null"}
        assert features.with_nulls() == {"a": None, "b": 3.0, "u.c": None, "u.d": 2.5, "t": "null"}
        assert features.as_sent(nulls=False) == {"b": 3, "u.d": 2.5, "t": "null"}
        assert type(features.as_sent(nulls=True)["b"]) is int
