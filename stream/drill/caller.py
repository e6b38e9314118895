"""Somebody who asks for predictions all the time, and remembers from which snapshot each came."""

import threading
import time
from itertools import count

import orjson

_ASK_SECONDS = 0.02
_USERS = 50


class Caller(threading.Thread):
    """Asks for predictions all the time; remembers from which snapshot each came, which failed, and who answered.

    Every ``odd``-th request, where that is not 0, has a text where the others have a number.
    """

    def __init__(self, port: int) -> None:
        super().__init__(name="caller", daemon=True)
        self.answers: list[tuple[float, int | None]] = []
        self.odd = 0
        self._routes: list[tuple[str, str]] = []
        self._url, self._end = f"http://127.0.0.1:{port}/predict", threading.Event()

    def run(self) -> None:
        """Ask until told to end."""
        from urllib.request import Request, urlopen  # noqa: PLC0415  beside its one use

        for number in count():
            if self._end.wait(_ASK_SECONDS):
                return
            user = f"user-{number % _USERS}"
            amount = "n/a" if self.odd and number % self.odd == 0 else 80
            features = {"amount": amount, "country": "fr", "device": "web", "merchant": "games", "night": True}
            body = orjson.dumps({"id": user, "x": features})
            try:
                with urlopen(Request(self._url, body), timeout=5) as answer:  # noqa: S310  our own address
                    found = orjson.loads(answer.read())
            except OSError:
                self.answers.append((time.time(), None))
                continue
            self.answers.append((time.time(), found["snapshot"]))
            self._routes.append((user, found["route"]))

    def routed(self, route: str) -> int:
        """How many requests a route answered."""
        return sum(one == route for _, one in self._routes)

    def routes_of_ids(self) -> dict[str, str]:
        """The route that each id took last."""
        return dict(self._routes[-2 * _USERS :])

    def end(self) -> None:
        """Ask no more."""
        self._end.set()
        self.join(2)
