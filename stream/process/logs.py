"""Logs: one line a fact, for a console or as JSON (``HOLDFAST_LOG=json``).

``extra=facts(snapshot=7)`` adds fields to the JSON line; the console has them in the text already.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any

import click

from learners.errors import ArgumentsRefusedError, FactoryRefusedError, LearnersError
from snapshots.errors import KeyRefusedError, LineageTakenError, RefusedError, SnapshotsError
from snapshots.store.redaction import without_passwords
from stream.errors import CommandError, ConfigError, StreamError
from stream.terminal import safe_text

#: exit codes, as the command documents them
WRONG, REFUSED, TROUBLE, TAKEN = 2, 3, 4, 5
#: what HOLDFAST_LOG may say
FORMS = ("console", "json")
_LONGEST = 20_000


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_passwords(record.getMessage())[:_LONGEST],
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["trace"] = without_passwords(self.formatException(record.exc_info))[-_LONGEST:]
        return safe_text.as_json(line)


class _Console(logging.Formatter):
    """A line for people; what follows in further lines is indented."""

    def format(self, record: logging.LogRecord) -> str:
        return safe_text.lines(without_passwords(super().format(record)))


def facts(**fields: Any) -> dict[str, dict[str, Any]]:
    """Fields of a JSON line, to be given as ``extra``."""
    return {"facts": fields}


def as_json() -> bool:
    """Tell whether lines are JSON."""
    return os.environ.get("HOLDFAST_LOG") == "json"


def configure(form: str = "console", level: int = logging.INFO) -> None:
    """Send everything to standard error, so that standard output is for answers; faults of the program too.

    No line holds what a terminal would obey, or a password that stands in an address.
    """
    stream = logging.StreamHandler(sys.stderr)
    plain = _Console("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    plain.converter = time.gmtime
    stream.setFormatter(_Json() if form == "json" else plain)
    logging.basicConfig(level=logging.WARNING, handlers=[stream], force=True)
    logging.getLogger("holdfast").setLevel(level)
    sys.excepthook = _fault
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_fault


def _thread_fault(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
        _fault(given.exc_type, given.exc_value, given.exc_traceback)


def _fault(kind: type[BaseException], cause: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(cause, Exception):
        sys.__excepthook__(kind, cause, trace)
        return
    logging.getLogger("holdfast").critical("%s: %s", kind.__name__, cause, exc_info=(kind, cause, trace))


def say_ending(waits_for: str) -> None:
    """Say that a process was asked to end, and what it waits for; may be called from a handler of signals.

    Not through logging: what the signal interrupted may hold its stream.
    """
    said = f"asked to end; waiting: {waits_for}"
    line = safe_text.as_json({"time": round(time.time(), 3), "level": "info", "logger": "holdfast", "message": said})
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode() if as_json() else f"holdfast: {said}\n".encode())


def expected(cause: BaseException) -> bool:
    """Tell whether this is a fault of the world or of what was asked, which one line says; others show their trace."""
    return isinstance(cause, (StreamError, SnapshotsError, LearnersError))


def last_words(cause: Exception) -> int:
    """Say why a process ends, and return its exit code."""
    code = _exit_code(cause)
    if as_json():
        logging.getLogger("holdfast").error("%s", cause, extra=facts(error=type(cause).__name__, exit_code=code))
    else:
        click.echo(safe_text.lines(without_passwords(f"holdfast: {cause}")), err=True)
    return code


def _exit_code(cause: Exception) -> int:
    if isinstance(cause, (ConfigError, CommandError, FactoryRefusedError, ArgumentsRefusedError, KeyRefusedError)):
        return WRONG
    if isinstance(cause, RefusedError):
        return REFUSED
    return TAKEN if isinstance(cause, LineageTakenError) else TROUBLE
