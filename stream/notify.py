"""Telling somebody: a command with JSON on its standard input, or a webhook; tried again, and never in the way."""

import logging
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import orjson

from stream.config import Config

log = logging.getLogger("holdfast.notify")
_TRIES, _FIRST_DELAY, _SECONDS = 5, 1.0, 10.0


class Notifier:
    """Sends each message in a thread of its own, one after the other; ``notify.command`` and ``notify.webhook``."""

    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        self._command, self._webhook = config.notify.command, config.notify.webhook
        self._now = now
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, "notify")

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message soon; what cannot be sent after five tries is logged."""
        body = orjson.dumps(message)
        for send in (self._run if self._command else None, self._post if self._webhook else None):
            if send is not None:
                self._pool.submit(self._patiently, send, body)

    def _patiently(self, send: Callable[[bytes], None], body: bytes) -> None:
        delay = _FIRST_DELAY
        for left in reversed(range(_TRIES)):
            try:
                send(body)
            except (OSError, subprocess.SubprocessError, ValueError) as cause:
                log.error("not told: %s; %s", cause, f"trying again in {delay:.0f} s" if left else "given up")
            else:
                return
            if not left or self._stop.wait(delay):
                return
            delay *= 2

    def _run(self, body: bytes) -> None:
        subprocess.run(self._command, input=body, check=True, timeout=_SECONDS, capture_output=True)  # noqa: S603  the operator's own command

    def _post(self, body: bytes) -> None:
        if not self._webhook.startswith(("http://", "https://")):
            raise ValueError(f"notify.webhook {self._webhook!r} is no address of HTTP")
        request = urllib.request.Request(self._webhook, body, {"Content-Type": "application/json"})  # noqa: S310  checked above
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310  the same
            pass

    def close(self) -> None:
        """Stop trying."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
