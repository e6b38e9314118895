"""The operator's door: the command ``holdfast``.

Exit codes: 0 done; 1 the answer is no (a snapshot failed, a digest does not hold); 2 the configuration or the
command line is wrong; 3 refused, and nothing was changed; 4 the store, the source or a learner is in trouble; 5 another
trainer writes this lineage.
"""

import getpass
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from learners.errors import LearnersError
from snapshots import Lineage, SnapshotsError
from snapshots import manifest as manifests
from snapshots import snapshot as cuts
from snapshots.errors import DamagedError, LineageTakenError, RefusedError
from snapshots.holdout import FEWEST_ROWS
from snapshots.ledger import Decision, Entry
from snapshots.manifest import HoldoutState
from stream import logs, printing
from stream import status as states
from stream.config import Config, load
from stream.errors import CommandError, StreamError
from stream.presence import present

_CONFIRM_SECONDS = 5.0
_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Group(click.Group):
    """A group of commands that turns the errors that are expected into one line and an exit code."""

    group_class = type

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault of the program still shows its trace."""
        try:
            return super().invoke(ctx)
        except (StreamError, SnapshotsError, LearnersError) as cause:
            ctx.exit(logs.last_words(cause))


def _config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option(
        "--config", "path", type=click.Path(path_type=Path), default=None,
        help="Configuration file; default holdfast.toml, or HOLDFAST_CONFIG.",
    )  # fmt: skip
    return option(function)


def _configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--config``, before or after its name, and the loaded configuration as its first argument."""

    @wraps(function)
    def run(*args: Any, path: Path | None, **options: Any) -> Any:
        return function(_load(click.get_current_context(), path), *args, **options)

    return _config_option(run)


def _load(ctx: click.Context, path: Path | None) -> Config:
    chosen = path or ctx.find_root().params.get("path") or Path(os.environ.get("HOLDFAST_CONFIG", "holdfast.toml"))
    ctx.find_root().meta["config"] = chosen
    return load(chosen, os.environ)


