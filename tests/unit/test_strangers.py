"""Features that are asked for and that nobody learns are said, once, and counted."""

import logging
from collections.abc import Callable

import pytest
from lineages import Folder, wait_for
from samples import numbers

from learners.event import Features
from stream.strangers import Strangers


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


def test_status_names_them(folder: Callable[..., Folder]) -> None:
    """The caller is answered all the same."""
    here = folder()
    here.write(numbers(300))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        assert client.post("/predict", json={"x": {"F0": 1.0, "f1": 2.0}}).status_code == 200
    wait_for(lambda: [one["unknown_features"] for one in here.status()["serving"]] == [{"F0": 1}])
    assert "'F0'" in here.run("status").stdout
