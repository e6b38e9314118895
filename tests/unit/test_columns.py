"""What the cells of a table mean: decided over the whole column, and never changed where they identify something."""

import csv
import gzip
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lineages import Folder

from learners.labels import Labels, canonical
from stream.commands.tables import named
from stream.dates import parser_of
from stream.errors import CommandError
from stream.record import Record
from stream.settings import EventPaths
from stream.source.codec import Codec
from stream.tables import readers
from stream.tables.check import _listed, again
from stream.tables.columns import Columns, Survey
from stream.tables.produce import events_of
from stream.tables.readers import Table

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
NUMERALS = st.from_regex(r"[+-]?0{0,2}\d{1,22}(\.\d{1,4})?(e\d{1,3})?", fullmatch=True)


def values(cells: list[str], kind: str | None = None, missing: list[str] | None = None) -> list[Any]:
    """What a CSV's column of these cells becomes."""
    column = _survey(cells, kind, missing).columns["c"]
    return [column.value(cell) for cell in cells]


def _survey(cells: list[Any], kind: str | None = None, missing: list[str] | None = None, *, typed: bool = False) -> Any:
    table = type("Rows", (), {"names": ["c"], "typed": typed, "path": "rows", "headless": ""})()
    survey = Survey([table], Columns(missing=missing or []), {"c": kind} if kind else {})
    survey.look({"c": cell} for cell in cells)
    return survey


@pytest.mark.parametrize(
    ("cells", "become"),
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["1", "2.5", "1e3", ".5"], [1, 2.5, 1000.0, 0.5]),
        (["0", "0.5", "-0.25"], [0, 0.5, -0.25]),
        ([" 1", "2 "], [1, 2]),
        (["01000", "99501"], ["01000", "99501"]),
        (["1", "007"], ["1", "007"]),
        (["00", "01", "23"], ["00", "01", "23"]),
        (["1400000000000000001", "1400000000000000002"], ["1400000000000000001", "1400000000000000002"]),
        (["9007199254740992"], [9007199254740992]),
        (["9007199254740993", "1"], ["9007199254740993", "1"]),
        (["12e4", "1e400"], ["12e4", "1e400"]),
        (["1", "x"], ["1", "x"]),
        (["0x1", "0b1", "1_000", "1,5"], ["0x1", "0b1", "1_000", "1,5"]),
        (["١٢"], ["١٢"]),
        (["inf", "1"], ["inf", "1"]),
        (["", "1"], [None, 1]),
        (["NA", "1", "N/A", "null", "-", "NaN", "?"], [None, 1, None, None, None, None, None]),
        (["NA", "GB", "null"], ["NA", "GB", "null"]),
        (["NaN", "NA"], [None, None]),
        (["true", "false"], ["true", "false"]),
    ],
)
def test_a_column_of_texts_is_of_one_kind(cells: list[str], become: list[Any]) -> None:
    """All of it numbers, or all of it the text that stands there."""
    assert values(cells) == become
    assert [type(one) for one in values(cells)] == [type(one) for one in become]


@pytest.mark.parametrize(
    ("kind", "cells", "become"),
    [
        ("text", ["1", "2"], ["1", "2"]),
        ("number", ["1", "x", "NA", ""], [1, "x", None, None]),
        ("number", ["007"], ["007"]),
        ("bool", ["true", "0", "True", "yes"], [True, False, True, "yes"]),
    ],
)
def test_configured_types_decide(kind: str, cells: list[str], become: list[Any]) -> None:
    """What does not fit them stays as it is, so that the codec refuses it and says so."""
    assert values(cells, kind) == become


def test_what_is_missing_can_be_said() -> None:
    """Also in a column of texts."""
    assert values(["NA", "x", "."], missing=["NA", "."]) == [None, "x", None]
    assert values(["-999", "1"], missing=["-999"]) == [None, 1]


@pytest.mark.parametrize(
    ("cells", "become"),
    [
        (["01000", "7"], ["01000", "7"]),
        ([1, 2.5], [1, 2.5]),
        ([1, "x"], ["1", "x"]),
        ([2**60, 1], [str(2**60), "1"]),
        ([True, False], [True, False]),
        ([float("nan"), 1.0], [None, 1.0]),
        ([["red", "blue"], None], [{"red": True, "blue": True}, None]),
    ],
)
def test_typed_cells_keep_their_types(cells: list[Any], become: list[Any]) -> None:
    """Of Parquet and JSON nothing is read out of texts; a list of texts becomes names that are true."""
    column = _survey(cells, typed=True).columns["c"]
    assert [column.value(cell) for cell in cells] == become


