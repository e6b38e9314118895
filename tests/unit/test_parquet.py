"""What the types of a Parquet file become: a feature of the same meaning, or one sentence that names the column."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.errors import CommandError
from stream.tables.columns import Columns
from stream.tables.profile import profile
from stream.tables.readers import Table

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

_LONG = 14 * 10**17
_NS = pa.timestamp("ns", tz="UTC")
#: a column of two cells, and what they become
COLUMNS: dict[str, tuple[Any, list[Any]]] = {
    "decimals": (pa.array([Decimal("1.50"), Decimal(2)]), [1.5, 2.0]),
    "long decimals": (pa.array([Decimal(_LONG), Decimal(_LONG + 1)]), [str(_LONG), str(_LONG + 1)]),
    "long whole numbers": (pa.array([2**63, 2**63 + 1], pa.uint64()), [str(2**63), str(2**63 + 1)]),
    "categories": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    "days": (pa.array([date(2026, 1, 2), date(2026, 1, 3)]), ["2026-01-02", "2026-01-03"]),
    "times of day": (pa.array([time(1), time(2)]), ["01:00:00", "02:00:00"]),
    "nanoseconds": (pa.array([10**18 + 1001, 10**18 + 2001], _NS), [
        "2001-09-09T01:46:40.000001+00:00", "2001-09-09T01:46:40.000002+00:00",
    ]),
    "durations by nanosecond": (pa.array([1001, 2001], pa.duration("ns")), ["0:00:00.000001", "0:00:00.000002"]),
    "bytes": (pa.array([b"a", b"b"]), [None, None]),
    "maps": (pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())), [{"a": 1}, {"b": 2}]),
    "maps of decimals": (
        pa.array([[("a", Decimal("0.5"))], []], pa.map_(pa.string(), pa.decimal128(9, 1))), [{"a": 0.5}, {}],
    ),
    "objects with decimals": (pa.array([{"v": Decimal("0.25")}, {"v": Decimal("0.50")}]), [{"v": 0.25}, {"v": 0.5}]),
    "objects with durations": (pa.array([{"v": timedelta(seconds=1)}, {"v": None}]), [{"v": "0:00:01"}, {}]),
    "objects with moments": (
        pa.array([{"v": 1001}, {"v": None}], pa.struct([("v", _NS)])), [{"v": "1970-01-01T00:00:00.000001+00:00"}, {}],
    ),
    "objects with bytes": (pa.array([{"v": b"a", "n": 1}, {"v": b"b", "n": 2}]), [{"n": 1}, {"n": 2}]),
    "objects with ids": (pa.array([{"id": _LONG}, {"id": 7}]), [{"id": str(_LONG)}, {"id": "7"}]),
    "lists of bytes": (pa.array([[b"a"], [b"b"]]), [{}, {}]),
    "lists of decimals": (pa.array([[Decimal(1)], [Decimal(2)]]), [{"1": True}, {"2": True}]),
}  # fmt: skip


def written(tmp_path: Path, column: Any) -> Path:
    """A table of that column and a label."""
    path = tmp_path / "table.parquet"
    parquet.write_table(pa.table({"c": column, "y": [0, 1]}), path)
    return path


@pytest.mark.parametrize("name", COLUMNS)
def test_a_cell_means_what_its_type_says(tmp_path: Path, name: str) -> None:
    """Nothing of it is a stack trace, two ids are never one number, and whatever it is can be written as JSON."""
    column, become = COLUMNS[name]
    path = written(tmp_path, column)
    _, survey = profile(path, Columns(label="y"))
    values = [survey.columns["c"].value(row["c"]) for row in Table(path).rows()]
    assert values == become
    assert msgspec.json.decode(msgspec.json.encode(values)) == become


@pytest.mark.parametrize("name", ["bytes", "objects with bytes", "lists of bytes"])
def test_bytes_are_left_out_and_that_is_said(tmp_path: Path, name: str) -> None:
    """The sentence names the column."""
    found, _ = profile(written(tmp_path, COLUMNS[name][0]), Columns(label="y"))
    assert [one for one in found.said if one.startswith("c holds bytes")]


def test_bytes_are_no_id(tmp_path: Path) -> None:
    """They name nothing that somebody could type."""
    with pytest.raises(CommandError, match="bytes can be no id"):
        profile(written(tmp_path, COLUMNS["bytes"][0]), Columns(label="y", id="c"))


def test_what_lies_in_objects_has_the_type_that_is_sent(tmp_path: Path) -> None:
    """Else the configuration that ``init --from`` writes would refuse the rows."""
    found, _ = profile(written(tmp_path, COLUMNS["objects with ids"][0]), Columns(label="y"))
    assert found.columns["c"].leaves == {"c.id": "text"}
    assert [one for one in found.said if one.startswith("c.id stays text")]


def test_moments_are_the_time_of_events_however_few_their_days(tmp_path: Path) -> None:
    """The 1st of March 2026 by ISO 8601 is not the 3rd of January."""
    moments = pa.array([datetime(2026, 3, day, tzinfo=UTC).replace(tzinfo=None) for day in (1, 2)])
    found, _ = profile(written(tmp_path, moments), Columns(label="y"))
    assert (found.time, found.columns["c"].doubtful) == ("c", False)


@pytest.mark.parametrize(
    ("texts", "word"),
    [(["€ 1.50", "€ 2.50"], "'€ 1.50' is no number, but it looks like one"), (["12.5", "7"], "stand in quotes")],
)
def test_texts_that_look_like_numbers_are_said_where_cells_have_types(
    tmp_path: Path, texts: list[str], word: str
) -> None:
    """JSON and Parquet hold numbers as texts, too, and as texts they are learnt."""
    found, _ = profile(written(tmp_path, pa.array(texts)), Columns(label="y"))
    assert word in " ".join(found.said)


@pytest.mark.parametrize("task", ["regression", None])
def test_a_label_that_only_looks_like_numbers_says_how_to_write_it(tmp_path: Path, task: Any) -> None:
    """Whether the task was said or not."""
    path = tmp_path / "table.parquet"
    rows = range(2500)
    parquet.write_table(pa.table({"c": list(rows), "y": [f"€ {one}.00" for one in rows]}), path)
    with pytest.raises(CommandError, match=r"'€ 0.00' is no number, but it looks like one"):
        profile(path, Columns(label="y"), task=task)
