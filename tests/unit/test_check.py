"""``check`` and ``init --from``: what a table is taken for, and folders that learn, are guarded and answer."""

import csv
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stream.cli import main
from stream.config import load
from stream.dates import parser_of
from stream.errors import CommandError
from stream.tables.check import Checked, check
from stream.tables.columns import Columns
from stream.tables.produce import events_of
from stream.tables.readers import Table

ROWS = 400
WORDS = ["free", "prize", "call", "now", "later", "home", "lunch", "ok", "see", "you", "win", "cash"]


def table(tmp_path: Path, columns: dict[str, Callable[[int], Any]], rows: int = ROWS) -> Path:
    """A CSV whose cells are made by row."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([make(row) for make in columns.values()] for row in range(rows))
    path = tmp_path / "t.csv"
    path.write_text(out.getvalue(), newline="")
    return path


def found(
    path: Path, label: str | None = "y", task: Any = None, exclude: list[str] | None = None, **columns: Any
) -> Checked:
    """What is found of a table."""
    return check(path, Columns(label=label, **columns), task=task, exclude=exclude or [])


COLUMNS: dict[str, tuple[Callable[[int], Any], str]] = {
    "number": (lambda n: n * 7 % 101 / 10, "number"),
    "code": (lambda n: n * 7 % 12, "code"),
    "flag": (lambda n: n % 2, "number"),
    "text": (lambda n: ["a", "b", "c"][n * 5 % 3], "category"),
    "zip": (lambda n: f"0{1000 + n % 5}", "category"),
    "many": (lambda n: f"user-{n * 7919 % 399}", "hashed"),
    "title": (lambda n: f"{WORDS[n % 12]} {n * 7919 % 399}", "words"),
    "long id": (lambda n: 1400000000000000001 + n * 31 % 397, "hashed"),
    "message": (lambda n: " ".join(WORDS[(n * k) % 12] for k in range(1, 6)) + f" {n}", "words"),
    "day": (lambda n: f"{n % 12 + 1}/{n % 28 + 1}/2011", "date"),
    "moment": (lambda n: f"2013-01-01T{n % 24:02}:00:00Z", "date"),
    "same": (lambda _: "x", "constant"),
    "nothing": (lambda _: "", "constant"),
    "row": (lambda n: n + 1, "counter"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_taken_for_what_it_is(tmp_path: Path, name: str) -> None:
    """Each kind beside a label, and a number to learn from."""
    make, role = COLUMNS[name]
    columns = {name: make, "another": lambda n: n % 13 / 3, "y": lambda n: n * 11 % 7 % 2}
    one = found(table(tmp_path, columns)).found.columns[name]
    assert one.role == role


@pytest.mark.parametrize(
    ("label", "task", "positive"),
    [
        (lambda n: n % 2, "binary", 1),
        (lambda n: ["ham", "spam"][n % 3 == 0], "binary", "spam"),
        (lambda n: [" <=50K", " >50K"][n % 3 == 0], "binary", " >50K"),
        (lambda n: ["no", "yes"][n % 3 > 0], "binary", "yes"),
        (lambda n: [2, 1][n % 3 == 0], "binary", 1),
        (lambda n: n % 4, "multiclass", None),
        (lambda n: ["a", "b", "c"][n % 3], "multiclass", None),
        (lambda n: n * 7 % 101, "regression", None),
        (lambda n: n * 7 % 101 / 10, "regression", None),
    ],
)
def test_the_label_decides_the_task(tmp_path: Path, label: Callable[[int], Any], task: str, positive: Any) -> None:
    """And the proposed configuration refuses no row."""
    checked = found(table(tmp_path, {"a": lambda n: n * 7 % 13 / 3, "y": label}))
    assert (checked.found.task, checked.found.positive) == (task, positive)
    assert checked.sent is not None
    assert not checked.sent.refused, checked.sent.example
    assert not checked.sent.unlabelled


@pytest.mark.parametrize(
    ("values", "task", "positive", "classes"),
    [
        (["YES", "Yes", "yes", "no"], "binary", "YES", 2),
        (["True", "true", "false"], "binary", "True", 2),
        (["a", " a", "b"], "binary", "b", 2),
        (["a", "A ", "b", "c"], "multiclass", None, 3),
        (["yes", "no"], "binary", "yes", 2),
    ],
)
def test_spellings_of_a_label_are_one_label(
    tmp_path: Path, values: list[str], task: str, positive: Any, classes: int
) -> None:
    """Said, written into the configuration, and counted so by the trial; where there is one spelling, nothing is."""
    checked = found(table(tmp_path, {"a": lambda n: n * 7 % 13, "y": lambda n: values[n % len(values)]}))
    several = len(values) > classes
    assert (checked.found.task, checked.found.positive, checked.found.folds) == (task, positive, several)
    assert any("differ only in case or spaces" in one for one in checked.found.said) == several
    assert checked.config(tmp_path).event.fold_labels == several
    assert checked.sent is not None
    assert (len(checked.sent.labels), checked.sent.refused.total()) == (classes, 0)
    if several:
        assert f"--oaa {classes}" in checked.configuration or task == "binary"


@pytest.mark.parametrize(
    ("leak", "word"),
    [
        (lambda n: n * 11 % 7 % 2, "equals the label"),
        (lambda n: ["x", "y"][n * 11 % 7 % 2], "determines the label"),
        (lambda n: 10.0 * (n * 11 % 7 % 2) + n % 101 / 1000, "follows the label"),
    ],
)
def test_columns_that_hold_the_label_are_suspected(tmp_path: Path, leak: Callable[[int], Any], word: str) -> None:
    """And one that does not is not; what is left out is not asked about."""
    path = table(tmp_path, {"leak": leak, "fair": lambda n: n * 3 % 17, "y": lambda n: n * 11 % 7 % 2})
    columns = found(path).found.columns
    assert word in columns["leak"].suspect
    assert not columns["fair"].suspect
    assert "--exclude leak" in " ".join(found(path).found.said)
    assert not any("leak" in one for one in found(path, exclude=["leak"]).found.said)


@pytest.mark.parametrize(
    ("columns", "options", "word"),
    [
        ({"y": lambda n: n % 3}, {"task": "binary"}, "more than two values"),
        ({"y": lambda n: "abc"[n % 3]}, {"task": "regression"}, "not a column of numbers"),
        ({"y": lambda n: "abc"[n % 2]}, {"positive": "z"}, "no value of"),
        ({"y": lambda _: ""}, {}, "holds nothing"),
        ({"a": lambda n: n % 7, "y": lambda _: 1}, {}, "in every row: there is nothing to learn"),
        ({"y": lambda n: n % 2}, {}, "no column of"),
        ({"a": lambda n: n % 7, "y": lambda n: n % 2}, {"exclude": ["a"]}, "no column of"),
        ({"a": lambda n: n, "y": lambda n: n % 2}, {"exclude": ["b"]}, "no column 'b'"),
        ({"a": lambda n: n}, {}, "no column 'y'"),
    ],
)
def test_what_cannot_be_learnt_says_why(
    tmp_path: Path, columns: dict[str, Callable[[int], Any]], options: dict[str, Any], word: str
) -> None:
    """Before anything is written."""
    with pytest.raises(CommandError, match=word):
        found(table(tmp_path, columns), **options)


def test_ids_and_times_are_found_and_said(tmp_path: Path) -> None:
    """An id that repeats is said, too."""
    path = table(
        tmp_path,
        {"order_id": lambda n: f"o{n}", "day": COLUMNS["day"][0], "a": lambda n: n * 7 % 13, "y": lambda n: n % 2},
    )
    checked = found(path)
    assert (checked.found.id, checked.found.time) == ("order_id", "day")
    assert parser_of("day", None, ["1/1/2011", "2/28/2011"])[1] == checked.columns.time_format
    assert "order_id" not in checked.asked
    repeated = found(path, id="a")
    assert "have an id that came before" in " ".join(repeated.found.said)


def command(folder: Path, *arguments: str) -> str:
    """``holdfast`` in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize(
    ("label", "measure", "least"),
    [
        (lambda n: ["no", "yes"][n * 7 % 12 > 5], "accuracy", 0.9),
        (lambda n: f"c{n * 7 % 12 // 4}", "accuracy", 0.9),
        (lambda n: 1000 + 50 * (n * 7 % 12) + n % 5 / 10, "r2", 0.4),
    ],
    ids=["binary", "multiclass", "regression"],
)
def test_a_folder_made_of_a_table_of_all_kinds_learns_it(
    tmp_path: Path, label: Callable[[int], Any], measure: str, least: float
) -> None:
    """Both learners, from two commands; nothing is refused, quarantined or unknown."""
    path = table(tmp_path, {name: make for name, (make, _) in COLUMNS.items()} | {"label": label}, 1200)
    said = command(tmp_path, "init", "shop", "--from", str(path), "--label", "label")
    assert "1,200 rows of" in said
    assert "curl -s http://127.0.0.1:8000/predict" in said
    shop = tmp_path / "shop"
    command(shop, "train", "--until-end")
    report = json.loads(command(shop, "status", "--json"))
    assert report["unmatched"] == []
    for name, one in report["learners"].items():
        events = one["events"]
        assert (events["consumed"], events["dead_lettered"], events["quarantined"]) == (1200, 0, 0), name
    assert report["learners"]["model"]["metrics"][measure] > least
    subprocess.run([sys.executable, "-m", "stream.cli", "guard", "--once"], cwd=shop, timeout=120, capture_output=True)
    assert json.loads(command(shop, "status", "--json"))["learners"]["model"]["verdict"] == "pass"


