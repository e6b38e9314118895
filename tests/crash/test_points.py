"""Promise 1 inside the write path: killed before and after each flush, link and delete, the end is always the same.

Learning, judging, reverting, replaying and refreshing the holdout all take part.

``HOLDFAST_TEST_POINTS`` says how many crash points (14; ``make soak``: 1,000), ``HOLDFAST_TEST_SEED`` which.
"""

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from support.crash_points import HOOK
from support.killed import LEARNERS
from support.lineages import Folder, accounted
from support.samples import numbers

POINTS = int(os.environ.get("HOLDFAST_TEST_POINTS", "8"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
EACH, FIRST = 60, 900
#: crash points are drawn from the first so many of a process
WITHIN = {"trainer": 70, "learner": 24, "guard": 150, "command": 12}


def chunk(phase: int) -> list[Any]:
    """Events of one phase, some bad, some sent twice."""
    count = FIRST if phase == 0 else EACH
    events: list[Any] = [orjson.dumps(event) for event in numbers(count, first=phase * FIRST)]
    events[7] = b"bad %d" % phase
    events[20] = events[19]
    return events


def crashing(here: Folder, draw: random.Random, died: Counter[str], *command: str) -> int:
    """Run a command that is killed at a point, up to three times until it comes through; return its exit code."""
    roles = {"train": ["trainer", "trainer", "learner"], "guard": ["guard"]}.get(command[0], ["command"])
    most = min(POINTS, sum(died.values()) + 3)
    while True:
        role = draw.choice(roles)
        point = f"{role}:{draw.randrange(1, WITHIN[role])}" if sum(died.values()) < most else ""
        process = here.start(*command, HOLDFAST_TEST_CRASH=point, PYTHONPATH=HOOK)
        code = process.wait(60)
        if code == -signal.SIGKILL:
            died[role] += 1
        elif code == 4 and "killed by signal 9" in here.log(command[0]):
            died["learner"] += 1
        else:
            return code


def decision(here: Folder, phase: int) -> list[str]:
    """What an operator does at the end of a phase: revert, replay what that took out, refresh the holdout."""
    if phase % 4 == 3:
        return ["snapshots", "revert", "linear", str(end_of(here, phase - 1))]
    if phase % 4 == 0 and phase:
        row = [r for r in here.json("quarantine", "list") if r["learner"] == "linear" and r["state"] == "skipped"][-1]
        begin, end = row["ranges"]["events"]["a.jsonl"]
        part = ["--only", f"{begin}-{(begin + end) // 2}"] if phase % 8 else []
        return ["quarantine", "replay", row["id"], *part]
    return ["holdout", "refresh", "--approve", "newer rows"] if phase % 4 == 1 else []


def end_of(here: Folder, phase: int) -> int:
    """The number of the snapshot at the end of a phase."""
    wanted = sum(len(line) + 1 for n in range(phase + 1) for line in chunk(n))
    return max(n for n in here.lineage.numbers if here.lineage.manifest(n).place["events"].get("a.jsonl") == wanted)  # type: ignore[union-attr]


@pytest.mark.timeout(7200)
def test_killed_at_seeded_points_of_the_write_path_it_ends_identical(folder: Callable[..., Folder]) -> None:
    """Counts, metrics, quarantine and canonical state as in a run that was never killed, reverts included."""
    draw = random.Random(SEED)
    settings = {"snapshots__every_seconds": 0.01, "source__batch": 10, "holdout__rate": 0.3, "holdout__rows": 300,
                "guard__tolerance": 0.5, "guard__look_events": 1,
                "snapshots__keep": {"last": 5, "minutely": 2, "hourly": 0, "daily": 0}}  # fmt: skip
    killed, never = folder("killed", LEARNERS, **settings), folder("never", LEARNERS, **settings)
    died: Counter[str] = Counter()
    phase = 0
    while sum(died.values()) < POINTS or phase < 7 or phase % 4 != 3:
        killed.write(chunk(phase))
        assert crashing(killed, draw, died, "train", "--until-end") == 0, killed.log("train")[-3000:]
        if phase == 0:
            (never.path / "store").mkdir()
            shutil.copy(killed.path / "store" / "lineage.json", never.path / "store" / "lineage.json")
        never.write(chunk(phase))
        never.train()
        assert crashing(killed, draw, died, "guard", "--once") == 0, killed.log("guard")[-2000:]
        never.run("guard", "--once")
        if decision(never, phase):
            code = crashing(killed, draw, died, *decision(killed, phase))
            wanted = never.run(*decision(never, phase), code=None).returncode
            assert code in (wanted, 3), f"{decision(killed, phase)}: {code}, {wanted}"  # 3: it was done before the kill
        phase += 1
    print(f"\n{sum(died.values())} crash points, seed {SEED}: {dict(died)}; {phase} phases")
    for name in LEARNERS:
        one, other = killed.learner(name), never.learner(name)
        assert one["events"] == other["events"]
        assert accounted(one["events"])
        assert one["events"]["consumed"] == FIRST + (phase - 1) * EACH
        assert (one["metrics"], one["recent"]) == (other["metrics"], other["recent"])
        assert killed.state(name) == never.state(name)
    assert killed.json("quarantine", "list") == never.json("quarantine", "list")
    assert killed.status()["place"] == never.status()["place"]
    one, other = (here.json("holdout", "show") for here in (killed, never))
    assert [v["sha256"] for v in one["versions"]] == [v["sha256"] for v in other["versions"]]
    assert (one["candidate"], one["fresh"]) == (other["candidate"], other["fresh"])
    actions = [[(e["action"], e["cause"]) for e in here.json("ledger")] for here in (killed, never)]
    assert actions[0] == actions[1]
    assert killed.run("guard", "--explain", str(killed.lineage.numbers[-1])).stdout.count("the same as was given") == 2
    killed.run("snapshots", "verify")
    killed.run("ledger", "verify")
