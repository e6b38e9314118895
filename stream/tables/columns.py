"""Which columns of a table are what, and what their cells mean: decided once, over the whole column.

A column of texts is of numbers when every cell of it is one, but for those that say that nothing is there. Digits that
begin with a zero, whole numbers beyond 2^53 (no float holds them) and whatever ``[event.types]`` calls text stay the
text that stands there. Ids are always that text.
"""

import functools
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from stream.errors import CommandError
from stream.source.flattening import is_vector
from stream.tables import dates
from stream.tables.readers import Row, Table

_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
#: what identifies and looks like a number: a telephone's, or a code such as 12E4, which programs write as 1.2e5
_CODE = re.compile(r"\+\d{8,}|\d+E\d+")
#: numbers as other countries, accounts and programs write them
_ELSEWHERE = re.compile(
    r"[-+]?(\d{1,3}([.\u00a0\u202f' ]\d{3})+|\d+),\d+|[-+]?\d{1,3}(,\d{3})+(\.\d+)?"
    r"|[-+]?[€$£¥]\s?[\d.,]+|[-+]?[\d.,]+\s?[€$£¥%]|[-+]?(inf|infinity)|[-+]?\d+(\.\d+)?e[-+]?\d+", re.IGNORECASE,
)  # fmt: skip
_WHOLE = re.compile(r"[+-]?\d+")
#: beyond it, floats skip whole numbers
_EXACT = 2**53
#: what people write into a column of numbers where nothing is there
MISSING = frozenset(
    ("NA", "N/A", "n/a", "na", "#N/A", "null", "NULL", "Null", "None", "none", "nan", "NaN", "NAN", "-", "--", "?",
     "(null)", "\\N", "nil", "missing", "unknown", ".", "..", "<NA>", "<null>", "NaT", "-nan", "n.a.", "N.A.", "n.d.",
     "N.D.", "no data", "No data", "undefined", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!")
)  # fmt: skip
#: of these, what may as well be the name of a class
_NAMES = frozenset(
    ("-", "--", "?", ".", "..", "None", "none", "nil", "missing", "unknown", "undefined", "no data", "No data")
)
#: a column of texts may have been meant for numbers when so many of its values are some for each that is none
_MEANT = 9
#: numbers with three digits behind each point, as others write thousands
_IN_THREES, _THOUSAND = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+"), 1000
_REMEMBERED = 10_000
#: cells that are shown as examples
_SHOWN = 3
_BOOLS = {"true": True, "false": False, "1": True, "0": False}


class Columns(msgspec.Struct, frozen=True):
    """Which columns of a table are what; ``features`` None means all the others.

    ``no_id`` and ``no_time`` say that no column is one, so that none is taken for it. ``name`` stands for the file's in
    the ids of rows that have none. ``missing`` are cells that mean nothing is there; ``time_format`` as for
    :func:`stream.tables.dates.parser_of`.
    """

    label: str | None = None
    positive: str | None = None
    id: str | None = None
    time: str | None = None
    features: list[str] | None = None
    name: str = ""
    missing: list[str] = []
    time_format: str | None = None
    encoding: str = "utf-8-sig"
    delimiter: str | None = None
    no_id: bool = False
    no_time: bool = False

    @property
    def named(self) -> bool:
        """Tell whether any column is named, so that JSON lines are the rows of a table and not events."""
        return any(one is not None for one in (self.label, self.positive, self.id, self.time, self.features))


class Column:
    """What was seen of one column; ``kind`` is number, text, bool or empty.

    ``texts`` are the paths of what lies in its objects and stays text: what ``[event.types]`` calls so, and whole
    numbers that no float holds. ``words`` mean nothing where they stand among numbers; fewer do in a ``label``, since
    some may be a class. ``bytes`` tells whether some cell holds bytes, which mean nothing.
    """

    def __init__(
        self, name: str, *, typed: bool, kind: str | None, missing: Iterable[str], texts: Iterable[str] = (),
        label: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.typed, self._fixed = name, typed, kind
        self.texts = set(texts)
        self.bytes = False
        self.absent = frozenset(("", *missing))
        self.words = MISSING - _NAMES if label else MISSING
        self.guesses: Counter[str] = Counter()
        self.why_text = self.odd = self.example = ""
        self.strange: list[str] = []
        self._numbers = self._texts = self._bools = self._quoted = self._strange = 0
        self._undotted = self._threes = self._decimals = 0
        self._seen: set[Any] = set()
        self._inside: dict[str, dict[str, Any]] = {"nothing": {}, "text": {}, "number": {}}

    def fix(self, kind: str) -> None:
        """Say what it is, whatever its cells look like."""
        self._fixed = kind

    def see(self, cell: Any) -> None:
        """Take one cell into account."""
        if isinstance(cell, (dict, list)):
            self._see_nested(cell)
            return
        if cell is None or self._fixed or cell in self._seen:
            return
        if type(cell) is not str:
            self._see_typed(cell)
        elif cell in self.absent:
            return
        elif self.typed:
            self._see_typed_text(cell)
        elif (number := text_number(cell)) is not None and math.isfinite(number):
            self._see_number(cell.strip(), number)
        elif cell.strip() in self.words:
            self.guesses[cell] += 1
            return
        else:
            self._see_strange(cell)
        if len(self._seen) < _REMEMBERED:
            self._seen.add(cell)

    def _see_number(self, text: str, number: float) -> None:
        self._numbers += 1
        if "." not in text:
            self._undotted += abs(number) < _THOUSAND
        elif _IN_THREES.fullmatch(text):
            self._threes += 1
        else:
            self._decimals += 1
        if not self.why_text and abs(number) >= _EXACT and _WHOLE.fullmatch(text) and abs(int(text)) > _EXACT:
            self.why_text = f"no float holds {text} exactly"

    def _see_strange(self, text: str) -> None:
        """A text that is no number, in a column that may be of numbers."""
        self._strange += 1
        if len(self.strange) < _SHOWN:
            self.strange.append(text)
        if not self.why_text:
            self.why_text = f"{text!r} is no number"
            self.odd, self.example = _odd(text.strip()), text

    def _see_typed(self, cell: Any) -> None:
        if isinstance(cell, bool):
            self._bools += 1
        elif isinstance(cell, bytes):
            self.bytes = True
        elif is_number(cell):
            self._numbers += 1
            if not _is_exact(cell):
                self.why_text = f"no float holds {text_of(cell)} exactly"
        else:
            self._texts += 1

    def _see_typed_text(self, cell: str) -> None:
        if cell.strip() in self.words:  # of a column of texts it is one of them
            self.guesses[cell] += 1
            return
        self._texts += 1
        self._quoted += text_number(cell) is not None
        self._strange += 1
        if len(self.strange) < _SHOWN:
            self.strange.append(cell)
        if not self.odd:
            self.odd, self.example = _odd(cell.strip()), cell

    def _see_nested(self, cell: Any) -> None:
        for path, leaf in _leaves(cell, self.name):
            if isinstance(leaf, bytes):
                self.bytes = True
            elif isinstance(leaf, str):
                kind = "nothing" if leaf.strip() in self.words else "text"
                self._inside[kind].setdefault(path, leaf)
            elif is_number(leaf) and not isinstance(leaf, bool):
                self._inside["number"].setdefault(path, leaf)
                if not _is_exact(leaf):
                    self.texts.add(path)

    @property
    def why_odd(self) -> str:
        """Why it is no column of numbers, where it looks like one; empty where it does not."""
        return f"{self.example!r} is no number, {self.odd}" if self.odd else ""

    @functools.cached_property
    def nothing(self) -> dict[str, str]:
        """Where in its objects a word among numbers means that nothing is there, and which."""
        found, other = self._inside["nothing"], self._inside["text"].keys() | self.texts
        return {path: word for path, word in found.items() if path in self._inside["number"] and path not in other}

    @property
    def mixed(self) -> dict[str, tuple[Any, str]]:
        """Where in its objects numbers and texts lie, with one of each: they are features of their own."""
        texts = self._inside["text"]
        return {path: (one, texts[path]) for path, one in self._inside["number"].items() if path in texts}

    @property
    def in_threes(self) -> bool:
        """Whether every point may separate thousands: three digits behind each, beside smaller numbers without one."""
        return self.kind == "number" and self._threes > 2 and self._undotted > 0 and not self._decimals

    @property
    def meant(self) -> bool:
        """Whether nearly all of its values are numbers, though it is a column of texts."""
        return self.kind == "text" and not self.odd and 0 < self._strange * _MEANT <= self._numbers

    @property
    def quoted(self) -> bool:
        """Tell whether all of its texts are numbers in quotes."""
        return 0 < self._texts == self._quoted

    @property
    def kind(self) -> str:
        """number, text, bool, or empty when no cell holds anything."""
        if self._fixed:
            return self._fixed
        kinds = (self._numbers > 0) + (self._texts > 0) + (self._bools > 0)
        if self.why_text or self._texts or kinds > 1:
            return "text"
        return "number" if self._numbers else "bool" if self._bools else "empty"

    def value(self, cell: Any) -> Any:
        """What a cell means: a number, a text, a boolean, None where nothing is there; lists and dicts as they are."""
        if cell is None or isinstance(cell, (dict, list)):
            return flat(cell, self.name, self.texts, self.nothing)
        if isinstance(cell, bytes):
            return None
        if type(cell) is str:
            return self._of_text(cell)
        kind = self.kind
        if kind == "text":
            return text_of(cell)
        if kind == "bool":
            return cell if isinstance(cell, bool) else text_of(cell)
        return _number_of(cell)

    def _of_text(self, cell: str) -> Any:
        if cell in self.absent:
            return None
        kind = self.kind
        if kind == "empty":
            return None
        if kind == "number":
            number = text_number(cell)
            if number is None:
                return None if cell.strip() in self.words else cell
            return int(cell) if abs(number) <= _EXACT and _WHOLE.fullmatch(cell.strip()) else number
        if kind == "bool":
            return None if cell in self.guesses else _BOOLS.get(cell.strip().lower(), cell)
        return cell


class Survey:
    """What the columns of some tables of one shape are, seen over all of their rows.

    ``dates`` are features that are known to be dates, so that nobody is told that they may be.
    """

    def __init__(self, tables: list[Table], columns: Columns, types: Mapping[str, str]) -> None:
        self.chosen = columns
        for table in tables:
            self._check_names(table)
        self._typed = all(table.typed for table in tables)
        self._types = types
        self.dates: list[str] = []
        self.headless = [table.headless for table in tables if table.headless]
        self.columns: dict[str, Column] = {name: self._column(name) for table in tables for name in table.names}
        self.rows = 0
        self.labels: Counter[Any] = Counter()
        self._times: list[str] = []
        self.read_time: Callable[[str], float] = float
        self.time_form = ""

    def _check_names(self, table: Table) -> None:
        for name in (*self._named, *(self.chosen.features or [])):
            if name is not None and name not in table.names:
                hint = ". These are events already: leave the columns out" if {"id", "x"} <= set(table.names) else ""
                hint = f"; {table.headless}" if table.headless else hint
                raise CommandError(f"{table.path} has no column {name!r}; it has {', '.join(table.names)}{hint}")

    def _column(self, name: str) -> Column:
        special = name in (self.chosen.id, self.chosen.time)
        kind = "text" if special else None if name == self.chosen.label else self._types.get(name)
        inner = [path for path, kind in self._types.items() if kind == "text" and path.startswith(f"{name}.")]
        return Column(
            name,
            typed=self._typed,
            kind=kind,
            missing=self.chosen.missing,
            texts=inner,
            label=name == self.chosen.label,
        )

    def look(self, rows: Iterable[Row]) -> None:
        """See the rows of one table."""
        label, moment = self.chosen.label, self.chosen.time
        for row in rows:
            self.rows += 1
            for name, cell in row.items():
                column = self.columns.get(name)
                if column is None:
                    column = self.columns[name] = self._column(name)
                column.see(cell)
            if label is not None and (len(self.labels) < _REMEMBERED or row.get(label) in self.labels):
                self.labels[_hashable(row.get(label))] += 1
            if moment is not None and len(self._times) < _REMEMBERED and row.get(moment) is not None:
                self._times.append(text_of(row[moment]))

    def decide(self) -> None:
        """Settle what every column is, and the form of the times; :class:`CommandError` where not exactly one fits."""
        for column in self.columns.values():
            column.fix(column.kind)
        if self.chosen.time is not None:
            absent = self.columns[self.chosen.time].absent | MISSING
            times = [text for text in self._times if text not in absent]
            self.read_time, self.time_form = dates.parser_of(self.chosen.time, self.chosen.time_format, times)

    @property
    def _named(self) -> tuple[str | None, ...]:
        return self.chosen.label, self.chosen.id, self.chosen.time

    @property
    def said(self) -> list[str]:
        """What was guessed, in sentences."""
        said = list(self.headless)
        for column in self.columns.values():
            said += self._said_of(column)
        if self.time_form and self.chosen.time_format is None and "%" in self.time_form:
            said.append(f"{self.chosen.time}: times are read as {self.time_form} (--time-format says otherwise)")
        return said

    def _said_of(self, column: Column) -> Iterator[str]:
        name, special = column.name, column.name in (*self._named, *self.dates)
        if column.bytes:
            yield f"{name} holds bytes, which are neither text nor a number: they are left out"
        for path, word in column.nothing.items():
            yield f"{path}: {word!r} among numbers is taken for nothing"
        for path, (number, text) in column.mixed.items():
            yield f"{path} is a number here ({number}) and a text there ({text!r}), which are two features: make it one"
        for path in sorted(column.texts - set(self._types)):
            yield f"{path} stays text: it has whole numbers that no float holds exactly"
        if column.kind == "number" and column.guesses:
            shown = ", ".join(repr(text) for text in list(column.guesses)[:3])
            yield f"{name}: {shown} among numbers is taken for nothing (--missing names others)"
        elif column.kind == "text" and column.why_text.startswith("no float"):
            yield f"{name} stays text: {column.why_text}"
        elif not special and (why := _doubt(column)):
            yield f"{name}{why}"


def _doubt(column: Column) -> str:
    """Why a column may have been meant for another kind than it is taken for; empty when nothing says so."""
    if column.in_threes:
        return (
            ": every number with a point has three digits behind it: 1.234 is read as a little over one. If it means "
            "1234, write it without the point"
        )
    if column.meant:
        shown = ", ".join(repr(text) for text in column.strange)
        option = " ".join(f"--missing {shlex.quote(text)}" for text in column.strange)
        return (
            f" is taken for text, since {shown} is no number, and nearly all of its values are: for a number, mend "
            f"the cells, or say that they mean nothing with {option}"
        )
    if column.kind == "text" and column.odd:
        return f" is taken for text: {column.why_odd}"
    if column.kind == "text" and column.quoted:
        return f" stays text: its numbers stand in quotes, such as {column.example!r}; without them, numbers"
    return ""


def _odd(text: str) -> str:
    """What a text may have been meant for, when it is a number or a time as somebody else writes it.

    >>> [_odd(one)[:8] for one in ("71,49", "9,425.50", "$683", "50 %", "inf", "31.01.2020 00:00")]
    ['but it l', 'but it l', 'but it l', 'but it l', 'but it l', 'but it m']
    >>> [_odd(one) for one in ("1,000 men", "1.2.3.4", "01000", "a")]
    ['', '', '', '']
    """
    if _ELSEWHERE.fullmatch(text) and not _CODE.fullmatch(text):
        return "but it looks like one: write it as 1234.5, with nothing around it, for a number"
    if dates.is_date(text):
        return "but it may be a time: --time names the column of it, and what --features does not name is left out"
    return ""


def text_number(text: str) -> float | None:
    """The number that a text is, None when it is none; digits that begin with a zero are none.

    >>> [text_number(one) for one in ("12", "-1.50", "1e3", ".5", "007", "0x1", "1_000", "0", "12E4", "+491701000037")]
    [12.0, -1.5, 1000.0, 0.5, None, None, None, 0.0, None, None]
    """
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) and not _CODE.fullmatch(text) else None


def is_number(cell: Any) -> bool:
    """Tell whether a cell is a number of any type that a table holds: float, Decimal, a duration is none."""
    return not isinstance(cell, (str, bytes)) and hasattr(cell, "__float__")


def text_of(cell: Any) -> str:
    """The text of a cell, as an id or a label is compared: 3 and 3.0 are "3", a moment is ISO 8601."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= _EXACT:
        return str(int(cell))
    if isinstance(cell, Decimal) and cell.is_finite() and cell == cell.to_integral_value():
        return str(int(cell))
    if isinstance(cell, bytes):
        raise CommandError("bytes can be no id, no label and no time: make texts or numbers of that column")
    return str(cell.isoformat()) if hasattr(cell, "isoformat") else str(cell)


def flat(cell: Any, path: str = "", texts: Collection[str] = (), nothing: Collection[str] = ()) -> Any:
    """A nested cell as objects of features; a list of texts becomes names that are true, at any depth.

    A list of numbers with decimals becomes a number for each place. Numbers at the paths ``texts`` become texts; words
    at the paths ``nothing`` and bytes are left out. A list of objects or lists stays one, and is refused
    with its reason.

    >>> flat({"home": {"roles": ["a", 1]}, "gone": None}), flat([{"a": 1}])
    ({'home': {'roles': {'a': True, '1': True}}}, [{'a': 1}])
    >>> flat({"e": [0.5, 1]})
    {'e': {'0': 0.5, '1': 1}}
    >>> flat({"id": 2**60, "price": Decimal("1.50"), "raw": b""}, "user", ["user.id"])
    {'id': '1152921504606846976', 'price': 1.5}
    """
    if isinstance(cell, list):
        if any(isinstance(one, (dict, list)) for one in cell):
            return cell
        leaves = [_leaf(one, as_text=False) for one in cell]
        if is_vector(leaves):
            return {str(place): one for place, one in enumerate(leaves) if one is not None}
        return {text_of(one): True for one in cell if one is not None and not isinstance(one, bytes)}
    if isinstance(cell, dict):
        found = {name: flat(value, f"{path}.{name}", texts, nothing) for name, value in cell.items()}
        return {name: value for name, value in found.items() if value is not None}
    return (
        None
        if isinstance(cell, str) and path in nothing and cell.strip() in MISSING
        else _leaf(cell, as_text=path in texts)
    )


def _leaf(cell: Any, *, as_text: bool) -> Any:
    if cell is None or isinstance(cell, (str, bool)):
        return cell
    if isinstance(cell, bytes):
        return None
    return _number_of(cell) if is_number(cell) and not as_text else text_of(cell)


def _leaves(cell: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What lies in a nested cell, and where; a list's elements lie where the list lies."""
    if isinstance(cell, dict):
        for name, inner in cell.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(cell, list):
        for inner in cell:
            if isinstance(inner, bytes):
                yield path, inner
    else:
        yield path, cell


def _is_exact(cell: Any) -> bool:
    """Tell whether a float holds a cell: not a whole number beyond 2^53, which may be an id."""
    if isinstance(cell, Decimal):
        return not cell.is_finite() or abs(cell) <= _EXACT or cell != cell.to_integral_value()
    return not isinstance(cell, int) or abs(cell) <= _EXACT


def _number_of(cell: Any) -> int | float | None:
    """The number of a cell that is one, None where it is not finite."""
    number = cell if isinstance(cell, int) and not isinstance(cell, bool) else float(cell)
    return number if math.isfinite(number) else None


def _hashable(cell: Any) -> Any:
    return cell if isinstance(cell, (str, int, float, bool)) or cell is None else text_of(cell)
