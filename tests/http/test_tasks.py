"""Every task end to end: learnt by River and Vowpal Wabbit, cut, judged, served, resumed."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from support.lineages import Folder, accounted
from support.samples import mixed

KINDS = ["red", "green", 3, True]


def classes(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Multi-class events whose labels are texts, a number and a boolean."""
    events = []
    for i in range(count):
        draw = random.Random(f"{seed}-{i}")
        kind = draw.randrange(4)
        x = {f"f{j}": draw.gauss(3.0 if j == kind else 0.0, 1.0) for j in range(4)}
        events.append({"id": f"{seed}-{i}", "x": x, "y": KINDS[kind]})
    return events


def test_multiclass_labels_of_any_kind_come_back_as_they_were_sent(folder: Callable[..., Folder]) -> None:
    """Numbered on arrival, the map in the snapshot, restored; answers carry labels, probabilities their texts."""
    here = folder(
        learners={
            "bayes": {"kind": "river", "factory": "model:bayes", "role": "champion"},
            "oaa": {"kind": "vw", "args": "--oaa 4 --probabilities --loss_function logistic"},
            "plain": {"kind": "vw", "args": "--oaa 4"},
        },
        task="multiclass",
        event__max_labels=4,
    )
    here.write(classes(600))
    here.trained()
    here.write([*classes(600, seed=2), {"id": "new", "x": {}, "y": "fifth"}])
    here.trained()
    for name in ("bayes", "oaa", "plain"):
        one = here.learner(name)
        assert accounted(one["events"])
        assert (one["events"]["learnt"], one["events"]["dead_lettered"]) == (1200, 1)
        assert one["metrics"]["accuracy"] > 0.8
        assert one["metrics"]["macro_f1"] > 0.8
    assert here.status()["refused"] == {"unknown_label": 1}
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        for kind in range(4):
            x = {f"f{j}": 4.0 if j == kind else 0.0 for j in range(4)}
            answer = client.post("/predict", json={"x": x}).json()
            assert answer["prediction"] == (1 if KINDS[kind] is True else KINDS[kind])
            assert not isinstance(answer["prediction"], float)
            assert set(answer["probabilities"]) == {"red", "green", "3", "true"}
            assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_fixed_labels_refuse_others_and_must_fit_the_arguments(folder: Callable[..., Folder]) -> None:
    """event.labels in order; fewer classes than labels is an error at start."""
    learners = {"oaa": {"kind": "vw", "args": "--oaa 3", "role": "champion"}}
    here = folder("fits", learners, task="multiclass", event__labels=["red", "green", 3])
    here.write(classes(400))
    here.train()
    counts = here.learner("oaa")["events"]
    assert counts["dead_lettered"] == sum(event["y"] is True for event in classes(400))
    short = folder("short", learners, task="multiclass", event__labels=KINDS)
    assert "--oaa 4" in short.run("train", "--until-end", code=2).stderr


def test_regression(folder: Callable[..., Folder]) -> None:
    """mae, rmse, mse, r2; a number comes back."""
    here = folder(
        learners={
            "linear": {"kind": "river", "factory": "model:linear", "role": "champion"},
            "vw": {"kind": "vw", "args": ""},
        },
        task="regression",
    )
    draw = random.Random(3)
    rows = [{"a": draw.gauss(0, 1), "b": draw.gauss(0, 1)} for _ in range(3000)]
    here.write({"id": str(i), "x": x, "y": 3 * x["a"] - x["b"] + 5} for i, x in enumerate(rows))
    here.trained()
    for name in ("linear", "vw"):
        recent = here.learner(name)["recent"]
        assert recent["r2"] > 0.95
        assert recent["rmse"] == pytest.approx(recent["mse"] ** 0.5)
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        answer = client.post("/predict", json={"x": {"a": 1.0, "b": 0.0}}).json()
    assert set(answer) == {"id", "prediction", "learner", "snapshot", "route", "propensity"}
    assert answer["prediction"] == pytest.approx(8, abs=0.7)


def test_weights_are_insisted_on_when_the_key_is_written(folder: Callable[..., Folder]) -> None:
    """A learner that drops them is refused, unless told to ignore them."""
    alma = {"kind": "river", "factory": "model:alma", "role": "champion"}
    plain = folder("plain", {"alma": alma})
    plain.write(_numeric(mixed(100)))
    plain.train()
    strict = folder("strict", {"alma": alma}, event__weight="w")
    assert "ignore_weights" in strict.run("train", "--until-end", code=2).stderr
    told = folder("told", {"alma": alma | {"ignore_weights": True}}, event__weight="w")
    told.write(_numeric(mixed(100)))
    told.train()
    assert told.learner("alma")["events"]["learnt"] == 100


def _numeric(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**event, "x": {"amount": event["x"]["amount"]}} for event in events]


def test_a_changed_learner_is_refused_with_the_ways_on(folder: Callable[..., Folder]) -> None:
    """Its snapshots were learnt by another; and one that is added starts at the present."""
    here = folder(learners={"a": {"kind": "vw", "args": "--loss_function logistic", "role": "champion"}})
    here.write(_numeric(mixed(200)))
    here.train()
    text = here.config_path.read_text()
    here.config_path.write_text(text.replace("logistic", "hinge"))
    assert "was changed" in here.run("train", "--until-end", code=3).stderr
    here.config_path.write_text(text + 'learners.b.kind = "vw"\nlearners.b.args = "--ftrl"\n')
    here.write([{**event, "id": f"x{event['id']}"} for event in _numeric(mixed(50))])
    here.train()
    added = here.learner("b")["events"]
    assert (added["learnt"], added["quarantined"]) == (50, 200)
    assert accounted(added)
    (row,) = here.json("quarantine", "list")
    assert (row["learner"], row["cause"], row["events"]) == ("b", "new", 200)
