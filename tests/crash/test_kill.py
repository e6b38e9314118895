"""Promise 1: kill -9 at any instant changes nothing in what is learnt. Real processes, a real broker, real signals.

``HOLDFAST_TEST_KILLS`` says how often (20; ``make soak``: 200), ``HOLDFAST_TEST_SEED`` when.
"""

import os
import random
import shutil
from collections.abc import Callable

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from support.killed import LEARNERS, kill
from support.lineages import Folder, accounted
from support.samples import numbers

KILLS = int(os.environ.get("HOLDFAST_TEST_KILLS", "8"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
EVENTS = 45_312


def stream() -> list[bytes]:
    """Events with some bad, some unlabelled, some sent twice."""
    draw = random.Random(5)
    values = [orjson.dumps(event) for event in numbers(EVENTS)]
    for _ in range(300):
        at = draw.randrange(EVENTS)
        values[at] = draw.choice([b"bad %d" % at, orjson.dumps({"id": f"u{at}", "x": {}}), values[at - 1]])
    return values


@pytest.mark.kafka
@pytest.mark.timeout(3600)
def test_killed_at_seeded_moments_it_ends_identical(folder: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Metrics, counts and canonical state equal those of a run never killed, for River and VW."""
    draw = random.Random(SEED)
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([NewTopic(topic, 1)]).values():
        future.result()
    producer = Producer({"bootstrap.servers": kafka, "acks": "all"})
    settings = {
        "source__kind": "kafka", "source__topics": [topic], "source__kafka": {"bootstrap.servers": kafka},
        "snapshots__every_seconds": 0.05, "source__batch": 100, "holdout__rate": 0.02, "event__slices": ["f0"],
        "event__max_slices": 5,
    }  # fmt: skip
    killed, never = folder("killed", LEARNERS, **settings), folder("never", LEARNERS, **settings)
    values, in_write = stream(), 0
    chunk = EVENTS // KILLS + 1
    for number in range(KILLS):
        for value in values[number * chunk : (number + 1) * chunk]:
            producer.produce(topic, value)
        assert producer.flush(60) == 0
        in_write += kill(killed, killed.start("train"), draw, writing=number % 2 == 0)
    killed.train()
    charter = killed.path / "store" / "lineage.json"
    (never.path / "store").mkdir()
    shutil.copy(charter, never.path / "store" / "lineage.json")
    never.train()
    print(f"\n{KILLS} kills, seed {SEED}, {in_write} while a snapshot was being written")
    assert in_write >= KILLS // 4
    for name in LEARNERS:
        one, other = killed.learner(name), never.learner(name)
        assert one["events"] == other["events"]
        assert accounted(one["events"])
        assert one["events"]["consumed"] == EVENTS
        assert (one["metrics"], one["recent"], one["slices"]) == (other["metrics"], other["recent"], other["slices"])
        assert killed.state(name) == never.state(name)
    assert killed.status()["place"] == never.status()["place"]
    assert killed.run("snapshots", "verify").returncode == 0


def test_killed_between_ledger_and_cut_the_revert_is_applied_again(folder: Callable[..., Folder]) -> None:
    """Promise 8: a trainer that dies before its cut applies the revert when it starts again."""
    here = folder(learners=LEARNERS)
    here.write(numbers(500))
    here.trained()
    here.write(numbers(500, first=500))
    here.trained()
    first, last = here.lineage.numbers[1], here.lineage.numbers[-1]
    here.run("snapshots", "revert", "linear", str(first))
    assert here.json("quarantine", "list")[0]["state"] == "open"
    here.train()
    assert here.learner()["line"] == 1
    assert here.learner()["events"]["quarantined"] == 500
    assert here.lineage.part(here.lineage.numbers[-1], "hashed").line == 0  # type: ignore[union-attr]
    assert here.lineage.numbers[-1] > last
