"""``holdfast holdout``: the rows that snapshots are scored on."""

import time

import click

from snapshots.errors import RefusedError
from snapshots.holdout import FEWEST_ROWS
from snapshots.ledger import Decision, Entry
from snapshots.manifest import HoldoutState
from stream import printing
from stream import status as states
from stream.commands.base import Group, configured, json_option, lineage_of, operator
from stream.config import Config


@click.group(cls=Group)
def holdout() -> None:
    """Show the rows that snapshots are scored on, or seal newer ones."""


@holdout.command("show")
@json_option
@configured
def holdout_show(config: Config, *, as_json: bool) -> None:
    """Show the versions of the holdout, their labels and slices, and the candidate for the next one."""
    report = states.holdout(lineage_of(config), config.task, time.time())
    if as_json:
        printing.as_json(report)
        return
    columns = ["version", "rows", "sealed", "age", "from", "to", "labels", "slices"]
    printing.table("holdout", columns, [
        [one["version"], one["rows"], printing.moment(one["sealed"]), f"{one['age_seconds'] / 3600:.1f} h",
         printing.moment(one["from"]), printing.moment(one["to"]),
         _shares(one["labels"]) or f"mean {one['mean_label']}",
         _shares({name: count / one["rows"] for name, count in one["slices"].items()})] for one in report["versions"]
    ])  # fmt: skip
    printing.echo(f"{report['candidate']:,} rows collected for the next version")
    if report["warning"]:
        printing.echo(report["warning"])


@holdout.command("refresh")
@click.option("--approve", "why", default="", metavar="WHY", help="Why newer rows are to be trusted.")
@configured
def holdout_refresh(config: Config, why: str) -> None:
    """Seal the rows collected since as the next version; the old one stays as a floor."""
    lineage = lineage_of(config)

    def decide(_: list[Entry]) -> Decision:
        newest = lineage.refresh().newest()
        state = newest.holdout if newest else HoldoutState()
        waiting = [e.seq for e in lineage.entries if e.action == "refresh" and e.seq > state.followed]
        if waiting:
            raise RefusedError(f"ledger entry {waiting[0]} asks for that already, and the trainer has yet to do it")
        rows = state.candidate
        if rows < FEWEST_ROWS:
            raise RefusedError(
                f"only {rows} rows are collected for the next version, and {FEWEST_ROWS} are needed; nothing was "
                "changed. Wait for more events"
            )
        return Decision(action="refresh", by=operator(), why=why)

    entry = lineage.ledger.append(time.time(), decide)
    printing.echo(f"ledger entry {entry.seq}: the trainer seals the next version of the holdout")


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
