"""How a running Holdfast keeps its times: learning lost to snapshots, freshness, revert, restart, pauses of callers."""

import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import learning
import numpy as np
import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from figures import Row, median_of
from support.lineages import Folder, wait_for
from support.samples import numbers

from snapshots.judging.reverts import ancestry

VW = {"v": {"kind": "vw", "args": "--loss_function logistic -b 18", "role": "champion"}}
RIVER = {"r": {"kind": "river", "factory": "model:logreg", "role": "champion"}}
FOREST = """
from river import forest
def arf():
    return forest.ARFClassifier(n_models=10, seed=1)
"""


def lost_to_snapshots(address: str) -> list[Row]:
    """One snapshot a second against none but the first and the last."""
    found = []
    for kind in ("river", "vw"):
        count = learning.EVENTS[kind]
        pairs = [
            tuple(learning.holdfast(kind, count, address, f"bench-{kind}", every) for every in (1.0, 1e9))
            for _ in range(3)
        ]
        share, low, high = median_of([100 * (1 - often / never) for often, never in pairs])
        detail = f"{max(o for o, _ in pairs):,.0f} / {max(n for _, n in pairs):,.0f} events/s"
        found.append(Row(f"learning lost to a snapshot a second ({kind})", detail, share, low, high, 5.0, unit=" %"))
    return found


class Steady:
    """Produces small events at a rate, and remembers when each was acknowledged."""

    def __init__(self, address: str, topic: str, rate: float) -> None:
        self.acknowledged: dict[int, float] = {}
        self._address, self._topic, self._rate = address, topic, rate
        self._stop = threading.Event()
        self._values = [orjson.dumps(event) for event in numbers(20_000)]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        producer = Producer({"bootstrap.servers": self._address, "acks": "all", "linger.ms": 5})
        began, sent = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(max(0, due - sent)):
                value = self._values[sent % len(self._values)].replace(b'"id":"e', b'"id":"%d-' % sent, 1)
                producer.produce(self._topic, value, on_delivery=self._delivered)
                sent += 1
            producer.poll(0.005)
        producer.flush(30)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is None:
            self.acknowledged[message.offset()] = time.monotonic()

    def end(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()


def create(address: str, topic: str) -> None:
    """Make a topic of one partition."""
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(topic, 1)]).values():
        future.result()


def freshness(address: str, folder: Path, rate: float = 10_000, seconds: float = 20) -> list[Row]:
    """From an event's acknowledgement to the first prediction by a snapshot that has learnt it, the guard on."""
    topic = "bench-fresh"
    create(address, topic)
    here = Folder(
        folder / "fresh", VW, source__kind="kafka", source__topics=[topic],
        source__kafka={"bootstrap.servers": address}, snapshots__every_seconds=0.5, holdout__rate=0.02,
    )  # fmt: skip
    try:
        here.start("up")
        steady = Steady(address, topic, rate)
        here.wait_ready(60)
        seen: list[tuple[float, int]] = []
        ends = time.monotonic() + seconds
        with here.http() as client:
            while time.monotonic() < ends:
                number = client.post("/predict", json={"x": {"f0": 1.0}}).json()["snapshot"]
                if not seen or seen[-1][1] != number:
                    seen.append((time.monotonic(), number))
                time.sleep(0.005)
        steady.end()
        lineage = here.lineage
        known = [(moment, lineage.manifest(number)) for moment, number in seen]
        places = [(moment, manifest.place[topic]["0"]) for moment, manifest in known if manifest is not None]
    finally:
        here.end()
    waits = []
    for (_, begin), (moment, end) in itertools.pairwise(places[1:]):
        waits += [moment - steady.acknowledged[n] for n in range(begin, end) if n in steady.acknowledged]
    p50, p99 = np.percentile(waits, [50, 99])
    detail = f"{len(waits):,} events at {rate:,.0f}/s, a snapshot every 0.5 s"
    return [
        Row("freshness, p50", detail, p50, min(waits), max(waits), 1.0, unit=" s"),
        Row("freshness, p99", detail, p99, min(waits), max(waits), 3.0, unit=" s"),
    ]


