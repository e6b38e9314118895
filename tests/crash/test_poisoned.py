"""Random poison and random kills of trainer, guard and serving: what answers is never worse than it was.

``HOLDFAST_TEST_POISONED`` says how many runs (1; ``make soak``: 50), ``HOLDFAST_TEST_SEED`` which.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from support.guarded import LEARNERS, SETTINGS, Stream, flip, flip_br, settled
from support.lineages import Folder, accounted, wait_for

from stream.process.presence import present

RUNS = int(os.environ.get("HOLDFAST_TEST_POISONED", "1"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))


def scramble(made: dict[str, Any]) -> None:
    draw = random.Random(made["id"])
    made["x"] |= {name: draw.gauss(0, 3) for name in ("a", "b", "ab")}
    made["y"] = draw.randrange(2)


POISONS = {"flipped": flip, "one country flipped": flip_br, "scrambled": scramble}


class Caller(threading.Thread):
    """Asks all the time; remembers when which snapshot answered."""

    def __init__(self, here: Folder) -> None:
        super().__init__(daemon=True)
        self._here, self._over = here, threading.Event()
        self.answers: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self._over.wait(0.02):
            with suppress(httpx.TransportError), self._here.http() as client:
                answer = client.post("/predict", json={"x": {"a": 1.0, "country": "de"}})
                if answer.status_code == 200:
                    self.answers.append((time.time(), answer.json()["snapshot"]))

    def end(self) -> None:
        self._over.set()
        self.join(5)


def kill_one(here: Folder, draw: random.Random) -> str:
    """End a process with -9, as if its machine had failed; ``up`` starts another."""
    words = [word for word in present(here.lineage.store, time.time()) if word["role"] != "up"]
    if not words:
        return ""
    word = draw.choice(words)
    with suppress(ProcessLookupError):
        os.kill(word["pid"], signal.SIGKILL)
    return str(word["role"])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_poisoned_and_killed(folder: Callable[..., Folder], run: int) -> None:
    """Promotion stops at the first sign; nothing above level and margin serves; afterwards what serves is older."""
    draw = random.Random(1000 * SEED + run)
    here = folder(learners=LEARNERS, **(SETTINGS | {"guard__moved": "revert", "guard__reference_events": 5000}))
    stream = Stream(here)
    here.start("up")
    stream.until(lambda: here.status()["holdout"]["version"] == 2, None)
    stream.until(lambda: settled(here), None)
    caller = Caller(here)
    caller.start()
    stream.lots(draw.randrange(1, 10))
    name = draw.choice(list(POISONS))
    began, killed = time.time(), []

    def reverted() -> Any:
        if draw.random() < 0.08 and len(killed) < 4:
            killed.append(kill_one(here, draw))
        found = [e for e in here.lineage.entries if e.action == "revert" and e.learner == "linear"]
        return found[0] if found else None

    entry = stream.until(reverted, POISONS[name], most=600)
    lineage = here.lineage
    target = lineage.manifest(entry.snapshot)
    assert target is not None
    assert target.created <= began, (name, killed)

    def followed() -> float | None:
        """When the target first answered, or a snapshot of the line that it begins."""
        view = here.lineage
        for moment, number in list(caller.answers):
            part = view.part(number, "linear")
            if moment >= entry.time and (number == entry.snapshot or (part is not None and part.line >= entry.seq)):
                return moment
        return None

    follows = wait_for(followed, 20)
    print(f"\n{name}: serving followed the revert after {follows - entry.time:.2f} s, killed before: {killed}")
    caller.end()
    lineage = here.lineage
    above = None
    for number in lineage.numbers:
        verdict = lineage.verdict(number, "linear")
        figures = verdict.details.get("", {}) if verdict else {}
        if verdict is None or verdict.line != 0 or figures.get("level") is None:
            continue
        exceeded = figures["loss"] > figures["level"] + figures["margin"]
        if exceeded:
            assert verdict.verdict in ("suspect", "fail"), verdict
            above = above or number
    served = {number for _, number in caller.answers}
    for number in served:
        verdict = lineage.verdict(number, "linear")
        assert verdict is None or verdict.verdict == "pass", verdict  # None: it is gone since
    wait_for(lambda: accounted(here.learner("linear")["events"]))
    print(f"run {run}: {name}, killed {', '.join(killed) or 'nobody'}; undone after {entry.time - began:.1f} s")
