"""Options that say what the columns of a table are, and the commands that read one: ``produce`` and ``check``."""

import csv
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from stream.commands.base import FILE, configured, json_option, stopping_of
from stream.commands.numbers import Figure
from stream.errors import CommandError
from stream.refusal import counted
from stream.settings import Config
from stream.tables import findings
from stream.tables.columns import Columns
from stream.terminal import printing

_DRIFTS = "these payments drift by design: what makes one a fraud turns slowly, once around in 40,000 payments"
_SENT_WAITS = "what was sent is made durable"
_OPTIONS = (
    click.option("--label", metavar="COLUMN", help="The column that holds the label."),
    click.option("--positive", metavar="VALUE", help="The label's value that means yes; labels become 1 and 0."),
    click.option("--id", "identity", metavar="COLUMN", help="The column that holds the id; default FILE:ROW."),
    click.option("--time", "moment", metavar="COLUMN", help="The column that holds the time."),
    click.option(
        "--features", multiple=True, metavar="A,B,…",
        help="The columns that are features, default all the others; may be given several times, and a name with a "
        "comma stands in double quotes.",
    ),
    click.option(
        "--missing", multiple=True, metavar="VALUE",
        help="A cell that means nothing is there, beside the empty one; may be given several times. "
        "NA, null, - and the like are taken for it in columns of numbers.",
    ),
    click.option(
        "--time-format", metavar="FORMAT",
        help="How times are written: iso, s, ms, or letters of strptime ('%d.%m.%Y %H:%M'); default found out.",
    ),
    click.option("--encoding", default="utf-8-sig", show_default=True, help="How a CSV is written."),
    click.option("--delimiter", metavar="CHARACTER", help="What separates a CSV's columns; default found out."),
)  # fmt: skip


def table_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what the columns are; see :func:`columns_of`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def named(lists: Iterable[str]) -> list[str]:
    """The names in lists that are written as lines of a CSV.

    >>> named(["a, b", '"lat,lon",c'])
    ['a', 'b', 'lat,lon', 'c']
    """
    cells = (cell.strip() for row in csv.reader(lists, skipinitialspace=True) for cell in row)
    return [cell for cell in cells if cell]


def columns_of(options: dict[str, Any], name: str = "") -> Columns:
    """The columns that these options name."""
    features, delimiter = options["features"], options["delimiter"]
    if delimiter is not None and len(delimiter := delimiter.replace("\\t", "\t")) != 1:
        raise CommandError(f"--delimiter is one character, or \\t, and not {delimiter!r}")
    if (label := options["label"]) is not None and label in named(features):
        raise CommandError(f"{label!r} is the label, and cannot be a feature, too: leave it out of --features")
    return Columns(
        options["label"], options["positive"], options["identity"] or None, options["moment"] or None,
        named(features) or None, name, list(options["missing"]),
        options["time_format"], options["encoding"], delimiter, options["identity"] == "", options["moment"] == "",
    )  # fmt: skip


def looked_at(config: Config, files: tuple[Path, ...], columns: Columns) -> Any:
    """The survey of the files' columns, its guesses said; None where they hold events."""
    from stream.tables import produce as producing  # noqa: PLC0415  a command imports what it needs

    total = sum(path.stat().st_size for path in files)
    with printing.Progress("looking at the columns", total=total) as progress:
        survey = producing.survey_of(config, list(files), columns, progress.sent)
    for sentence in [] if survey is None else [*survey.said, *_said_of_labels(config, survey.labels)]:
        printing.echo(sentence, err=True)
    return survey


def _said_of_labels(config: Config, labels: Iterable[Any]) -> list[str]:
    """What is said of labels that are spelled in several ways, where they count apart."""
    from stream.train.name_matching import alike_in_words  # noqa: PLC0415  a command imports what it needs

    if config.task == "regression" or config.event.fold_labels or config.event.labels:
        return []
    said = alike_in_words(value for value in labels if value is not None)
    return [said] * bool(said)


