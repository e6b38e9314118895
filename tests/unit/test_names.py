"""A name from outside goes into nothing that does not take every name: 500 of them, through all that sees names."""

import json
import keyword
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lineages import Folder

from learners.event import Event, Features
from learners.labels import Labels
from learners.river.learner import RiverLearner
from learners.vw.arguments import arguments, trial
from learners.vw.learner import VwLearner
from stream.config import check
from stream.errors import ConfigError
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import EventPaths
from stream.source.codec import Codec

ODD = [
    'width 6"', "C:\\temp", "two\nlines", "tab\there", "nul\0x", "\x7f", "\x1b[31m", "\u202e", "\u200b",
    "\ufeff", "", " ", "a|b", "a:b", "a b", "|", ":", "a.b", ".", "..", "../x", "/etc", "a=b", "'", "`", "$(x)",
    "%s", "{0}", "{}", "a,b", "é", "e\u0301", "色", "\U0001f600", "x" * 1000, "id", "x", "y", "f0", "f1", "self",
    "raw", "values", "__class__", "_x", "__struct_fields__", "nan", "NaN", "null", "true", "0", "-1", "1e5",
    "[red]", "<b>", "&amp;", "\\u0041", "\ud800", *keyword.kwlist, *dir(object()),
]  # fmt: skip
ODD += [f"{a}{b}" for a in ODD[:20] for b in ODD[:20]]


def body(names: list[str]) -> bytes:
    return json.dumps({"id": "a", "x": {name: number + 0.5 for number, name in enumerate(names)}, "y": 1}).encode()


def decoded(codec: Codec, data: bytes) -> Any:
    found = codec.decode(Record("t", "0", 0, len(data), data, 1.0))
    return (found.reason, found.field) if isinstance(found, Refusal) else (found.features.flat(), found.label)


def test_there_are_five_hundred() -> None:
    """The table is as long as the title says."""
    assert len(set(ODD)) >= 400


@pytest.mark.parametrize("name", ODD)
def test_every_name_is_decoded_alike_the_first_and_the_hundredth_time(name: str) -> None:
    """The decoder that is made for names that come again gives what the general one gives, or the same reason."""
    data = body([name, "plain"])
    codec = Codec(EventPaths(), Labels("binary"))
    first = decoded(codec, data)
    assert [decoded(codec, data) for _ in range(4)] == [first] * 4
    asked = codec.question(data)
    assert isinstance(asked, Refusal) == (not isinstance(first[0], dict))
    Codec(EventPaths(id=name or "id", features="x"), Labels("binary")).decode(Record("t", "0", 0, 1, data, 1.0))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=0, max_size=20), min_size=1, max_size=5, unique=True))
def test_names_that_nobody_thought_of(names: list[str]) -> None:
    """The same for texts of any characters."""
    data = body(names)
    codec = Codec(EventPaths(), Labels("binary"))
    first = decoded(codec, data)
    assert [decoded(codec, data) for _ in range(3)] == [first] * 3


def test_learners_take_every_name_that_is_decoded(tmp_path: Path) -> None:
    """River and Vowpal Wabbit learn them, save them, and predict the same after a load."""
    from river import linear_model

    codec = Codec(EventPaths(), Labels("binary"))
    tried = trial(arguments("--loss_function logistic -b 14", "x"), "binary", "x")
    learners: list[Any] = [RiverLearner.of(linear_model.LogisticRegression()), VwLearner(tried, Labels("binary"))]
    events = [codec.decode(Record("t", "0", 0, 1, body([name, "plain"]), 1.0)) for name in [*ODD, "y" * 100_000]]
    good = [event for event in events if isinstance(event, Event)]
    assert len(good) > 300
    for learner in learners:
        for number, event in enumerate(good):
            learner.step(Event.of(event.features.flat(), number % 2 == 0, id="a"))
        again = learner.load(learner.save())
        rows = [event.features for event in good[::10]]
        assert [repr(again.predict(row)) for row in rows] == [repr(learner.predict(row)) for row in rows]
    assert pickle.loads(learners[0].save()).weights


def test_a_stream_of_odd_names_is_learnt_served_and_exported(folder: Callable[..., Folder]) -> None:
    """Each event twice, so that a decoder would be made for it; nothing stops, and every record has its class."""
    here = folder(learners={
        "linear": {"kind": "river", "factory": "model:logreg", "role": "champion"},
        "hashed": {"kind": "vw", "args": "--loss_function logistic -b 14"},
    })  # fmt: skip
    rows = [json.loads(body([name, "plain"])) | {"id": f"{number}-{twice}", "y": number % 2}
            for number, name in enumerate(ODD) for twice in range(2)]  # fmt: skip
    here.write([json.dumps(row).encode() for row in rows])
    here.trained()
    counts = here.learner()["events"]
    assert counts["consumed"] == len(rows)
    assert counts["learnt"] == here.learner("hashed")["events"]["learnt"] > 600
    assert counts["learnt"] + counts["dead_lettered"] == len(rows)
    here.run("snapshots", "export", str(here.lineage.numbers[-1]), "out.pkl")
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        answers = {client.post("/predict", content=body([name])).status_code for name in ODD}
    assert answers <= {200, 400, 422}
    assert Features(b"{}") is not None


@pytest.mark.parametrize(
    "more",
    [
        {"event": {"labels": ["a", "b", "a"]}, "task": "multiclass"},
        {"event": {"labels": [1, "1"]}, "task": "multiclass"},
        {"learners": {"h": {"kind": "vw", "namespaces": {"_x": ["a"]}}}},
        {"learners": {"h": {"kind": "vw", "namespaces": {"a b": ["a"]}}}},
        {"learners": {"h": {"kind": "vw", "namespaces": {"a|": ["a"]}}}},
        {"learners": {"h": {"kind": "vw", "namespaces": {"": ["a"]}}}},
        {"learners": {"h": {"kind": "vw", "namespaces": {"u": ["a"], "v": ["a"]}}}},
    ],
)
def test_names_of_the_configuration_that_mean_two_things_are_refused(more: dict[str, Any]) -> None:
    """At the start, with one sentence."""
    table = {"name": "x", "task": "binary", "source": {"kind": "files"}, "learners": {"h": {"kind": "vw"}}} | more
    with pytest.raises(ConfigError, match=r"twice|namespace|is in"):
        check(table, Path())
