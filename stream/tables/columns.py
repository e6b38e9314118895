"""Which columns of a table are what, and what their cells mean: decided once, over the whole column.

A column of texts is of numbers when every cell of it is one, but for those that say that nothing is there. Digits that
begin with a zero, whole numbers beyond 2^53 (no float holds them) and whatever ``[event.types]`` calls text stay the
text that stands there. Ids are always that text.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from stream import dates
from stream.errors import CommandError
from stream.tables.cells import MISSING, hashable, text_of
from stream.tables.column import REMEMBERED, Column
from stream.tables.readers import Row, Table


class Columns(msgspec.Struct, frozen=True):
    """Which columns of a table are what; ``features`` None means all the others.

    ``no_id`` and ``no_time`` say that no column is one, so that none is taken for it. ``name`` stands for the file's in
    the ids of rows that have none. ``missing`` are cells that mean nothing is there; ``time_format`` as for
    :func:`stream.dates.parser_of`.
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
            if label is not None and (len(self.labels) < REMEMBERED or row.get(label) in self.labels):
                self.labels[hashable(row.get(label))] += 1
            if moment is not None and len(self._times) < REMEMBERED and row.get(moment) is not None:
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
