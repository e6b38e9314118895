"""Tables as people have them, where one odd cell, label or column once gave a wrong model without a word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.lineages import Folder

from learners.labels import Labels, UnknownLabelError
from stream.errors import CommandError
from stream.source.flattening import flattened
from stream.tables.cells import flat
from stream.tables.check import Checked, check
from stream.tables.column import Column
from stream.tables.columns import Columns


def column(cells: list[Any], *, typed: bool = False, label: bool = False) -> Column:
    found = Column("a", typed=typed, kind=None, missing=(), label=label)
    for cell in cells:
        found.see(cell)
    return found


NUMBERS = [f"{number / 7:.3f}" for number in range(100)]


@pytest.mark.parametrize("word", [".", "<NA>", "no data", "#DIV/0!", "n.a.", "NaT", "-nan", "unknown"])
def test_words_for_nothing_leave_a_column_of_numbers(word: str) -> None:
    """In a CSV and, of JSON lines, between numbers; in a label such a word may be a class."""
    assert column([*NUMBERS, word]).kind == "number"
    typed = column([1.5, 2, word, 4.25], typed=True)
    assert (typed.kind, typed.value(word)) == ("number", None)
    label = column(["1", "2", word], label=True)
    assert label.kind == ("number" if word in ("<NA>", "#DIV/0!", "n.a.", "NaT", "-nan") else "text")


@pytest.mark.parametrize("cell", ["51.2 kg", "5O.1", "\u22125.1", "1 234"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_one_odd_cell_that_makes_a_column_text_is_said(tmp_path: Path, cell: str, ending: str) -> None:
    """With the cell, and what to do: nearly all of its values are numbers."""
    rows = [{"a": float(value), "y": number % 2} for number, value in enumerate(NUMBERS)]
    said = " ".join(checked(tmp_path, [*rows[:-1], {"a": cell, "y": 1}], ending).found.said)
    assert f"a is taken for text, since {cell!r} is no number" in said
    assert "--missing" in said


def checked(tmp_path: Path, rows: list[dict[str, Any]], ending: str = "jsonl", **columns: Any) -> Checked:
    """What is found of rows; their label is y."""
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(",".join(rows[0]) + "\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows))
    return check(path, Columns(**{"label": "y", **columns}), task=None, exclude=[])


def test_words_for_nothing_in_objects_are_nothing(tmp_path: Path) -> None:
    """Numbers and texts at one place are two features, which is said."""
    ages: list[Any] = [31.5, "NA", 28.25]
    rows = [{"u": {"age": ages[number % 3], "mixed": [1, "x"][number % 2]}, "y": number % 2} for number in range(60)]
    found = checked(tmp_path, rows).found
    assert found.columns["u"].leaves["u.age"] == "number"
    assert any("u.age: 'NA' among numbers" in one for one in found.said)
    assert any(one.startswith("u.mixed is a number here") for one in found.said)


@pytest.mark.parametrize(
    ("labels", "positive", "negative"),
    [(["1.0", "2.0"], 1.0, 2), (["1", "2"], 1, 2), (["yes", "no"], '"yes"', '"no"'),
     (["True", "False"], '"True"', '"False"')],
)  # fmt: skip
def test_both_labels_are_written_down(tmp_path: Path, labels: list[str], positive: Any, negative: Any) -> None:
    """So that what is neither is refused, and not learnt as no."""
    rows = [{"a": number / 3, "y": labels[number % 2]} for number in range(60)]
    found = checked(tmp_path, rows, "csv")
    assert f"positive = {positive}\n" in found.configuration
    assert f"negative = {negative}\n" in found.configuration
    assert found.sent is not None
    assert not found.sent.refused


def test_json_truth_is_true_to_labels_that_are_words() -> None:
    """True is "True" there, and 1 is neither; the order in which they come makes no difference."""
    for order in ([True, 1, "True"], [1, "True", True]):
        labels = Labels("binary", positive="True", negative="False")
        for value in order:
            if value == 1 and not isinstance(value, bool):
                with pytest.raises(UnknownLabelError):
                    labels.label_of(value)
            else:
                assert labels.label_of(value) is True
        assert labels.label_of(False) is False


def test_rows_without_label_and_time_teach_nothing_and_stop_nothing(folder: Callable[..., Folder]) -> None:
    """Nobody can wait for their labels: they are unlabelled, and no reason to stop learning."""
    here = folder(join__wait="30m", labels__directory="labels", predictions__directory="predictions")
    here.write([{"id": str(n), "x": {"a": float(n)}, **({"y": n % 2} if n % 4 == 0 else {})} for n in range(400)])
    here.train()
    counts = here.status()["learners"]["linear"]["events"]
    assert (counts["learnt"] + counts["held_out"], counts["unlabelled"], counts["dead_lettered"]) == (100, 300, 0)


def day(number: int, year: int) -> str:
    return f"{year + number % 40}-{number % 12 + 1:02}-{number % 28 + 1:02}"


def test_no_time_is_guessed_that_refuses_rows(tmp_path: Path) -> None:
    """Births and days before 1971 are none; one with the time of day is rather one than another; it can be refused."""
    rows = [
        {"birth_date": day(n, 1950), "founded": day(n, 1940), "day": day(n, 2001)[:8] + "15", "a": n / 3, "y": n % 2}
        for n in range(80)
    ]
    found = checked(tmp_path, rows, "csv")
    assert found.found.time == "day"
    for row in rows:
        row["at"] = f"{row['day']}T10:00:00Z"
    assert checked(tmp_path, rows, "csv").found.time == "at"
    none = check(tmp_path / "t.csv", Columns(label="y", no_time=True), task=None, exclude=[])
    assert none.found.time is None
    assert "--time ''" in none.begin
    assert none.sent is not None
    assert not none.sent.refused
    clock = [{"ts": 1_700_000_000 + 60 * n, "a": n / 3, "y": n % 2} for n in range(80)]
    assert checked(tmp_path, clock, "csv").found.time == "ts"


def test_numbers_in_lists_are_told_by_their_place() -> None:
    """An embedding is no set of tags; in tables, events and questions alike."""
    assert flat({"e": [0.5, 1, None], "t": ["a", 1]}) == {"e": {"0": 0.5, "1": 1}, "t": {"a": True, "1": True}}
    assert json.loads(flattened(b'{"e":[0.5,1,null],"d":{"e":[-1.5]},"n":[3,4]}', "x")) == {
        "e": {"0": 0.5, "1": 1}, "d": {"e.0": -1.5}, "n": {"3": True, "4": True},
    }  # fmt: skip


def test_texts_and_dates_in_objects_are_learnt_as_columns_are(tmp_path: Path) -> None:
    """By words, and by parts; the rest of the object as before."""
    rows = [
        {"r": {"text": f"word{n % 7} and more of {n}", "at": f"2021-{n % 12 + 1:02}-11", "k": "ab"[n % 2]}, "y": n % 2}
        for n in range(300)
    ]
    found = checked(tmp_path, rows)
    assert 'WORDS = ["r.text"]' in found.model
    assert 'DATES = {"r.at": "iso"}' in found.model
    assert 'compose.Discard("r.text", "r.at")' in found.model


def test_labels_that_differ_in_case_alone_stay_two(tmp_path: Path) -> None:
    """Else there would be nothing to tell apart."""
    rows = [{"a": number / 3, "y": "Aa"[number % 2]} for number in range(60)]
    assert set(checked(tmp_path, rows, "csv").found.labels) == {"A", "a"}


def test_sorted_rows_are_said(tmp_path: Path) -> None:
    """They teach the last label best."""
    rows = [{"a": number % 17 / 3, "y": int(number > 150)} for number in range(300)]
    assert any("sorted by y" in one for one in checked(tmp_path, rows, "csv").found.said)
    mixed = [rows[number * 7 % 300] for number in range(300)]
    assert not any("sorted by y" in one for one in checked(tmp_path, mixed, "csv").found.said)


HEADS = {
    "a name over two lines": '"amount\n(EUR)",y\n1.5,0\n2.5,1\n',
    "names with commas": '"amount, EUR";"y"\n1.5;0\n2.5;1\n',
    "Excel's word on what separates": "sep=;\namount;y\n1.5;0\n2.5;1\n",
    "blanks behind commas": "amount, y\n1.5, 0\n2.5, 1\n",
}


@pytest.mark.parametrize("what", HEADS)
def test_names_are_found_however_they_are_written(tmp_path: Path, what: str) -> None:
    """Over lines, with what separates others, below Excel's first line, behind blanks."""
    path = tmp_path / "t.csv"
    path.write_text(HEADS[what], newline="")
    found = check(path, Columns(label="y"), task="binary", exclude=[])
    assert found.found.rows == 2
    assert found.found.columns["y"].kind == "number"
    assert len(found.found.columns) == 2


