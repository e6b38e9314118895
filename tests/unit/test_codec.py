"""The codec: every reason for refusal, every kind of field, and generated garbage."""

import json
import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import learners.event as event_module
from learners.event import Event, Features, Value, flatten
from learners.labels import Labels, alike
from stream.record import Record
from stream.refusal import MEANING, Reason, Refusal
from stream.settings import EventPaths
from stream.source.codec import Codec, GivenLabel, Rewards

RECORDED = 1_700_000_000.0


def decode(value: bytes | None, **paths: object) -> Event | Refusal:
    decoder = paths.pop("decoder", None)
    task = paths.pop("task", "binary")
    found = EventPaths(**{"max_bytes": 4096, **paths})  # type: ignore[arg-type]
    labels = Labels(task, positive=found.positive, negative=found.negative, names=found.labels)  # type: ignore[arg-type]
    codec = Codec(found, labels, decoder=decoder)  # type: ignore[arg-type]
    return codec.decode(Record("t", "0", 0, 1, value, time=RECORDED))


def ok(value: bytes, **paths: object) -> Event:
    found = decode(value, **paths)
    assert isinstance(found, Event), found
    return found


BAD: list[tuple[Reason, str, bytes | None]] = [
    (Reason.TOMBSTONE, "", None),
    (Reason.TOO_LARGE, "", b'{"id":"a","x":{"a":"' + b"a" * 5000 + b'"}}'),
    (Reason.NOT_JSON, "", b""),
    (Reason.NOT_JSON, "", b"nope"),
    (Reason.NOT_JSON, "", b'{"id":"a","x":{}'),
    (Reason.NOT_JSON, "", b'{"id":"a","x":{}} trailing'),
    (Reason.NOT_JSON, "x", b'{"id":"a","x":{"a":"\xff"}}'),
    (Reason.NOT_JSON, "", b'{"id":"a","x":{"a":"\\ud800"}}'),
    (Reason.NOT_AN_OBJECT, "", b"[1]"),
    (Reason.NOT_AN_OBJECT, "", b"null"),
    (Reason.NOT_AN_OBJECT, "", b"7"),
    (Reason.TOO_DEEP, "x.a.b", b'{"id":"a","x":{"a":{"b":{"c":1}}}}'),
    (Reason.DUPLICATE_NAME, "x.a", b'{"id":"a","x":{"a":1,"a":2}}'),
    (Reason.DUPLICATE_NAME, "x.u.a", b'{"id":"a","x":{"u":{"a":1,"\\u0061":2}}}'),
    (Reason.DUPLICATE_NAME, "id", b'{"id":"a","id":"b","x":{}}'),
    (Reason.DUPLICATE_NAME, "x", b'{"id":"a","x":{"q":1},"x":{}}'),
    (Reason.DUPLICATE_NAME, "x.u.a", b'{"id":"a","x":{"u.a":1,"u":{"a":2}}}'),
    (Reason.DUPLICATE_NAME, "meta.k", b'{"id":"a","x":{},"meta":{"k":1,"k":2}}'),
    (Reason.RESERVED_NAME, "x._label", b'{"id":"a","x":{"_label":1}}'),
    (Reason.RESERVED_NAME, "x.u._w", b'{"id":"a","x":{"u":{"_w":1}}}'),
    (Reason.RESERVED_NAME, "x._a", b'{"id":"a","x":{"\\u005fa":1}}'),
    (Reason.NO_ID, "id", b'{"x":{"a":1},"y":1}'),
    (Reason.NO_ID, "id", b'{"id":null,"x":{"a":1}}'),
    (Reason.NO_ID, "id", b'{"id":"","x":{"a":1}}'),
    (Reason.NO_FEATURES, "x", b'{"id":"a","y":1}'),
    (Reason.NO_FEATURES, "x", b'{"id":"a","x":null}'),
    (Reason.BAD_NUMBER, "x.a", b'{"id":"a","x":{"a":NaN}}'),
    (Reason.BAD_NUMBER, "x.a", b'{"id":"a","x":{"a":-Infinity}}'),
    (Reason.BAD_NUMBER, "x.a", b'{"id":"a","x":{"a":1e400}}'),
    (Reason.BAD_NUMBER, "x.a", b'{"id":"a","x":{"a":3.5e38}}'),
    (Reason.BAD_NUMBER, "x.a", b'{"id":"a","x":{"a":' + b"9" * 60 + b"}}"),
    (Reason.WRONG_TYPE, "x.a", b'{"id":"a","x":{"a":[1]}}'),
    (Reason.WRONG_TYPE, "x", b'{"id":"a","x":"text"}'),
    (Reason.WRONG_TYPE, "x", b'{"id":"a","x":[]}'),
    (Reason.WRONG_TYPE, "id", b'{"id":["a"],"x":{}}'),
    (Reason.WRONG_TYPE, "id", b'{"id":true,"x":{}}'),
    (Reason.UNKNOWN_LABEL, "y", b'{"id":"a","x":{},"y":"maybe"}'),
    (Reason.UNKNOWN_LABEL, "y", b'{"id":"a","x":{},"y":7}'),
    (Reason.UNKNOWN_LABEL, "y", b'{"id":"a","x":{},"y":[1]}'),
    (Reason.BAD_WEIGHT, "w", b'{"id":"a","x":{},"y":1,"w":-1}'),
    (Reason.BAD_WEIGHT, "w", b'{"id":"a","x":{},"y":1,"w":"1"}'),
    (Reason.BAD_WEIGHT, "w", b'{"id":"a","x":{},"y":1,"w":NaN}'),
    (Reason.BAD_WEIGHT, "w", b'{"id":"a","x":{},"y":1,"w":1e39}'),
    (Reason.BAD_TIME, "ts", b'{"id":"a","x":{},"ts":"yesterday"}'),
    (Reason.BAD_TIME, "ts", b'{"id":"a","x":{},"ts":-1}'),
    (Reason.BAD_TIME, "ts", b'{"id":"a","x":{},"ts":1e18}'),
    (Reason.BAD_TIME, "ts", b'{"id":"a","x":{},"ts":true}'),
    (Reason.BAD_TIME, "ts", b'{"id":"a","x":{},"ts":1700200000}'),
]


