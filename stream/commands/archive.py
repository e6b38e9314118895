"""``holdfast archive``: every valid labelled event, kept for full retrains."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from snapshots.decisions.erasure import Erased, erasures
from snapshots.decisions.ledger import Decision
from stream.command_group import Group
from stream.commands.base import (
    FILE,
    configured,
    json_option,
    lineage_of,
    operator,
    refuse_absent,
    stopping_of,
    why_option,
)
from stream.commands.tables import columns_of, looked_at, table_options
from stream.errors import CommandError
from stream.settings import Config
from stream.terminal import printing


@click.group(cls=Group)
def archive() -> None:
    """Keep every valid labelled event for full retrains; look at what is kept, check it, bring history in."""


@archive.command("run")
@click.option("--until-end", is_flag=True, help="Read to where the source ended at the start, write, and exit 0.")
@configured
def archive_run(config: Config, *, until_end: bool) -> None:
    """Run the archiver: read the source beside the trainer, and write what is valid and labelled."""
    from stream.compose import archiver_of  # noqa: PLC0415  a command imports what it needs

    stopping = stopping_of("what was read is written to the archive")
    with printing.Progress(enabled=until_end) as progress:
        archiver = archiver_of(config, stopping=stopping, progress=progress.consumed)
        ended = archiver.run(until_end=until_end)
    if until_end and not ended:
        printing.echo("holdfast: asked to stop before the end was reached", err=True)
        sys.exit(1)


@archive.command("show")
@json_option
@configured
def archive_show(config: Config, *, as_json: bool) -> None:
    """Show what is kept of each partition: events, bytes, offsets, times."""
    from stream.archive.files import Archive  # noqa: PLC0415  a command imports what it needs

    kept = Archive(lineage_of(config).store)
    found: dict[Any, dict[str, Any]] = {}
    for file in kept.files():
        about, size = kept.about(file), len(kept.bytes_of(file))
        row = found.setdefault(file.part, {
            "topic": file.part.topic, "id": file.part.id, "partition": file.part.partition, "begin": about.begin,
            "next": about.next, "files": 0, "events": 0, "bytes": 0, "from": None, "to": None,
        })  # fmt: skip
        row["next"], row["files"] = about.next, row["files"] + 1
        row["events"], row["bytes"] = row["events"] + about.events, row["bytes"] + size
        row["from"] = min((t for t in (row["from"], about.first_time) if t is not None), default=None)
        row["to"] = max((t for t in (row["to"], about.last_time) if t is not None), default=None)
    rows = list(found.values())
    if as_json:
        printing.as_json(rows)
        return
    columns = ["topic", "partition", "begin", "next", "events", "files", "bytes", "from", "to"]
    shown = [{**row, "from": printing.moment(row["from"]), "to": printing.moment(row["to"])} for row in rows]
    printing.table("archive", columns, [[row[column] for column in columns] for row in shown])


@archive.command("verify")
@json_option
@configured
def archive_verify(config: Config, *, as_json: bool) -> None:
    """Read every file and check it; exit 1 when one is damaged, or a range of offsets is not there."""
    from stream.archive.files import Archive  # noqa: PLC0415  a command imports what it needs

    files = events = 0
    wrong = []
    for file, about, what in Archive(lineage_of(config).store).verify():
        files, events = files + 1, events + about.events
        if what:
            wrong.append({"file": file.name, "what": what})
    if as_json:
        printing.as_json({"files": files, "events": events, "wrong": wrong})
    else:
        for one in wrong:
            printing.echo(f"{one['file']}: {one['what']}")
        printing.echo(f"{files} files with {events:,} events; {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


@archive.command("import")
@click.argument("files", nargs=-1, required=True, type=FILE)
@table_options
@click.option("--as", "name", metavar="NAME", help="Another name than the file's, under which it is kept.")
@configured
def archive_import(config: Config, files: tuple[Path, ...], name: str | None, **options: Any) -> None:
    """Bring in history, so that a first baseline exists before the first event: JSON lines, CSV, Parquet (gzip too).

    What was brought in once under a name is not brought in twice.
    """
    from stream.archive.archiver import bring_in  # noqa: PLC0415  the same
    from stream.archive.files import Archive  # noqa: PLC0415  the same
    from stream.compose import membership_of  # noqa: PLC0415  the same
    from stream.parts import codec_of, labels_of, reach_modules  # noqa: PLC0415  the same
    from stream.tables import produce as producing  # noqa: PLC0415  a command imports what it needs

    if name is not None and len(files) > 1:
        raise CommandError("--as names one file, and several are given")
    reach_modules(config)
    columns = columns_of(options, name or "")
    lineage = lineage_of(config)
    kept = Archive(lineage.store)
    erased = Erased(membership_of(config, lineage, time.time()), erasures(lineage.decided.erasures))
    labels = labels_of(config)
    survey = looked_at(config, files, columns)
    for path in files:
        with printing.Progress(path.name, total=path.stat().st_size) as progress:
            events = producing.events_of(config, path, columns, progress.sent, survey)
            found = bring_in(
                path, events, name=name or path.name, archive=kept, codec=codec_of(config, labels),
                every=config.archive.every_events, erased=erased, now=time.time,
            )  # fmt: skip
        if not found.kept:
            raise CommandError(f"{path}: nothing was brought in: {found.why or 'it holds no event'}")
        said = f"{found.kept:,} events of {path.name} under {name or path.name}"
        decision = Decision("archive_import", operator(), said, cause=name or path.name)
        lineage.ledger.append(time.time(), lambda _, made=decision: made)  # type: ignore[misc]
        printing.echo(
            f"{path}: {found.kept:,} events are in the archive, {found.refused:,} were refused or without a label"
        )
        if found.refused:
            printing.echo(f"the first of these: {found.why}")
        shares = [
            f"{_label(config, labels, one)} {count / found.kept:.2%}" for one, count in found.labels.most_common(10)
        ]
        if shares:
            printing.echo(f"labels: {', '.join(shares)}")


def _label(config: Config, labels: Any, one: bool | int) -> str:
    return str(labels.names[one]) if config.task == "multiclass" else ("yes" if one else "no")


@archive.command("drop")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@why_option
@configured
def archive_drop(config: Config, names: tuple[str, ...], why: str) -> None:
    """Leave out for good what was imported under NAME, or a damaged file (its name as verify prints it).

    What a topic still holds of the newest file of a partition is archived again.
    """
    from stream.archive import rewriting  # noqa: PLC0415  the same
    from stream.archive.files import Archive  # noqa: PLC0415  a command imports what it needs

    refuse_absent(config)
    lineage = lineage_of(config)
    kept = Archive(lineage.store)
    with rewriting.lease_of(lineage.store, time.time).held():
        for name in names:
            files, events = rewriting.drop(kept, name)
            decision = Decision("archive_drop", operator(), why or name, cause=name)
            entry = lineage.ledger.append(time.time(), lambda _, made=decision: made)  # type: ignore[misc]
            printing.echo(f"ledger entry {entry.seq}: {name} is out of the archive: {files} files, {events:,} events")
