"""What a template reads of an event is what the codec makes of it; what it leaves is left to the codec (promise 10)."""

import json
import math
import os
import random
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners import Event
from learners.labels import Labels
from stream.record import Record
from stream.settings import EventPaths
from stream.source.alike.batches import BatchCodec
from stream.source.codec import Codec

scan = pytest.importorskip("stream.source.alike.scan", exc_type=ImportError)


def _number(text: str) -> float | None:
    data = np.frombuffer(bytearray(text.encode()), np.uint8)
    value, at = scan.number(data, 0, len(data), scan.POWERS, scan.TENS)
    return value if at == len(data) else None


def test_numbers_are_read_to_the_last_bit() -> None:
    """Random doubles, decimals of every length, and halves between two doubles, where rounding is hardest."""
    draw = random.Random(1)
    left = 0
    for index in range(60_000):
        bits = (draw.randint(900, 1200) << 52) | draw.getrandbits(52)
        double = struct.unpack("d", struct.pack("Q", bits))[0]
        half = (Decimal(double) + Decimal(math.nextafter(double, math.inf))) / 2
        text = [
            repr(draw.gauss(0, 1)),
            repr(struct.unpack("d", struct.pack("Q", draw.getrandbits(64)))[0]),
            f"{draw.gauss(0, 100):.{draw.randint(0, 17)}f}",
            f"{draw.getrandbits(62)}e{draw.randint(-30, 30)}",
            f"{draw.getrandbits(53) | 1}5e{draw.randint(-25, 5)}",
            f"{half:.18e}",
        ][index % 6]
        if "n" in text:
            continue
        found = _number(text)
        left += found is None
        if found is not None:
            assert found.hex() == (0.0 if text == "-0" else float(text)).hex(), text
    assert left < 2_000  # those are read by the codec


@pytest.mark.parametrize("text", ["", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1", "1e400", "1" * 20, "NaN"])
def test_what_is_no_plain_number_is_left(text: str) -> None:
    """JSON's grammar, and no more digits than are certain."""
    assert _number(text) is None


SHAPES: list[dict[str, Any]] = [
    {"id": "e1", "x": {"a": 1.5, "b": -2, "color": 3e-7}, "y": 1},
    {
        "id": 17,
        "ts": 1_732_000_000.5,
        "x": {"a": 1.5, "user": {"age": 31, "tall": True}, "c": "de"},
        "y": "no",
        "w": 2.0,
    },
    {"x": {"a": 0}, "id": "x", "y": True},
    {"id": "u", "x": {"f": 1.0, "g": 2.0}},
    {"id": "t", "ts": "2026-01-02T03:04:05Z", "x": {"f": 1.0}, "y": 0},
    {"id": "g", "x": {"größe": 1.5, "u": {"straße": 2.0, "b": 1.0}}, "y": 1},
    {"id": "d", "x": {"u": {"h": {"c": 1.5}}, "b": 1.0, "t": "x"}, "y": 1},
]
SEPARATORS = [(",", ":"), (", ", ": "), (",\n ", " : ")]


def _varied(shape: Any, draw: random.Random) -> Any:
    if isinstance(shape, dict):
        return {name: _varied(value, draw) for name, value in shape.items()}
    if isinstance(shape, bool):
        return draw.random() < 0.5
    if isinstance(shape, (int, float)):
        return draw.choice([draw.randint(0, 10**6), round(draw.gauss(0, 9), 4), draw.gauss(0, 1e-9), 0, -0.0, 1e30])
    return draw.choice(["a", "b c", "2026-05-06T07:08:09+01:00", "x:y", "_z", "yes", "no", "1"])


def _mutated(value: bytes, draw: random.Random) -> bytes:
    """Bytes changed, doubled, cut out; names doubled; odd literals."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(value) + 1)
        odd = [
            b"null",
            b'"',
            b"\\",
            b"{}",
            b"[1]",
            b"\xff",
            "é".encode(),
            b" ",
            b"0",
            b"-",
            b"1e999",
            b",",
            b":",
            b"\n",
        ]
        value = draw.choice(
            [
                value[:at] + draw.choice(odd) + value[at:],
                value[:at] + value[at + 1 :],
                value[:at] + value[at:][:9] + value[at:],
            ]
        )
    return value


def _said(found: Any) -> Any:
    if not isinstance(found, Event):
        return found
    flat = found.features.flat()
    types = [(name, type(value), repr(value)) for name, value in flat.items()]
    return found.id, found.features.raw, types, found.label, found.weight, found.time


@settings(max_examples=250, deadline=None, derandomize=bool(os.environ.get("CI")))
@given(
    seed=st.integers(0, 10**6), shape=st.sampled_from(SHAPES), separators=st.sampled_from(SEPARATORS),
    task=st.sampled_from(["binary", "multiclass", "regression"]),
    types=st.sampled_from([{}, {"a": "number", "c": "text"}]),
    flatten=st.booleans(),
)  # fmt: skip
def test_events_are_read_as_the_codec_reads_them(
    seed: int, shape: dict[str, Any], separators: tuple[str, str], task: Any, types: dict[str, str], flatten: bool
) -> None:
    """Whatever comes, also in the middle of events that all look alike."""
    draw = random.Random(seed)
    values: list[bytes | None] = []
    for _ in range(120):
        value = json.dumps(_varied(shape, draw), separators=separators).encode()
        values.append(_mutated(value, draw) if draw.random() < 0.15 else value)
        if draw.random() < 0.02:
            values.append(draw.choice([None, b"", b"{}", b"[]", b"null", json.dumps(draw.choice(SHAPES)).encode()]))
    records = [Record("t", "0", at, at + 1, value, 1_790_000_000.0) for at, value in enumerate(values)]
    plain, other = (Codec(EventPaths(types=types, flatten=flatten), Labels(task, positive="1")) for _ in range(2))
    fast = BatchCodec(other, 0)
    expected = [_said(plain.decode(record)) for record in records]
    found = [_said(one) for at in range(0, len(records), 40) for one in fast.decode_many(records[at : at + 40])]
    assert found == expected


def test_events_that_look_alike_come_with_their_numbers() -> None:
    """So that a learner of numbers need not read them again."""
    draw = random.Random(3)
    values = [json.dumps(_varied(SHAPES[0], draw)).encode() for _ in range(100)]
    records = [Record("t", "0", at, at + 1, value) for at, value in enumerate(values)]
    codec = BatchCodec(Codec(EventPaths(), Labels("regression")), 0)
    codec.decode_many(records[:50])
    found = codec.decode_many(records[50:])
    with_rows = [one for one in found if isinstance(one, Event) and one.features.names == ("a", "b", "color")]
    assert len(with_rows) > 40
    for one in with_rows:
        assert np.frombuffer(one.features.row).tolist() == list(json.loads(one.features.raw).values())