@pytest.mark.parametrize(("reason", "field", "value"), BAD)
def test_each_bad_event_is_refused_for_its_own_reason(reason: Reason, field: str, value: bytes | None) -> None:
    """A refusal names the reason, the field and what is wrong."""
    refusal = decode(value)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.field) == (reason, field)
    assert refusal.message


def test_nesting_beyond_any_parser_is_too_deep() -> None:
    """No stack overflows; how far a parser gets before it gives up does not matter."""
    refusal = decode(b'{"id":"a","x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, max_bytes=1_000_000)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == Reason.TOO_DEEP


def test_every_reason_is_reached_by_a_test_and_explained() -> None:
    """The list of reasons has no entry that nothing produces; the decoder's and the reward's stand below."""
    assert {reason for reason, _, _ in BAD} | {Reason.UNDECODABLE, Reason.BAD_REWARD} == set(Reason) == set(MEANING)


@pytest.mark.parametrize("value", [b"2.1", b"-0.1", b'"1"', b"true", b"[]", b"1e400", b"NaN"])
def test_a_reward_is_a_number_between_the_two(value: bytes) -> None:
    """Where rewards are asked for; a reward alone is a label without a label."""
    codec = Codec(EventPaths(), Labels("binary"), rewards=Rewards("r", 0.0, 2.0))
    found = codec.label_of(Record("t", "0", 0, 1, b'{"id":"a","r":' + value + b"}"))
    assert isinstance(found, Refusal)
    assert found.reason in (Reason.BAD_REWARD, Reason.BAD_NUMBER, Reason.NOT_JSON)
    good = codec.label_of(Record("t", "0", 0, 1, b'{"id":"a","r":2}'))
    assert isinstance(good, GivenLabel)
    assert (good.reward, good.labelled, good.label) == (2.0, False, None)
    assert Codec(EventPaths(), Labels("binary")).label_of(Record("t", "0", 0, 1, b'{"id":"a","r":2}')) != good


def test_a_whole_event_is_decoded_and_keeps_its_bytes() -> None:
    """Features stay the bytes that came; numbers are floats, nested names are dotted for River."""
    event = ok(b'{"id":"a1","ts":1690000000.5,"x":{"amount":12,"ok":true,"no":null,"user":{"age":31}},"y":1,"w":0.5}')
    assert event.features.raw == b'{"amount":12,"ok":true,"no":null,"user":{"age":31}}'
    assert event.features.flat() == {"amount": 12.0, "ok": True, "user.age": 31.0}
    assert type(event.features.flat()["amount"]) is float
    assert (event.id, event.label, event.weight, event.time) == ("a1", True, 0.5, 1690000000.5)


@pytest.mark.parametrize("label", [b"1", b"1.0", b'"1"', b"true", b'"1.0"'])
def test_one_and_true_are_one_label(label: bytes) -> None:
    """1, 1.0, "1" and true are the same label, binary and multi-class."""
    assert ok(b'{"id":"a","x":{},"y":' + label + b"}").label is True
    assert ok(b'{"id":"a","x":{},"y":' + label + b"}", task="multiclass", labels=[0, 1]).label == 1


def test_absent_and_null_labels_are_unlabelled_and_the_rest_still_checked() -> None:
    """No label is no fault; a bad feature without a label is one."""
    assert ok(b'{"id":"a","x":{}}').label is None
    assert ok(b'{"id":"a","x":{},"y":null}').label is None
    assert isinstance(decode(b'{"id":"a","x":{"a":NaN}}'), Refusal)


def test_positive_text_takes_every_other_value_for_no_unless_negative_is_set() -> None:
    """The value that means yes is configured; so may be the one that means no."""
    assert ok(b'{"id":"a","x":{},"y":"UP"}', positive="UP").label is True
    assert ok(b'{"id":"a","x":{},"y":"DOWN"}', positive="UP").label is False
    assert isinstance(decode(b'{"id":"a","x":{},"y":"SIDE"}', positive="UP", negative="DOWN"), Refusal)


def test_multiclass_labels_are_numbered_on_arrival_up_to_the_limit() -> None:
    """The map grows with the stream and then refuses."""
    labels = Labels("multiclass", max_labels=2)
    assert [labels.label_of(v) for v in ("b", "a", "b", 1.0) if v != 1.0] == [0, 1, 0]
    with pytest.raises(ValueError, match="label 3 of 2"):
        labels.label_of("c")


SPELLINGS = [("YES", "Yes"), ("yes", " yes"), ("True", "true"), ("\u00c4", "\u00e4 "), ("1 ", 1), ("a\t", "A")]


@pytest.mark.parametrize(("first", "second"), SPELLINGS)
def test_labels_of_several_spellings_are_one_where_that_is_wanted(first: Any, second: Any) -> None:
    """Of both tasks, also those that are configured; else they are two. A map that knew both is refused."""
    for fold in (True, False):
        classes = Labels("multiclass", fold=fold)
        assert [classes.label_of(one) for one in (first, "no", second)] == [0, 1, 0 if fold else 2]
        assert classes.seen == [first, "no", second]
        told = Labels("binary", positive=second, negative="no", fold=fold)
        assert told.label_of(second) is True
        if fold:
            assert (told.label_of(first), told.label_of(" NO")) == (True, False)
    assert alike([first, "no", second]) == [[first, second]]
    with pytest.raises(ValueError, match=r"event\.fold_labels"):
        Labels("multiclass", fold=True).restore([first, second])
    assert alike(["1", 1.0, "no"]) == []


def test_regression_labels_are_numbers_within_float32() -> None:
    """A label that is no number is unknown; one that is too large is a bad number."""
    assert ok(b'{"id":"a","x":{},"y":-2.5}', task="regression").label == -2.5
    for value, reason in ((b'"x"', Reason.UNKNOWN_LABEL), (b"1e39", Reason.BAD_NUMBER)):
        found = decode(b'{"id":"a","x":{},"y":' + value + b"}", task="regression")
        assert isinstance(found, Refusal)
        assert found.reason == reason


@pytest.mark.parametrize(
    ("text", "form", "seconds"),
    [
        (b"1690000000.5", "auto", 1690000000.5),
        (b"1690000000500", "auto", 1690000000.5),
        (b"1690000", "ms", 1690.0),
        (b'"2023-07-22T04:26:40Z"', "auto", 1690000000.0),
        (b'"2023-07-22T06:26:40+02:00"', "iso", 1690000000.0),
        (b'"2023-07-22T04:26:40"', "auto", 1690000000.0),
    ],
)
def test_times_in_seconds_milliseconds_and_iso(text: bytes, form: str, seconds: float) -> None:
    """A naive ISO time is UTC."""
    assert ok(b'{"id":"a","x":{},"ts":' + text + b"}", time_format=form).time == seconds


def test_an_absent_time_is_the_records_own() -> None:
    """The record's timestamp, never the clock."""
    assert ok(b'{"id":"a","x":{}}').time == RECORDED


def test_paths_of_fields_are_configurable() -> None:
    """Dotted paths reach into the envelope; a flat event leaves out what is not a feature."""
    paths = {"id": "meta.id", "features": "data.x", "label": "data.label", "time": "meta.t", "weight": "w"}
    event = ok(b'{"meta":{"id":"a","t":5},"data":{"x":{"a":1},"label":0}}', **paths)
    assert (event.id, event.time, event.label, event.features.flat()) == ("a", 5.0, False, {"a": 1.0})
    flat = ok(b'{"id":"a","a":1,"u":{"b":2},"y":1,"secret":3}', features=".", exclude=["secret"])
    assert flat.features.flat() == {"a": 1.0, "u.b": 2.0}
    assert json.loads(flat.features.raw) == {"a": 1, "u": {"b": 2}}
    refused = decode(b'{"id":"a","a":1,"_b":2}', features=".")
    assert isinstance(refused, Refusal)
    assert refused.reason == Reason.RESERVED_NAME


def test_types_can_be_fixed() -> None:
    """[event.types] refuses a feature that changes its type."""
    types = {"a": "number", "u.b": "text", "c": "bool"}
    assert ok(b'{"id":"a","x":{"a":1,"u":{"b":"s"},"c":true,"d":"free"}}', types=types)
    for value in (b'{"a":"1"}', b'{"u":{"b":2}}', b'{"c":1}', b'{"a":true}'):
        refused = decode(b'{"id":"a","x":' + value + b"}", types=types)
        assert isinstance(refused, Refusal)
        assert refused.reason == Reason.WRONG_TYPE


def test_a_decoder_makes_events_of_other_formats() -> None:
    """What it returns is checked as JSON is; what it raises refuses the event."""

    def decoder(value: bytes) -> object:
        name, amount = value.decode().split(";")
        return {"id": name, "x": {"amount": float(amount)}}

    assert ok(b"a;2.5", decoder=decoder).features.flat() == {"amount": 2.5}
    for value, reason in ((b"a", Reason.UNDECODABLE), (b"a;nan", Reason.BAD_NUMBER)):
        refused = decode(value, decoder=decoder)
        assert isinstance(refused, Refusal)
        assert refused.reason == reason


def test_colons_and_quotes_inside_values_are_no_duplicate_names() -> None:
    """The fast way counts colons; texts full of them take the slow way and pass."""
    event = ok(b'{"id":"a:b","ts":"2023-07-22T04:26:40Z","x":{"t":"::\\"q\\":1","u":{"v":":"}},"e":{"k":":"}}')
    assert event.features.flat() == {"t": '::"q":1', "u.v": ":"}


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
@example(b'{"id":"a","x":{"a":1}}')
def test_generated_garbage_is_refused_and_never_raises(value: bytes) -> None:
    """Whatever bytes come, the codec answers with an event or a refusal."""
    assert isinstance(decode(value), (Event, Refusal))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({}, optional={"id": _json, "x": _json, "y": _json, "w": _json, "ts": _json}))
