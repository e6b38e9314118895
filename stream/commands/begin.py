"""Commands to begin with: ``init``, ``demo``, ``drill``."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from stream.commands.base import (
    FILE,
    FOLDER,
    json_option,
    stopping_of,
)
from stream.commands.numbers import Figure, Whole
from stream.commands.tables import CHECK_OPTIONS, checked, table_options
from stream.config import load
from stream.errors import CommandError
from stream.process import interpreter
from stream.tables import findings
from stream.terminal import printing

#: after so many events the bar moves
_TOLD = 1000


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", default=None, help="Name of the lineage; default the folder's name.")
@click.option("--empty", is_flag=True, help="Without sample events, so that none mix into a model of yours.")
@click.option("--from", "source", type=FILE, metavar="FILE", help="A table to begin from: CSV, Parquet or JSON lines.")
@table_options
@CHECK_OPTIONS[0]
@CHECK_OPTIONS[1]
def init(folder: Path, name: str | None, source: Path | None, *, empty: bool, **options: Any) -> None:
    """Write a configuration, a model.py, a token and sample events that work as they are.

    With --from FILE and --label COLUMN they are made for that table, and its rows become the first events; see what
    they will be with holdfast check FILE --label COLUMN.
    """
    from stream.demo.starter import SAMPLE_EVENTS, write_starter  # noqa: PLC0415  the same
    from stream.tables.proposal import name_of  # noqa: PLC0415  a command imports what it needs

    chosen = name_of(name or folder.resolve().name)
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    if source is None:
        _refuse_options(options)
        for path in write_starter(folder, chosen, sample=0 if empty else SAMPLE_EVENTS):
            printing.echo(f"wrote {path}")
        if empty:
            printing.echo(f"Now: {where}holdfast produce FILE    (there are no events yet)")
        printing.echo(f"{'Then' if empty else 'Now'}: {where}holdfast up    (and in another terminal: holdfast status)")
        return
    if options["label"] is None:
        raise CommandError(f"which column of {source} is the label? --label COLUMN; holdfast check {source} lists them")
    with tempfile.TemporaryFile() as kept:
        found = checked(source, options, chosen, kept=None if empty else kept)
        findings.show(found)
        if found.sent.useless:
            raise CommandError("every row would be refused, so nothing was written")
        written = write_starter(folder, chosen, sample=0, configuration=found.configuration, model=found.model)
        for path in written:
            printing.echo(f"wrote {path}")
        if not empty:
            _fill(folder, source, kept)
    printing.echo(f"Now: {where}holdfast up    (and in another terminal: {where}holdfast status)")
    printing.echo("Ask it: curl -s http://127.0.0.1:8000/predict -H 'content-type: application/json' -d "
                  f"{shlex.quote(found.asked)}")  # fmt: skip


def _refuse_options(options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value not in (None, (), "utf-8-sig")]
    if given:
        raise CommandError(f"--{given[0].replace('_', '-')} is about a table: name it with --from FILE")


def _fill(folder: Path, source: Path, kept: IO[bytes]) -> None:
    """Make the table's rows, as they were tried, the first events."""
    from stream.tables import produce as producing  # noqa: PLC0415  a command imports what it needs

    config = load(folder / "holdfast.toml", {})
    sink = producing.sink_of(config, None, source)
    total = kept.tell()
    kept.seek(0)
    with printing.Progress(source.name, total=total) as progress:
        for done, line in enumerate(kept, 1):
            sink.send(line.removesuffix(b"\n"), None)
            if done % _TOLD == 0:
                progress.sent(done, kept.tell())
    printing.echo(f"{sink.close():,} rows of {source} are the first events")


