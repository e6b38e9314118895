"""``holdfast quarantine``: what is not in the models."""

import time

import click
import msgspec

from snapshots.decisions.ledger import Decision, Entry
from snapshots.errors import RefusedError
from stream.command_group import Group
from stream.commands.base import configured, json_option, lineage_of, operator, why_option
from stream.settings import Config
from stream.status import status as states
from stream.terminal import printing


@click.group(cls=Group)
def quarantine() -> None:
    """Show, replay or drop what is not in the models."""


@quarantine.command("list")
@json_option
@configured
def quarantine_list(config: Config, *, as_json: bool) -> None:
    """List the quarantined ranges of every learner."""
    rows = states.quarantine(lineage_of(config))
    if as_json:
        printing.as_json(rows)
        return
    printing.table("quarantine", ["learner", "id", "events", "state", "cause", "ranges"], [
        (r["learner"], r["id"], r["events"], r["state"], r["cause"], printing.ranges(r["ranges"])) for r in rows
    ])  # fmt: skip


@quarantine.command("show")
@click.argument("identity", metavar="ID")
@configured
def quarantine_show(config: Config, identity: str) -> None:
    """Show one quarantined range with the decision that made it."""
    lineage = lineage_of(config)
    rows = [row for row in states.quarantine(lineage) if row["id"] == identity]
    if not rows:
        raise RefusedError(f"there is no quarantine {identity}. See: holdfast quarantine list")
    made = [msgspec.to_builtins(entry) for entry in lineage.entries if str(entry.seq) == identity]
    printing.as_json([{**row, "decision": made[0] if made else None} for row in rows])


@quarantine.command("replay")
@click.argument("identity", metavar="ID")
@click.option("--learner", default=None, help="Which learner; default the champion.")
@click.option("--only", multiple=True, metavar="RANGE", help="FROM-TO or TOPIC[PARTITION]:FROM-TO; may be repeated.")
@click.option("--except", "without", multiple=True, metavar="RANGE", help="Leave these out; may be repeated.")
@why_option
@configured
def quarantine_replay(
    config: Config, identity: str, learner: str | None, only: tuple[str, ...], without: tuple[str, ...], why: str
) -> None:
    """Learn the events of a quarantined range after all, each once, in offset order; through the guard."""
    from stream.compose import source_of  # noqa: PLC0415  a command imports what it needs
    from stream.train.replay import opened, span_of, touches  # noqa: PLC0415  the same

    spans = [span_of(text) for text in (*only, *without)]
    lineage, name = lineage_of(config), learner or config.first_champion
    newest = lineage.newest()
    found = (
        [one for one in lineage.quarantine(name) if one.id == identity] if newest and name in newest.learners else []
    )
    if newest is None or not found or found[0].state != "skipped":
        known = "" if newest is None or name in newest.learners else f"; its learners are {', '.join(newest.learners)}"
        state = f"it is {found[0].state}" if found else f"see: holdfast quarantine list{known}"
        raise RefusedError(f"{name} has no quarantine {identity} that could be replayed: {state}; nothing was changed")
    dropped = next((e for e in lineage.entries if (e.action, e.learner, e.cause) == ("drop", name, identity)), None)
    if dropped is not None:
        raise RefusedError(
            f"ledger entry {dropped.seq} drops quarantine {identity} of {name} for good; nothing was changed"
        )
    strange = [text for text, span in zip((*only, *without), spans, strict=True) if not touches(span, found[0].ranges)]
    if strange:
        there = printing.ranges(msgspec.to_builtins(found[0].ranges))
        raise RefusedError(f"quarantine {identity} of {name} is {there}, and {strange[0]} holds none of it")
    asked = [entry for entry in lineage.decided.wanted_replays(name) if entry.cause == identity]
    if asked:
        raise RefusedError(f"ledger entry {asked[0].seq} asks for that already, and the trainer has yet to do it")
    if lineage.decided.stopped(name) is not None:
        raise RefusedError(f"{name} learns nothing just now: holdfast learning resume {name} first")
    source = source_of(config, when_lost="stop")
    try:  # what retention has taken is said before anything changes
        opened(source, found[0], newest.place, newest.topics)
    finally:
        source.close()
    decision = Decision(
        "replay", operator(), why, name, cause=identity, only=list(only), without=list(without)
    )  # fmt: skip
    entry = lineage.ledger.append(time.time(), lambda _: decision)
    printing.echo(
        f"ledger entry {entry.seq}: the trainer learns quarantine {identity} of {name} ({found[0].events:,} events)"
    )


@quarantine.command("drop")
@click.argument("identity", metavar="ID")
@click.option("--learner", default=None, help="Which learner; default the champion.")
@why_option
@configured
def quarantine_drop(config: Config, identity: str, learner: str | None, why: str) -> None:
    """Decide that these events are never learnt; they stay counted as quarantined."""
    lineage, name = lineage_of(config), learner or config.first_champion

    def decide(_: list[Entry]) -> Decision:
        rows = [row for row in states.quarantine(lineage) if (row["learner"], row["id"]) == (name, identity)]
        if not rows:
            raise RefusedError(f"{name} has no quarantine {identity}; nothing was changed")
        if any(entry.cause == identity for entry in lineage.decided.wanted_replays(name)):
            raise RefusedError(f"a replay of quarantine {identity} of {name} is asked for; nothing was changed")
        if rows[0]["state"] == "dropped":
            raise RefusedError(f"quarantine {identity} of {name} is dropped already; nothing was changed")
        return Decision(action="drop", by=operator(), why=why, learner=name, cause=identity)

    entry = lineage.ledger.append(time.time(), decide)
    printing.echo(f"ledger entry {entry.seq}: quarantine {identity} of {name} is dropped")