def test_generated_json_is_an_event_only_when_every_part_is_sound(value: dict[str, object]) -> None:
    """What passes has finite numbers within float32, no reserved name, and at most one level of nesting."""
    found = decode(json.dumps(value).encode())
    if isinstance(found, Event):
        assert found.weight >= 0
        for name, one in found.features.values.items():
            inner = one if isinstance(one, dict) else {name: one}
            for key, scalar in inner.items():
                assert not key.startswith("_")
                assert not isinstance(scalar, float) or (math.isfinite(scalar) and abs(scalar) < 3.5e38)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_real_events_never_raise(data: st.DataObject) -> None:
    """Real events with bytes flipped, cut, doubled and moved."""
    value = bytearray(
        b'{"id":"a1","ts":1690000000.5,"x":{"amount":12.5,"country":"de","user":{"age":31}},"y":1,"w":1.0}'
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(0, len(value) - 1)))
        change = data.draw(st.sampled_from(["flip", "cut", "double", "swap"]))
        if change == "flip" and value:
            value[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del value[at : at + data.draw(st.integers(1, 10))]
        elif change == "double":
            value[at:at] = value[at : at + 10]
        else:
            random.Random(at).shuffle(value[at : at + 10])
    assert isinstance(decode(bytes(value)), (Event, Refusal))


SHAPES = [{"a": 1.5}, {"a": 1, "b": "x"}, {"a": None, "b": True}, {"u": {"a": 2}, "a": 1}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_decoder_made_for_the_usual_names_decides_as_the_general_one(shape: dict[str, object]) -> None:
    """Whatever comes after many events of one shape: the same event, or refused for the same reason."""
    warm = Codec(EventPaths(max_bytes=4096), Labels("binary"))
    usual = json.dumps({"id": "w", "x": shape, "y": 1}).encode()
    values = [value for _, _, value in BAD]
    values += [json.dumps({"id": "e", "x": other, "y": 0}).encode() for other in SHAPES]
    values += [b'{"id":"e","x":{"a":1e39},"y":1}', b'{"id":"e","x":{"a":1,"a":2},"y":1}', b'{"id":"e","x":{},"y":1}']
    values += [
        b'{"id":"e","x":{"b":1,"b":"x"},"y":1}',
        b'{"id":"e","x":{"a":"\xff"},"y":1}',
        b'{"id":"e","x":{"a":[1]}}',
    ]
    for number, value in enumerate(values):
        for _ in range(3):
            warm.decode(Record("t", "0", 0, 1, usual, time=RECORDED))
        record = Record("t", "0", number, number + 1, value, time=RECORDED)
        fresh = Codec(EventPaths(max_bytes=4096), Labels("binary")).decode(record)
        found = warm.decode(record)
        if isinstance(fresh, Event):
            assert isinstance(found, Event)
            assert (found.id, found.features.values, found.label) == (fresh.id, fresh.features.values, fresh.label)
        else:
            assert found == fresh


SCALARS = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
NUMBERS = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(-(2**62), 2**62), SCALARS), max_size=6)


