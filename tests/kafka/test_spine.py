"""The spine on a real broker: from a topic through a learner into a snapshot, every record accounted for."""

import contextlib
import csv
import gzip
import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from river import datasets
from support.broker import Broker
from support.lineages import Folder, accounted, wait_for
from support.samples import mixed, numbers
from support.topics import create, put, read_all

from stream.refusal import Reason

pytestmark = pytest.mark.kafka
DATA = Path(os.environ.get("HOLDFAST_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
TWO = {
    "logreg": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "alma": {"kind": "river", "factory": "model:alma"},
}


@pytest.fixture
def make(folder: Callable[..., Folder], kafka: str, topic: str) -> Callable[..., Folder]:
    """Folders whose source is a topic of the broker."""

    def build(name: str = "here", learners: Any = None, **settings: Any) -> Folder:
        kafka_settings = {"source__kafka": {"bootstrap.servers": kafka}} if "source__kafka" not in settings else {}
        return folder(
            name, learners, **{"source__kind": "kafka", "source__topics": [topic], **kafka_settings, **settings}
        )

    return build


def test_published_figures_from_a_csv_through_a_topic(make: Callable[..., Folder]) -> None:
    """River's published benchmark on Phishing (accuracy 0.8872, F1 0.871233), with produce, train and status."""
    here = make(learners=TWO)
    rows = list(datasets.Phishing())
    with gzip.open(here.path / "phishing.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0][0], "class"])
        writer.writeheader()
        writer.writerows({**x, "class": "BAD" if y else "GOOD"} for x, y in rows)
    sent = here.run("produce", "phishing.csv.gz", "--label", "class", "--positive", "BAD")
    assert "1250 events sent" in sent.stdout
    here.train()
    learners = here.status()["learners"]
    assert learners["logreg"]["metrics"]["accuracy"] == pytest.approx(0.8872, abs=1e-6)
    assert learners["logreg"]["metrics"]["f1"] == pytest.approx(0.871233, abs=1e-6)
    assert learners["alma"]["metrics"]["accuracy"] == pytest.approx(0.8256, abs=1e-6)
    assert learners["alma"]["metrics"]["f1"] == pytest.approx(0.810764, abs=1e-6)


@pytest.mark.skipif(not (DATA / "elec2.csv.gz").exists(), reason="elec2 is not here: set HOLDFAST_TEST_DATA")
def test_published_figures_of_elec2(make: Callable[..., Folder]) -> None:
    """River's published benchmark on Elec2: 0.822144 / 0.777086 and 0.906427 / 0.889767."""
    here = make(learners=TWO)
    here.run("produce", str(DATA / "elec2.csv.gz"), "--label", "class", "--positive", "UP")
    here.train()
    found = {name: one["metrics"] for name, one in here.status()["learners"].items()}
    assert (found["logreg"]["accuracy"], found["logreg"]["f1"]) == pytest.approx((0.822144, 0.777086), abs=1e-6)
    assert (found["alma"]["accuracy"], found["alma"]["f1"]) == pytest.approx((0.906427, 0.889767), abs=1e-6)


VW_LOSSES = [("", 0.195760), ("--ftrl --ftrl_alpha 0.01 --ftrl_beta 0 --l1 2", 0.379717), ("--ftrl", 0.207945),
             ("--pistol", 0.283202), ("--coin", 0.197775)]  # fmt: skip


@pytest.mark.skipif(not (DATA / "vw" / "0001.dat.gz").exists(), reason="0001.dat is not here: set HOLDFAST_TEST_DATA")
def test_published_losses_of_vw(make: Callable[..., Folder]) -> None:
    """VW's upstream tests on 0001.dat; for pistol and coin that of what would have been served (ADR 4)."""
    names = {f"a{i}": {"kind": "vw", "args": args} for i, (args, _) in enumerate(VW_LOSSES)}
    names["a0"]["role"] = "champion"
    here = make(learners=names, task="regression")
    events = []
    with gzip.open(DATA / "vw" / "0001.dat.gz", "rt") as file:
        for number, line in enumerate(file):
            label, rest = line.split("|", 1)
            namespace, *features = rest.split()
            x = {namespace: {name: float(value) for name, _, value in (f.rpartition(":") for f in features)}}
            events.append({"id": str(number), "x": x, "y": float(label)})
    (here.path / "0001.jsonl").write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    here.run("produce", "0001.jsonl")
    here.train()
    learners = here.status()["learners"]
    for i, (args, loss) in enumerate(VW_LOSSES):
        assert learners[f"a{i}"]["metrics"]["mse"] == pytest.approx(loss, abs=1e-5), args


def bad_events(count: int) -> list[tuple[Reason, bytes | None]]:
    """Bad events of every reason a producer can cause, each its own."""
    draw = random.Random(8)
    found: list[tuple[Reason, bytes | None]] = []
    for i in range(count):
        kinds: list[tuple[Reason, bytes | None]] = [
            (Reason.TOMBSTONE, None),
            (Reason.TOO_LARGE, b'{"id":"b%d","x":{"a":"' % i + b"a" * 3000 + b'"}}'),
            (Reason.NOT_JSON, b"nope %d" % i),
            (Reason.NOT_JSON, bytes([255]) + draw.randbytes(20)),
            (Reason.NOT_AN_OBJECT, b"[%d]" % i),
            (Reason.TOO_DEEP, b'{"id":"b%d","x":{"a":{"b":{"c":1}}}}' % i),
            (Reason.DUPLICATE_NAME, b'{"id":"b%d","x":{"a":1,"a":2},"y":1}' % i),
            (Reason.RESERVED_NAME, b'{"id":"b%d","x":{"_label":1},"y":1}' % i),
            (Reason.NO_ID, b'{"x":{"a":%d},"y":1}' % i),
            (Reason.NO_FEATURES, b'{"id":"b%d","y":1}' % i),
            (Reason.BAD_NUMBER, b'{"id":"b%d","x":{"a":NaN},"y":1}' % i),
            (Reason.BAD_NUMBER, b'{"id":"b%d","x":{"a":1e39},"y":1}' % i),
            (Reason.WRONG_TYPE, b'{"id":"b%d","x":{"a":[1]},"y":1}' % i),
            (Reason.UNKNOWN_LABEL, b'{"id":"b%d","x":{"a":1},"y":"maybe"}' % i),
            (Reason.BAD_WEIGHT, b'{"id":"b%d","x":{"a":1},"y":1,"w":-1}' % i),
            (Reason.BAD_TIME, b'{"id":"b%d","x":{"a":1},"y":1,"ts":1e17}' % i),
        ]
        found.append(kinds[i % len(kinds)])
    return found


def test_one_bad_in_a_hundred(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Promise 2: the equation holds, recounted from the topic; dead letters are exactly the bad ones, byte for byte."""
    total = 100_000
    bad = bad_events(total // 100)
    draw = random.Random(3)
    stream: list[Any] = [orjson.dumps(event) for event in numbers(total - len(bad) - 3000)]
    stream += [orjson.dumps({**event, "y": None}) for event in numbers(1000, first=500_000)]
    stream += stream[:2000]
    stream = [(None, value) for value in stream] + bad
    head, tail = stream[:50_000], stream[50_000:]
    draw.shuffle(tail)
    stream = head + tail
    create(kafka, topic)
    headers = [("h", b"v"), ("none", None), ("h", b"again")]
    began = int(time.time() * 1000) - total  # records older than a week would be gone at the broker's next round
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "queue.buffering.max.messages": 200_000})
    for i, (_, value) in enumerate(stream):
        producer.produce(topic, value, key=f"k{i}", headers=headers, timestamp=began + i)
    assert producer.flush(60) == 0

    here = make(holdout__rate=0.02, event__max_bytes=2048, event__recent_ids=1_000_000)
    here.train()
    counts = here.learner()["events"]
    assert accounted(counts)
    assert counts["consumed"] == total == len(read_all(kafka, topic))
    assert (counts["dead_lettered"], counts["unlabelled"], counts["duplicate"]) == (len(bad), 1000, 2000)
    assert 1600 < counts["held_out"] < 2300

    wanted = [(i, reason, value) for i, (reason, value) in enumerate(stream) if reason is not None]
    resource = ConfigResource(ResourceType.TOPIC, f"{topic}.dead-letter")
    admin = AdminClient({"bootstrap.servers": kafka})
    (said,) = admin.describe_configs([resource]).values()
    assert said.result()["retention.ms"].value == "-1"  # a letter is as old as its event: none goes by age
    letters = read_all(kafka, f"{topic}.dead-letter")
    assert len(letters) == len(wanted)
    for letter, (offset, reason, value) in zip(letters, wanted, strict=True):
        assert letter.value() == value
        assert letter.key() == f"k{offset}".encode()
        assert letter.timestamp()[1] == began + offset
        assert letter.headers()[:3] == headers
        origin = dict(letter.headers()[3:])
        assert origin["__connect.errors.topic"] == topic.encode()
        assert origin["__connect.errors.partition"] == b"0"
        assert origin["__connect.errors.offset"] == str(offset).encode()
        assert origin["__connect.errors.exception.class.name"] == reason.encode()
        assert origin["__connect.errors.exception.message"]
    assert here.status()["refused"] == Counter(reason.value for _, reason, _ in wanted)


def test_files_keep_dead_letters_beside_the_events(folder: Callable[..., Folder]) -> None:
    """The same bytes, in a directory of their own."""
    import base64

    here = folder()
    bad = [(reason, value) for reason, value in bad_events(64) if value is not None]
    here.write([value for _, value in bad] + numbers(50))  # type: ignore[operator]
    here.train()
    lines = (here.path / "events.dead-letter" / "a.jsonl").read_bytes().splitlines()
    letters = [json.loads(line) for line in lines]
    expected = [value for reason, value in bad if reason != Reason.TOO_LARGE]
    assert [base64.b64decode(letter["value_base64"]) for letter in letters] == expected
    assert here.learner()["events"]["dead_lettered"] == len(expected)


def test_dead_letters_that_are_not_taken_hold_the_cut_back(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Promise 2: the trainer waits, says so, and loses nothing; then goes on."""
    create(kafka, topic)
    letters = f"{topic}.dead-letter"
    create(kafka, letters, **{"message.timestamp.before.max.ms": "1"})  # takes nothing that is older
    put(kafka, topic, [*numbers(100), b"bad", *numbers(100, first=100)])
    here = make()
    process = here.start("train")
    wait_for(lambda: (here.path / "train.log").exists() and "not acknowledged" in here.log("train"), 60)
    wait_for(lambda: here.status()["source"]["state"] == "waiting", 20)
    assert "dead letters are not acknowledged" in here.status()["source"]["why"]
    assert here.lineage.numbers == [0]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert here.lineage.numbers == [0]

    here.start("train")
    entry = ConfigEntry("message.timestamp.before.max.ms", "9000000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, letters, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    wait_for(lambda: here.lineage.numbers[-1] > 0 and here.learner()["events"]["learnt"] == 200, 60)
    assert here.learner()["events"]["dead_lettered"] == 1
    assert {letter.value() for letter in read_all(kafka, letters)} == {b"bad"}


def test_a_letter_too_large_for_the_broker_goes_to_the_store(
    make: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """Promise 2: its digest and address to the topic."""
    create(kafka, topic, **{"max.message.bytes": "4000000"})
    create(kafka, f"{topic}.dead-letter", **{"max.message.bytes": "50000"})
    large = b"not json " * 30_000
    put(kafka, topic, [large, *numbers(10)])
    here = make()
    here.train()
    assert here.learner()["events"]["dead_lettered"] == 1
    (letter,) = read_all(kafka, f"{topic}.dead-letter")
    headers = dict(letter.headers())
    assert letter.value() is None
    assert headers["holdfast.value.sha256"] == hashlib.sha256(large).hexdigest().encode()
    assert (here.path / "store" / headers["holdfast.value.store"].decode()).read_bytes() == large


def test_a_missing_topic_is_waited_for_and_status_says_so(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Retry with backoff; then it is picked up."""
    here = make()
    here.start("train")
    wait_for(lambda: topic in (here.status()["source"]["why"] or ""), 60)
    assert here.status()["source"]["state"] == "waiting"
    create(kafka, topic)
    put(kafka, topic, numbers(50))
    wait_for(lambda: here.lineage.numbers and here.lineage.numbers[-1] > 0, 60)
    wait_for(lambda: here.learner()["events"]["learnt"] == 50, 30)
    assert here.status()["source"]["state"] == "reading"


def test_a_broker_that_goes_away_and_comes_back(
    folder: Callable[..., Folder], tmp_path: Path, topic: str, kafka: str
) -> None:
    """Killed in the middle, started again: nothing is lost, nothing is learnt twice."""
    broker = Broker(tmp_path / "own").start()
    try:
        create(broker.address, topic)
        put(broker.address, topic, numbers(500))
        here = folder(source__kind="kafka", source__topics=[topic], source__kafka={"bootstrap.servers": broker.address})
        here.start("train")
        wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 500, 60)
        broker.stop(signal.SIGKILL)
        wait_for(lambda: here.status()["source"]["state"] == "waiting", 60)
        broker.start()
        put(broker.address, topic, numbers(500, first=500))
        wait_for(lambda: here.learner()["events"]["learnt"] == 1000, 90)
        assert accounted(here.learner()["events"])
        here.end()
    finally:
        broker.stop()
    other = folder("never-away")
    other.write(numbers(1000))
    other.train()
    assert here.state() == other.state()


def test_an_absent_broker_is_waited_for(folder: Callable[..., Folder], topic: str) -> None:
    """Status says what is missing."""
    here = folder(source__kind="kafka", source__topics=[topic], source__kafka={"bootstrap.servers": "127.0.0.1:1"})
    process = here.start("train")
    wait_for(lambda: "broker" in (here.status()["source"]["why"] or ""), 60)
    assert here.status()["source"]["state"] == "waiting"
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


def test_aborted_transactions_are_not_learnt(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """isolation.level = read_committed; the marks of transactions leave gaps, also at the end."""
    create(kafka, topic)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions()
    for number, commit in enumerate([True, False, True, False]):
        producer.begin_transaction()
        for event in numbers(10, first=number * 10):
            producer.produce(topic, orjson.dumps(event))
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    here = make()
    here.train()
    counts = here.learner()["events"]
    assert (counts["consumed"], counts["learnt"]) == (20, 20)
    put(kafka, topic, numbers(5, first=100))
    here.train()
    assert here.learner()["events"]["learnt"] == 25


def test_offsets_are_committed_last_and_for_lag_tools_only(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """The group's offsets follow the newest snapshot; what they say does not matter to the trainer."""
    create(kafka, topic)
    put(kafka, topic, numbers(200))
    here = make()
    here.train()
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test"})

    def committed() -> int:
        return int(consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset)

    wait_for(lambda: committed() == 200)
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    put(kafka, topic, numbers(100, first=200))
    here.train()
    assert here.learner()["events"]["learnt"] == 300
    consumer.close()


def test_start_latest_is_resolved_once(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Snapshot 0 holds it: what came while nothing ran is not skipped."""
    create(kafka, topic)
    put(kafka, topic, numbers(50))
    here = make(source__start="latest")
    here.train()
    assert here.status()["place"] == {topic: {"0": 50}}
    put(kafka, topic, numbers(30, first=50))
    here.train()
    assert here.learner()["events"]["learnt"] == 30


def test_events_sent_twice_or_labelled_later(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """A producer's duplicate is one; an event sent without and later with its label is none."""
    create(kafka, topic)
    events = numbers(100)
    unlabelled = [{key: value for key, value in event.items() if key != "y"} for event in events[:40]]
    put(kafka, topic, [*unlabelled, *events, *events[50:80]])
    here = make()
    here.train()
    counts = here.learner()["events"]
    assert (counts["unlabelled"], counts["duplicate"], counts["learnt"]) == (40, 30, 100)
    put(kafka, topic, events[90:])
    here.train()
    assert here.learner()["events"]["duplicate"] == 40


def test_held_out_events_are_never_learnt(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Promise 6: first time, replayed, after a restart; whole entities with holdout.by."""
    create(kafka, topic)
    events = [{**event, "x": {**event["x"], "card": f"c{i % 50}"}} for i, event in enumerate(mixed(1000))]
    put(kafka, topic, events)
    learner = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}
    here = make(learners=learner, holdout__rate=0.3, holdout__by="card", event__recent_ids=0)
    here.train()
    first = here.learner()["events"]
    put(kafka, topic, events)
    here.train()
    second = here.learner()["events"]
    assert first["held_out"] % 20 == 0
    assert 100 < first["held_out"] < 600
    assert second["held_out"] == 2 * first["held_out"]


def test_several_topics_and_partitions_are_one_place(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """All partitions of all topics, each record once; a kill in between loses none."""
    other = f"{topic}-b"
    create(kafka, topic, 3)
    create(kafka, other, 2)
    put(kafka, topic, numbers(3000))
    put(kafka, other, numbers(2000, first=3000))
    here = make(source__topics=[topic, other])
    process = here.start("train")
    with contextlib.suppress(AssertionError):
        wait_for(lambda: len(here.lineage.numbers) > 1, 20)
    process.kill()
    process.wait()
    here.train()
    counts = here.learner()["events"]
    assert counts["learnt"] == counts["consumed"] == 5000
    place = here.status()["place"]
    assert sum(place[topic].values()) == 3000
    assert sum(place[other].values()) == 2000


def test_produce_makes_the_events_that_its_options_ask_for(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """CSV with id, time and chosen features; Parquet; JSON lines as they are; another topic."""
    import pyarrow as pa
    from pyarrow import parquet

    here = make()
    (here.path / "a.csv").write_text("k,when,a,b,c,ok\nx1,1700000000,1,2.5,t,yes\nx2,,3,,u,no\n")
    options = ("--label", "ok", "--positive", "yes", "--id", "k", "--time", "when", "--features", "a,b,c")
    here.run("produce", "a.csv", *options)
    assert [json.loads(m.value()) for m in read_all(kafka, topic)] == [
        {"id": "x1", "ts": 1700000000, "x": {"a": 1, "b": 2.5, "c": "t"}, "y": 1},
        {"id": "x2", "x": {"a": 3, "c": "u"}, "y": 0},
    ]
    parquet.write_table(pa.table({"a": [1.5, None], "y": [1, 0]}), here.path / "b.parquet")
    here.run("produce", "b.parquet", "--label", "y", "--topic", f"{topic}-p")
    assert [json.loads(m.value()) for m in read_all(kafka, f"{topic}-p")] == [
        {"id": "b.parquet:1", "x": {"a": 1.5}, "y": 1},
        {"id": "b.parquet:2", "x": {}, "y": 0},
    ]
    raw = b'{"any":   "thing"}'
    with gzip.open(here.path / "c.jsonl.gz", "wb") as file:
        file.write(raw + b"\n\n" + raw + b"\r\n")
    began = time.monotonic()
    here.run("produce", "c.jsonl.gz", "--topic", f"{topic}-r", "--rate", "2", code=1)  # as they are, and all refused
    assert time.monotonic() - began > 0.9
    assert [m.value() for m in read_all(kafka, f"{topic}-r")] == [raw, raw]
    assert "no column 'z'" in here.run("produce", "a.csv", "--label", "z", code=2).stderr
    assert "ends in" in here.run("produce", "model.py", code=2).stderr


def test_asked_to_end_before_the_start_is_resolved_nothing_is_written(
    make: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """source.start = "latest" with no broker: no snapshot 0 that would stand for another place."""
    here = make(source__start="latest", source__kafka={"bootstrap.servers": "127.0.0.1:1"})
    process = here.start("train")
    wait_for(lambda: here.status()["source"]["state"] == "waiting", 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert here.lineage.numbers == []
    create(kafka, topic)
    put(kafka, topic, numbers(100))
    text = here.config_path.read_text().replace('127.0.0.1:1"', f'{kafka}"')
    here.config_path.write_text(text)
    here.train()
    assert here.learner()["events"]["consumed"] == 0


def test_stopped_before_the_end_is_not_the_end(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Train --until-end exits 1 when it was asked to stop before, and goes on from there."""
    create(kafka, topic)
    put(kafka, topic, numbers(40_000))
    here = make()
    process = here.start("train", "--until-end")
    wait_for(lambda: here.lineage.numbers and here.lineage.numbers[-1] > 0, 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 1
    here.train()
    assert here.learner()["events"]["learnt"] == 40_000
