"""A random process of ``up`` is killed every second, under load: nothing that counts is lost or served unjudged.

``HOLDFAST_TEST_UP_KILLS`` says how many kills (12; ``make soak``: 300), ``HOLDFAST_TEST_SEED`` which.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from support.lineages import Folder, accounted, wait_for
from support.samples import numbers

from snapshots.records.membership import Membership

KILLS = int(os.environ.get("HOLDFAST_TEST_UP_KILLS", "8"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
#: of the kind that starts soonest, so that most of the time something runs that can be killed
LEARNERS = {
    "hashed": {"kind": "vw", "args": "--loss_function logistic -b 12", "role": "champion"},
    "slower": {"kind": "vw", "args": "--loss_function logistic -b 12 -l 0.1"},
}
#: keeps all, so that each verdict can be asked for afterwards
KEEP = {"last": 1_000_000, "minutely": 0, "hourly": 0, "daily": 0}
#: what dies every other second is started again soon, or after a minute nothing would be left to kill
UP = (
    "import sys; from stream.process import supervise; supervise._LONGEST_DELAY = 0.5; "
    "from stream.cli import main; main(['--config', sys.argv[1], 'up'])"
)


class Producer(threading.Thread):
    """Posts events one after another, each again until it is acknowledged or given up; remembers which were."""

    def __init__(self, here: Folder) -> None:
        super().__init__(daemon=True)
        self._here, self._over = here, threading.Event()
        self.acknowledged: set[str] = set()

    def run(self) -> None:
        headers = {"Authorization": "Bearer let-me-in"}
        number = 0
        with self._here.http() as client:
            while not self._over.wait(0.002):
                event = numbers(1, first=number)[0]
                number += 1
                for _ in range(3):
                    with suppress(httpx.TransportError):
                        if client.post("/events", json=event, headers=headers).status_code == 202:
                            self.acknowledged.add(event["id"])
                            break
                    time.sleep(0.1)

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + count, 60)

    def end(self) -> None:
        self._over.set()
        self.join(15)


class Caller(threading.Thread):
    """Asks for predictions all the time; remembers when which snapshot of which learner answered."""

    def __init__(self, here: Folder) -> None:
        super().__init__(daemon=True)
        self._here, self._over = here, threading.Event()
        self.answers: list[tuple[float, str, int]] = []

    def run(self) -> None:
        with self._here.http() as client:
            while not self._over.wait(0.02):
                with suppress(httpx.TransportError):
                    found = client.post("/predict", json={"x": {"f0": 1.0}})
                    if found.status_code == 200:
                        answer = found.json()
                        self.answers.append((time.time(), answer["learner"], answer["snapshot"]))

    def end(self) -> None:
        self._over.set()
        self.join(15)


def parents() -> dict[int, int]:
    """The parent of every process that is not ended."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text("utf-8", "replace").rsplit(")", 1)[1].split()
            if fields[0] != "Z":
                found[int(path.parent.name)] = int(fields[1])
    return found


def family(pid: int) -> list[int]:
    """A process and everything below it: roles, learners, what judges."""
    above, found = parents(), [pid]
    for one in found:
        found += [child for child, parent in above.items() if parent == one]
    return found


def role_of(pid: int) -> str:
    """What a process is, for the record of the run."""
    words: list[str] = []
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    roles = ("train", "guard", "serve", "stream.learner.worker", "stream.guard.judge_process", "up")
    return next((one for one in roles if one in words), "another")


def started(here: Folder) -> subprocess.Popen[bytes]:
    """``up``, as a service manager starts it: again while another still holds the port."""
    log = (here.path / "up.log").open("ab")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return subprocess.Popen(
        [sys.executable, "-c", UP, str(here.config_path)], cwd=here.path, env=environment, stdout=log, stderr=log
    )