def revert_and_restart(folder: Path) -> list[Row]:
    """From the command to every serving process; from kill -9 to a trainer that reads again."""
    here = Folder(folder / "revert", RIVER, serve__workers=2)
    reverts, restarts = [], []
    try:
        here.write(numbers(20_000))
        here.start("up")
        here.wait_ready(60)
        wait_for(lambda: len(here.status()["serving"]) == 2)
        for number in range(4):  # up gives up on a trainer that dies five times in a row
            here.write(numbers(2000, first=20_000 + 2000 * number))
            wait_for(lambda: _settled(here))
            target, line = ancestry(here.lineage, "r")[-2], here.lineage.decided.line("r").number
            began = time.monotonic()
            here.start("snapshots", "revert", "r", str(target))
            wait_for(lambda t=target, n=line: here.lineage.decided.line("r").number > n and _all_from(here, t), 20)
            reverts.append(time.monotonic() - began)
            trainer = max((w for w in _words(here) if w["role"] == "trainer"), key=lambda w: w["time"])["pid"]
            began, killed = time.monotonic(), time.time()
            os.kill(trainer, signal.SIGKILL)
            wait_for(
                lambda old=trainer, since=killed: any(
                    w["role"] == "trainer" and w["pid"] != old and w["time"] > since and w["state"] == "reading"
                    for w in _words(here)
                ),
                30,
            )
            restarts.append(time.monotonic() - began)
    finally:
        here.end()
    first, second = median_of(reverts), median_of(restarts)
    return [
        Row("revert: command to both serving processes", "its own start included", *first, 2.0, unit=" s"),
        Row("kill -9 to learning again, under up", "its backoff of 0.5 s included", *second, 5.0, unit=" s"),
    ]


def _words(here: Folder) -> list[dict[str, Any]]:
    from stream.process.presence import present  # noqa: PLC0415  beside its one use

    return present(here.lineage.store, time.time())


def _settled(here: Folder) -> bool:
    newest = here.lineage.numbers[-1]
    return all(one["snapshot"] == newest for one in here.status()["serving"])


def _all_from(here: Folder, target: int) -> bool:
    lineage = here.lineage
    line = lineage.decided.line("r")
    answers = [one["snapshot"] for one in here.status()["serving"]]
    return line.target == target and all(
        number == target or ((part := lineage.part(number, "r")) is not None and part.line == line.number)
        for number in answers
    )


def pauses(folder: Path) -> list[Row]:
    """The longest wait of 16 callers beyond the middle one, while snapshots arrive: what a load holds up."""
    cases: list[tuple[str, dict[str, Any], str, float | None]] = [
        ("River linear", RIVER, "", 20.0),
        ("VW -b 18", VW, "", 20.0),
        ("VW -b 22", {"v": {"kind": "vw", "args": "--loss_function logistic -b 22", "role": "champion"}}, "", None),
        ("ARF, 10 trees", {"f": {"kind": "river", "factory": "forest_model:arf", "role": "champion"}}, FOREST, None),
    ]
    found = []
    for name, learners, model, bar in cases:
        here = Folder(folder / name.replace(" ", "-").replace(",", ""), learners)
        if model:
            (here.path / "forest_model.py").write_text(model)
        try:
            here.write(numbers(3000))
            here.trained()
            here.start("serve")
            here.wait_ready()
            quiet = longest_waits(here, None)
            here.start("train")
            here.start("guard")
            busy = longest_waits(here, here)
        finally:
            here.end()
        detail = f"longest wait with snapshots {busy * 1000:.0f} ms, without {quiet * 1000:.0f} ms; 16 callers, 8 s"
        more = 1000 * max(0.0, busy - quiet)
        found.append(
            Row(f"pause of callers while snapshots arrive ({name})", detail, more, more, more, bar, unit=" ms")
        )
    return found


def longest_waits(here: Folder, learning_too: Folder | None, seconds: float = 8.0) -> float:
    """The longest wait of 16 callers, each asking a dozen times a second, while events arrive or do not."""
    stop, waits = threading.Event(), [[] for _ in range(16)]  # type: ignore[var-annotated]

    def call(mine: list[float]) -> None:
        draw = random.Random(id(mine))
        with httpx.Client(base_url=f"http://127.0.0.1:{here.port}") as client:
            while not stop.is_set():
                began = time.perf_counter()
                assert client.post("/predict", content=b'{"x":{"f0":1.0}}').status_code == 200
                mine.append(time.perf_counter() - began)
                time.sleep(0.15 * draw.random())

    threads = [threading.Thread(target=call, args=(mine,)) for mine in waits]
    for thread in threads:
        thread.start()
    ends, number = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        if learning_too is not None:
            learning_too.write(numbers(40, first=3000 + 40 * number))
        number += 1
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    return max(wait for mine in waits for wait in mine)