@pytest.mark.parametrize(
    ("cells", "typed", "said"),
    [
        (["1", "2"], True, "its numbers stand in quotes, such as '2'"),
        (["$1,200", "$3"], True, "is no number"),
        (["$1,200", "$3"], False, "is no number"),
        (["red", "blue"], True, ""),
        ([{"id": 2**60}], True, "c.id stays text"),
        ([b"x"], True, "c holds bytes"),
    ],
)
def test_what_is_no_number_though_it_looks_like_one_is_said(cells: list[Any], typed: bool, said: str) -> None:
    """And what is left out."""
    survey = _survey(cells, typed=typed)
    assert (said in " ".join(survey.said)) if said else survey.said == []


@given(st.lists(TEXTS | NUMERALS, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_id_is_the_text_that_stands_in_the_table(tmp_path: Path, ids: list[str]) -> None:
    """Whatever it looks like; and a label, too, is the same class as the event's JSON says."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["k", "a", "y"])
    writer.writerows([one, 1, one] for one in ids)
    path = tmp_path / "t.csv"
    path.write_text(out.getvalue(), newline="")
    config = type("C", (), {"event": EventPaths()})()
    events = [json.loads(one) for one in events_of(config, path, Columns(id="k", label="y"))]
    assert [one["id"] for one in events] == ids
    labels = {canonical(one["y"]) for one in events if one.get("y") is not None}
    assert len(labels) <= len({one.strip() for one in ids})


@pytest.mark.parametrize("digits", [16, 17, 19, 25])
def test_long_whole_labels_are_not_one(digits: int) -> None:
    """As numbers and as texts, in a class of their own each; a text and a number of the same digits are one."""
    labels = Labels("multiclass")
    codec = Codec(EventPaths(), labels)
    ones = [int("9" * (digits - 1) + str(one)) for one in range(10)]
    for one in ones:
        for y in (json.dumps(one), json.dumps(str(one))):
            found = codec.decode(Record("t", "0", 0, 1, b'{"id":"a","x":{"b":1},"y":%s}' % y.encode()))
            assert found.label == ones.index(one)
    assert labels.names == ones


def test_whole_classes_are_answered_as_whole_numbers() -> None:
    """Also those that came as 2.0, and those of a snapshot of before."""
    labels = Labels("multiclass")
    assert [labels.label_of(one) for one in (2.0, 3, "x", 2)] == [0, 1, 2, 0]
    assert [(type(one), one) for one in labels.names] == [(int, 2), (int, 3), (str, "x")]
    labels.restore([5.0, 6.5])
    assert [(type(one), one) for one in labels.names] == [(int, 5), (float, 6.5)]


@pytest.mark.parametrize(
    ("texts", "form", "first"),
    [
        (["2013-01-01T10:00:00Z"], "iso", 1357034400.0),
        (["2013-01-01 10:00"], "iso", 1357034400.0),
        (["1732000000"], "number", 1732000000.0),
        (["1732000000123"], "number", 1732000000.123),
        (["1732000000.5"], "number", 1732000000.5),
        (["1/1/2011", "1/31/2011"], "%m/%d/%Y", 1293840000.0),
        (["31/1/2011", "1/2/2011"], "%d/%m/%Y", 1296432000.0),
        (["1/1/2011", "2/1/2011", "1/2/2011"], "%d/%m/%Y", 1293840000.0),
        (["31.12.10 23:59"], "%d.%m.%y %H:%M", 1293839940.0),
        (["20110131"], "%Y%m%d", 1296432000.0),
        (["20110131235959"], "%Y%m%d%H%M%S", 1296518399.0),
        (["2011", "2012"], "%Y", 1293840000.0),
    ],
)
def test_times_are_read_by_their_column(texts: list[str], form: str, first: float) -> None:
    """Of two readings, the one in which they come in order."""
    read, found = parser_of("t", None, texts)
    assert (found, read(texts[0])) == (form, first)


@pytest.mark.parametrize(
    ("texts", "word"),
    [(["1/2/2011", "1/2/2011"], "%d/%m/%Y"), (["tomorrow"], "--time-format"), (["2011-13-45"], "--time-format")],
)
def test_times_that_nobody_can_read_are_an_error(texts: list[str], word: str) -> None:
    """It names a way out."""
    with pytest.raises(CommandError, match=word):
        parser_of("t", None, texts)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_csv_as_it_is_exported(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """What separates the columns is found out; how it is written is said."""
    path = tmp_path / "t.csv"
    path.write_text(f"größe{delimiter}b\r\nä{delimiter}2\r\n\r\n", encoding=encoding, newline="")
    table = Table(path, encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    assert list(table.rows()) == [{"größe": "ä", "b": "2"}]


def run(here: Folder, name: str, text: str, *options: str, code: int = 0) -> Any:
    """``holdfast produce`` of a file."""
    (here.path / name).write_text(text)
    return here.run("produce", name, *options, code=code)


@pytest.mark.parametrize(
    ("name", "text", "options", "code", "word"),
    [
        ("a.csv", "a,y\n1, yes\n2, no\n", ["--label", "y", "--positive", "yes"], 2, "' yes' (1), ' no' (1)"),
        ("a.csv", "a,y\n1,up\n2,down\n", ["--label", "y"], 1, "2 unknown_label"),
        ("a.csv", "a,y\n1,1\n2,1\n", ["--label", "y"], 0, "every label is positive"),
        ("a.csv", "5.1,3.5,1\n4.9,3.0,0\n", ["--label", "1"], 0, "a.csv looks like a row (5.1, 3.5, 1), and it has"),
        ("a.csv", "a,y\n1,YES\n2,yes\n", ["--label", "y", "--positive", "yes"], 0, "count apart: 'YES' and 'yes'"),
        ("a.csv", "a,y,k\n1,1,x\n2,0,x\n", ["--label", "y", "--id", "k"], 0, "1 have the id of another"),
        ("a.csv", "a\n1\n2\n", [], 0, "2 have no label"),
        ("a.csv", "a,t,y\n1,1/2/2011,1\n2,1/2/2011,0\n", ["--label", "y", "--time", "t"], 2, "--time-format"),
        ("a.csv", "a,y\nNA,1\n2,0\n", ["--label", "y"], 0, "a: 'NA' among numbers is taken for nothing"),
        ("a.csv", 'a;y\n"71,49";1\n"3,5";0\n', ["--label", "y"], 0, "a is taken for text: '71,49' is no number, but"),
        ("a.csv", "a,y\n$683,1\n$3,0\n", ["--label", "y"], 0, "write it as 1234.5"),
        ("a.csv", "a,y\n01.01.2020 00:00,1\n01.01.2020 00:01,0\n", ["--label", "y"], 0, "it may be a time: --time"),
        ("a.csv", "a,b,y\n1,2,1\n", ["--positive", "a", "--positive", "b"], 2, "--positive is given 2 times"),
        ("a.csv", "a,b,y\n1,2,1\n", ["--label", "y", "--label", "b"], 2, "--label is given 2 times"),
        ("a.json", '{\n"id": 1,\n"x": {}\n}\n', [], 1, "4 will be refused (4 not_"),
        ("a.json", '[{"id": 1, "x": {"a": 1}, "y": 1},\n{"id": 2}', [], 2, "one JSON array"),
        ("a.jsonl", '{"id": 1, "x": {"a": 1}, "y": 1}\n', ["--label", "fraud"], 2, "events already"),
        ("a.csv", "a,y\n1,1\n\xe4,0\n", ["--label", "y", "--encoding", "ascii"], 2, "--encoding"),
    ],
)  # fmt: skip
def test_whoever_sends_is_told(
    folder: Callable[..., Folder], name: str, text: str, options: list[str], code: int, word: str
) -> None:
    """What matches nothing, what will be refused, what was guessed; all refused is another exit code."""
    done = run(folder(), name, text, *options, code=code)
    assert word in " ".join((done.stdout + done.stderr).split()), (done.stdout, done.stderr)


@pytest.mark.parametrize(("recent", "said"), [(20_000, ["1 have", "2 have"]), (1, []), (0, [])])
def test_ids_are_looked_for_in_all_files_of_a_run(folder: Callable[..., Folder], recent: int, said: list[str]) -> None:
    """As far back as the trainer remembers them."""
    here = folder(event__recent_ids=recent)
    for name, ids in (("a.csv", "pqp"), ("b.csv", "qxp")):
        (here.path / name).write_text("a,y,k\n" + "".join(f"{n},1,{one}\n" for n, one in enumerate(ids)))
    done = here.run("produce", "a.csv", "b.csv", "--label", "y", "--id", "k")
    assert re.findall(r"(\d have) the id of another one of this run", " ".join(done.stderr.split())) == said


def test_rows_of_json_are_a_table_when_columns_are_named(folder: Callable[..., Folder]) -> None:
    """Nested objects stay namespaces, lists of texts become names."""
    here = folder()
    row = {"n": 1, "user": {"age": 3}, "tags": ["a", "b"], "zip": "01000", "y": 1}
    run(here, "a.jsonl", json.dumps(row) + "\n" + json.dumps(row | {"y": 0, "n": 2}), "--label", "y")
    first = json.loads((here.events / "a.jsonl").read_text().splitlines()[0])
    assert first == {
        "id": "a.jsonl:1", "x": {"n": 1, "user": {"age": 3}, "tags": {"a": True, "b": True}, "zip": "01000"}, "y": 1,
    }  # fmt: skip


def test_a_line_without_an_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the packed file is; of both kinds."""
    monkeypatch.setattr(readers, "_LONGEST", 1000)
    for name, first in (("a.csv.gz", b"a,b\n"), ("a.jsonl.gz", b'{"a": 1}\n')):
        path = tmp_path / name
        path.write_bytes(gzip.compress(first + b"[" * 5000))
        with pytest.raises(CommandError, match="is longer than"):
            list(Table(path).rows())


def test_a_file_is_not_sent_into_itself(folder: Callable[..., Folder]) -> None:
    """Also not under another name of the same file."""
    here = folder()
    here.write([{"id": "a", "x": {"a": 1}, "y": 1}])
    (here.path / "a.jsonl").hardlink_to(here.events / "a.jsonl")
    assert "very file" in here.run("produce", "a.jsonl", code=2).stderr


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a,b"], ["a", "b"]), (["a", "b"], ["a", "b"]), (["a, b ,"], ["a", "b"]), (['"lat,lon",c'], ["lat,lon", "c"]),
        (['"lat,lon"', "c"], ["lat,lon", "c"]), (['"say ""hi"", you"'], ['say "hi", you']), ([""], []), ([], []),
    ],
)  # fmt: skip
def test_names_with_commas_can_be_named(given: list[str], names: list[str]) -> None:
    """By repeating the option, or in double quotes as a CSV has them."""
    assert named(given) == names
    assert named([_listed(names)]) == names