def _stopping() -> Callable[[], bool]:
    """Tell whether SIGTERM or SIGINT has arrived."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda arrived, _frame: asked.append(arrived))
    return lambda: bool(asked)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
_why_option = click.option("--why", default="", help="The reason, kept in the ledger.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@_config_option
@click.version_option(package_name="holdfast")
def main(path: Path | None) -> None:  # noqa: ARG001  read from the context by the commands
    """Online learning from a stream that can be proved, guarded and undone.

    Start with: holdfast demo
    """
    logs.configure(os.environ.get("HOLDFAST_LOG", "console"))


# Beginning ---------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", default=None, help="Name of the lineage; default the folder's name.")
def init(folder: Path, name: str | None) -> None:
    """Write a configuration, a model.py, a token and sample events that work as they are."""
    from stream.starter import write_starter  # noqa: PLC0415  a command imports what it needs

    chosen = name or folder.resolve().name or "holdfast"
    for path in write_starter(folder, "".join(c if c.isalnum() or c in "._-" else "-" for c in chosen)):
        click.echo(f"wrote {path}")
    where = "" if folder == Path() else f"cd {folder} && "
    click.echo(f"Now: {where}holdfast up    (and in another terminal: holdfast status)")


@main.command()
@click.option("--seconds", type=float, default=None, help="End after this long; default: until Ctrl-C.")
@click.option(
    "--dir",
    "folder",
    type=_FOLDER,
    default=Path("holdfast-demo"),
    show_default=True,
    help="Where the demo keeps events and snapshots; it goes on there next time.",
)
@click.option("--rate", type=click.FloatRange(1, 20000), default=1000.0, show_default=True, help="Payments a second.")
@click.option("--port", type=int, default=None, help="Port for predictions; default 8000, or a free one.")
@click.option(
    "--poison", type=click.FloatRange(0), default=45.0, show_default=True, help="Poison it after so many seconds."
)
@click.option("--no-poison", is_flag=True, help="Leave the payments as they are.")
def demo(seconds: float | None, folder: Path, rate: float, port: int | None, poison: float, *, no_poison: bool) -> None:
    """Learn from a stream of card payments made up on the spot; after a while it is poisoned, and saves itself."""
    from stream.demo import Demo  # noqa: PLC0415  a command imports what it needs

    after = None if no_poison else poison
    Demo(folder, rate=rate, port=port, environment=os.environ, poison=after).run(seconds, _stopping())


@main.command()
@click.argument("name", metavar="DRILL")
@click.option("--dir", "folder", type=_FOLDER, default=None, help="A new folder for it; default a temporary one.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    default=None,
    metavar="CONFIG",
    help="Do it to the deployment of this configuration, which runs.",
)
@click.option("--really", is_flag=True, help="Also to one that is marked production = true.")
@click.option("--rate", type=click.FloatRange(100, 10000), default=1000.0, show_default=True, help="Events a second.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=90.0, show_default=True, help="How long until it is undone."
)
@_json_option
def drill(
    name: str, folder: Path | None, against: Path | None, rate: float, seconds: float, *, really: bool, as_json: bool
) -> None:
    """Run a catastrophe; print when it was seen, when it was undone, and what served meanwhile.

    DRILL is poison, forget, shift, slice, diverge, kill, torn-snapshot or broker-down, against a demo stream in a
    folder of its own, or with --against a staging deployment. Exit 0 when it passed, else 1.
    """
    from stream.drill import DRILLS, Drill, stage_of, stage_of_its_own  # noqa: PLC0415  a command imports what it needs

    if name not in DRILLS:
        raise CommandError(f"there is no drill {name!r}; there are {', '.join(DRILLS)}")
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-") as temporary:
        if against is not None:
            stage = stage_of(load(against, os.environ), name, rate, really=really)
        else:
            stage = stage_of_its_own(folder or Path(temporary) / "drill", rate, os.environ)
        card = Drill(name, stage, seconds).run(lambda text: click.echo(text, err=True), _stopping())
    if as_json:
        printing.as_json(msgspec.to_builtins(card))
    else:
        printing.show_card(card)
    sys.exit(0 if card.passed else 1)


_new_lineage_option = click.option(
    "--new-lineage", is_flag=True, help="Begin anew, from source.start; nothing learnt so far counts."
)
_accept_option = click.option(
    "--accept", is_flag=True, help="Go on from what was learnt although a learner was changed."
)


@main.command()
@_new_lineage_option
@_accept_option
@_configured
def up(config: Config, *, new_lineage: bool, accept: bool) -> None:
    """Run trainer, guard and serving as child processes; they are started again when they die."""
    from stream.supervise import Supervisor  # noqa: PLC0415  a command imports what it needs

    chosen = click.get_current_context().find_root().meta["config"]
    flags = ["--new-lineage"] * new_lineage + ["--accept"] * accept
    if not logs.as_json():
        click.echo(f"holdfast up: http://{config.serve.host}:{config.serve.port}/docs   Ctrl-C ends it", err=True)
    Supervisor(chosen, os.environ, first={"train": flags}).run(_stopping())


@main.command()
@click.option("--until-end", is_flag=True, help="Read to where the source ended at the start, snapshot, and exit 0.")
@click.option("--give-way", is_flag=True, help="Exit 0 when another trainer took over: do not restart this one.")
@_new_lineage_option
@_accept_option
@_configured
def train(config: Config, *, until_end: bool, give_way: bool, new_lineage: bool, accept: bool) -> None:
    """Run the trainer: consume events, learn each, write snapshots.

    A trainer that is running already for this lineage ends: one lineage has one trainer.
    """
    from stream.compose import beginning, trainer_of  # noqa: PLC0415  a command imports what it needs

    stopping = _stopping()
    begin = beginning(fresh=new_lineage, accept=accept, operator=_operator())
    with printing.Progress(enabled=until_end) as progress:
        trainer = trainer_of(config, stopping=stopping, progress=progress.consumed, begin=begin)
        try:
            ended = trainer.run(until_end=until_end)
        except LineageTakenError as cause:
            if not give_way:
                raise
            logs.last_words(cause)
            return
    if until_end and not ended:
        why = "a breaker is open, and breaker.when_open is wait" if trainer.waits() else "asked to stop"
        click.echo(f"holdfast: {why} before the end was reached", err=True)
        sys.exit(1)


@main.command()
@click.option("--once", is_flag=True, help="Judge every unjudged snapshot; exit 0 if all passed and 1 if not.")
@click.option("--explain", type=int, metavar="N", help="Compute the verdicts on snapshot N again, and compare.")
@_json_option
@_configured
def guard(config: Config, *, once: bool, explain: int | None, as_json: bool) -> None:
    """Run the guard: judge every new snapshot before it may answer requests."""
    from stream.guarding import Guarding  # noqa: PLC0415  a command imports what it needs

    guarding = Guarding(config, now=time.time, sleep=time.sleep, stopping=_stopping())
    if explain is not None:
        _explain(guarding, explain, as_json=as_json)
        return
    if not once:
        guarding.run()
        return
    failed = 0
    for verdict in guarding.once():
        failed += verdict.verdict not in ("pass", "skipped")
        if as_json:
            click.echo(msgspec.json.encode(verdict))
        else:
            click.echo(f"snapshot {verdict.snapshot} {verdict.learner}: {verdict.verdict}: {verdict.why}")
    sys.exit(1 if failed else 0)


def _explain(guarding: Any, number: int, *, as_json: bool) -> None:
    """Print each learner's verdict with its figures; exit 1 when one is not what was given."""
    manifest = _manifest(guarding.lineage.refresh(), number)
    differs = False
    for learner in manifest.learners:
        verdict, same = guarding.explain(number, learner)
        differs |= not same
        if as_json:
            printing.as_json({**msgspec.to_builtins(verdict), "same": same})
            continue
        click.echo(f"snapshot {number} of {learner}: {verdict.verdict}: {verdict.why}")
        columns = [
            "found",
            "holdout",
            "fresh",
            "rows",
            "loss",
            "level",
            "margin",
            "above",
            "fresh_events",
            "difference",
        ]
        rows = [[name or "(all)", *(one.get(c) for c in columns)] for name, one in verdict.details.items()]
        if rows:
            printing.table(f"holdout {verdict.holdout}, reference {verdict.reference}", ["slice", *columns], rows)
        click.echo("the same as was given" if same else "NOT what was given: a file or the version differs")
    sys.exit(1 if differs else 0)


