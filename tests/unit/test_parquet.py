"""Every type that Parquet knows becomes features, or is left out and said so."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stream.columns import Columns, Survey
from stream.config import EventPaths
from stream.moments import reading_of
from stream.produce import events_of
from stream.tables import Table

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

_MOMENT = dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC)
#: an Arrow type, two cells of it, and what the first becomes
CASES: dict[str, tuple[Any, list[Any], Any]] = {
    "decimal": (pa.decimal128(10, 2), [Decimal("1.50"), Decimal("-3.00")], 1.5),
    "a decimal that is an id": (pa.decimal128(30, 0), [Decimal(2**70), Decimal(1)], str(2**70)),
    "large whole numbers": (pa.int64(), [2**60, 1], str(2**60)),
    "category": (pa.dictionary(pa.int32(), pa.string()), ["red", "blue"], "red"),
    "nanoseconds with a zone": (pa.timestamp("ns", tz="UTC"), [_MOMENT, _MOMENT], "2026-03-01T12:30:00+00:00"),
    "nanoseconds": (pa.timestamp("ns"), [_MOMENT.replace(tzinfo=None)] * 2, "2026-03-01T12:30:00"),
    "day": (pa.date32(), [_MOMENT.date()] * 2, "2026-03-01"),
    "time of day": (pa.time64("ns"), [dt.time(12, 30)] * 2, "12:30:00"),
    "duration": (pa.duration("ns"), [dt.timedelta(seconds=90)] * 2, "0:01:30"),
    "object": (
        pa.struct([("id", pa.int64()), ("price", pa.decimal128(6, 2)), ("at", pa.timestamp("ns"))]),
        [{"id": 2**60, "price": Decimal("2.25"), "at": _MOMENT.replace(tzinfo=None)}] * 2,
        {"id": str(2**60), "price": 2.25, "at": "2026-03-01T12:30:00"},
    ),
    "map": (pa.map_(pa.string(), pa.float64()), [[("a", 1.0), ("b", 2.0)]] * 2, {"a": 1.0, "b": 2.0}),
    "map of moments": (
        pa.map_(pa.string(), pa.timestamp("ns")), [[("a", _MOMENT.replace(tzinfo=None))]] * 2,
        {"a": "2026-03-01T12:30:00"},
    ),
    "texts": (pa.list_(pa.string()), [["x", "y"]] * 2, {"x": True, "y": True}),
    "moments": (
        pa.large_list(pa.timestamp("ns")), [[_MOMENT.replace(tzinfo=None)]] * 2, {"2026-03-01T12:30:00": True},
    ),
    "bytes": (pa.binary(), [b"\x00", b"\xff"], None),
    "nothing": (pa.null(), [None, None], None),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_every_type_becomes_a_feature_or_is_left_out(what: str, tmp_path: Path) -> None:
    """No cell ends the run, and none is cut to what a float holds."""
    kind, cells, becomes = CASES[what]
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"c": pa.array(cells, kind), "y": pa.array([0, 1])}), path)
    config = type("C", (), {"event": EventPaths()})()
    first = json.loads(next(iter(events_of(config, path, Columns(label="y")))))
    assert first["x"].get("c") == becomes


def test_what_is_left_out_or_kept_as_text_is_said(tmp_path: Path) -> None:
    """By its path."""
    path = tmp_path / "t.parquet"
    inner = pa.array([{"id": 2**60}], pa.struct([("id", pa.int64())]))
    parquet.write_table(pa.table({"raw": pa.array([b"x"]), "user": inner, "y": pa.array([1])}), path)
    table = Table(path)
    survey = Survey([table], Columns(label="y"), {})
    survey.look(table.rows())
    survey.decide()
    said = " ".join(survey.said)
    assert "raw holds bytes" in said
    assert "user.id stays text" in said


def test_iso_dates_leave_no_doubt() -> None:
    """2026-03-01 is the first of March, whatever else could be made of it."""
    assert reading_of("day", ["2026-03-01", "2026-04-02"])[1] == ""