@settings(max_examples=300)
@given(st.lists(st.one_of(NUMBERS, st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3)), max_size=5))
def test_every_way_to_decode_features_gives_the_same(rows: list[dict[str, object]]) -> None:
    """Short cuts are taken for features that are all numbers, or plain, and by what earlier ones were like."""
    event_module._numbers = True  # a stream begins
    for row in rows:
        raw = msgspec.json.encode(row)
        long_way = flatten(msgspec.json.decode(raw, type=dict[str, Value]))
        found = Features(raw).flat()
        assert found == long_way
        assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in long_way.items()}
        looked_at = Features(raw)
        assert looked_at.values == msgspec.json.decode(raw, type=dict[str, Value])
        assert looked_at.flat() == long_way


FLATTENED = [
    ({"tags": ["red", "new", "red"]}, {"tags": {"red": True, "new": True}}),
    ({"ids": [1400000000000000001, 1400000000000000002, 3.0]},
     {"ids": {"1400000000000000001": True, "1400000000000000002": True, "3": True}}),
    ({"user": {"home": {"city": "Ulm"}, "roles": ["a"]}}, {"user": {"home.city": "Ulm", "roles.a": True}}),
    ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b.c.d": 1}}),
    ({"a": [], "b": [None], "c": None}, {"a": {}, "b": {}, "c": None}),
    ({"a": 1, "b": {"c": True}}, {"a": 1, "b": {"c": True}}),
]  # fmt: skip


