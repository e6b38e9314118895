"""``holdfast holdout``: the rows that snapshots are scored on."""

import time
from collections import Counter
from pathlib import Path

import click

from snapshots.decisions import trusted
from snapshots.decisions.ledger import Decision, Entry
from snapshots.errors import RefusedError
from snapshots.records.holdout import FEWEST_ROWS
from snapshots.records.manifest import HoldoutState
from stream.command_group import Group
from stream.commands.base import FILE, configured, json_option, lineage_of, operator, refuse_absent
from stream.errors import CommandError
from stream.refusal import counted
from stream.settings import Config
from stream.status import status as states
from stream.terminal import printing


@click.group(cls=Group)
def holdout() -> None:
    """Show the rows that snapshots are scored on, seal newer ones, or give labels that somebody checked."""


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
    given = report["trusted"]
    if given["lots"]:
        printing.echo(f"checked labels came {given['lots']:,} times, last {printing.moment(given['newest'])}")
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
        waiting = [e.seq for e in lineage.decided.refreshes if e.seq > state.followed]
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


@holdout.command("trust")
@click.argument("file", type=FILE)
@click.option("--why", default="", metavar="WHY", help="Who checked them, and how.")
@configured
def holdout_trust(config: Config, file: Path, why: str) -> None:
    """Give the guard events whose labels somebody checked: JSON lines, as they are on the stream.

    With thirty of them, given while something is held, it tells at once whether the world changed or the labels lie.
    They are never learnt.
    """
    from stream.compose import checking_of  # noqa: PLC0415  a command imports what it needs

    refuse_absent(config)
    lineage = lineage_of(config)
    rows, refused = checking_of(config, lineage).rows(file)
    reasons: Counter[str] = Counter(refused)
    if not rows:
        said = counted(reasons) or "it is empty"
        raise CommandError(f"{file} holds no event with a label that can be taken ({said}); nothing was changed")
    said = f"{len(rows):,} labels out of {file.name}" + (f": {why}" if why else "")
    entry = trusted.give(lineage.store, lineage.ledger, rows, by=operator(), why=said, now=time.time())
    printing.echo(f"ledger entry {entry.seq}: {len(rows):,} checked labels; the guard asks them from its next look on")
    if reasons:
        printing.echo(f"{sum(reasons.values()):,} lines were not taken: {counted(reasons)}")


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
