"""``holdfast dead-letters``: what was refused, and back into the source with it once it is mended."""

import importlib
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from snapshots.errors import RefusedError
from snapshots.store.lease import Lease
from stream.command_group import Group
from stream.commands.base import absent, configured, json_option, lineage_of, operator, refuse_absent, why_option
from stream.commands.numbers import Whole
from stream.errors import CommandError
from stream.process.presence import has_ended, this_process
from stream.refusal import Reason, counted
from stream.settings import Config
from stream.terminal import printing

_LEASE, _LEASE_SECONDS = "dead-letters", 60.0
_SHOWN = 20
_reason_option = click.option(
    "--reason", type=click.Choice([reason.value for reason in Reason]), default=None, help="Only those refused for it."
)


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List and show what was refused, and send it back into the source."""


@dead_letters.command("list")
@_reason_option
@click.option("--last", type=Whole(1), metavar="N", help="Only the last N; default 20 in a terminal.")
@json_option
@configured
def letters_list(config: Config, reason: str | None, last: int | None, *, as_json: bool) -> None:
    """List what was refused, in the order in which it was read, and whether it was replayed."""
    from stream.dead_letters.replay import claimed  # noqa: PLC0415  a command imports what it needs

    known = claimed(lineage_of(config).ledger.entries())
    most = last if last is not None or as_json else _SHOWN
    counts: Counter[str] = Counter()
    rows: deque[dict[str, Any]] = deque(maxlen=most)
    for letter in _wanted(config, reason, ()):
        counts[letter.reason] += 1
        rows.append(_row(letter, known))
    if as_json:
        printing.as_json(list(rows))
        return
    columns = ["letter", "reason", "message", "bytes", "replayed"]
    printing.table("dead letters", columns, [
        [row["letter"], row["reason"], row["message"], row["bytes"], _replayed(row["replayed"])] for row in rows
    ])  # fmt: skip
    said = counted(counts)
    printing.echo(f"{counts.total():,} dead letters{': ' if said else ''}{said}")
    if counts.total() > len(rows):
        printing.echo(f"the last {len(rows)} are shown: --last N, or --json for all")


@dead_letters.command("show")
@click.argument("letter", metavar="LETTER")
@json_option
@configured
def letters_show(config: Config, letter: str, *, as_json: bool) -> None:
    """Show one letter (TOPIC:PARTITION:OFFSET, as list names it): why it was refused, and what it holds."""
    from stream.dead_letters.replay import claimed  # noqa: PLC0415  a command imports what it needs

    found = next(_wanted(config, None, (letter,)), None)
    if found is None:
        raise RefusedError(f"there is no dead letter {letter}. See: holdfast dead-letters list")
    row = _row(found, claimed(lineage_of(config).ledger.entries()))
    value = (found.value or b"").decode("utf-8", "backslashreplace")
    if as_json:
        key = None if found.key is None else found.key.decode("utf-8", "backslashreplace")
        printing.as_json({**row, "key": key, "value": None if found.value is None else value})
        return
    printing.echo(f"{found.id}: {found.reason}: {found.message}")
    printing.echo(f"replayed: {_replayed(row['replayed']) or 'no'}; {row['bytes']:,} bytes:")
    printing.echo(value if found.value is not None else "(a tombstone: the record has no value)")


@dead_letters.command("replay")
@click.argument("letters", nargs=-1, metavar="[LETTER]...")
@_reason_option
@click.option(
    "--fix", metavar="MODULE:FUNCTION",
    help="Mends a letter: takes its bytes, returns those of the event, or None to leave it; beside the configuration.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@why_option
@json_option
@configured
def letters_replay(
    config: Config, letters: tuple[str, ...], reason: str | None, fix: str | None, why: str, *, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Send letters back into the source, each at most once: those named, of one reason, or all.

    What would be refused again stays where it is. The ledger says which were sent; a letter that was sent is never sent
    again, also when this was cut off. Exit 1 when nothing was sent and some cannot be.
    """
    from stream.compose import resending_of  # noqa: PLC0415  a command imports what it needs

    only_looks = dry_run or bool(absent(config))
    resending = resending_of(config, by=operator(), why=why, sends=not only_looks)
    mend = _function(fix) if fix is not None else None
    wanted = _wanted(config, reason, letters)
    if only_looks:
        report = resending.look(wanted, mend)
        if report.sent and not dry_run:
            refuse_absent(config)
    else:
        lease = Lease(resending.lineage.store, _LEASE, this_process(), _LEASE_SECONDS, time.time, has_ended)
        try:
            with lease.held():
                report = resending.run(wanted, mend)
        finally:
            resending.way.close()
    if as_json:
        printing.as_json(msgspec.to_builtins(report))
    else:
        _show(report, dry_run=only_looks)
    cannot = report.elsewhere + report.refused.total()
    sys.exit(1 if cannot and not report.sent else 0)


def _show(report: Any, *, dry_run: bool) -> None:
    said = "would be sent" if dry_run else "are back in the source"
    entries = f" (ledger: {', '.join(map(str, report.entries))})" if report.entries else ""
    printing.echo(f"{report.sent:,} letters {said}{entries}")
    if report.already:
        printing.echo(f"{report.already:,} were replayed before, and are not sent again")
    for name, count in report.refused.most_common():
        printing.echo(f"{count:,} would be refused again ({name}), and stay: mend them with --fix module:function")
    if report.left:
        printing.echo(f"{report.left:,} were left where they are by --fix")
    if report.elsewhere:
        printing.echo(f"{report.elsewhere:,} came from a topic that source.topics does not name any more, and stay")
    if dry_run:
        printing.echo("nothing was changed")


def _wanted(config: Config, reason: str | None, names: Iterable[str]) -> Iterator[Any]:
    """The letters that are named, or those of a reason, or all."""
    from stream.dead_letters.reader import letters_of  # noqa: PLC0415  the same
    from stream.parts import store_of  # noqa: PLC0415  a command imports what it needs

    chosen, seen = set(names), set()
    for letter in letters_of(config, store_of(config)):
        seen.add(letter.id)
        if (not chosen or letter.id in chosen) and reason in (None, letter.reason):
            yield letter
            if chosen and chosen <= seen:
                return
    if strange := chosen - seen:
        raise RefusedError(f"there is no dead letter {min(strange)}. See: holdfast dead-letters list")


def _row(letter: Any, known: dict[str, int]) -> dict[str, Any]:
    return {
        "letter": letter.id, "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
        "reason": letter.reason, "message": letter.message, "bytes": len(letter.value or b""),
        "replayed": known.get(letter.id),
    }  # fmt: skip


def _replayed(entry: int | None) -> str:
    return "" if entry is None else f"ledger {entry}"


def _function(name: str) -> Any:
    """The function of a module beside the configuration, or that can be imported."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as cause:
        raise CommandError(f"--fix {name} cannot be imported: {cause}. Write it as module:function") from cause
    if not callable(found):
        raise CommandError(f"--fix {name} is no function: it takes the letter's bytes, and returns bytes or None")
    return found
