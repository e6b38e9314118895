"""Features that are asked for and that nobody learns are said, once, and counted."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.lineages import Folder, wait_for
from support.samples import numbers

from learners.event import Features
from stream.serve.unknown_features import Strangers


def test_names_are_held_against_learnt_ones(caplog: pytest.LogCaptureFixture) -> None:
    """Nested ones by their dotted names; whoever makes up names fills neither memory nor log."""
    found = Strangers()
    found.see(Features.of({"before": 1.0}))
    found.learn([b'{"a": 1, "user": {"age": 2}}', b'{"b": "x"}'])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found.see(Features.of({"a": 1.0, "user": {"age": 3.0}, "B": "x"}))
        for number in range(1000):
            found.see(Features.of({f"made up {number}": 1.0}))
    assert found.counts["B"] == 3
    assert len(found.counts) == len(caplog.records) == 20


KINDS: dict[str, Any] = {"number": 1.5, "text": "1.5", "bool": True}


@pytest.mark.parametrize("asked", KINDS)
@pytest.mark.parametrize("learnt", [("number",), ("text",), ("bool",), ("number", "text"), ()])
def test_types_are_held_against_learnt_ones(
    caplog: pytest.LogCaptureFixture, learnt: tuple[str, ...], asked: str
) -> None:
    """Another type than all of them is said once, below a name, too; nothing is where nothing is asked, or learnt."""
    found = Strangers()
    found.learn([json.dumps({"other": 1, "u": {"a": KINDS[kind]}}).encode() for kind in learnt])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found.see(Features.of({"u": {"a": KINDS[asked]}}))
            found.see(Features.of({"u": {"a": None}}))
    strange = bool(learnt) and asked not in learnt
    assert found.others == ({f"'u.a' as {asked}": 3} if strange else {})
    assert len(caplog.records) == strange
    assert not found.counts


def test_status_names_them(folder: Callable[..., Folder]) -> None:
    """The caller is answered all the same."""
    here = folder()
    here.write(numbers(300))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        assert client.post("/predict", json={"x": {"F0": 1.0, "f1": 2.0}}).status_code == 200
        assert client.post("/predict/batch", json={"instances": [{"x": {"f0": True}}]}).status_code == 200
    wait_for(lambda: [one["unknown_features"] for one in here.status()["serving"]] == [{"F0": 1}])
    wait_for(lambda: [one["other_types"] for one in here.status()["serving"]] == [{"'f0' as bool": 1}])
    said = here.run("status").stdout
    assert "'F0'" in said
    assert "'f0' as bool" in said
