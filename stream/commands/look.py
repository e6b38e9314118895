"""Commands that look: ``alive``, ``status``, ``ledger``, ``report``."""

import platform
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from snapshots import Lineage
from snapshots.decisions.ledger import Entry
from snapshots.errors import RefusedError
from stream.command_group import Group, config_option
from stream.commands.base import configured, json_option, lineage_of, moment_of
from stream.commands.numbers import Figure
from stream.errors import CommandError
from stream.process.presence import SILENT, present
from stream.settings import Config
from stream.status import overview
from stream.status import status as states
from stream.status.disk import used_bytes
from stream.terminal import printing, safe_text

#: what a report is about, where nothing else is said
_REPORT_SECONDS = 7 * 86_400.0


@click.command()
@click.argument("role", type=click.Choice(["train", "guard", "serve", "archive", "retrain"]))
@configured
def alive(config: Config, role: str) -> None:
    """Exit 0 when this role said something on this host within ten seconds, 1 when not: for health checks."""
    roles = {"train": "trainer", "guard": "guard", "serve": "serving", "archive": "archiver", "retrain": "scheduler"}
    wanted = roles[role]
    words = present(lineage_of(config).store, time.time())
    here = [word for word in words if word["role"] == wanted and word["host"] == platform.node()]
    printing.echo(f"{role}: {'alive' if here else SILENT}")
    sys.exit(0 if here else 1)


@click.command()
@click.option(
    "--watch", type=Figure(0.1), is_flag=False, flag_value=2.0, default=None, metavar="SECONDS",
    help="Show it again every so many seconds (2 when not said), until Ctrl-C; with --json a line each.",
)  # fmt: skip
@json_option
@configured
def status(config: Config, watch: float | None, *, as_json: bool) -> None:
    """Show place, learners, metrics, accounting, source and serving; right also when nothing runs."""
    if watch is None:
        report = _report(lineage_of(config), config)
        printing.as_json(report) if as_json else overview.show(report, time.time())
        return
    lineage, ended = lineage_of(config), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    while not ended.is_set():
        report = _report(lineage, config)
        if as_json:
            printing.echo(safe_text.as_json(report))
        else:
            printing.console.clear()
            overview.show(report, time.time())
            printing.say(f"every {watch:g} s; Ctrl-C ends it", "dim")
        ended.wait(watch)


def _report(lineage: Lineage, config: Config) -> dict[str, Any]:
    """What is so, with what costs more than a request over HTTP may: the size of the store, and examples."""
    from stream.dead_letters.reader import examples_of  # noqa: PLC0415  a command imports what it needs

    report = states.status(lineage, config, time.time())
    report["store"]["bytes"] = used_bytes(lineage.store)
    report["exposed"] = states.exposed(config)
    report["unended"] = states.unended(config, time.time())
    report["examples"] = examples_of(config, lineage.store) if report["refused"] else {}
    return report


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.option("--at", metavar="TIME", help="What served then, and why: ISO 8601 (UTC) or Unix seconds.")
@click.option("--id", "identity", metavar="ID", help="What answered the newest request of this id, and why.")
@config_option
@click.pass_context
def ledger(ctx: click.Context, path: Path | None, at: str | None, identity: str | None, *, as_json: bool) -> None:
    """Show every decision; with --at, what served at a time, and with --id, what answered a request until then."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(_show_ledger, path=path, at=at, identity=identity, as_json=as_json)


@click.command(hidden=True)
@click.option("--at")
@click.option("--id", "identity")
@json_option
@configured
def _show_ledger(config: Config, at: str | None, identity: str | None, *, as_json: bool) -> None:
    lineage = lineage_of(config)
    if identity is not None:
        until = moment_of(at, "--at") if at is not None else time.time()
        _show_answer(config, lineage, identity, until, as_json=as_json)
        return
    if at is not None:
        served = states.served_at(lineage, moment_of(at, "--at"))
        if as_json:
            printing.as_json(served)
        else:
            printing.echo(
                f"{printing.moment(served['time'])}: snapshot {served['snapshot']} of {served['learner']}: "
                f"{served['why']}"
            )
        return
    entries = lineage.ledger.entries()
    if as_json:
        printing.as_json([msgspec.to_builtins(entry) for entry in entries])
        return
    columns = ["seq", "time", "action", "learner", "snapshot", "by", "why"]
    printing.table("ledger", columns, [
        (e.seq, printing.moment(e.time), e.action, e.learner or e.candidate or None, e.snapshot, e.by, _with_share(e))
        for e in entries
    ])  # fmt: skip


def _with_share(entry: Entry) -> str:
    """The reason of an entry; of a roll-out's step with the share that it gives."""
    return f"{entry.share:g} %: {entry.why}".rstrip(": ") if entry.action == "rollout_step" else entry.why


