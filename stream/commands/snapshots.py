"""``holdfast snapshots``: list, show, verify, pin, revert, take out and bring in."""

import shlex
import sys
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

import click
import msgspec

from snapshots import Lineage, SnapshotsError
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import DamagedError, RefusedError
from snapshots.judging.reverts import decide_revert
from snapshots.records import cut as cuts
from snapshots.records import manifest as manifests
from stream.command_group import Group
from stream.commands.base import (
    FILE,
    configured,
    json_option,
    lineage_of,
    manifest_of,
    operator,
    stopping_of,
    why_option,
)
from stream.commands.numbers import Whole
from stream.errors import CommandError
from stream.process.presence import present
from stream.settings import Config
from stream.status import status as states
from stream.terminal import printing

_CONFIRM_SECONDS = 5.0


@click.group(cls=Group)
def snapshots() -> None:
    """List, show, verify, pin and revert snapshots."""


@snapshots.command("list")
@click.option("--last", type=Whole(1), metavar="N", help="Only the newest N snapshots.")
@json_option
@configured
def snapshots_list(config: Config, last: int | None, *, as_json: bool) -> None:
    """List every snapshot: oldest first in a terminal, so that the newest stands last; newest first with --json."""
    rows = states.listing(lineage_of(config), last)
    if as_json:
        printing.as_json(rows)
        return
    columns = ["snapshot", "learner", "created", "learnt", "line", "verdict", "serving", "pinned", "size"]
    printing.table("snapshots", columns, [[_cell(row, column) for column in columns] for row in reversed(rows)])
    for row in reversed(rows):
        if row["verdict"] in ("fail", "suspect"):
            of = f" of {row['learner']}" if row["learner"] else ""
            printing.echo(f"snapshot {row['snapshot']}{of}: {row['verdict']}: {row['why']}")


def _cell(row: dict[str, Any], column: str) -> Any:
    if column == "created":
        return printing.moment(row["created"])
    if column == "size":
        return printing.size(row["bytes"]) if row["bytes"] is not None else None
    return ("yes" if row[column] else "") if column in ("serving", "pinned") else row[column]


@snapshots.command("show")
@click.argument("number", type=Whole())
@json_option
@configured
def snapshots_show(config: Config, number: int, *, as_json: bool) -> None:  # noqa: ARG001  a manifest is JSON either way
    """Show one snapshot's manifest and its verdicts."""
    lineage = lineage_of(config)
    manifest = manifest_of(lineage, number)
    verdicts = [
        msgspec.to_builtins(v) for name in manifest.learners if (v := lineage.verdict(number, name)) is not None
    ]
    printing.as_json({**msgspec.to_builtins(manifest), "verdicts": verdicts})


@snapshots.command("verify")
@click.argument("number", type=Whole(), required=False)
@configured
def snapshots_verify(config: Config, number: int | None) -> None:
    """Check every byte of one snapshot, or of all; exit 1 when one is not what it should be."""
    lineage = lineage_of(config)
    numbers = lineage.numbers if number is None else [number]
    bad = 0
    with printing.Progress("verifying", total=len(numbers)) as progress:
        for done, one in enumerate(numbers, 1):
            try:
                manifest = lineage.manifest(one)
                if manifest is None:
                    raise DamagedError(lineage.damaged.get(one, "it does not exist"))
                cuts.verify_all(lineage.store, manifest)
            except SnapshotsError as cause:
                bad += 1
                printing.echo(f"snapshot {one}: {cause}")
            progress.sent(done, done)
    printing.echo(f"{len(numbers) - bad} of {len(numbers)} snapshots are whole")
    sys.exit(1 if bad or lineage.broken else 0)


@snapshots.command("pin")
@click.argument("number", type=Whole())
@why_option
@configured
def snapshots_pin(config: Config, number: int, why: str) -> None:
    """Keep a snapshot for good."""
    _pin(config, number, why, "pin")