def test_a_column_with_a_comma_is_a_feature(folder: Any) -> None:
    """Through the command; and what check advises to send another table with can be pasted."""
    here: Folder = folder()
    path = here.path / "t.csv"
    path.write_text('"lat,lon",b,c,y\n' + "".join(f"{n},{n % 3},{n % 5},{n % 2}\n" for n in range(40)))
    here.run("produce", str(path), "--label", "y", "--features", '"lat,lon"', "--features", "b")
    (line, *_) = (here.events / "t.jsonl").read_bytes().splitlines()
    assert set(orjson.loads(line)["x"]) == {"lat,lon", "b"}
    words = shlex.split(again(path, Columns(label="y", features=["lat,lon", "b"])))
    assert named([words[words.index("--features") + 1]]) == ["lat,lon", "b"]


@pytest.mark.parametrize("form", ["iso", "s", "ms", "%d.%m.%Y", "%H:%M", "%Q", "nonsense"])
def test_a_form_of_times_that_fits_none_is_told_with_one_of_them(form: str) -> None:
    """And not later, for each row, as if another form had been asked for."""
    with pytest.raises(CommandError, match=r"no time of when, such as '1/31/2011', is written as --time-format"):
        parser_of("when", form, ["", "1/31/2011", "2/28/2011"])
    assert parser_of("when", form, [])[1] == form