@main.command()
@_configured
def serve(config: Config) -> None:
    """Answer predictions over HTTP from the newest snapshot that passed."""
    from stream.serve import serve_forever  # noqa: PLC0415  a command imports what it needs

    serve_forever(config, os.environ, _stopping() if config.serve.workers > 1 else lambda: False)


@main.command()
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--demo", is_flag=True, help="Send the demo's card payments, made up on the spot, until Ctrl-C.")
@click.option("--label", metavar="COLUMN", help="The column that holds the label.")
@click.option("--positive", metavar="VALUE", help="The label's value that means yes; labels become 1 and 0.")
@click.option("--id", "identity", metavar="COLUMN", help="The column that holds the id; default FILE:ROW.")
@click.option("--time", "moment", metavar="COLUMN", help="The column that holds the time.")
@click.option("--features", metavar="A,B,…", help="The columns that are features; default all the others.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second; default as fast as it goes."
)
@click.option("--topic", metavar="T", help="Another topic than the first of source.topics.")
@_configured
def produce(
    config: Config, files: tuple[Path, ...], label: str | None, positive: str | None, identity: str | None,
    moment: str | None, features: str | None, rate: float | None, topic: str | None, *, demo: bool,
) -> None:  # fmt: skip
    """Send events: JSON lines as they are; CSV and Parquet as events made of their rows (gzip too)."""
    from stream import produce as producing  # noqa: PLC0415  a command imports what it needs

    if bool(files) == demo:
        raise CommandError("name the files to send, or --demo, and not both")
    if demo:
        sink = producing.sink_of(config, topic, Path("demo.jsonl"))
        sent = producing.produce_demo(sink, rate or 100.0, now=time.time, stopping=_stopping())
        click.echo(f"{sent} payments sent, {sink.close()} acknowledged")
        return
    columns = producing.Columns(label, positive, identity, moment, features.split(",") if features else None)
    stopping = _stopping()
    for path in files:
        sink = producing.sink_of(config, topic, path)
        with printing.Progress(f"{path.name}", total=path.stat().st_size) as progress:
            producing.produce(config, path, sink, columns, rate=rate, progress=progress.sent, stopping=stopping)
        click.echo(f"{path}: {sink.close()} events sent")