@snapshots.command("unpin")
@click.argument("number", type=Whole())
@why_option
@configured
def snapshots_unpin(config: Config, number: int, why: str) -> None:
    """Let a pinned snapshot go when its time comes."""
    _pin(config, number, why, "unpin")


def _pin(config: Config, number: int, why: str, action: Action) -> None:
    lineage = lineage_of(config)

    def decide(_: list[Entry]) -> Decision:
        pinned = number in lineage.refresh().decided.pinned
        if number not in lineage.numbers:
            raise RefusedError(f"there is no snapshot {number}; nothing was changed. See: holdfast snapshots list")
        if pinned == (action == "pin"):
            raise RefusedError(f"snapshot {number} is {'already' if pinned else 'not'} pinned; nothing was changed")
        return Decision(action=action, by=operator(), why=why, snapshot=number)

    entry = lineage.ledger.append(time.time(), decide)
    printing.echo(f"ledger entry {entry.seq}: {action} snapshot {number}")


@snapshots.command("revert")
@click.argument("target", nargs=-1, metavar="[LEARNER] [N]")
@click.option("--previous", is_flag=True, help="To the passing snapshot before the one that serves (the default).")
@click.option("--stay", is_flag=True, help="Serve it until: holdfast snapshots lift.")
@why_option
@json_option
@configured
def snapshots_revert(
    config: Config, target: tuple[str, ...], why: str, *, previous: bool, stay: bool, as_json: bool
) -> None:
    """Put a learner back to snapshot N: what serves, its weights, metrics and counts.

    Takes effect in every serving process without a restart. LEARNER is the champion unless named. The events learnt
    since N are quarantined. A revert is undone by another revert.
    """
    learner, number = _target(target, config.learners, previous=previous)
    lineage = lineage_of(config)
    entry = lineage.ledger.append(
        time.time(), lambda _: decide_revert(lineage, learner, number, by=operator(), why=why, stay=stay)
    )
    if as_json:
        printing.as_json(msgspec.to_builtins(entry))
        return
    printing.echo(f"ledger entry {entry.seq}: {entry.learner} is put back to snapshot {entry.snapshot}")
    _confirm(lineage, entry)


@snapshots.command("lift")
@click.argument("learner", required=False)
@why_option
@configured
def snapshots_lift(config: Config, learner: str | None, why: str) -> None:
    """End a revert's --stay: newer passing snapshots answer again."""
    lineage = lineage_of(config)

    def decide(_: list[Entry]) -> Decision:
        name = learner or lineage.refresh().champion()
        if name is None or not lineage.decided.line(name).stay:
            raise RefusedError(f"{name or 'no learner'} does not stay at a snapshot; nothing was changed")
        return Decision(action="lift", by=operator(), why=why, learner=name)

    entry = lineage.ledger.append(time.time(), decide)
    printing.echo(f"ledger entry {entry.seq}: {entry.learner} follows its newest passing snapshot again")


@snapshots.command("export")
@click.argument("number", type=Whole())
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--learner", default=None, help="Which learner; default the champion.")
@configured
def snapshots_export(config: Config, number: int, file: Path, learner: str | None) -> None:
    """Write a learner of snapshot N as a file that plain Vowpal Wabbit or River loads."""
    lineage = lineage_of(config)
    manifest = manifest_of(lineage, number)
    name = learner or config.first_champion
    part = manifest.learners.get(name)
    if part is None:
        raise RefusedError(f"snapshot {number} holds no {name}; it holds {', '.join(manifest.learners)}")
    data = manifests.read(lineage.store, part.model)
    _refuse_what_does_not_load(config, lineage, manifest, name)
    try:
        with file.open("xb") as out:
            out.write(data)
    except FileExistsError:
        raise CommandError(f"{file} is already there; nothing was written") from None
    except OSError as cause:
        raise CommandError(f"{file} cannot be written: {cause.strerror}") from cause
    how = (
        f"vw {shlex.join([*part.built_from['trial']['tokens'], '-i', str(file)])}" if part.kind == "vw"
        else f"pickle.load(open({str(file)!r}, 'rb')) with river {manifest.versions['river']}"
    )  # fmt: skip
    printing.echo(f"wrote {len(data):,} bytes; load it with: {how}")