@click.command()
@click.option("--seconds", type=Figure(), default=None, help="End after this long; default: until Ctrl-C.")
@click.option(
    "--dir",
    "folder",
    type=FOLDER,
    default=Path("holdfast-demo"),
    show_default=True,
    help="Where the demo keeps events and snapshots; it goes on there next time.",
)
@click.option("--rate", type=Figure(1, 20000), default=1000.0, show_default=True, help="Payments a second.")
@click.option("--port", type=Whole(0, 65535), default=None, help="Port for predictions; default 8000, or a free one.")
@click.option("--poison", type=Figure(0), default=45.0, show_default=True, help="Poison it after so many seconds.")
@click.option("--no-poison", is_flag=True, help="Leave the payments as they are.")
def demo(seconds: float | None, folder: Path, rate: float, port: int | None, poison: float, *, no_poison: bool) -> None:
    """Learn from a stream of card payments made up on the spot; after a while it is poisoned, and saves itself."""
    from stream.demo.demo import Demo  # noqa: PLC0415  a command imports what it needs

    after = None if no_poison else poison
    Demo(folder, rate=rate, port=port, environment=os.environ, poison=after).run(
        seconds, stopping_of("trainer, guard and serving end; up to 9 s")
    )


@click.command()
@click.argument("name", metavar="DRILL", default="")
@click.option("--all", "every", is_flag=True, help="Run every drill that can be run here, one after another.")
@click.option("--dir", "folder", type=FOLDER, default=None, help="A new folder for it; default a temporary one.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    default=None,
    metavar="CONFIG",
    help="Do it to the deployment of this configuration, which runs.",
)
@click.option("--store", default="", metavar="URL", help="s3-down: an object store for it, s3://bucket/prefix.")
@click.option("--really", is_flag=True, help="Also to one that is marked production = true.")
@click.option("--rate", type=Figure(100, 10000), default=1000.0, show_default=True, help="Events a second.")
@click.option("--seconds", type=Figure(1), default=90.0, show_default=True, help="How long until it is undone.")
@json_option
def drill(
    name: str,
    folder: Path | None,
    against: Path | None,
    store: str,
    rate: float,
    seconds: float,
    *,
    every: bool,
    really: bool,
    as_json: bool,
) -> None:
    """Run a catastrophe; print when it was seen, when it was undone, and what served meanwhile.

    DRILL is poison, forget, shift, slice, diverge, kill, torn-snapshot or broker-down, against a demo stream in a
    folder of its own, or with --against a staging deployment; or, in a folder of its own only, bad-canary,
    crashing-canary, slow-canary, ramp-broker-down, ramp-serving-killed, retrain-fails, baseline-worse or s3-down.
    Exit 0 when it passed, else 1.
    """
    from stream.drill.drills import DRILLS, play, playable  # noqa: PLC0415  a command imports what it needs
    from stream.drill.stage import stage_of, stage_of_its_own  # noqa: PLC0415  the same

    if every:
        if name or against is not None:
            raise CommandError("--all runs every drill in folders of their own: give no name, and no --against")
        sys.exit(_every(playable(store), folder, store, rate, seconds))
    if name not in DRILLS:
        said = f"there is no drill {name!r}" if name else "name a drill, or --all"
        raise CommandError(f"{said}; there are {', '.join(DRILLS)}")
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-") as temporary:
        if against is not None:
            stage = stage_of(load(against, os.environ), name, rate, really=really)
        else:
            stage = stage_of_its_own(folder or Path(temporary) / "drill", rate, os.environ, name, store)
        stopping = stopping_of("what the drill started ends; up to 9 s")
        card = play(name, stage, seconds, lambda text: printing.echo(text, err=True), stopping)
    if as_json:
        printing.as_json(msgspec.to_builtins(card))
    else:
        printing.show_card(card)
    sys.exit(0 if card.passed else 1)


def _every(names: Sequence[str], folder: Path | None, store: str, rate: float, seconds: float) -> int:
    """Run drills one after another, each in a process of its own; print how each went, and return the exit code."""
    failed: list[str] = []
    for number, name in enumerate(names, 1):
        printing.echo(f"drill {number} of {len(names)}: {name}", err=True)
        where = ["--dir", str(folder / name)] if folder is not None else []
        more = ["--store", store] if store else []
        words = ["drill", name, "--rate", f"{rate:g}", "--seconds", f"{seconds:g}", *where, *more]
        if subprocess.run(interpreter.command("stream.cli", *words), check=False).returncode:  # noqa: S603  our own
            failed.append(name)
    said = f"; not: {', '.join(failed)}" if failed else ""
    printing.echo(f"{len(names) - len(failed)} of {len(names)} drills passed{said}")
    return 1 if failed else 0