# Looking -----------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("role", type=click.Choice(["train", "guard", "serve"]))
@_configured
def alive(config: Config, role: str) -> None:
    """Exit 0 when this role said something on this host within ten seconds, 1 when not: for health checks."""
    wanted = {"train": "trainer", "guard": "guard", "serve": "serving"}[role]
    words = present(_lineage(config).store, time.time())
    here = [word for word in words if word["role"] == wanted and word["host"] == platform.node()]
    click.echo(f"{role}: {'alive' if here else 'no word within ten seconds'}")
    sys.exit(0 if here else 1)


@main.command()
@_json_option
@_configured
def status(config: Config, *, as_json: bool) -> None:
    """Show place, learners, metrics, accounting, source and serving; right also when nothing runs."""
    report = states.status(_lineage(config), config, time.time())
    printing.as_json(report) if as_json else printing.show_status(report)


@main.group(cls=Group, invoke_without_command=True)
@_json_option
@click.option("--at", metavar="TIME", help="What served then, and why: ISO 8601 (UTC) or Unix seconds.")
@_config_option
@click.pass_context
def ledger(ctx: click.Context, path: Path | None, at: str | None, *, as_json: bool) -> None:
    """Show every decision; with --at, what served at a time."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(_show_ledger, path=path, at=at, as_json=as_json)


@click.command(hidden=True)
@click.option("--at")
@_json_option
@_configured
def _show_ledger(config: Config, at: str | None, *, as_json: bool) -> None:
    lineage = _lineage(config)
    if at is not None:
        served = states.served_at(lineage, _moment(at))
        if as_json:
            printing.as_json(served)
        else:
            click.echo(
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
        (e.seq, printing.moment(e.time), e.action, e.learner, e.snapshot, e.by, e.why) for e in entries
    ])  # fmt: skip


@ledger.command("verify")
@_configured
def ledger_verify(config: Config) -> None:
    """Check the chain of digests over every entry."""
    click.echo(f"the ledger holds: {_lineage(config).ledger.verify()} entries")


@main.group(cls=Group)
def snapshots() -> None:
    """List, show, verify, pin and revert snapshots."""


@snapshots.command("list")
@_json_option
@_configured
def snapshots_list(config: Config, *, as_json: bool) -> None:
    """List every snapshot, newest first."""
    rows = states.listing(_lineage(config))
    if as_json:
        printing.as_json(rows)
        return
    columns = ["snapshot", "learner", "created", "learnt", "line", "verdict", "serving", "pinned", "bytes"]
    shown = [
        {
            **row,
            "created": printing.moment(row["created"]),
            "serving": "yes" if row["serving"] else "",
            "pinned": "yes" if row["pinned"] else "",
        }
        for row in rows
    ]
    printing.table("snapshots", columns, [[row[column] for column in columns] for row in shown])


@snapshots.command("show")
@click.argument("number", type=int)
@_json_option
@_configured
def snapshots_show(config: Config, number: int, *, as_json: bool) -> None:  # noqa: ARG001  a manifest is JSON either way
    """Show one snapshot's manifest and its verdicts."""
    lineage = _lineage(config)
    manifest = _manifest(lineage, number)
    verdicts = [
        msgspec.to_builtins(v) for name in manifest.learners if (v := lineage.verdict(number, name)) is not None
    ]
    printing.as_json({**msgspec.to_builtins(manifest), "verdicts": verdicts})