def _refuse_what_does_not_load(config: Config, lineage: Lineage, manifest: manifests.Manifest, name: str) -> None:
    """Nobody is handed a file, and told to load it, that Holdfast itself would not load."""
    from stream.parts import labels_of, reach_modules, types_of  # noqa: PLC0415  learners are slow to import

    reach_modules(config)
    labels = labels_of(config)
    labels.restore(cuts.read_shared(lineage.store, manifest).labels)
    cuts.read_learner(lineage.store, manifest, name, labels, types_of(config, name))


@snapshots.command("import")
@click.argument("file", type=FILE)
@click.option("--learner", default=None, help="Which learner begins from it; default the champion.")
@click.option("--trust", is_flag=True, help="Take a River pickle; only what the allow-list names in it is run.")
@configured
def snapshots_import(config: Config, file: Path, learner: str | None, *, trust: bool) -> None:
    """Begin a lineage from an existing Vowpal Wabbit model or River pickle: writes its first snapshot.

    The learner's arguments or factory stand in the configuration; its events begin at source.start. The file's own
    library and the learner are asked the same questions, and the file is refused when they do not agree.
    """
    from stream.compose import beginning, trainer_of  # noqa: PLC0415  a command imports what it needs

    name = learner or config.first_champion
    if name not in config.learners:
        raise CommandError(f"there is no learner {name!r} in the configuration; it has {', '.join(config.learners)}")
    if config.learners[name].kind == "river" and not trust:
        raise RefusedError(
            f"{file} would be loaded as a pickle, which is a program. What it may run is held to an allow-list; if you "
            "know where the file comes from, add --trust. Nothing was changed"
        )
    begin = beginning(operator=operator(), imports={name: str(file.resolve())})
    number = trainer_of(config, stopping=stopping_of("the first snapshot is written"), begin=begin).first_snapshot()
    printing.echo(f"snapshot {number} of {name} begins from {file}; now: holdfast up")


def _target(target: tuple[str, ...], learners: Container[str], *, previous: bool) -> tuple[str | None, int | None]:
    """The learner and the number that were named; what is written in digits and names no learner is a number."""
    digits = [one for one in target if one.isdecimal() and one not in learners]
    numbers = [Whole().convert(one, None, None) for one in digits]
    names = [one for one in target if one not in digits]
    if len(numbers) > 1 or len(names) > 1 or (numbers and previous):
        raise CommandError("write: holdfast snapshots revert [LEARNER] [N | --previous]")
    return (names[0] if names else None), (numbers[0] if numbers else None)


def _confirm(lineage: Lineage, entry: Entry) -> None:
    """Wait a little for every serving process to answer from the target or its new line, and say so."""
    deadline = time.monotonic() + _CONFIRM_SECONDS
    waiting = {word["pid"] for word in present(lineage.store, time.time()) if word["role"] == "serving"}
    if not waiting:
        printing.echo("no serving process runs; the next one that starts answers from it")
    while waiting and time.monotonic() < deadline:
        for word in present(lineage.store, time.time()):
            if word["role"] != "serving" or word["pid"] not in waiting or word["learner"] != entry.learner:
                continue
            part = lineage.refresh().part(word["snapshot"], word["learner"])
            if word["snapshot"] == entry.snapshot or (part and part.line == entry.seq):
                printing.echo(f"process {word['pid']} answers from snapshot {word['snapshot']}")
                waiting.discard(word["pid"])
        time.sleep(0.05)
    for pid in waiting:
        printing.echo(f"process {pid} has not said yet that it follows; look again with holdfast status", err=True)