@click.command()
@click.argument("files", nargs=-1, type=FILE)
@click.option("--demo", is_flag=True, help="Send the demo's card payments, made up on the spot, until Ctrl-C.")
@table_options
@click.option("--rate", type=Figure(above=True), help="Events a second; default as fast as it goes.")
@click.option("--topic", metavar="T", help="Another topic than the first of source.topics.")
@click.option("--labels", "as_labels", is_flag=True, help="They are labels that come later: id, label, and a time.")
@configured
def produce(
    config: Config, files: tuple[Path, ...], rate: float | None, topic: str | None, *, demo: bool, as_labels: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Send events: JSON lines or a JSON array as they are; CSV and Parquet as events made of their rows (gzip too).

    With --labels they are labels of events that were sent, or asked about, before: they go to labels.topics, or into
    labels.directory; of a table, the columns of --id, --label and --time are sent.

    With --label or another column, JSON lines are rows of a table, too. Says how many labels, refusals and duplicates
    the trainer will find; exit 1 when it will refuse every event.
    """
    from stream.tables import produce as producing  # noqa: PLC0415  a command imports what it needs

    if bool(files) == demo:
        raise CommandError("name the files to send, or --demo, and not both")
    if demo:
        sink = producing.sink_of(config, topic, Path("demo.jsonl"))
        printing.echo(_DRIFTS, err=True)
        sent = producing.produce_demo(sink, rate or 100.0, now=time.time, stopping=stopping_of(_SENT_WAITS))
        printing.echo(f"{sent} payments sent, {sink.close()} acknowledged")
        return
    columns = columns_of(options)
    stopping = stopping_of(_SENT_WAITS)
    if as_labels:
        sys.exit(_produce_labels(config, files, topic, columns, stopping))
    sinks = [producing.sink_of(config, topic, path) for path in files]
    survey = looked_at(config, files, columns)
    useless, run = False, producing.Run(producing.Ids(config.event.recent_ids), survey)
    for path, sink in zip(files, sinks, strict=True):
        with printing.Progress(f"{path.name}", total=path.stat().st_size) as progress:
            found = producing.produce(
                config, path, sink, columns, rate=rate, progress=progress.sent, stopping=stopping, run=run
            )
        printing.echo(f"{path}: {sink.close()} events sent")
        useless |= _say(config, found)
    sys.exit(1 if useless else 0)


def _produce_labels(
    config: Config, files: tuple[Path, ...], topic: str | None, columns: Columns, stopping: Callable[[], bool]
) -> int:
    """Send files of labels; the exit code."""
    from stream.tables import late_labels  # noqa: PLC0415  a command imports what it needs

    if columns.named and (columns.id is None or columns.label is None):
        raise CommandError("--labels needs to know the event's id and its label: --id COLUMN --label COLUMN")
    sinks = [late_labels.sink_of(config, topic, path) for path in files]
    survey = looked_at(config, files, columns)
    useless = False
    for path, sink in zip(files, sinks, strict=True):
        with printing.Progress(f"{path.name}", total=path.stat().st_size) as progress:
            found = late_labels.produce(config, path, sink, columns, progress.sent, survey, stopping)
        printing.echo(f"{path}: {sink.close()} labels sent")
        if found.unlabelled:
            printing.echo(f"{found.unlabelled:,} withdraw their events: their label is null", err=True)
            found.unlabelled = 0
        useless |= _say(config, found)
    return 1 if useless else 0


def _say(config: Config, found: Any) -> bool:
    """Say what the trainer makes of the events; tell whether it will refuse all of them."""
    if config.task != "regression" and found.labels:
        named = {True: "positive", False: "negative"} if config.task == "binary" else {}
        shown = ", ".join(f"{count:,} {named.get(label, label)}" for label, count in found.labels.most_common(10))
        printing.echo(f"labels: {shown}" if named else f"labels: {len(found.labels)} classes")
    if config.task == "binary" and found.labels and len(found.labels) == 1:
        only = "positive" if True in found.labels else "negative"
        case = ", and case counts" if isinstance(config.event.positive, str) else ""
        printing.echo(f"every label is {only}: event.positive is {config.event.positive!r}{case}", err=True)
    if found.unlabelled:
        printing.echo(f"{found.unlabelled:,} have no label at {config.event.label!r}, and teach nothing", err=True)
    if found.duplicates:
        printing.echo(f"{found.duplicates:,} have the id of another one of this run, and count once", err=True)
    if found.refused:
        printing.echo(
            f"{found.refused.total():,} will be refused ({counted(found.refused)}). The first: {found.example}",
            err=True,
        )
    return bool(found.useless)


CHECK_OPTIONS = (
    click.option(
        "--task", type=click.Choice(["binary", "multiclass", "regression"]), help="Default found out from the label."
    ),
    click.option(
        "--exclude", multiple=True, metavar="A,B,…",
        help="Columns that are left out, such as those known only afterwards; written as those of --features.",
    ),
)  # fmt: skip


def checked(
    path: Path, options: dict[str, Any], name: str = "", port: int = 8000, kept: IO[bytes] | None = None
) -> Any:
    """Look at a table, with a bar for each pass over it; ``kept`` takes the events that were tried."""
    from stream.tables.check import check as look  # noqa: PLC0415  a command imports what it needs

    size = path.stat().st_size
    exclude = named(options["exclude"])
    with printing.Steps() as steps:
        return look(
            path, columns_of(options), task=options["task"], exclude=exclude, name=name, port=port, kept=kept,
            progress=lambda what, rows, done: steps.say(f"{what} {path.name}: {rows:,} rows", done, size),
        )  # fmt: skip


@click.command()
@click.argument("path", metavar="FILE", type=FILE)
@table_options
@CHECK_OPTIONS[0]
@CHECK_OPTIONS[1]
@json_option
def check(path: Path, *, as_json: bool, **options: Any) -> None:
    """Look at a table: its columns, what they are good for, which task, what would be refused; nothing is written.

    FILE is a CSV, Parquet or JSON lines (gzip too). Exit 1 when every row would be refused.
    """
    found = checked(path, options)
    if as_json:
        printing.as_json({
            **msgspec.to_builtins(found.found), "configuration": found.configuration, "model": found.model,
            "refused": dict(found.sent.refused) if found.sent is not None else {}, "asked": found.asked,
        })  # fmt: skip
    else:
        findings.show(found)
    sys.exit(1 if found.sent is not None and found.sent.useless else 0)