@snapshots.command("verify")
@click.argument("number", type=int, required=False)
@_configured
def snapshots_verify(config: Config, number: int | None) -> None:
    """Check every byte of one snapshot, or of all; exit 1 when one is not what it should be."""
    lineage = _lineage(config)
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
                click.echo(f"snapshot {one}: {cause}")
            progress.sent(done, done)
    click.echo(f"{len(numbers) - bad} of {len(numbers)} snapshots are whole")
    sys.exit(1 if bad else 0)


@snapshots.command("pin")
@click.argument("number", type=int)
@_why_option
@_configured
def snapshots_pin(config: Config, number: int, why: str) -> None:
    """Keep a snapshot for good."""
    _pin(config, number, why, "pin")


@snapshots.command("unpin")
@click.argument("number", type=int)
@_why_option
@_configured
def snapshots_unpin(config: Config, number: int, why: str) -> None:
    """Let a pinned snapshot go when its time comes."""
    _pin(config, number, why, "unpin")


def _pin(config: Config, number: int, why: str, action: str) -> None:
    lineage = _lineage(config)

    def decide(_: list[Entry]) -> Decision:
        pinned = number in lineage.refresh().pinned()
        if number not in lineage.numbers:
            raise RefusedError(f"there is no snapshot {number}; nothing was changed. See: holdfast snapshots list")
        if pinned == (action == "pin"):
            raise RefusedError(f"snapshot {number} is {'already' if pinned else 'not'} pinned; nothing was changed")
        return Decision(action=action, by=_operator(), why=why, snapshot=number)

    entry = lineage.ledger.append(time.time(), decide)
    click.echo(f"ledger entry {entry.seq}: {action} snapshot {number}")


@snapshots.command("revert")
@click.argument("target", nargs=-1, metavar="[LEARNER] [N]")
@click.option("--previous", is_flag=True, help="To the passing snapshot before the one that serves (the default).")
@click.option("--stay", is_flag=True, help="Serve it until: holdfast snapshots lift.")
@_why_option
@_json_option
@_configured
def snapshots_revert(
    config: Config, target: tuple[str, ...], why: str, *, previous: bool, stay: bool, as_json: bool
) -> None:
    """Put a learner back to snapshot N: what serves, its weights, metrics and counts.

    Takes effect in every serving process without a restart. LEARNER is the champion unless named. The events learnt
    since N are quarantined. A revert is undone by another revert.
    """
    learner, number = _target(target, previous=previous)
    lineage = _lineage(config)
    entry = lineage.ledger.append(
        time.time(), lambda _: lineage.decide_revert(learner, number, by=_operator(), why=why, stay=stay)
    )
    if as_json:
        printing.as_json(msgspec.to_builtins(entry))
        return
    click.echo(f"ledger entry {entry.seq}: {entry.learner} is put back to snapshot {entry.snapshot}")
    _confirm(lineage, entry)


@snapshots.command("lift")
@click.argument("learner", required=False)
@_why_option
@_configured
def snapshots_lift(config: Config, learner: str | None, why: str) -> None:
    """End a revert's --stay: newer passing snapshots answer again."""
    lineage = _lineage(config)

    def decide(_: list[Entry]) -> Decision:
        name = learner or lineage.refresh().champion()
        if name is None or not lineage.line(name).stay:
            raise RefusedError(f"{name or 'no learner'} does not stay at a snapshot; nothing was changed")
        return Decision(action="lift", by=_operator(), why=why, learner=name)

    entry = lineage.ledger.append(time.time(), decide)
    click.echo(f"ledger entry {entry.seq}: {entry.learner} follows its newest passing snapshot again")