def test_an_empty_folder_has_no_events(tmp_path: Path) -> None:
    """So that a sample mixes into nobody's model; options of a table without one are an error."""
    command(tmp_path, "init", "shop", "--empty")
    assert not (tmp_path / "shop" / "events").exists()
    refused = subprocess.run(
        [sys.executable, "-m", "stream.cli", "init", "other", "--label", "y"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert "--from FILE" in refused.stderr


def test_a_table_is_read_three_times_and_its_events_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types, roles, and the trial; what was tried is what is sent, byte for byte as produce makes it."""
    reads: list[Path] = []
    rows = Table.rows

    def counted(table: Table, *given: Any) -> Any:
        reads.append(table.path)
        return rows(table, *given)

    monkeypatch.setattr(Table, "rows", counted)
    path = tmp_path / "t.csv"
    path.write_text("k,a,c,y\n" + "".join(f"k{n},{n % 7}.5,{'xyz'[n % 3]},{n % 2}\n" for n in range(200)))
    folder = tmp_path / "made"
    done = CliRunner().invoke(main, ["init", str(folder), "--from", str(path), "--label", "y", "--id", "k"])
    assert done.exit_code == 0, done.output
    assert "200 rows of" in done.output
    assert len(reads) == 3
    config = load(folder / "holdfast.toml", {})
    columns = Columns(label="y", id="k", features=["a", "c"])
    made = [*events_of(config, path, columns)]
    assert [one["id"] for one in map(json.loads, made)] == [f"k{n}" for n in range(200)]
    assert (folder / "events/t.jsonl").read_bytes() == b"".join(one + b"\n" for one in made)


@pytest.mark.parametrize(
    ("rows", "word"),
    [([{"_under": n * 5 % 11, "a": n * 7 % 13, "y": n % 2} for n in range(50)], "--exclude NAME"),
     ([{"u": [{"city": "x"}], "a": n * 7 % 13, "y": n % 2} for n in range(50)], "--exclude NAME")],
)  # fmt: skip
def test_what_would_be_refused_comes_with_a_way_out(tmp_path: Path, rows: list[dict[str, Any]], word: str) -> None:
    """And without the column that is named, nothing is refused."""
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = CliRunner().invoke(main, ["check", str(path), "--label", "y"])
    assert word in " ".join(done.output.split())
    done = CliRunner().invoke(main, ["check", str(path), "--label", "y", "--exclude", next(iter(rows[0]))])
    assert "would be refused" not in done.output


DATES = {
    "%m/%d/%Y": "{d.month}/{d.day}/{d.year}", "%d/%m/%Y": "{d.day}/{d.month}/{d.year}",
    "%d.%m.%Y %H:%M": "{d:%d.%m.%Y %H:%M}", "%Y/%m/%d": "{d:%Y/%m/%d}", "%Y.%m.%d %H:%M:%S": "{d:%Y.%m.%d %H:%M:%S}",
    "%Y%m%d": "{d:%Y%m%d}", "%Y%m%d%H%M%S": "{d:%Y%m%d%H%M%S}", "%d-%m-%Y": "{d:%d-%m-%Y}", "%m/%d/%y": "{d:%m/%d/%y}",
    "%b %d, %Y": "{d:%b} {d.day}, {d.year}", "%B %d, %Y": "{d:%B} {d.day}, {d.year}", "%d %b %Y": "{d:%d %b %Y}",
    "%d-%b-%y": "{d:%d-%b-%y}", "%d-%b-%Y": "{d:%d-%b-%Y}", "%d/%b/%Y:%H:%M:%S": "{d:%d/%b/%Y:%H:%M:%S}",
    "%m/%d/%Y %I:%M %p": "{d:%m/%d/%Y %I:%M %p}", "%m/%d/%Y %I:%M:%S %p": "{d:%m/%d/%Y %I:%M:%S %p}",
    "%Y/%m/%d %H:%M:%S.%f": "{d:%Y/%m/%d %H:%M:%S}.250", "%a %b %d %H:%M:%S %Y": "{d:%c}",
    "%a, %d %b %Y %H:%M:%S %z": "{d:%a, %d %b %Y %H:%M:%S} +0000", "%B %d, %Y %I:%M %p": "{d:%B %d, %Y %I:%M %p}",
    "iso": "{d}",
}  # fmt: skip


@pytest.mark.parametrize("form", DATES)
def test_dates_are_found_however_they_are_written(tmp_path: Path, form: str) -> None:
    """As features of several parts, some of them missing; they are no longer said to be texts that may be times."""
    begin = datetime(2011, 1, 1, 10, 30, tzinfo=UTC).replace(tzinfo=None)
    days = [begin + timedelta(hours=n * 7919 % 16_000, minutes=n) for n in range(ROWS)]
    columns = {"when": lambda n: DATES[form].format(d=days[n]) if n % 9 else "", "a": lambda n: n * 7 % 13,
               "first": lambda n: 1e9 + n, "y": lambda n: n % 2}  # fmt: skip
    checked = found(table(tmp_path, columns), time="first")
    one = checked.found.columns["when"]
    assert (one.role, one.form, one.doubtful) == ("date", form, False)
    assert not any("may be a time" in sentence for sentence in checked.found.said)
    assert checked.sent is not None
    assert not checked.sent.refused, checked.sent.example
    module: dict[str, Any] = {}
    exec(checked.model, module)  # noqa: S102  what is written for a user
    asked = json.loads(checked.asked)["x"] | {"when": DATES[form].format(d=days[1])}
    parts = module["DateParts"](module["DATES"]).transform_one(asked)
    hour = days[1].hour if "H" in form or "I" in form or form == "iso" else 0
    assert parts == {"when month": days[1].month, "when weekday": days[1].weekday(), "when hour": hour}


@pytest.mark.parametrize(
    ("text", "form"), [("{m}/{d}/2011", "%m/%d/%Y"), ("{d:02}.{m:02}.2011 10:30", "%d.%m.%Y %H:%M")]
)
def test_dates_that_can_be_read_in_two_ways_are_read_in_the_usual_one(tmp_path: Path, text: str, form: str) -> None:
    """That is said, and no such column is taken for the time of events."""
    columns = {"when": lambda n: text.format(d=n * 7 % 12 + 1, m=n * 5 % 11 + 1), "y": lambda n: n % 2}
    checked = found(table(tmp_path, columns))
    one = checked.found.columns["when"]
    assert (one.role, one.form, one.doubtful, checked.found.time) == ("date", form, True, None)
    assert any("and could be" in sentence for sentence in checked.found.said)


@pytest.mark.parametrize(
    "make", [lambda n: 2000 + n % 20, lambda n: 20110000 + n % 99, lambda n: f"{n % 24}:30", lambda n: f"May {n}"]
)
def test_what_only_looks_like_a_date_is_none(tmp_path: Path, make: Callable[[int], Any]) -> None:
    """Years, numbers of eight digits, hours, names of months."""
    columns = found(table(tmp_path, {"when": make, "a": lambda n: n * 7 % 13, "y": lambda n: n % 2})).found.columns
    assert columns["when"].role != "date"


NESTED: dict[str, tuple[Callable[[int], Any], dict[str, str], bool]] = {
    "one level": (
        lambda n: {"age": n % 9, "name": "ab"[n % 2], "vip": n % 2 < 1},
        {"u.age": "number", "u.name": "text", "u.vip": "bool"},
        False,
    ),
    "nothing in some": (lambda n: {"age": n % 9 if n % 3 else None}, {"u.age": "number"}, False),
    "two levels": (lambda n: {"home": {"city": "ab"[n % 2], "no": None}}, {"u.home.city": "text"}, True),
    "four levels": (lambda n: {"a": {"b": {"c": {"d": n % 9}}}}, {"u.a.b.c.d": "number"}, True),
    "a list": (lambda n: ["red", "new"][: n % 3], {}, True),
    "a list of numbers": (lambda n: [n % 3, 1.5], {}, True),
    "a list within": (lambda n: {"roles": ["a", "b"][: n % 3], "age": n % 9}, {"u.age": "number"}, True),
    "numbers and texts": (lambda n: {"zip": [n % 9, "x"][n % 2]}, {}, False),
    "as many names as rows": (lambda n: {f"k{n}": 1}, {}, False),
}


@pytest.mark.parametrize("kind", NESTED)
def test_what_is_nested_is_learnt_as_it_is(tmp_path: Path, kind: str) -> None:
    """No row is refused; the types of what lies within are written, and flattening where it is needed."""
    make, types, flattened = NESTED[kind]
    path = tmp_path / "t.jsonl"
    rows = [{"u": make(n), "a": n * 7 % 13, "y": n % 2} for n in range(300)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checked = found(path)
    event = checked.config(tmp_path).event
    assert checked.found.columns["u"].role == "nested"
    assert (event.types, event.flatten) == ({**types, "a": "number"}, flattened)
    assert checked.sent is not None
    assert not checked.sent.refused, checked.sent.example


def test_the_command_that_is_shown_is_the_one_that_works(tmp_path: Path) -> None:
    """With the encoding, the id and whatever else was said."""
    path = tmp_path / "some table.csv"
    drinks = ["th\xe9", "caf\xe9"]
    rows = "".join(f"k{n};{n * 7 % 13};{drinks[n % 2]}\n" for n in range(100))
    path.write_text("k;a;y z\n" + rows, encoding="latin-1")
    options = ["--label", "y z", "--encoding", "latin-1", "--id", "k", "--positive", drinks[1]]
    done = CliRunner().invoke(main, ["check", str(path), *options])
    shown = done.output.partition("A folder that learns this: ")[2]
    words = shlex.split(" ".join(shown.split()))
    assert words[:3] == ["holdfast", "init", "DIR"]
    words[2] = str(tmp_path / "made")
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0, done.output
    assert "100 rows" in " ".join(done.output.split())


def test_a_yes_that_was_chosen_is_said(tmp_path: Path) -> None:
    """Of 1 and 2 as well: which of them is yes is no matter of course."""
    path = table(tmp_path, {"a": lambda n: n * 7 % 13, "y": lambda n: 1 + n % 2})
    assert "y: '1' is taken for yes" in CliRunner().invoke(main, ["check", str(path), "--label", "y"]).output
