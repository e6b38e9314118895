"""``holdfast init``: a folder that works as it is."""

import os
import secrets
from pathlib import Path

import orjson

from snapshots.store.signed import new_key
from stream.errors import CommandError
from stream.tables.payments import payment
from stream.tables.templates import CONFIGURATION, MODEL, OPERATION

SAMPLE_EVENTS = 5000
_BEGINNING = 1_735_689_600.0
#: how files end that nobody else may read
_SECRET = ("token", ".pem")


def write_starter(
    folder: Path, name: str, *, port: int = 8000, sample: int = SAMPLE_EVENTS, configuration: str = "", model: str = ""
) -> list[Path]:
    """Write configuration, model, token and sample events; refuse to overwrite anything.

    ``configuration`` and ``model`` are other texts than those of the demo's payments.
    """
    files = {
        folder / "holdfast.toml": (
            configuration or f"{CONFIGURATION.format(name=name)}\n{OPERATION.format(port=port)}"
        ).encode(),
        folder / "model.py": (model or MODEL).encode(),
        folder / "token": secrets.token_urlsafe(24).encode() + b"\n",
        folder / "events-token": secrets.token_urlsafe(24).encode() + b"\n",
        folder / "labels-token": secrets.token_urlsafe(24).encode() + b"\n",
        folder / "signing-key.pem": new_key(),
    }
    if sample:
        lines = (orjson.dumps(payment(number, _BEGINNING + number)) + b"\n" for number in range(sample))
        files[folder / "events" / "sample.jsonl"] = b"".join(lines)
    there = [path for path in files if os.path.lexists(path)]
    if there:
        raise CommandError(
            f"{there[0]} is already there; nothing was written. Choose another folder: holdfast init FOLDER"
        )
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    return list(files)


def _write(path: Path, data: bytes) -> None:
    """Make a file that is not there yet; one that holds a secret is never readable by others, not even at first."""
    mode = 0o600 if path.name.endswith(_SECRET) else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
