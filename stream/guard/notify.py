"""Telling somebody: a command with JSON on its standard input, or a webhook; tried again, and never in the way."""

import logging
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from http.client import HTTPException
from threading import Event
from typing import Any

import orjson

from stream.process import interpreter
from stream.settings import Config

log = logging.getLogger("holdfast.notify")
_TRIES, _FIRST_DELAY, _SECONDS, _CLOSE_SECONDS = 5, 1.0, 10.0, 5.0


class Notifier:
    """Sends each message to ``notify.command`` and ``notify.webhook``.

    Each has a thread of its own, so that one that hangs does not hold up the other.
    """

    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        self._command, self._webhook = config.notify.command, config.notify.webhook
        self._now = now
        self._stop = Event()
        ways = {"command": self._run if self._command else None, "webhook": self._post if self._webhook else None}
        self._ways = {name: (send, ThreadPoolExecutor(1, name)) for name, send in ways.items() if send is not None}
        self._waiting: list[Future[None]] = []

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message soon; what cannot be sent after five tries is logged."""
        body = orjson.dumps(message)
        self._waiting = [one for one in self._waiting if not one.done()]
        self._waiting += [pool.submit(self._patiently, send, body) for send, pool in self._ways.values()]

    def _patiently(self, send: Callable[[bytes], None], body: bytes) -> None:
        delay = _FIRST_DELAY
        for left in reversed(range(_TRIES)):
            try:
                send(body)
            except (OSError, subprocess.SubprocessError, HTTPException, ValueError) as cause:
                log.error(
                    "not told: %s; %s", _in_words(cause), f"trying again in {delay:.0f} s" if left else "given up"
                )
            else:
                return
            if not left or self._stop.wait(delay):
                return
            delay *= 2

    def _run(self, body: bytes) -> None:
        subprocess.run(  # noqa: S603  the operator's own command
            self._command, input=body, check=True, timeout=_SECONDS, capture_output=True,
            env=interpreter.foreign(os.environ),
        )  # fmt: skip

    def _post(self, body: bytes) -> None:
        if not self._webhook.startswith(("http://", "https://")):
            raise ValueError("notify.webhook is no address of HTTP")
        request = urllib.request.Request(self._webhook, body, {"Content-Type": "application/json"})  # noqa: S310  checked above
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310  the same
            pass

    def close(self) -> None:
        """Give what waits a little time, then stop trying; what was not told by then is in the ledger all the same."""
        left = wait(self._waiting, _CLOSE_SECONDS).not_done
        if left:
            log.error("%d messages were not told to anybody; see holdfast ledger", len(left))
        self._stop.set()
        for _, pool in self._ways.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _in_words(cause: Exception) -> str:
    """What went wrong, without the command's arguments and the webhook's address: both may hold secrets."""
    match cause:
        case subprocess.CalledProcessError():
            return f"notify.command ended with {cause.returncode}"
        case subprocess.TimeoutExpired():
            return f"notify.command did not end within {cause.timeout:g} s"
        case urllib.error.HTTPError():
            return f"notify.webhook answered {cause.code}"
        case urllib.error.URLError():
            return (
                f"notify.webhook cannot be reached: {getattr(cause.reason, 'strerror', None) or type(cause).__name__}"
            )
        case OSError():
            return f"notify.command or webhook: {cause.strerror or type(cause).__name__}"
    return f"notify.webhook: {type(cause).__name__}, so it is no address of HTTP, or what answers there is not HTTP"
