"""Bearer tokens: read from their files again when those change, so that they rotate without a restart."""

import hmac
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from stream.config import Config

log = logging.getLogger("holdfast.serving")
_LOOK_SECONDS = 1.0


class Token:
    """One token: of a variable of the environment, or of a file that is looked at once a second at most."""

    def __init__(self, variable: str, environment: Mapping[str, str], path: Path | None) -> None:
        self.variable, self.path = variable, path
        self._fixed = environment.get(variable) or None
        self._said = False
        self._look_at, self._seen = 0.0, (0, 0, 0)
        self._value: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether one is configured, be its file there or not."""
        return self._fixed is not None or self.path is not None

    def value(self) -> str | None:
        """The token as it is now; None when there is none."""
        if self._fixed is not None or self.path is None:
            return self._fixed
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._read(self.path)
        return self._value

    def _read(self, path: Path) -> None:
        try:
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._seen, self._value = seen, path.read_text("utf-8").strip() or None
                if found.st_mode & 0o077:
                    log.warning("%s can be read by others on this machine: chmod 600 %s", path, path)
        except FileNotFoundError:
            self._value, self._seen = None, (0, 0, 0)
        except (OSError, UnicodeDecodeError) as cause:
            log.error("%s cannot be read, so the token of before counts: %s", path, type(cause).__name__)


class Tokens(msgspec.Struct, frozen=True):
    """One for changes (``POST /revert``), one for producers (``POST /events``), one for reading (``GET /status``)."""

    changes: Token
    events: Token
    read: Token


def tokens_of(config: Config, environment: Mapping[str, str]) -> Tokens:
    """The tokens of ``HOLDFAST_TOKEN`` and so on, or of the files that are configured."""
    serve = config.serve

    def one(variable: str, file: str) -> Token:
        return Token(variable, environment, config.base / file if file else None)

    return Tokens(
        one("HOLDFAST_TOKEN", serve.token_file),
        one("HOLDFAST_EVENTS_TOKEN", serve.events_token_file),
        one("HOLDFAST_READ_TOKEN", serve.read_token_file),
    )


def bearer(*tokens: Token, off: str, refused: Callable[[int], None] = lambda _code: None) -> Callable[..., None]:
    """A dependency that lets through who brings one of the tokens, compared in constant time.

    403 with ``off`` when none is there, 401 when another one is brought.
    """
    scheme = HTTPBearer(auto_error=False)

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        there = [value for token in tokens if (value := token.value()) is not None]
        if not there:
            refused(403)
            raise HTTPException(403, off)
        said = (given.credentials if given else "").encode()
        if not any([hmac.compare_digest(said, value.encode()) for value in there]):  # noqa: C419  all are compared
            refused(401)
            raise HTTPException(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    return check