@snapshots.command("export")
@click.argument("number", type=int)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--learner", default=None, help="Which learner; default the champion.")
@_configured
def snapshots_export(config: Config, number: int, file: Path, learner: str | None) -> None:
    """Write a learner of snapshot N as a file that plain Vowpal Wabbit or River loads."""
    lineage = _lineage(config)
    manifest = _manifest(lineage, number)
    name = learner or config.champion
    part = manifest.learners.get(name)
    if part is None:
        raise RefusedError(f"snapshot {number} holds no {name}; it holds {', '.join(manifest.learners)}")
    data = manifests.verify(part.model, lineage.store.get(part.model.name))
    try:
        with file.open("xb") as out:
            out.write(data)
    except FileExistsError:
        raise CommandError(f"{file} is already there; nothing was written") from None
    except OSError as cause:
        raise CommandError(f"{file} cannot be written: {cause.strerror}") from cause
    how = (
        f"vw {' '.join(part.built_from['trial']['tokens'])} -i {file}" if part.kind == "vw"
        else f"pickle.load(open({str(file)!r}, 'rb')) with river {manifest.versions['river']}"
    )  # fmt: skip
    click.echo(f"wrote {len(data):,} bytes; load it with: {how}")


@snapshots.command("import")
@click.argument("file", type=_FILE)
@click.option("--learner", default=None, help="Which learner begins from it; default the champion.")
@click.option("--trust", is_flag=True, help="Take a River pickle; only what the allow-list names in it is run.")
@_configured
def snapshots_import(config: Config, file: Path, learner: str | None, *, trust: bool) -> None:
    """Begin a lineage from an existing Vowpal Wabbit model or River pickle: writes its first snapshot.

    The learner's arguments or factory stand in the configuration; its events begin at source.start.
    """
    from stream.compose import beginning, trainer_of  # noqa: PLC0415  a command imports what it needs

    name = learner or config.champion
    if name not in config.learners:
        raise CommandError(f"there is no learner {name!r} in the configuration; it has {', '.join(config.learners)}")
    if config.learners[name].kind == "river" and not trust:
        raise RefusedError(
            f"{file} would be loaded as a pickle, which is a program. What it may run is held to an allow-list; if you "
            "know where the file comes from, add --trust. Nothing was changed"
        )
    begin = beginning(operator=_operator(), imports={name: str(file.resolve())})
    number = trainer_of(config, stopping=_stopping(), begin=begin).first_snapshot()
    click.echo(f"snapshot {number} of {name} begins from {file}; now: holdfast up")


@main.group(cls=Group)
def learning() -> None:
    """Let a learner learn again that was set aside, or set one aside."""


@learning.command("stop")
@click.argument("learner")
@_why_option
@_configured
def learning_stop(config: Config, learner: str, why: str) -> None:
    """Let a learner learn nothing from here on; what comes is quarantined for it. Others go on."""
    _learning(config, learner, why, "stop_learning")


@learning.command("resume")
@click.argument("learner")
@_why_option
@_configured
def learning_resume(config: Config, learner: str, why: str) -> None:
    """Let a learner learn again, from the present on; what it missed stays in its quarantine."""
    _learning(config, learner, why, "resume_learning")


def _learning(config: Config, learner: str, why: str, action: str) -> None:
    lineage = _lineage(config)

    def decide(_: list[Entry]) -> Decision:
        newest = lineage.refresh().newest()
        if newest is None or learner not in newest.learners:
            raise RefusedError(f"there is no learner {learner!r} in the newest snapshot; nothing was changed")
        if (lineage.stopped(learner) is None) == (action == "resume_learning"):
            raise RefusedError(f"{learner} is not stopped; nothing was changed" if action == "resume_learning"
                               else f"{learner} is stopped already; nothing was changed")  # fmt: skip
        return Decision(action=action, by=_operator(), why=why, learner=learner)

    entry = lineage.ledger.append(time.time(), decide)
    click.echo(
        f"ledger entry {entry.seq}: {learner} {'learns again' if action == 'resume_learning' else 'is set aside'}"
    )


