"""Commands to begin with: ``init``, ``demo``, ``drill``."""

import os
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from stream import printing
from stream.commands.base import (
    FOLDER,
    json_option,
    stopping_of,
)
from stream.config import load
from stream.errors import CommandError


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", default=None, help="Name of the lineage; default the folder's name.")
def init(folder: Path, name: str | None) -> None:
    """Write a configuration, a model.py, a token and sample events that work as they are."""
    from stream.starter import write_starter  # noqa: PLC0415  a command imports what it needs

    chosen = name or folder.resolve().name or "holdfast"
    for path in write_starter(folder, "".join(c if c.isalnum() or c in "._-" else "-" for c in chosen)):
        printing.echo(f"wrote {path}")
    where = "" if folder == Path() else f"cd {folder} && "
    printing.echo(f"Now: {where}holdfast up    (and in another terminal: holdfast status)")


@click.command()
@click.option("--seconds", type=float, default=None, help="End after this long; default: until Ctrl-C.")
@click.option(
    "--dir",
    "folder",
    type=FOLDER,
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
    Demo(folder, rate=rate, port=port, environment=os.environ, poison=after).run(
        seconds, stopping_of("trainer, guard and serving end; up to 9 s")
    )


@click.command()
@click.argument("name", metavar="DRILL")
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
@click.option("--rate", type=click.FloatRange(100, 10000), default=1000.0, show_default=True, help="Events a second.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=90.0, show_default=True, help="How long until it is undone."
)
@json_option
def drill(
    name: str,
    folder: Path | None,
    against: Path | None,
    store: str,
    rate: float,
    seconds: float,
    *,
    really: bool,
    as_json: bool,
) -> None:
    """Run a catastrophe; print when it was seen, when it was undone, and what served meanwhile.

    DRILL is poison, forget, shift, slice, diverge, kill, torn-snapshot, broker-down, retrain-fails, baseline-worse or
    s3-down, against a demo stream in a folder of its own, or (but for the last three) with --against a staging
    deployment. Exit 0 when it passed, else 1.
    """
    from stream.drill import DRILLS, Drill, stage_of, stage_of_its_own  # noqa: PLC0415  a command imports what it needs

    if name not in DRILLS:
        raise CommandError(f"there is no drill {name!r}; there are {', '.join(DRILLS)}")
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-") as temporary:
        if against is not None:
            stage = stage_of(load(against, os.environ), name, rate, really=really)
        else:
            stage = stage_of_its_own(folder or Path(temporary) / "drill", rate, os.environ, name, store)
        card = Drill(name, stage, seconds).run(
            lambda text: printing.echo(text, err=True), stopping_of("what the drill started ends; up to 9 s")
        )
    if as_json:
        printing.as_json(msgspec.to_builtins(card))
    else:
        printing.show_card(card)
    sys.exit(0 if card.passed else 1)
