"""Somebody who asks for predictions all the time, and remembers from which snapshot each came."""

import threading
import time

import orjson

_ASK_SECONDS = 0.02


class Caller(threading.Thread):
    """Asks for predictions all the time; remembers from which snapshot each came, and which failed."""

    def __init__(self, port: int) -> None:
        super().__init__(name="caller", daemon=True)
        self.answers: list[tuple[float, int | None]] = []
        self._url, self._end = f"http://127.0.0.1:{port}/predict", threading.Event()

    def run(self) -> None:
        """Ask until told to end."""
        from urllib.request import Request, urlopen  # noqa: PLC0415  beside its one use

        body = b'{"x": {"amount": 80, "country": "fr", "device": "web", "merchant": "games", "night": true}}'
        while not self._end.wait(_ASK_SECONDS):
            try:
                with urlopen(Request(self._url, body), timeout=5) as answer:  # noqa: S310  our own address
                    self.answers.append((time.time(), orjson.loads(answer.read())["snapshot"]))
            except OSError:
                self.answers.append((time.time(), None))

    def end(self) -> None:
        """Ask no more."""
        self._end.set()
        self.join(2)
