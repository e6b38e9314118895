"""``holdfast forget``: what somebody has a right to have deleted."""

import sys
from typing import Any

import click
import msgspec

from stream.commands.base import configured, json_option, operator, refuse_absent, why_option
from stream.settings import Config
from stream.terminal import printing


@click.command()
@click.argument("values", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--by", default="id", metavar="FEATURE", help="The IDs are values of this feature, as a customer's number."
)
@json_option
@why_option
@configured
def forget(config: Config, values: tuple[str, ...], by: str, why: str, *, as_json: bool) -> None:
    """Delete events for good: from archive, holdout, dead letters, logged predictions and what waits for its label.

    Says what still holds them, as topics do.
    The ledger keeps a salted hash only. A full retrain is asked for when the baseline may have learnt them. Run it
    again if it was cut off; exit 1 when nothing was found.
    """
    from stream.compose import erasing_of  # noqa: PLC0415  a command imports what it needs

    refuse_absent(config)
    with printing.Steps(enabled=not as_json) as steps:
        report = erasing_of(config, say=steps.say).run(values, by, operator(), why)
    found = report.archived + report.held_out + report.dead_letters + report.predictions
    if as_json:
        printing.as_json(msgspec.to_builtins(report))
    else:
        _show(report)
    sys.exit(0 if found or config.labels.given else 1)


def _show(report: Any) -> None:
    printing.echo(
        f"ledger entry {report.entry}: {report.archived:,} events are out of the archive and {report.dead_letters:,} "
        f"out of the dead letters; {report.predictions:,} logged predictions are overwritten; the trainer takes "
        f"{report.held_out:,} rows out of the holdout, and what waits for its label"
    )
    if report.asked_retrain is not None:
        printing.echo(f"ledger entry {report.asked_retrain} asks for a full retrain, from nothing")
    rows = [[f"topic {topic}", f"{partition}: " + ", ".join(f"{a} to {b - 1}" for a, b in spans),
             "the topic's retention, or the file's owner"]
            for topic, partitions in report.ranges.items() for partition, spans in partitions.items()]  # fmt: skip
    rows += [[f"file {name}", f"{count} events, imported", "its owner"] for name, count in report.imported.items()]
    if report.snapshots:
        first, last = report.snapshots[0], report.snapshots[-1]
        rows.append(["snapshots", f"{len(report.snapshots)}, from {first} to {last}", (
            "snapshots.keep, as newer ones come; a model that never saw them: holdfast train --new-lineage, when the "
            "topic no longer holds them"
        )])  # fmt: skip
    if report.pinned:
        rows.append(["pinned snapshots", ", ".join(map(str, report.pinned)), "holdfast snapshots unpin N"])
    if report.baselines:
        rows.append(["baselines", ", ".join(map(str, report.baselines)), "the retrain; older ones stay in the store"])
    if rows:
        printing.table("still there", ["what", "where", "what ends it"], rows)
