"""Promise 1 where labels come later: kill -9 at any instant changes no pair and no bit of what is learnt.

Real processes over a real broker, questions and labels on topics of their own; now and then the file of what waits is
deleted as well. ``HOLDFAST_TEST_KILLS`` says how often (8; ``make soak``: 200), ``HOLDFAST_TEST_SEED`` when.
"""

import os
import random
import shutil
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from support.killed import LEARNERS
from support.lineages import Folder, accounted
from support.samples import numbers

KILLS = int(os.environ.get("HOLDFAST_TEST_KILLS", "8"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
EVENTS = 20_000


def apart() -> list[tuple[float, str, bytes]]:
    """Records of both topics in order of time: labels late, early, twice, never, bad, and events sent twice."""
    draw = random.Random(7)
    found: list[tuple[float, str, bytes]] = []
    for event in numbers(EVENTS):
        at, y = event["ts"], event.pop("y")
        value = orjson.dumps(event)
        found.append((at, "events", value))
        if draw.random() < 0.02:
            found.append((at + 0.2, "events", draw.choice([value, b"bad"])))
        for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 1, 2])):
            came = at + draw.choice([-3.2, draw.expovariate(1 / 60), draw.expovariate(1 / 600)])
            found.append((came, "labels", orjson.dumps({"id": event["id"], "y": y if draw.random() < 0.98 else None})))
    return sorted(found, key=lambda one: one[0])


def kill_later(here: Folder, process: Any, draw: random.Random) -> None:
    """Kill the trainer after a few snapshots, or where it has none left to write, and a random moment."""
    folder = here.path / "store" / "snapshots"
    before = len(list(folder.iterdir())) if folder.exists() else 0
    wanted, deadline = before + draw.randrange(3, 16), time.monotonic() + 10
    while time.monotonic() < deadline and (not folder.exists() or len(list(folder.iterdir())) < wanted):
        time.sleep(0.01)
    time.sleep(0.1 * draw.random())
    process.kill()
    process.wait()


@pytest.mark.kafka
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("missing", ["drop", "negative"])
def test_killed_at_seeded_moments_the_pairs_are_the_same(
    folder: Callable[..., Folder], kafka: str, topic: str, missing: str
) -> None:
    """Counts, metrics, delayed scores and canonical state equal those of a run never killed, for River and VW."""
    draw = random.Random(SEED)
    names = {"events": topic, "labels": f"{topic}-labels"}
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics(
        [NewTopic(name, 1, config={"retention.ms": "-1"}) for name in names.values()]
    ).values():
        future.result()
    producer = Producer({"bootstrap.servers": kafka, "acks": "all"})
    settings: dict[str, Any] = {
        "source__kind": "kafka", "source__topics": [topic], "source__kafka": {"bootstrap.servers": kafka},
        "labels__topics": [names["labels"]], "join__wait": "300s", "join__missing": missing,
        "join__late_wait": "900s", "snapshots__every_seconds": 0.05, "source__batch": 100, "holdout__rate": 0.02,
        "snapshots__keep": {"last": 100_000},
    }  # fmt: skip
    killed, never = folder("killed", LEARNERS, **settings), folder("never", LEARNERS, **settings)
    records, gone = apart(), 0
    chunk = len(records) // KILLS + 1
    for number in range(KILLS):
        for at, kind, value in records[number * chunk : (number + 1) * chunk]:
            producer.produce(names[kind], value, timestamp=round(at * 1000))
        assert producer.flush(60) == 0
        kill_later(killed, killed.start("train"), draw)
        if number % 4 == 3 and (waiting := killed.path / "waiting").exists():
            shutil.rmtree(waiting)
            gone += 1
    killed.train()
    (never.path / "store").mkdir()
    shutil.copy(killed.path / "store" / "lineage.json", never.path / "store" / "lineage.json")
    never.train()
    assert gone
    assert "read again" in killed.log("train")
    assert killed.status()["place"] == never.status()["place"]
    said, expected = killed.status()["labels"], never.status()["labels"]
    lost = said["delays"].pop("predictions_lost"), expected["delays"].pop("predictions_lost")
    assert said == expected
    assert lost[1] == 0
    assert said["accounting_difference"] == 0
    for name in LEARNERS:
        one, other = killed.learner(name), never.learner(name)
        assert one["events"] == other["events"]
        assert accounted(one["events"])
        assert (one["metrics"], one["recent"]) == (other["metrics"], other["recent"])
        assert other["delayed"]["n"] - one["delayed"]["n"] == lost[0], "only what lay in the deleted file is not scored"
        assert killed.state(name) == never.state(name)
