"""What a person sees in the terminal: lines, tables, durations, bytes. Scripts take ``--json``.

Commands print through here and nowhere else, since most of what they print was written by others: see
:mod:`stream.terminal`. Nothing is read as markup.
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

from stream.terminal import as_json as json_text
from stream.terminal import seen_json, shown

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


_SHOWN = 24


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


def show_status(report: dict[str, Any]) -> None:
    """Print ``holdfast status``."""
    source = report["source"]
    lag = "" if source["lag"] is None else f", {source['lag']:,} waiting"
    why = f" ({source['why']})" if source["why"] else ""
    say(report["name"], "bold", (f" {report['task']}: source {source['state']}{lag}{why}", ""))
    say(f"snapshot {report['snapshot']} of {moment(report['created'])} at {place(report['place'])}")
    for sentence in report["unmatched"]:
        say(sentence, "yellow")
    _show_serving(report["serving"])
    _show_baseline(report)
    learners = report["learners"]
    names = ["role", "verdict", "serving", "line"]
    table(
        "learners",
        ["", *learners],
        [
            *([name, *(one[name] for one in learners.values())] for name in names),
            *(
                [f"recent {name}", *(one["recent"].get(name) for one in learners.values())]
                for name in _metric_names(learners)
            ),
            *([name, *(one["metrics"].get(name) for one in learners.values())] for name in _metric_names(learners)),
        ],
    )
    for name, one in learners.items():
        _show_learner(name, one)
    for number, damage in report["damaged"].items():
        say(f"snapshot {number} is refused: {damage}", "red")


def _show_serving(processes: list[dict[str, Any]]) -> None:
    """The sentences about what answers."""
    for process in processes:
        say(
            f"serving: process {process['pid']} on port {process['port']} answers from snapshot {process['snapshot']} "
            f"of {process['learner']}, {process['age_seconds']} s old"
        )
        if process["unknown_features"]:
            names = ", ".join(repr(name) for name in process["unknown_features"])
            say(f"requests have features that no newly learnt event has: {names}", "yellow")
    if not processes:
        say("serving: no process")


def _show_baseline(report: dict[str, Any]) -> None:
    """The sentences about the baseline and its retrains."""
    if (found := report["baseline"]) is not None:
        says = "answers" if found["answers"] else "stands by"
        compared = f": {found['words']} since {moment(found['compared']['since'])}" if found["words"] else ""
        compared = compared or (f": {found['waits']}" if found["waits"] else "")
        say(f"baseline {found['number']} ({found['kind']}, {found['rows']:,} events) {says}{compared}")
        if found["verdict"] == "fail":
            say(f"baseline {found['number']} fails, and is not fallen back to: {found['holdout']['why']}")
    if (training := report["retrain"])["running"] is not None:
        say(f"a full retrain runs: {training['running']}")
    if (last := training["last"]) is not None and last["action"] in ("retrain_failed", "refuse_baseline"):
        say(f"the last retrain came to nothing ({moment(last['time'])}): {last['why']}")


def _show_learner(name: str, one: dict[str, Any]) -> None:
    """The sentences about one learner."""
    events = one["events"]
    parts = " + ".join(f"{count:,} {kind}" for kind, count in events.items() if kind != "consumed" and count)
    sign = "=" if one["accounting_difference"] == 0 else "≠"
    say(f"{name}: {events['consumed']:,} consumed {sign} {parts or '0'}")
    if one["against_champion"] is not None:
        say(f"{name} against {one['against_champion']['champion']}: {one['against_champion']['words']}")
    if one["verdict"] in ("suspect", "fail"):
        say(f"{name} is not promoted: {one['why'] or ''}", "yellow")
    if one["breaker"] != "closed" or one["learning"] != "on":
        why = f": {one['stopped_why']}" if one["stopped_why"] else ""
        say(f"{name} learns nothing: learning is {one['learning']}, breaker {one['breaker']}{why}", "yellow")
    if one["advice"]:
        say(f"{name}: {one['advice']}")


def show_check(checked: Any) -> None:
    """Print what ``holdfast check`` found of a table."""
    found, sent = checked.found, checked.sent
    rows = [
        [
            one.name,
            _ROLES.get(one.role, one.role),
            f"{one.share_missing:.1%}" if one.share_missing else "",
            _values(one),
        ]
        for one in found.columns.values()
    ]
    table(f"{found.path}: {found.rows:,} rows", ["column", "what it is", "missing", "values"], rows)
    if found.task is not None:
        counts = ", ".join(f"{text} {count / found.rows:.2%}" for text, count in list(found.labels.items())[:10])
        shares = "" if found.task == "regression" else f": {counts}"
        say(f"task {found.task}, label {found.label}{shares}")
    for sentence in found.said:
        say(f"- {sentence}")
    if sent is None:
        say("Which column is the label? holdfast check FILE --label COLUMN")
        return
    if sent.refused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sent.refused.most_common())
        say(f"{sent.refused.total():,} rows would be refused ({reasons}). The first: {sent.example}", "yellow")
    if sent.unlabelled:
        say(f"{sent.unlabelled:,} rows have no label, and teach nothing")
    if sent.duplicates:
        say(f"{sent.duplicates:,} rows have the id of another one, and count once")
    say(f"A folder that learns this: holdfast init DIR --from {found.path} --label {found.label!r} …")


_ROLES = {
    "number": "number", "code": "whole number of few values", "category": "text of few values",
    "hashed": "text of many values",
    "words": "free text", "date": "date", "nested": "nested", "constant": "always the same: left out",
    "counter": "counts the rows: left out", "time": "time of the event",
}  # fmt: skip


def _values(one: Any) -> str:
    if one.low is not None and one.role in ("number", "counter"):
        return f"{one.low:g} to {one.high:g}"
    many = f"{one.distinct:,}{'+' if one.many else ''} values: "
    shown = ", ".join(text if len(text) <= _SHOWN else text[:_SHOWN] + "…" for text in list(one.values)[:4])
    return many + shown if one.values else ""


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
    say(found)


def _metric_names(learners: dict[str, Any]) -> list[str]:
    return next((list(one["metrics"]) for one in learners.values()), [])


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
