"""Promise 1 inside the write path: killed before and after each flush, link and delete, the end is always the same.

``HOLDFAST_TEST_POINTS`` says how many crash points (40; ``make soak``: 1,000), ``HOLDFAST_TEST_SEED`` which.
"""

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from lineages import Folder, accounted
from samples import numbers
from test_kill import LEARNERS

POINTS = int(os.environ.get("HOLDFAST_TEST_POINTS", "25"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
EACH = 60
HOOK = str(Path(__file__).parent / "points")


def chunk(phase: int) -> list[Any]:
    """Events of one phase, some bad, some sent twice."""
    events: list[Any] = [orjson.dumps(event) for event in numbers(EACH, first=phase * EACH)]
    events[7] = b"bad %d" % phase
    events[20] = events[19]
    return events


def crashing(here: Folder, draw: random.Random, died: Counter[str], *command: str) -> int:
    """Run a command that is killed at a point, again and again until it comes through; return its exit code."""
    while True:
        roles = ["trainer", "trainer", "learner"] if command[0] == "train" else ["command"]
        role = draw.choice(roles)
        point = f"{role}:{draw.randrange(1, 70 if role == 'trainer' else 24)}"
        if sum(died.values()) >= POINTS:
            point = ""
        process = here.start(*command, HOLDFAST_TEST_CRASH=point, PYTHONPATH=HOOK)
        code = process.wait(60)
        if code == -signal.SIGKILL:
            died[role] += 1
        elif code == 4 and "killed by signal 9" in here.log(command[0]):
            died["learner"] += 1
        else:
            return code


def end_of(here: Folder, phase: int) -> int:
    """The number of the snapshot at the end of a phase."""
    wanted = sum(len(line) + 1 for n in range(phase + 1) for line in chunk(n))
    return max(n for n in here.lineage.numbers if here.lineage.manifest(n).place["events"].get("a.jsonl") == wanted)  # type: ignore[union-attr]


@pytest.mark.timeout(7200)
def test_killed_at_seeded_points_of_the_write_path_it_ends_identical(folder: Callable[..., Folder]) -> None:
    """Counts, metrics, quarantine and canonical state as in a run that was never killed, reverts included."""
    draw = random.Random(SEED)
    settings = {"snapshots__every_seconds": 0.01, "source__batch": 10, "holdout__rate": 0.05,
                "snapshots__keep": {"last": 5, "minutely": 2, "hourly": 0, "daily": 0}}  # fmt: skip
    killed, never = folder("killed", LEARNERS, **settings), folder("never", LEARNERS, **settings)
    died: Counter[str] = Counter()
    phase = 0
    while sum(died.values()) < POINTS or phase % 4 != 1:
        killed.write(chunk(phase))
        assert crashing(killed, draw, died, "train", "--until-end") == 0, killed.log("train")[-3000:]
        if phase == 0:
            (never.path / "store").mkdir()
            shutil.copy(killed.path / "store" / "lineage.json", never.path / "store" / "lineage.json")
        never.write(chunk(phase))
        never.train()
        if phase % 4 == 3:  # both go back to the end of the phase before
            for one in (killed, never):
                one.run("guard", "--once")
            code = crashing(killed, draw, died, "snapshots", "revert", "linear", str(end_of(killed, phase - 1)))
            assert code in (0, 3), killed.log("snapshots")[-2000:]
            never.run("snapshots", "revert", "linear", str(end_of(never, phase - 1)))
        phase += 1
    print(f"\n{sum(died.values())} crash points, seed {SEED}: {dict(died)}; {phase} phases")
    for name in LEARNERS:
        one, other = killed.learner(name), never.learner(name)
        assert one["events"] == other["events"]
        assert accounted(one["events"])
        assert one["events"]["consumed"] == phase * EACH
        assert (one["metrics"], one["recent"]) == (other["metrics"], other["recent"])
        assert killed.state(name) == never.state(name)
    assert killed.json("quarantine", "list") == never.json("quarantine", "list")
    assert killed.status()["place"] == never.status()["place"]
    killed.run("snapshots", "verify")
    killed.run("ledger", "verify")
