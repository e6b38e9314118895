"""Two learners of which one is better for certain, and settings by which a roll-out takes seconds."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.lineages import Folder, wait_for
from support.samples import numbers

#: the champion hardly learns, so whatever learns is better
TWO: dict[str, dict[str, Any]] = {
    "slow": {"kind": "vw", "args": "--loss_function logistic --link logistic -l 0.0001", "role": "champion"},
    "quick": {"kind": "river", "factory": "model:logreg"},
}
#: steps are quick, and nothing but errors and losses takes a candidate back
FAST: dict[str, Any] = {
    "rollout__min_events": 50, "rollout__min_seconds": 0.2, "rollout__max_prediction_shift": 1.0,
    "rollout__max_p99_ms": 5000.0, "guard__sample": 1.0, "holdout__rate": 0.1,
}  # fmt: skip


def running(folder: Callable[..., Folder], events: int, candidate: str = "quick", **settings: Any) -> Folder:
    """All of it runs, and the candidate can answer."""
    here = folder(**{"learners": TWO, "snapshots__every_seconds": 0.1, **FAST, **settings})
    here.write(numbers(events))
    here.start("up")
    here.wait_ready()
    wait_for(lambda: here.lineage.serving(candidate) is not None)
    return here


@contextmanager
def flowing(here: Folder, first: int) -> Iterator[None]:
    """Events go on coming: a trainer compares from where it reads of an entry, which may be behind what was written."""
    stop = threading.Event()

    def produce() -> None:
        for number in itertools.count(first, 50):
            here.write(numbers(50, first=number), "more.jsonl")
            if stop.wait(0.1):
                return

    feeding = threading.Thread(target=produce)
    feeding.start()
    try:
        yield
    finally:
        stop.set()
        feeding.join()