def _show_answer(config: Config, lineage: Lineage, identity: str, until: float, *, as_json: bool) -> None:
    """What answered a request, from the log of predictions, and why it did, from ledger and verdicts."""
    from stream.compare.answered import answers_to  # noqa: PLC0415  a command imports what it needs
    from stream.compose import logged_of  # noqa: PLC0415  the same

    if not config.predictions.given:
        raise RefusedError("answers are not logged here: set predictions.directory or predictions.topic")
    kept = config.predictions.directory
    if kept and not (config.base / kept).is_dir():
        raise RefusedError(f"there is no answer yet: {config.base / kept} is not there, and serving makes it")
    source = logged_of(config)
    try:
        found = answers_to(source, identity, until)
    finally:
        source.close()
    if not found:
        raise RefusedError(f"there is no answer to {identity!r} in the log of predictions up to that time")
    answer = found[-1]
    answer["why"] = _why_answered(lineage, answer)
    if as_json:
        printing.as_json(answer)
        return
    with_chance = f" ({answer['probability']:.4f})" if answer.get("probability") is not None else ""
    printing.echo(
        f"{printing.moment(answer['ts'])}: {answer['prediction']}{with_chance} by snapshot {answer['snapshot']} of "
        f"{answer['learner']}, route {answer.get('route', 'champion')} with probability "
        f"{answer.get('propensity', 1.0):g}: {answer['why']}"
    )


def _why_answered(lineage: Lineage, answer: dict[str, Any]) -> str:
    entry = lineage.decided.by_number.get(answer.get("rollout", 0))
    said: str = states.served_at(lineage, answer["ts"])["why"]
    if entry is None:
        return said
    steps = [one for one in lineage.entries if one.seq >= entry.seq and one.time <= answer["ts"] and one.share]
    share = steps[-1].share if steps else 0.0
    about = f"entry {steps[-1].seq if steps else entry.seq}: the roll-out of {entry.candidate} answers {share:g} %"
    return f"{about}; {said}" if answer.get("route", "champion") == "champion" else about


@ledger.command("verify")
@configured
def ledger_verify(config: Config) -> None:
    """Check the chain of digests over every entry."""
    lineage = lineage_of(config)
    count = lineage.ledger.verify()
    if lineage.broken:
        sys.exit(1)
    printing.echo(f"the ledger holds: {count} entries")


@click.command()
@click.option("--since", metavar="TIME", help="From then on: ISO 8601 (UTC) or Unix seconds; default the last 7 days.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; default NAME-report.html.")
@configured
def report(config: Config, since: str | None, out: Path | None) -> None:
    """Write what happened as one file to send: the console's pictures, verdicts and decisions; it needs no network."""
    from stream.console.report import write_report  # noqa: PLC0415  a command imports what it needs
    from stream.console.seen import Seen  # noqa: PLC0415  the same

    now = time.time()
    begin = moment_of(since, "--since") if since is not None else now - _REPORT_SECONDS
    if begin >= now:
        raise CommandError(f"--since {since} is in the future")
    path = out or Path(f"{config.name}-report.html")
    chosen = click.get_current_context().find_root().meta["config"]
    try:
        write_report(Seen(config, chosen), path, begin, now)
    except OSError as cause:
        raise CommandError(f"{path} cannot be written: {cause.strerror}") from cause
    printing.echo(f"{path}")