@main.group(cls=Group)
def quarantine() -> None:
    """Show, replay or drop what is not in the models."""


@quarantine.command("list")
@_json_option
@_configured
def quarantine_list(config: Config, *, as_json: bool) -> None:
    """List the quarantined ranges of every learner."""
    rows = states.quarantine(_lineage(config))
    if as_json:
        printing.as_json(rows)
        return
    printing.table("quarantine", ["learner", "id", "events", "state", "cause", "ranges"], [
        (r["learner"], r["id"], r["events"], r["state"], r["cause"], printing.ranges(r["ranges"])) for r in rows
    ])  # fmt: skip


@quarantine.command("show")
@click.argument("identity", metavar="ID")
@_configured
def quarantine_show(config: Config, identity: str) -> None:
    """Show one quarantined range with the decision that made it."""
    lineage = _lineage(config)
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
@_why_option
@_configured
def quarantine_replay(
    config: Config, identity: str, learner: str | None, only: tuple[str, ...], without: tuple[str, ...], why: str
) -> None:
    """Learn the events of a quarantined range after all, each once, in offset order; through the guard."""
    from stream.compose import source_of  # noqa: PLC0415  a command imports what it needs
    from stream.replay import opened, span_of  # noqa: PLC0415  the same

    for text in (*only, *without):
        span_of(text)
    lineage, name = _lineage(config), learner or config.champion
    newest = lineage.newest()
    found = (
        [one for one in lineage.quarantine(name) if one.id == identity] if newest and name in newest.learners else []
    )
    if newest is None or not found or found[0].state != "skipped":
        state = f"it is {found[0].state}" if found else "see: holdfast quarantine list"
        raise RefusedError(f"{name} has no quarantine {identity} that could be replayed: {state}; nothing was changed")
    asked = [entry for entry in lineage.replays(name, lineage.line(name).number) if entry.cause == identity]
    if asked:
        raise RefusedError(f"ledger entry {asked[0].seq} asks for that already, and the trainer has yet to do it")
    if lineage.stopped(name) is not None:
        raise RefusedError(f"{name} learns nothing just now: holdfast learning resume {name} first")
    source = source_of(config, when_lost="stop")
    try:  # what retention has taken is said before anything changes
        opened(source, found[0], newest.place, newest.topics)
    finally:
        source.close()
    decision = Decision(
        "replay", _operator(), why, name, cause=identity, only=list(only), without=list(without)
    )  # fmt: skip
    entry = lineage.ledger.append(time.time(), lambda _: decision)
    click.echo(
        f"ledger entry {entry.seq}: the trainer learns quarantine {identity} of {name} ({found[0].events:,} events)"
    )


@quarantine.command("drop")
@click.argument("identity", metavar="ID")
@click.option("--learner", default=None, help="Which learner; default the champion.")
@_why_option
@_configured
def quarantine_drop(config: Config, identity: str, learner: str | None, why: str) -> None:
    """Decide that these events are never learnt; they stay counted as quarantined."""
    lineage, name = _lineage(config), learner or config.champion

    def decide(_: list[Entry]) -> Decision:
        rows = [row for row in states.quarantine(lineage) if (row["learner"], row["id"]) == (name, identity)]
        if not rows:
            raise RefusedError(f"{name} has no quarantine {identity}; nothing was changed")
        if rows[0]["state"] == "dropped":
            raise RefusedError(f"quarantine {identity} of {name} is dropped already; nothing was changed")
        return Decision(action="drop", by=_operator(), why=why, learner=name, cause=identity)

    entry = lineage.ledger.append(time.time(), decide)
    click.echo(f"ledger entry {entry.seq}: quarantine {identity} of {name} is dropped")


