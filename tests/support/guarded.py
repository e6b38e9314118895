"""A stream that a guard watches, and what can be done to its events."""

import random
import time
from collections.abc import Callable
from typing import Any

from support.lineages import Folder

LEARNERS = {
    "linear": {"kind": "river", "factory": "model:mixed", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}


COUNTRIES = ("de", "fr", "br")


SETTINGS: dict[str, Any] = {
    "holdout__rate": 0.15, "holdout__rows": 600, "holdout__min_slice_rows": 100, "event__slices": ["country"],
    "guard__look_events": 50, "guard__reference_events": 500, "guard__sample": 0.5, "snapshots__every_seconds": 0.1,
    "guard__wait_events": 400,
}  # fmt: skip


def event(number: int, change: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """A pure function of its number: a country, two numbers, and a label that mostly follows from them."""
    draw = random.Random(number)
    country = COUNTRIES[number % 3]
    a, b = draw.gauss(0, 1), draw.gauss(0, 1)
    turned = -1 if country == "br" else 1
    x = {"a": round(a, 4), "b": round(b, 4), "country": country, "ab": round(turned * a, 4)}
    made = {"id": f"g{number}", "x": x, "y": int(turned * a + 0.3 * b + draw.gauss(0, 0.4) > 0)}
    if change is not None:
        change(made)
    return made


class Stream:
    """Writes events in lots, each of which becomes at least one look."""

    def __init__(self, here: Folder) -> None:
        self.here, self.number = here, 0

    def lots(self, count: int, change: Callable[[dict[str, Any]], None] | None = None, pause: float = 0.13) -> None:
        for _ in range(count):
            self.here.write(event(n, change) for n in range(self.number, self.number + 120))
            self.number += 120
            time.sleep(pause)

    def until(self, what: Callable[[], Any], change: Callable[[dict[str, Any]], None] | None, most: int = 250) -> Any:
        """Go on writing until something holds."""
        for _ in range(most):
            self.lots(1, change)
            if found := what():
                return found
        raise AssertionError(f"did not happen in {most} lots; guard: {self.here.log('guard')[-3000:]}")


def settled(here: Folder) -> bool:
    """Every learner has a level and a reference."""
    lineage = here.lineage
    newest = lineage.newest()
    return newest is not None and all(part.reference is not None for part in newest.learners.values())


def flip(made: dict[str, Any]) -> None:
    made["y"] = 1 - made["y"]


def flip_br(made: dict[str, Any]) -> None:
    if made["x"]["country"] == "br":
        flip(made)