def test_json_lines_may_begin_with_a_mark_and_without_the_label(tmp_path: Path) -> None:
    """Names are those of the first rows together."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1.5}\n' + b'{"a": 2.5, "y": 1}\n{"a": 3.5, "y": 0}\n' * 20)
    assert check(path, Columns(label="y"), task=None, exclude=[]).found.rows == 41
    with pytest.raises(CommandError, match="no column 'z'"):
        check(path, Columns(label="z"), task=None, exclude=[])


def test_ids_that_look_like_numbers_are_none(tmp_path: Path) -> None:
    """A telephone's number, codes with an E in them; the number of a customer is learnt as one of some."""
    rows = [
        {
            "phone": f"+49170100{n:04}",
            "sku": ["12E4", "120000", "12E5"][n % 3],
            "customer_id": 70000 + n % 90,
            "y": n % 2,
        }
        for n in range(300)
    ]
    columns = checked(tmp_path, rows, "csv").found.columns
    assert (columns["phone"].kind, columns["sku"].distinct, columns["customer_id"].role) == ("text", 3, "code")


def test_an_id_that_repeats_seldom_is_said(tmp_path: Path) -> None:
    """It is not taken for the id, and why."""
    rows = [{"order_id": 500_000 + max(n, 1), "a": n / 3, "y": n % 2} for n in range(300)]
    assert any("order_id is not taken for the id, since 1 rows" in one for one in checked(tmp_path, rows).found.said)


def test_a_class_too_many_names_the_learner_that_has_no_room(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """Before anything is sent, as the trainer would."""
    learners = {"v": {"kind": "vw", "args": "--oaa 3 --loss_function logistic", "role": "champion"}}
    here = folder(task="multiclass", learners=learners)
    path = tmp_path / "more.csv"
    path.write_text("a,kind\n" + "".join(f"{n},k{n % 4}\n" for n in range(40)))
    done = here.run("produce", str(path), "--label", "kind")
    assert "learners.v.args has room for 3" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("cells", "said"), [(["1.234", "999", "12.500", "7.001"], True), (["1.234", "0.5", "2.5"], False)]
)
def test_points_that_may_separate_thousands_are_said(tmp_path: Path, cells: list[str], said: bool) -> None:
    """Nobody else can know: 1.234 is a little over one here, and over a thousand elsewhere."""
    rows = [{"a": cells[n % len(cells)], "y": n % 2} for n in range(60)]
    assert said == any("1.234 is read as a little over one" in one for one in checked(tmp_path, rows, "csv").found.said)