def running(here: Folder, up: "subprocess.Popen[bytes]") -> tuple["subprocess.Popen[bytes]", list[int]]:
    """``up``, started again when it was killed, and what runs below it, once something does."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if up.poll() is not None:
            up = started(here)
        _, *below = family(up.pid)
        if below:
            return up, below
        time.sleep(0.1)
    raise TimeoutError(here.log("up")[-3000:])


DECISIONS = (["snapshots", "revert", "--previous", "--why", "a drill"], ["holdout", "refresh", "--approve", "a drill"])


def recounted(here: Folder) -> dict[str, int]:
    """The classes that belong to the place, counted from the stream itself."""
    key = orjson.loads((here.path / "store" / "lineage.json").read_bytes())["key"]
    membership = Membership(bytes.fromhex(key), here.config.holdout.rate)
    found, seen = Counter[str](), set()
    for path in here.events.glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            found["consumed"] += 1
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                found["dead_lettered"] += 1
                continue
            if event["id"] in seen:
                found["duplicate"] += 1
            elif membership.claims(membership.digest(event["id"])):
                found["held_out"] += 1
            seen.add(event["id"])
    return {name: found[name] for name in ("consumed", "dead_lettered", "duplicate", "held_out")}


def ids(here: Folder) -> set[str]:
    """Every id in the stream."""
    found = set()
    for path in here.events.glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                found.add(orjson.loads(line)["id"])
    return found


def settled(here: Folder) -> bool:
    """Everything in the stream is learnt, and what the ledger asks for is done."""
    wanted = recounted(here)["consumed"]
    learners: dict[str, Any] = here.status()["learners"]
    lines = all(one["line"] == here.lineage.decided.line(name).number for name, one in learners.items())
    return bool(learners) and lines and all(one["events"]["consumed"] == wanted for one in learners.values())


@pytest.mark.timeout(3600)
def test_a_random_process_is_killed_every_second(folder: Callable[..., Folder]) -> None:
    """Promises 1, 2, 3 and 7: equation, ledger, snapshots, acknowledged events, and what was served had passed."""
    draw = random.Random(SEED)
    here = folder(learners=LEARNERS, snapshots__keep=KEEP, holdout__rate=0.1, guard__act=False)
    (here.path / "events-token").write_text("let-me-in")
    (here.path / "events-token").chmod(0o600)
    here.write(numbers(2500, first=10_000_000))
    up = started(here)
    here.wait_ready()
    producer, caller = Producer(here), Caller(here)
    producer.start()
    caller.start()
    producer.more(200)
    did, began = Counter[str](), time.monotonic()
    for number in range(KILLS):
        time.sleep(max(0.0, began + number + draw.random() - time.monotonic()))
        up, below = running(here, up)
        victim = up.pid if number % 10 == 9 else draw.choice(below)
        did[role_of(victim)] += 1
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if number % 3 == 2:
            said = DECISIONS[number // 3 % 2]
            did[f"{said[1]}: exit {here.run(*said, code=None).returncode}"] += 1
    while up.poll() is not None:
        up = started(here)
        time.sleep(3)
    here.wait_ready()
    producer.more(100)
    producer.end()
    caller.end()
    wait_for(lambda: settled(here), 120)
    up.send_signal(signal.SIGTERM)
    assert up.wait(20) == 0, here.log("up")[-3000:]
    print(f"\n{KILLS} kills, seed {SEED}: {dict(did)}; {len(producer.acknowledged)} events acknowledged, "
          f"{len(caller.answers)} answers from {len({one[1:] for one in caller.answers})} snapshots")  # fmt: skip
    whole(here, producer, caller)


def whole(here: Folder, producer: Producer, caller: Caller) -> None:
    """What must hold afterwards, whoever was killed."""
    assert producer.acknowledged <= ids(here)
    wanted = recounted(here)
    for one in here.status()["learners"].values():
        assert one["accounting_difference"] == 0
        assert accounted(one["events"])
        assert {name: one["events"][name] for name in wanted} == wanted
    here.run("ledger", "verify")
    here.run("snapshots", "verify")
    lineage = here.lineage
    for when, learner, snapshot in caller.answers:
        verdict = lineage.verdict(snapshot, learner)
        assert verdict is not None
        assert (verdict.answers, verdict.judged <= when) == (snapshot, True)
