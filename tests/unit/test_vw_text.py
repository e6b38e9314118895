"""Texts that differ are other features to Vowpal Wabbit; models of before are read as they were."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from learners.event import Event, Features
from learners.labels import Labels
from learners.restore import restore
from learners.vw.arguments import Trial, arguments, continuing
from learners.vw.learner import VwLearner
from learners.vw.text import bytes_of, needs_telling, told_apart

BITS = " -b 30 --noconstant"
NOW = Trial(
    arguments("--loss_function logistic" + BITS, "x"), one_call=True, exact=True, pure=True, weights=True,
    probabilities=False, reductions=[], apart=True,
)  # fmt: skip
BEFORE = msgspec.structs.replace(NOW, tokens=NOW.tokens[: NOW.tokens.index("--chain_hash")], apart=False)


def places(features: Features) -> list[tuple[int, float]]:
    """Where Vowpal Wabbit puts each feature."""
    example = LEARNER._example(features)
    return [
        (example.feature(space, number), example.feature_weight(space, number))
        for space in (example.namespace(at) for at in range(example.num_namespaces()))
        for number in range(example.num_features_in(space))
    ]


LEARNER = VwLearner(NOW, Labels("binary"))
SAME_BEFORE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"door": "11"}, {"door1": "1"}), ({"door": "11"}, {"door11": True}), ({"t": "a b"}, {"t": "a_b"}),
    ({"at": "10:30"}, {"at": "10_30"}), ({"at": "10:30"}, {"at": "10 30"}), ({"t": "a|b"}, {"t": "a_b"}),
    ({"t": "a\tb"}, {"t": "a_b"}), ({"t": "a\0b"}, {"t": "a"}), ({"t": ""}, {"t": True}), ({"t": ""}, {"t": 1.0}),
    ({"u": {"t": "a b"}}, {"u": {"t": "a_b"}}), ({"a\0b": 1.0}, {"a": 1.0}), ({"zip": "01000"}, {"zip": "1000"}),
    ({"t": " a"}, {"t": "a"}), ({"t": "a\n"}, {"t": "a"}), ({"t": "\x01a"}, {"t": "a"}),
    ({"n": "18446744073709551617"}, {"n": "1"}), ({"u": {"zip": "007"}}, {"u": {"zip": "07"}}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME_BEFORE, ids=str)
def test_what_vowpal_wabbit_takes_for_one_is_told_apart(one: Any, other: Any) -> None:
    """Names and texts that run together, the characters that its JSON parser changes, leading zeros, what is empty."""
    assert places(Features.of(one)) != places(Features.of(other))
    assert places(Features.of({"n": 1.0, **one})) != places(Features.of({"n": 1.0, **other}))


@pytest.mark.parametrize("code", ["01000", "1000", " 1000", "1e3", "1000.0", "001000"])
def test_codes_keep_their_zeros(code: str) -> None:
    """A code in a text is no number, whatever Vowpal Wabbit makes of texts of digits."""
    others = {"01000", "1000", " 1000", "1e3", "1000.0", "001000"} - {code}
    assert places(Features.of({"zip": code})) not in [places(Features.of({"zip": one})) for one in others]


ODD = st.text(st.sampled_from('ab_ :|\t\0%02379ACE\n"\\é'), max_size=6)


@settings(max_examples=300, deadline=None)
@given(ODD, ODD)
@example("%20", " ")
@example("%2520", "%20")
@example("%", "")
@example("%25", "%")
@example("%%20", "% ")
@example("00", "%300")
@example("0", "00")
def test_no_two_texts_are_one_feature(one: str, other: str) -> None:
    """However they are made up; and the same text is always the same, however its JSON is written."""
    first, second = Features.of({"t": one}), Features.of({"t": other})
    assert (places(first) == places(second)) == (one == other)
    for written in (
        json.dumps({"t": one}),
        json.dumps({"t": one}, indent=1),
        json.dumps({"t": one}, ensure_ascii=False),
    ):
        assert places(Features(written.encode())) == places(first)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(ODD.filter(lambda name: name != "_"), ODD | st.floats(0, 9), min_size=1, max_size=4))
@example({"a:": 1.0, "b": "x y"})
@example({"a: ": "x y", ": ": ":"})
@example({"a": ":", "b:": " "})
def test_what_is_changed_in_place_is_changed_as_what_is_read(values: dict[str, Any]) -> None:
    """Whatever names and texts look like, the quick way comes to what the slow one comes to."""
    slow = told_apart(json.loads(json.dumps(values)))
    for written in (json.dumps(values, separators=(",", ":")), json.dumps(values), json.dumps(values, indent=1)):
        assert json.loads(bytes_of(Features(written.encode()))) == slow


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text("ab_", min_size=1, max_size=3), st.text("ab_é", min_size=1, max_size=5) | st.floats(0, 9))
)
def test_plain_texts_reach_it_as_they_came(values: dict[str, Any]) -> None:
    """No time is spent, and no feature renamed, where nothing could be mistaken."""
    features = Features.of(values)
    assert not needs_telling(features.raw)
    assert bytes_of(features) is features.raw


def test_a_snapshot_of_before_is_read_as_it_was() -> None:
    """Its manifest has no word of telling apart, and its arguments none of chained hashes."""
    rows = [Event.of({"door": "11", "at": "10:30"}, y=True), Event.of({"door1": "2", "at": "a b"}, y=False)]
    few = msgspec.structs.replace(BEFORE, tokens=["12" if token == "30" else token for token in BEFORE.tokens])
    old = VwLearner(few, Labels("binary"))
    for row in rows * 20:
        old.step(row)
    built_from = old.describe()
    del built_from["trial"]["apart"]
    again = restore("vw", built_from, Labels("binary"), old.save())
    for values in ({"door1": "1"}, {"at": "10_30"}, {"at": "a_b"}, {"door": "11"}):
        features = Event.of(dict(values)).features
        assert again.predict(features) == old.predict(features)
    for row in rows * 5:
        assert again.step(row) == old.step(row)
    assert again.state() == old.state()


def test_an_old_model_that_goes_on_under_new_arguments_is_read_as_it_was() -> None:
    """``--accept`` changes what the operator wrote, not how features are hashed."""
    fresh = msgspec.structs.replace(NOW, tokens=[*NOW.tokens, "--l2", "1e-6"])
    going_on = continuing(fresh, BEFORE)
    assert not going_on.apart
    assert "--chain_hash" not in going_on.tokens
    assert going_on.tokens[-2:] == ["--l2", "1e-6"]
    assert continuing(fresh, NOW).apart
    assert "--chain_hash" in continuing(fresh, NOW).tokens
