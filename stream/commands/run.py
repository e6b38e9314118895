"""Commands that run: ``up``, ``train``, ``guard``, ``serve``, ``console``."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from snapshots.errors import LineageTakenError, SnapshotsError, StoreError
from snapshots.records.manifest import Counts
from stream.command_group import config_option
from stream.commands.base import configured, json_option, lineage_of, load_config, manifest_of, operator, stopping_of
from stream.commands.numbers import Whole
from stream.config import unpacked
from stream.process import logs
from stream.refusal import counted
from stream.settings import Config
from stream.terminal import printing

_UP_WAITS = "requests under way are answered, and the trainer writes a last snapshot; up to 9 s"
_new_lineage_option = click.option(
    "--new-lineage", is_flag=True, help="Begin anew, from source.start; nothing learnt so far counts."
)
_take_over_option = click.option(
    "--take-over", is_flag=True, help="Also when another of this lineage is alive: its trainer then ends."
)
_accept_option = click.option(
    "--accept", is_flag=True, help="Go on from what was learnt although a learner was changed."
)


@click.command()
@_new_lineage_option
@_accept_option
@_take_over_option
@configured
def up(config: Config, *, new_lineage: bool, accept: bool, take_over: bool) -> None:
    """Run trainer, guard and serving as child processes; they are started again when they die.

    Serving goes on when the trainer cannot: it is tried again, or said in holdfast status why not. One lineage has one
    of these: while another is alive this one is refused, on another port too, unless it is told to take over.
    """
    from snapshots.store.signed import seen_directory  # noqa: PLC0415  a command imports what it needs
    from stream.parts import store_of  # noqa: PLC0415  the same
    from stream.process.only_one import refuse_company  # noqa: PLC0415  the same
    from stream.process.presence import Presence  # noqa: PLC0415  the same
    from stream.process.supervise import ROLES, Supervisor  # noqa: PLC0415  the same
    from stream.serve.workers import refuse_taken_port  # noqa: PLC0415  the same

    chosen = click.get_current_context().find_root().meta["config"]
    flags = ["--new-lineage"] * new_lineage + ["--accept"] * accept + ["--take-over"] * take_over
    refuse_taken_port(config)
    if not logs.as_json():
        printing.echo(f"holdfast up: http://{config.serve.host}:{config.serve.port}/docs   Ctrl-C ends it", err=True)
        if config.console.enabled:
            printing.echo(f"console: http://{config.console.host}:{config.console.port}/", err=True)
    roles = [*ROLES, *(["archive run"] if config.archive.enabled else [])]
    roles += ["retrain watch"] if config.retrain.enabled else []
    roles += ["console"] if config.console.enabled else []
    stopping, store = stopping_of(_UP_WAITS), store_of(config)
    if not take_over:
        with contextlib.suppress(StoreError):  # a store that is away shows nobody, and is waited for by those who run
            refuse_company(store, time.time, time.sleep, stopping, "up")
    presence = Presence(store, "up", time.time)
    try:
        Supervisor(
            chosen, os.environ, roles, first={"train": flags}, can_serve=lambda: _can_serve(config),
            say=lambda given_up: presence.say(given_up=given_up), seen=lambda: seen_directory(store),
        ).run(stopping)  # fmt: skip
    finally:
        presence.close()


def _can_serve(config: Config) -> bool:
    """Tell whether a snapshot has passed that could answer; a store that cannot be read may hold one."""
    try:
        lineage = lineage_of(config)
        name = lineage.champion()
        return name is not None and lineage.serving(name) is not None
    except SnapshotsError:
        return True


@click.command()
@click.option("--until-end", is_flag=True, help="Read to where the source ended at the start, snapshot, and exit 0.")
@click.option("--give-way", is_flag=True, help="Exit 0 when another trainer took over: do not restart this one.")
@_new_lineage_option
@_accept_option
@_take_over_option
@configured
def train(config: Config, *, until_end: bool, give_way: bool, new_lineage: bool, accept: bool, take_over: bool) -> None:
    """Run the trainer: consume events, learn each, write snapshots.

    One lineage has one trainer: while another is alive this one is refused, unless it is told to take over.
    """
    from stream.compose import beginning, trainer_of  # noqa: PLC0415  a command imports what it needs

    stopping = stopping_of("what was read is learnt, and a last snapshot written")
    begin = beginning(fresh=new_lineage, accept=accept, operator=operator(), take_over=take_over)
    refused = Counter[str]()
    with printing.Progress(enabled=until_end) as progress:
        trainer = trainer_of(config, stopping=stopping, progress=progress.consumed, begin=begin, refused=refused)
        try:
            ended = trainer.run(until_end=until_end)
        except LineageTakenError as cause:
            if not give_way:
                raise
            logs.last_words(cause)
            return
    if until_end and refused:
        printing.echo(f"holdfast: {_refused_in_words(refused, trainer.state.counts)}", err=True)
    if until_end and not ended:
        why = "a breaker is open, and breaker.when_open is wait" if trainer.state.waits() else "asked to stop"
        printing.echo(f"holdfast: {why} before the end was reached", err=True)
        sys.exit(1)


def _refused_in_words(refused: Counter[str], counts: Counts) -> str:
    """What this run refused, and what was refused since the lineage began where that is more."""
    total = sum(counts.refused.values())
    if refused.total() == total:
        said = f"{total:,} of {counts.consumed:,} records were refused ({counted(refused)})"
    else:
        said = (
            f"{refused.total():,} records were refused in this run ({counted(refused)}), and {total:,} of "
            f"{counts.consumed:,} since the lineage began"
        )
    return f"{said}; holdfast dead-letters list shows them"


@click.command()
@click.option("--once", is_flag=True, help="Judge every unjudged snapshot; exit 0 if all passed and 1 if not.")
@click.option("--explain", type=Whole(), metavar="N", help="Compute the verdicts on snapshot N again, and compare.")
@json_option
@configured
def guard(config: Config, *, once: bool, explain: int | None, as_json: bool) -> None:
    """Run the guard: judge every new snapshot before it may answer requests."""
    from stream.compose import voice_of  # noqa: PLC0415  a command imports what it needs
    from stream.guard.watch import Guarding  # noqa: PLC0415  the same

    guarding = Guarding(
        config, now=time.time, sleep=time.sleep, stopping=stopping_of("the verdict under way"),
        voice=voice_of(config) if config.holdout.trusted.given else None,
    )  # fmt: skip
    click.get_current_context().call_on_close(guarding.close)
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
            printing.json_line(msgspec.json.encode(verdict))
        else:
            printing.echo(f"snapshot {verdict.snapshot} {verdict.learner}: {verdict.verdict}: {verdict.why}")
    sys.exit(1 if failed else 0)


_FIGURES = ("found", "holdout", "fresh", "rows", "loss", "level", "margin", "above", "fresh_events", "difference")


def _explain(guarding: Any, number: int, *, as_json: bool) -> None:
    """Print each learner's verdict with its figures; exit 1 when one is not what was given."""
    manifest = guarding.lineage.refresh().manifest(number)
    if manifest is None:
        for verdict in guarding.given(number):
            _show_verdict(verdict, None, as_json=as_json)
        manifest_of(guarding.lineage, number)  # says what became of it
    differs = False
    for learner in manifest.learners:
        verdict, same = guarding.explain(number, learner)
        differs |= same is False
        _show_verdict(verdict, same, as_json=as_json)
    sys.exit(1 if differs else 0)


