"""What the commands share: options, the loaded configuration, the lineage, errors as one line and an exit code."""

import getpass
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click

from snapshots import Lineage
from snapshots.errors import RefusedError
from stream.command_group import config_option
from stream.config import load
from stream.errors import CommandError
from stream.process import logs
from stream.settings import Config
from stream.terminal import printing
from stream.terminal.safe_text import shown

#: what every lineage has from its first moment on
CHARTER = "lineage.json"
FOLDER = click.Path(file_okay=False, path_type=Path)


class _File(click.Path):
    """A file that is there: no folder, and no pipe, which would be waited for."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not found.is_file():
            self.fail(f"{found} is a pipe or a device, and no file: write what it holds into one", param, ctx)
        return found


FILE = _File(exists=True, dir_okay=False, path_type=Path)


def configured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--config``, before or after its name, and the loaded configuration as its first argument."""

    @wraps(function)
    def run(*args: Any, path: Path | None, **options: Any) -> Any:
        return function(load_config(click.get_current_context(), path), *args, **options)

    return config_option(run)


def load_config(ctx: click.Context, path: Path | None) -> Config:
    """Load the configuration that ``--config``, before or after the command, or the environment names."""
    chosen = path or ctx.find_root().params.get("path") or Path(os.environ.get("HOLDFAST_CONFIG", "holdfast.toml"))
    ctx.find_root().meta["config"] = chosen
    return load(chosen, os.environ)


def stopping_of(waits_for: str) -> Callable[[], bool]:
    """Tell whether SIGTERM or SIGINT has arrived; whoever sent it is told what is waited for."""
    asked: list[int] = []

    def arrived(number: int, _frame: object) -> None:
        asked.append(number)
        logs.say_ending(waits_for)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, arrived)
    return lambda: bool(asked)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
why_option = click.option("--why", default="", help="The reason, kept in the ledger.")


def lineage_of(config: Config) -> Lineage:
    """The lineage of the configured store, as it is now."""
    from stream.parts import store_of  # noqa: PLC0415  a command imports what it needs

    lineage = Lineage(store_of(config), looking=True).refresh()
    if trouble := lineage.broken or lineage.ledger.expired(time.time()):
        printing.echo(f"holdfast: {trouble}", err=True)
    return lineage


def absent(config: Config) -> str:
    """Say that there is no lineage yet, so that who only adds to one makes no store for it; empty when there is one."""
    from stream.parts import store_of  # noqa: PLC0415  a command imports what it needs

    store = store_of(config)
    if store.get(CHARTER) is not None or any(store.names(prefix) for prefix in ("ledger/", "archive/")):
        return ""
    return f"there is no lineage in {config.store.url} yet: start holdfast up, or holdfast train, first"


def refuse_absent(config: Config) -> None:
    """Raise :class:`RefusedError` when there is no lineage yet."""
    if said := absent(config):
        raise RefusedError(f"{said}; nothing was changed")


def manifest_of(lineage: Lineage, number: int) -> Any:
    """The manifest of a snapshot; :class:`RefusedError` says why there is none."""
    manifest = lineage.manifest(number)
    if manifest is None:
        why = lineage.damaged.get(number, "it does not exist. See: holdfast snapshots list")
        raise RefusedError(f"snapshot {number}: {why}")
    return manifest


def operator() -> str:
    """Who decides, as the ledger names people; ``HOLDFAST_VIA`` says by which door, where it is none of a shell."""
    via = os.environ.get("HOLDFAST_VIA", "")
    return f"operator:{getpass.getuser()}{f'@{via}' if via.isalnum() else ''}"


def moment_of(text: str, option: str) -> float:
    """A moment that somebody typed, in Unix seconds: ISO 8601 (without a zone: UTC) or Unix seconds."""
    try:
        if text.replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(float(text), UTC).timestamp()
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise CommandError(f"{option} {shown(text, 100)!r} is neither ISO 8601 nor Unix seconds") from None
