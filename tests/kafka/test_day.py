"""A day in a minute: a seeded schedule of mixed faults, and then a recount from outside.

Each of 24 hours has a fault, of every second one in a short day. ``HOLDFAST_TEST_DAY`` says how many seconds the day
takes beside what the faults take themselves (6; ``make soak``: 60), ``HOLDFAST_TEST_SEED`` which day.
"""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from confluent_kafka import Producer
from support.broker import Broker
from support.lineages import Folder, Process, accounted
from support.samples import numbers
from support.topics import create, read_all

from snapshots.records.membership import Membership

pytestmark = pytest.mark.kafka
DAY = float(os.environ.get("HOLDFAST_TEST_DAY", "6"))
#: one fault each
HOURS = 24 if DAY >= 24 else 12
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
LEARNERS = {
    "sturdy": {"kind": "vw", "args": "--loss_function logistic", "role": "champion"},
    "fragile": {"kind": "river", "factory": "model:logreg"},
}


class Stream:
    """Producers of a day: mostly good events, some of everything else."""

    def __init__(self, address: str, topic: str, draw: random.Random) -> None:
        self._address, self._topic, self._draw = address, topic, draw
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        producer = Producer({"bootstrap.servers": self._address, "acks": "all", "enable.idempotence": True,
                             "message.timeout.ms": 300_000, "log_level": 0, "linger.ms": 5})  # fmt: skip
        number, last = 0, b"{}"
        while not self._stop.is_set():
            (event,) = numbers(1, first=number)
            kind = self._draw.random()
            if kind < 0.01:
                value = b"bad %d" % number
            elif kind < 0.02:
                value = orjson.dumps(event | {"y": None})
            elif kind < 0.03:
                value = last
            elif kind < 0.031:
                event["x"]["f3"] = "none"  # the fragile learner raises at it
                value = orjson.dumps(event)
            else:
                value = last = orjson.dumps(event)
            producer.produce(self._topic, value)
            producer.poll(0)
            number += 1
            time.sleep(0.002)
        producer.flush(120)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(180)


class Asking:
    """A caller who never stops asking; counts what was answered."""

    def __init__(self, here: Folder) -> None:
        self.codes: Counter[int] = Counter()
        self._here, self._stop = here, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._here.http() as client:
            while not self._stop.is_set():
                with contextlib.suppress(httpx.TransportError):
                    self.codes[client.post("/predict", json={"x": {"f0": 1.0}}).status_code] += 1
                time.sleep(0.01)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(20)


class Day:
    """Trainer, guard and serving, and what befalls them."""

    def __init__(self, here: Folder, broker: Broker, draw: random.Random) -> None:
        self.here, self.broker, self.draw = here, broker, draw
        self.befallen: Counter[str] = Counter()
        self.overtaken: list[Process] = []
        self.trainer = here.start("train")
        self.guard = here.start("guard")

    def keep_running(self) -> None:
        """What ``holdfast up`` does."""
        if self.trainer.poll() not in (None, 5):
            self.trainer = self.here.start("train")
        if self.guard.poll() is not None:
            self.guard = self.here.start("guard")

    def befall(self) -> None:
        faults: list[Callable[[], None]] = [
            self.kill_trainer, self.kill_trainer, self.kill_learner, self.sleep_trainer, self.overtake, self.kill_guard,
            self.kill_broker, self.revert, self.revert, self.take_store_away,
        ]  # fmt: skip
        fault = self.draw.choice(faults)
        self.befallen[fault.__name__] += 1
        fault()

    def kill_trainer(self) -> None:
        self.trainer.kill()
        self.trainer.wait()

    def kill_learner(self) -> None:
        children = subprocess.run(["pgrep", "-P", str(self.trainer.pid)], capture_output=True, text=True).stdout.split()
        for child in children[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def sleep_trainer(self) -> None:
        self.trainer.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        self.trainer.send_signal(signal.SIGCONT)

    def overtake(self) -> None:
        old, self.trainer = self.trainer, self.here.start("train", "--take-over")
        self.overtaken.append(old)  # one that had not begun yet waits until nobody is alive, and begins then
        if old.poll() is None:
            old.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            old.send_signal(signal.SIGCONT)

    def kill_guard(self) -> None:
        self.guard.kill()
        self.guard.wait()

    def kill_broker(self) -> None:
        self.broker.stop(signal.SIGKILL)
        time.sleep(0.5)
        self.broker.start()

    def revert(self) -> None:
        self.here.run("snapshots", "revert", self.draw.choice(list(LEARNERS)), "--previous", code=None)

    def take_store_away(self) -> None:
        store, away = self.here.path / "store", self.here.path / "away"
        store.rename(away)
        time.sleep(0.5)
        away.rename(store)


@pytest.mark.timeout(1200)
def test_a_day_of_faults(folder: Callable[..., Folder], tmp_path: Path, topic: str) -> None:
    """At its end every record of the topic is in exactly one class, recounted by what it is and where it lies."""
    draw = random.Random(SEED)
    broker = Broker(tmp_path / "own").start()
    try:
        create(broker.address, topic)
        here = folder(
            learners=LEARNERS, source__kind="kafka", source__topics=[topic], holdout__rate=0.05,
            source__kafka={"bootstrap.servers": broker.address}, event__recent_ids=5000,
        )  # fmt: skip
        stream = Stream(broker.address, topic, random.Random(SEED + 1))
        day = Day(here, broker, draw)
        here.start("serve")
        here.wait_ready(60)
        asking = Asking(here)
        for _ in range(HOURS):
            time.sleep(DAY / HOURS * 2 * draw.random())
            day.keep_running()
            day.befall()
        stream.end()
        asking.end()
        for trainer in (*day.overtaken, day.trainer):
            if trainer.poll() is None:
                trainer.terminate()
                trainer.wait(60)
        here.train()
        here.run("guard", "--once", code=None)
        there = read_all(broker.address, topic)
        here.end()
    finally:
        broker.stop(signal.SIGKILL)
    print(f"\nseed {SEED}, {len(there)} records, {dict(day.befallen)}, asked {dict(asking.codes)}")
    assert set(asking.codes) == {200}
    recount(here, topic, there)


def recount(here: Folder, topic: str, there: list[Any]) -> None:
    """Each record's class by what it is; learnt or quarantined by where it lies."""
    key = orjson.loads((here.path / "store" / "lineage.json").read_bytes())["key"]
    holdout = Membership(bytes.fromhex(key), 0.05)
    classes: dict[int, str] = {}
    seen: set[str] = set()
    for message in there:
        try:
            event = orjson.loads(message.value())
        except orjson.JSONDecodeError:
            classes[message.offset()] = "dead_lettered"
            continue
        if event["y"] is None:
            classes[message.offset()] = "unlabelled"
        elif event["id"] in seen:
            classes[message.offset()] = "duplicate"
        elif holdout.claims(holdout.digest(event["id"])):
            classes[message.offset()] = "held_out"
        else:
            classes[message.offset()] = "learnt"
        if event["y"] is not None:
            seen.add(event["id"])
    rows = here.json("quarantine", "list")
    for name in LEARNERS:
        mine = dict(classes)
        for row in rows:
            begin, end = row["ranges"].get(topic, {}).get("0", (0, 0)) if row["learner"] == name else (0, 0)
            for offset in range(begin, end):
                if mine.get(offset) == "learnt":
                    mine[offset] = "quarantined"
        counts = here.learner(name)["events"]
        assert accounted(counts)
        expected = Counter(mine.values()) | Counter({"consumed": len(there)})
        assert {kind: counts[kind] for kind in counts} == {kind: expected[kind] for kind in counts}