def _show_verdict(verdict: Any, same: bool | None, *, as_json: bool) -> None:
    """One verdict; ``same``: whether it was computed again to the same, None when it was not."""
    if as_json:
        printing.as_json({**msgspec.to_builtins(verdict), "same": same})
        return
    printing.echo(f"snapshot {verdict.snapshot} of {verdict.learner}: {verdict.verdict}: {verdict.why}")
    rows = [[name or "(all)", *(one.get(c) for c in _FIGURES)] for name, one in verdict.details.items()]
    if rows:
        printing.table(f"holdout {verdict.holdout}, reference {verdict.reference}", ["slice", *_FIGURES], rows)
    if same is None:
        printing.echo("as it was given; it is not computed again")
    else:
        printing.echo("the same as was given" if same else "NOT what was given: a file or the version differs")


@click.command()
@click.option("--as-kept", is_flag=True, hidden=True, help="For up: the configuration comes from standard input.")
@config_option
def serve(path: Path | None, *, as_kept: bool) -> None:
    """Answer predictions over HTTP from the newest snapshot that passed."""
    from stream.serve.workers import serve_forever  # noqa: PLC0415  a command imports what it needs

    config = unpacked(sys.stdin.buffer.read()) if as_kept else load_config(click.get_current_context(), path)
    serve_forever(config, os.environ, _stopping_workers(config))


@click.command()
@click.option(
    "--config", "paths", type=click.Path(path_type=Path), multiple=True,
    help="Configuration file, or a folder of some; may be repeated. Default holdfast.toml, or HOLDFAST_CONFIG.",
)  # fmt: skip
@click.pass_context
def console(ctx: click.Context, paths: tuple[Path, ...]) -> None:
    """Show lineages on a page, live and in the past, and act on them with the token."""
    from stream.console.run import configurations, run  # noqa: PLC0415  a command imports what it needs

    usual = ctx.find_root().params.get("path") or Path(os.environ.get("HOLDFAST_CONFIG", "holdfast.toml"))
    run(configurations(paths or (usual,)), os.environ, lambda said: printing.echo(said, err=True))


def _stopping_workers(config: Config) -> Callable[[], bool]:
    """Tell when its workers are to end; one process alone asks its web server."""
    return stopping_of("requests under way are answered, for up to 6 s") if config.serve.workers > 1 else lambda: False
