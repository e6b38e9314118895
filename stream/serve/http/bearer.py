"""Bearer tokens: who may change, who may send events, and, where that is wanted, who may look.

A token is that of the environment, or the one word in a file, which is read again when it changes: a token is
rotated by writing the file anew. A file that is absent, empty or unreadable shuts the door that it opens.
"""

import hmac
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from stream.settings import Config

log = logging.getLogger("holdfast.serving")
_LOOK_SECONDS = 1.0
_MOST_BYTES = 4096


class Token:
    """One token. ``path`` is where it is kept when ``given`` by nobody; ``now`` gives seconds.

    ``setting`` is said in the path's place when there is no such file: the token itself may have been written there.
    """

    def __init__(
        self, path: Path, given: str | None, now: Callable[[], float], setting: str = "serve.token_file"
    ) -> None:
        self._path, self._given, self._now, self._setting = path, given or None, now, setting
        self._looked: float | None = None
        self._seen: object = None
        self._token: str | None = None
        self.current()

    def current(self) -> str | None:
        """Return the token as it is now, None when there is none; the file is looked at once a second at most."""
        if self._given is not None:
            return self._given
        now = self._now()
        if self._looked is None or not 0.0 <= now - self._looked < _LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._token

    def fits(self, said: bytes) -> bool:
        """Tell whether this is the token, in a time that does not depend on how much of it is right."""
        token = self.current()
        return token is not None and hmac.compare_digest(said, token.encode())

    def _look(self) -> None:
        """Read the file when it is another than before."""
        try:
            found = self._path.stat()
            seen: object = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
        except FileNotFoundError:
            self._seen, self._token = None, None
            return
        except (OSError, ValueError) as cause:
            seen, found = str(cause), None
        if seen == self._seen:
            return
        self._seen = seen
        self._token = self._read(found)

    def _read(self, found: os.stat_result | None) -> str | None:
        """Read the token, and say what is wrong with its file."""
        try:
            if found is not None and not stat.S_ISREG(found.st_mode):
                log.error("%s is no file, so there is no token", self._path)
                return None
            with self._path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            token = text.decode().strip()
        except (OSError, ValueError) as cause:
            why = cause.strerror if isinstance(cause, OSError) else "it is no text in UTF-8, or no path"
            log.error("what %s names cannot be read, so there is no token: %s", self._setting, why)
            return None
        if len(text) > _MOST_BYTES or len(token.split()) > 1:
            log.error(
                "%s holds more than one token (a word of up to %d bytes), so there is none", self._path, _MOST_BYTES
            )
            return None
        if found is not None and found.st_mode & 0o077:
            log.warning("%s can be read by others than its owner: chmod 600 %s", self._path, self._path)
        return token or None


class Tokens(msgspec.Struct, frozen=True):
    """The tokens for changes (``POST /revert``), events, labels, checked labels, and looking (None: open)."""

    changes: Token
    events: Token
    labels: Token
    trusted: Token
    read: Token | None = None


def tokens_of(config: Config, environment: Mapping[str, str], now: Callable[[], float]) -> Tokens:
    """Return the tokens: of ``HOLDFAST_…TOKEN`` where it is set, or else of the files that are configured."""
    serve = config.serve

    def token(name: str, variable: str, setting: str, table: str = "serve") -> Token:
        return Token(config.base / name, environment.get(variable), now, f"{table}.{setting}")

    guarded = serve.read_token_file or environment.get("HOLDFAST_READ_TOKEN")
    return Tokens(
        token(serve.token_file, "HOLDFAST_TOKEN", "token_file"),
        token(serve.events_token_file, "HOLDFAST_EVENTS_TOKEN", "events_token_file"),
        token(serve.labels_token_file, "HOLDFAST_LABELS_TOKEN", "labels_token_file"),
        token(config.holdout.trusted.token_file, "HOLDFAST_TRUSTED_TOKEN", "token_file", "holdout.trusted"),
        token(serve.read_token_file, "HOLDFAST_READ_TOKEN", "read_token_file") if guarded else None,
    )