@pytest.mark.parametrize(("x", "flat"), FLATTENED)
def test_lists_and_deeper_nesting_are_features_where_it_is_asked_for(x: Any, flat: Any) -> None:
    """The same for what is learnt and for what is asked; without the setting they are refused."""
    codec = Codec(EventPaths(flatten=True), Labels("binary"))
    event = codec.decode(Record("t", "0", 0, 1, json.dumps({"id": "a", "x": x, "y": 1}).encode()))
    asked = codec.question(json.dumps({"x": x}).encode())
    assert event.features.values == asked[1].values == flat
    at_root = Codec(EventPaths(flatten=True, features="."), Labels("binary"))
    assert at_root.decode(Record("t", "0", 0, 1, json.dumps({"id": "a", "y": 1} | x).encode())).features.values == flat


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ('{"a": [{"b": 1}]}', Reason.WRONG_TYPE),
        ('{"a": [[1]]}', Reason.WRONG_TYPE),
        ('{"a": [1e999]}', Reason.WRONG_TYPE),
        ('{"a": {"b": {"c": 1e999}}}', Reason.BAD_NUMBER),
        ('{"a": {"b": {"c": 1, "c": 2}}}', Reason.DUPLICATE_NAME),
        ('{"a": {"b": {"c": 1}, "b.c": 2}}', Reason.DUPLICATE_NAME),
        ('{"a": {"b": {"c": 1}}, "a": 2}', Reason.DUPLICATE_NAME),
        ('{"_a": {"b": {"c": 1}}}', Reason.RESERVED_NAME),
        ('{"a": {"_b": {"c": 1}}}', Reason.RESERVED_NAME),
        ('{"a": {"b": {"c": 1e39}}}', Reason.BAD_NUMBER),
    ],
)
def test_what_cannot_be_flattened_is_refused(x: str, reason: Reason) -> None:
    """With its own reason."""
    codec = Codec(EventPaths(flatten=True), Labels("binary"))
    assert codec.decode(Record("t", "0", 0, 1, b'{"id":"a","x":%s,"y":1}' % x.encode())).reason == reason
    assert codec.question(b'{"x":%s}' % x.encode()).reason == reason
