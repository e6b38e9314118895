"""A name of the configuration that matches nothing is said, each kind of it; one that matches is not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.lineages import Folder

from stream.parts import codec_of, labels_of
from stream.record import Record
from stream.train.name_matching import Matching

EVENT = {"x": {"a": 1.0, "country": "de", "user": {"age": 3}}, "y": "fraud", "w": 2.0}
CHAMPION = {"linear": {"kind": "river", "factory": "model:logreg", "role": "champion"}}
VW = {"kind": "vw", "role": "champion"}

KINDS = [
    ({"event__positive": "Fraud"}, "positive = 'Fraud' matches none of the first 120 events, whose labels are 'fraud'"),
    ({"task": "multiclass", "event__labels": ["fraud", "Fraud"]}, "'Fraud' of event.labels matches none"),
    ({"event__slices": ["country", "Country"]}, "'Country' of event.slices"),
    ({"event__types": {"user.age": "number", "age": "number"}}, "'age' of event.types"),
    ({"event__weight": "weight"}, "event.weight = 'weight'"),
    ({"event__label": "label"}, "event.label = 'label'"),
    ({"holdout__by": "user_id"}, "holdout.by = 'user_id'"),
    ({"learners": {"v": VW | {"args": "-q ux"}}}, "--quadratic ux of learners.v.args, namespace 'x',"),
    ({"learners": {"v": VW | {"args": "--ignore z"}}}, "--ignore z of learners.v.args, namespace 'z',"),
    ({"learners": {"v": VW | {"args": "--keep=z"}}}, "--keep z of learners.v.args, namespace 'z',"),
    ({"learners": {"v": VW | {"args": "--interactions uxp", "namespaces": {"place": ["country"]}}}}, "namespace 'x'"),
    ({"learners": {"v": VW | {"args": "", "namespaces": {"p": ["country", "city"]}}}}, "'city' of learners.v.name"),
]  # fmt: skip


def matching(here: Folder, count: int = 120, kept: dict[str, list[int]] | None = None) -> Matching:
    """What was counted of so many events."""
    labels = labels_of(here.config)
    codec = codec_of(here.config, labels)
    found = Matching(here.config, labels)
    found.restore(kept or {})
    for number in range(count):
        found.see(codec.decode(Record("t", "0", number, number + 1, json.dumps(EVENT | {"id": number}).encode())))
    return found


@pytest.mark.parametrize(("settings", "name"), KINDS, ids=[name for _, name in KINDS])
def test_a_name_that_matches_nothing_is_said(
    folder: Callable[..., Folder], settings: dict[str, Any], name: str
) -> None:
    """It alone."""
    (said,) = matching(folder(**({"event__positive": "fraud", "learners": CHAMPION} | settings))).sentences()
    assert name in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "multiclass"}, True),
        ({"event__positive": "yes"}, True),
        ({"task": "multiclass", "event__fold_labels": True}, False),
        ({"task": "multiclass", "event__labels": ["yes", "YES", "no"]}, False),
        ({"event__positive": "yes", "event__negative": "no"}, False),
    ],
)
def test_labels_of_several_spellings_are_said_where_they_count_apart(
    folder: Callable[..., Folder], settings: dict[str, Any], said: bool
) -> None:
    """Unless both are named, or one of them is refused."""
    here = folder(**settings, learners=CHAMPION)
    labels = labels_of(here.config)
    codec, found = codec_of(here.config, labels), Matching(here.config, labels)
    for number in range(120):
        event = {"id": number, "x": {"a": 1.0}, "y": ["yes", "YES", "no"][number % 3]}
        found.see(codec.decode(Record("t", "0", number, number + 1, json.dumps(event).encode())))
    assert any("'yes' and 'YES'" in one for one in found.sentences()) == said


def test_names_that_match_are_not_said(folder: Callable[..., Folder]) -> None:
    """And a few events say nothing yet."""
    args = {"args": "-q uu -q :: --ignore_linear p", "namespaces": {"p": ["country"]}}
    names = {"event__slices": ["country"], "holdout__by": "user.age", "event__weight": "w", "event__positive": "fraud"}
    assert matching(folder(learners={"v": VW | args}, **names)).sentences() == []
    classes = folder("c", task="multiclass", event__labels=["fraud"])
    assert matching(classes).sentences() == []
    assert matching(folder("b", event__slices=["nowhere"], event__positive="fraud"), 99).sentences() == []


def test_the_count_goes_on_where_a_snapshot_ended(folder: Callable[..., Folder]) -> None:
    """And begins for a name that is new."""
    kept = matching(folder(event__slices=["nowhere"], event__positive="fraud"), 60).dump()
    found = matching(folder("b", event__slices=["nowhere", "new"], event__positive="fraud"), 60, kept)
    assert found.sentences() == ["'nowhere' of event.slices matches none of the first 120 events"]


def test_trainer_and_status_say_it(folder: Callable[..., Folder]) -> None:
    """The trainer in its log, once; status for as long as it holds."""
    here = folder(event__positive="Fraud", learners=CHAMPION)
    here.write([EVENT | {"id": f"e{number}", "x": {"f0": 1.0}} for number in range(1100)])
    said = here.run("train", "--until-end").stderr
    assert said.count("event.positive = 'Fraud' matches none of the first 1,000 events") == 1
    assert "'Fraud'" in here.run("status").stdout
    assert len(here.status()["unmatched"]) == 1
