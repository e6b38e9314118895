"""Dead letters of a real broker, back into their topic: whole, once, and looked for after a crash."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from support.lineages import Folder, accounted
from support.samples import numbers
from support.topics import create, read_all

from stream.compose import resending_of
from stream.dead_letters.destinations import IntoKafka
from stream.dead_letters.reader import letters_of
from stream.dead_letters.replay import Report, Resending

pytestmark = pytest.mark.kafka
BAD = [orjson.dumps({"id": f"b{i}", "x": {"f0": 1.0}, "y": "yes"}) for i in range(4)]
LARGE = orjson.dumps({"id": "large", "x": {"f0": 1.0, "text": "a" * 100_000}, "y": "yes"})


@pytest.fixture
def here(folder: Callable[..., Folder], kafka: str, topic: str) -> Folder:
    """A lineage whose topic held five bad events, one of them too large for the topic of dead letters."""
    old = {"retention.ms": "-1"}  # their timestamps are of 2023
    create(kafka, topic, 2, **{"max.message.bytes": "4000000", **old})
    create(kafka, f"{topic}.dead-letter", **{"max.message.bytes": "50000", **old})
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "message.max.bytes": 5_000_000})
    for event in numbers(20):
        producer.produce(topic, orjson.dumps(event), partition=0)
    for i, value in enumerate([*BAD, LARGE]):
        producer.produce(topic, value, f"k{i}", headers=[("h", b"v")], timestamp=1_700_000_000_000 + i, partition=0)
    assert producer.flush(60) == 0
    here = folder(source__kind="kafka", source__topics=[topic], source__kafka={"bootstrap.servers": kafka},
                  learners={"mixed": {"kind": "river", "factory": "model:mixed", "role": "champion"}})  # fmt: skip
    (here.path / "mend.py").write_text('def label(value):\n    return value.replace(b\'"yes"\', b"1")\n')
    here.train()
    return here


def sent_back(kafka: str, topic: str) -> list[Any]:
    """The events that carry the mark of a replay; all were in the first partition."""
    return [one for one in read_all(kafka, topic) if any(name == "holdfast.replay" for name, _ in one.headers() or [])]


def run(here: Folder) -> Report:
    resending = resending_of(here.config, by="operator:test", why="")
    try:
        found = letters_of(here.config, here.lineage.store)
        return resending.run(found, lambda value: value.replace(b'"yes"', b"1"))
    finally:
        resending.way.close()


def test_letters_come_back_as_they_were(here: Folder, kafka: str, topic: str) -> None:
    """Partition, key, headers and timestamp; one that was kept in the store as well; and they are learnt."""
    assert [row["reason"] for row in here.json("dead-letters", "list")] == ["unknown_label"] * 5
    done = here.run("dead-letters", "replay", "--fix", "mend:label")
    assert "5 letters are back in the source" in done.stdout
    back = sent_back(kafka, topic)
    assert [one.value() for one in back] == [value.replace(b'"yes"', b"1") for value in [*BAD, LARGE]]
    for i, one in enumerate(back):
        assert (one.key(), one.timestamp()[1]) == (f"k{i}".encode(), 1_700_000_000_000 + i)
        assert one.headers() == [("h", b"v"), ("holdfast.replay", b"test/1")]
    here.train()
    counts = here.learner("mixed")["events"]
    assert accounted(counts)
    assert (counts["learnt"], counts["dead_lettered"]) == (25, 5)


@pytest.mark.parametrize("point", ["claimed", "open", "committed"])
def test_each_at_most_once_however_often_it_is_cut_off(
    here: Folder, kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Before anything is produced, with the transaction open, and before the ledger says that they are there."""

    def dies(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if point == "claimed":
            patch.setattr(IntoKafka, "send", dies)
        elif point == "open":
            whole = IntoKafka._produce
            patch.setattr(IntoKafka, "_produce", lambda *given: (whole(*given), dies()))
        else:
            patch.setattr(Resending, "_say", dies)
        with pytest.raises(KeyboardInterrupt):
            run(here)
    sent = [run(here).sent for _ in range(2)]
    assert sent == ([0, 0] if point == "committed" else [5, 0])
    assert len(sent_back(kafka, topic)) == 5
    actions = [entry.action for entry in here.lineage.ledger.entries()]
    assert actions == [
        "replay_letters",
        *([] if point == "committed" else ["letters_not_replayed", "replay_letters"]),
        "letters_replayed",
    ]