@main.group(cls=Group)
def holdout() -> None:
    """Show the rows that snapshots are scored on, or seal newer ones."""


@holdout.command("show")
@_json_option
@_configured
def holdout_show(config: Config, *, as_json: bool) -> None:
    """Show the versions of the holdout, their labels and slices, and the candidate for the next one."""
    report = states.holdout(_lineage(config), config.task, time.time())
    if as_json:
        printing.as_json(report)
        return
    columns = ["version", "rows", "sealed", "from", "to", "mean label"]
    printing.table("holdout", columns, [
        [one["version"], one["rows"], *(printing.moment(one[key]) for key in ("sealed", "from", "to")),
         one["mean_label"]] for one in report["versions"]
    ])  # fmt: skip
    for one in report["versions"][-1:]:
        click.echo("slices: " + (", ".join(f"{name} {count:,}" for name, count in one["slices"].items()) or "none"))
    click.echo(f"{report['candidate']:,} rows collected for the next version")
    if report["warning"]:
        click.echo(report["warning"])


@holdout.command("refresh")
@click.option("--approve", "why", required=True, metavar="WHY", help="Why newer rows are to be trusted.")
@_configured
def holdout_refresh(config: Config, why: str) -> None:
    """Seal the rows collected since as the next version; the old one stays as a floor."""
    lineage = _lineage(config)

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
        return Decision(action="refresh", by=_operator(), why=why)

    entry = lineage.ledger.append(time.time(), decide)
    click.echo(f"ledger entry {entry.seq}: the trainer seals the next version of the holdout")


# Parts -------------------------------------------------------------------------------------------------------------


def _lineage(config: Config) -> Lineage:
    from stream.building import store_of  # noqa: PLC0415  a command imports what it needs

    return Lineage(store_of(config)).refresh()


def _manifest(lineage: Lineage, number: int) -> Any:
    manifest = lineage.manifest(number)
    if manifest is None:
        why = lineage.damaged.get(number, "it does not exist. See: holdfast snapshots list")
        raise RefusedError(f"snapshot {number}: {why}")
    return manifest


def _operator() -> str:
    return f"operator:{getpass.getuser()}"


def _target(target: tuple[str, ...], *, previous: bool) -> tuple[str | None, int | None]:
    numbers = [int(one) for one in target if one.isdigit()]
    names = [one for one in target if not one.isdigit()]
    if len(numbers) > 1 or len(names) > 1 or (numbers and previous):
        raise CommandError("write: holdfast snapshots revert [LEARNER] [N | --previous]")
    return (names[0] if names else None), (numbers[0] if numbers else None)


def _moment(text: str) -> float:
    try:
        if text.replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(float(text), UTC).timestamp()
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise CommandError(f"--at {text!r} is neither ISO 8601 nor Unix seconds") from None


def _confirm(lineage: Lineage, entry: Entry) -> None:
    """Wait a little for every serving process to answer from the target or its new line, and say so."""
    deadline = time.monotonic() + _CONFIRM_SECONDS
    waiting = {word["pid"] for word in present(lineage.store, time.time()) if word["role"] == "serving"}
    if not waiting:
        click.echo("no serving process runs; the next one that starts answers from it")
    while waiting and time.monotonic() < deadline:
        for word in present(lineage.store, time.time()):
            if word["role"] != "serving" or word["pid"] not in waiting or word["learner"] != entry.learner:
                continue
            part = lineage.refresh().part(word["snapshot"], word["learner"])
            if word["snapshot"] == entry.snapshot or (part and part.line == entry.seq):
                click.echo(f"process {word['pid']} answers from snapshot {word['snapshot']}")
                waiting.discard(word["pid"])
        time.sleep(0.05)
    for pid in waiting:
        click.echo(f"process {pid} has not said yet that it follows; look again with holdfast status", err=True)


if __name__ == "__main__":
    main()
