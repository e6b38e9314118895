"""``holdout.trusted.topic``: checked labels out of a real broker, each once, none of them learnt."""

from collections.abc import Callable

import orjson
import pytest
from confluent_kafka import Producer
from support.lineages import Folder
from support.samples import numbers
from support.topics import create

from snapshots.decisions import trusted

pytestmark = pytest.mark.kafka


def test_checked_labels_of_a_topic_are_taken_once(folder: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Two runs of the guard take each label once; the trainer, which reads another topic, never sees them."""
    voice = f"{topic}-checked"
    for one in (topic, voice):
        create(kafka, one, 2, **{"retention.ms": "-1"})
    here = folder(
        source__kind="kafka", source__topics=[topic], source__kafka={"bootstrap.servers": kafka},
        holdout__trusted__topic=voice,
    )  # fmt: skip
    producer = Producer({"bootstrap.servers": kafka, "acks": "all"})

    def send(to: str, first: int, count: int) -> None:
        for event in numbers(count, first=first):
            producer.produce(to, orjson.dumps(event), event["id"])
        assert producer.flush(60) == 0

    send(topic, 0, 50)
    send(voice, 1000, 30)
    producer.produce(voice, b"nope")
    here.trained()
    send(voice, 1030, 10)
    send(topic, 50, 50)
    here.trained()
    entries = [entry for entry in here.lineage.entries if entry.action == "trust"]
    rows = [row for entry in entries for row in trusted.read(here.lineage.store, entry.cause)]
    assert [entry.why for entry in entries] == ["30 labels", "10 labels"]
    assert len({(row.topic, row.features) for row in rows}) == 40
    counts = here.learner()["events"]
    assert (counts["consumed"], counts["learnt"]) == (100, 100)
