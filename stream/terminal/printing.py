"""What a person sees in the terminal: lines, tables, durations, bytes. Scripts take ``--json``.

Commands print through here and nowhere else, since most of what they print was written by others: see
:mod:`stream.terminal.safe_text`. Nothing is read as markup.
"""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

import click
import rich.progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.terminal.safe_text import as_json as json_text
from stream.terminal.safe_text import seen_json, shown

_PIPE_WIDTH = 160
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def as_json(value: Any) -> None:
    """Print JSON for scripts."""
    sys.stdout.write(json_text(value, indent=True) + "\n")


def json_line(data: bytes) -> None:
    """Print a value that is JSON already, on one line."""
    click.echo(seen_json(data.decode()))


def echo(text: object, *, err: bool = False) -> None:
    """Print a line as it is, whatever its length; to standard error with ``err``."""
    click.echo(shown(text), err=err)


def say(text: object, style: str = "", *more: tuple[object, str]) -> None:
    """Print a line in a style; ``more`` are further pieces, each with its own."""
    console.print(Text.assemble(*((shown(piece), kind) for piece, kind in ((text, style), *more))))


def moment(seconds: float | None) -> str:
    """A time as people read it, in UTC.

    >>> moment(0.0)
    '1970-01-01 00:00:00Z'
    """
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float) -> str:
    """How long, in the unit that people would take.

    >>> [duration(one) for one in (0.0042, 3.21, 95, 7300, 200_000)]
    ['4 ms', '3.2 s', '1.6 min', '2.0 h', '2.3 d']
    """
    if 0 < seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    for most, unit, name in ((90.0, 1.0, "s"), (5400.0, 60.0, "min"), (129_600.0, 3600.0, "h")):
        if seconds < most:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 86_400:.1f} d"


def size(count: float) -> str:
    """Bytes, in the unit that people would take.

    >>> [size(one) for one in (17, 12_345, 45_100_000_000)]
    ['17 B', '12.3 kB', '45.1 GB']
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def figure(value: Any) -> str:
    """A figure with four digits, a count with separators, nothing as a dash.

    >>> [figure(v) for v in (0.82214, 45312, None)]
    ['0.8221', '45,312', '-']
    """
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table."""
    found = Table(title=Text(shown(title)), title_justify="left")
    for column in columns:
        found.add_column(Text(shown(column)), overflow="fold")
    for row in rows:
        found.add_row(*(Text(shown(figure(cell))) for cell in row))
    console.print(found)


def place(where: dict[str, dict[str, int]]) -> str:
    """A place in one line."""
    return ", ".join(f"{topic}[{p}]@{offset}" for topic, parts in where.items() for p, offset in parts.items()) or "-"


def _after(seconds: float | None, what: str) -> str:
    return what or "not at all" if seconds is None else f"after {seconds:.1f} s: {what}"


def show_card(card: Any) -> None:
    """Print the card of a drill."""
    found = Table(title=Text(shown(f"drill {card.drill}")), title_justify="left", show_header=False)
    found.add_column()
    found.add_column(overflow="fold")
    for name, what in (
        ("done", card.done), ("seen", _after(card.seen_seconds, card.seen_as)),
        ("undone", _after(card.undone_seconds, card.undone_by)), ("served meanwhile", card.served),
        ("requests", f"{card.requests:,}, of which {card.failed_requests:,} failed"),
    ):  # fmt: skip
        found.add_row(name, Text(shown(what)))
    found.add_row("", Text("passed", "bold green") if card.passed else Text("FAILED", "bold red"))
    console.print(found)


def ranges(found: dict[str, dict[str, list[int | None]]]) -> str:
    """Ranges of offsets in one line."""
    return ", ".join(
        f"{topic}[{partition}] {begin}..{'open' if end is None else end}"
        for topic, partitions in found.items()
        for partition, (begin, end) in partitions.items()
    )


class Progress:
    """A progress bar on standard error when it is a terminal, and nothing otherwise."""

    def __init__(self, what: str = "learning", total: int | None = None, *, enabled: bool = True) -> None:
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
            rich.progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not (enabled and sys.stderr.isatty()),
            transient=True,
        )
        self._task = self._bar.add_task(shown(what), total=total, events=0, rate=0.0)
        self._began = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def sent(self, events: int, position: int) -> None:
        """Show how many events, and how far along the whole."""
        rate = events / max(time.monotonic() - self._began, 1e-6)
        self._bar.update(self._task, completed=position, events=events, rate=rate)

    def consumed(self, events: int, waiting: int | None) -> None:
        """Show how many records were consumed and how many wait."""
        self._first = events if self._first is None else self._first
        done = events - self._first
        rate = done / max(time.monotonic() - self._began, 1e-6)
        self._bar.update(self._task, completed=done, total=done + (waiting or 0), events=done, rate=rate)


class Steps:
    """A progress bar for work of several steps, with the time that is left of the step that runs."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not (enabled and sys.stderr.isatty()),
            transient=True,
        )
        self._task: rich.progress.TaskID | None = None
        self._step = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, step: str, done: float, whole: float) -> None:
        """Show how far a step is; what stands before a colon names it."""
        name = step.split(":", 1)[0]
        if self._task is None or name != self._step:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task, self._step = self._bar.add_task(shown(step), total=whole), name
        self._bar.update(self._task, description=shown(step), completed=done, total=whole)
