"""Kafka as it really is: what is lost is said, what is not lost is neither skipped nor learnt twice."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from support.broker import USERS, Broker, Cluster, keystore
from support.lineages import Folder, accounted, wait_for
from support.samples import numbers
from support.topics import create, put, read_all

pytestmark = pytest.mark.kafka


@pytest.fixture
def make(folder: Callable[..., Folder], kafka: str, topic: str) -> Callable[..., Folder]:
    """Folders whose source is a topic of the broker."""

    def build(name: str = "here", learners: Any = None, address: str = kafka, **settings: Any) -> Folder:
        servers = settings.pop("source__kafka", {}) | {"bootstrap.servers": address}
        return folder(
            name, learners, source__kind="kafka", source__topics=[topic], source__kafka=servers, **settings
        )  # fmt: skip

    return build


def never_disturbed(folder: Callable[..., Folder], events: list[Any]) -> bytes:
    """The state of a learner that was given the same events in peace."""
    other = folder("never-disturbed")
    other.write(events)
    other.train()
    return other.state()


def set_reading(here: Folder, key: str, value: str) -> None:
    here.config_path.write_text(here.config_path.read_text() + f"{key} = {value}\n")


def delete_before(address: str, topic: str, offset: int) -> None:
    """What retention does, at once."""
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        future.result()


def make_anew(address: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.delete_topics([topic]).values():
        future.result()
    wait_for(lambda: topic not in admin.list_topics(timeout=10).topics)
    time.sleep(0.5)
    create(address, topic)


def test_what_retention_deleted_stops_the_trainer_with_the_range(
    make: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """And with the setting that goes on regardless; then the ledger keeps what was lost."""
    create(kafka, topic)
    put(kafka, topic, numbers(300))
    here = make()
    here.train()
    put(kafka, topic, numbers(300, first=300))
    delete_before(kafka, topic, 400)
    done = here.run("train", "--until-end", code=4)
    assert f"{topic}[0]: offsets 300 to 400 are lost" in done.stderr
    assert 'source.when_lost = "go_on"' in done.stderr
    assert here.learner()["events"]["learnt"] == 300
    set_reading(here, "source.when_lost", '"go_on"')
    here.train()
    assert here.learner()["events"]["learnt"] == 500
    assert accounted(here.learner()["events"])
    (entry,) = here.json("ledger")
    assert entry["action"] == "lose"
    assert "offsets 300 to 400" in entry["why"]


def test_retention_that_overtakes_a_running_trainer_is_noticed(
    make: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """The trainer sleeps while the broker deletes what it has not read yet."""
    create(kafka, topic)
    put(kafka, topic, numbers(300))
    here = make(source__kafka={"queued.min.messages": 1, "fetch.wait.max.ms": 10})
    process = here.start("train")
    wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 300)
    process.send_signal(signal.SIGSTOP)
    put(kafka, topic, numbers(50_000, first=300))
    delete_before(kafka, topic, 50_100)
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 4
    assert "are lost: retention deleted them" in here.log("train")


@pytest.mark.parametrize("running", [False, True])
def test_a_topic_made_anew_is_another_topic(
    make: Callable[..., Folder], kafka: str, topic: str, *, running: bool
) -> None:
    """Told by its id, also when it has more records than the old one had."""
    create(kafka, topic)
    put(kafka, topic, numbers(300))
    here = make()
    here.train()
    topics = here.lineage.newest().topics  # type: ignore[union-attr]
    assert list(topics) == [topic]
    if running:
        process = here.start("train")
        wait_for(lambda: here.status()["source"]["state"] == "reading")
    make_anew(kafka, topic)
    put(kafka, topic, numbers(500, first=1000))
    if running:
        assert process.wait(60) == 4
        said = here.log("train")
    else:
        said = here.run("train", "--until-end", code=4).stderr
    assert f"topic '{topic}' was made anew: its id was {topics[topic]}" in said
    assert here.learner()["events"]["learnt"] == 300
    set_reading(here, "source.when_lost", '"go_on"')
    here.train()
    assert here.learner()["events"]["learnt"] == 800
    assert here.lineage.newest().topics != topics  # type: ignore[union-attr]
    assert here.json("ledger")[-1]["action"] == "lose"
    here.train()
    assert here.learner()["events"]["learnt"] == 800


def test_compaction_leaves_gaps_and_loses_nothing_that_is_there(
    make: Callable[..., Folder], folder: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """Counts are of delivered records, not of offsets."""
    create(kafka, topic, **{
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": "100", "max.compaction.lag.ms": "500", "segment.bytes": "1048576",
    })  # fmt: skip
    producer = Producer({"bootstrap.servers": kafka})
    events = numbers(400)
    for i, event in enumerate(events):
        producer.produce(topic, orjson.dumps(event), key=f"k{i % 50}")
    producer.flush(30)
    for i in range(20):  # new segments, so that the old ones may be compacted
        time.sleep(0.3)
        producer.produce(topic, orjson.dumps(numbers(1, first=1000 + i)[0]), key=f"late{i}")
        producer.flush(30)
    wait_for(lambda: len(read_all(kafka, topic)) < 200, 60)
    there = read_all(kafka, topic)
    here = make()
    here.train()
    counts = here.learner()["events"]
    assert counts["consumed"] == counts["learnt"] == len(there)
    assert here.status()["place"][topic]["0"] > len(there)
    assert here.state() == never_disturbed(folder, [message.value() for message in there])


def test_empty_partitions_and_headers_without_value(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """An empty partition ends at once; a tombstone is a dead letter with its headers."""
    create(kafka, topic, 4)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, None, key="k", headers=[("trace", b"1"), ("none", None)], partition=2)
    for event in numbers(50):
        producer.produce(topic, orjson.dumps(event), partition=2)
    producer.flush(30)
    here = make()
    here.train()
    counts = here.learner()["events"]
    assert (counts["learnt"], counts["dead_lettered"]) == (50, 1)
    (letter,) = read_all(kafka, f"{topic}.dead-letter")
    assert letter.value() is None
    assert letter.headers()[:2] == [("trace", b"1"), ("none", None)]
    assert here.status()["place"] == {topic: {"0": 0, "1": 0, "2": 51, "3": 0}}


def test_a_record_larger_than_the_fetch_size_is_read(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Kafka hands out at least one record, however small the fetch; nothing stands still."""
    create(kafka, topic, **{"max.message.bytes": "4000000"})
    large = {"id": "large", "x": {"a": "x" * 900_000, "f0": 1.0}, "y": 1}
    put(kafka, topic, [*numbers(20), large, *numbers(20, first=20)])
    here = make(
        learners={"v": {"kind": "vw", "args": "--loss_function logistic", "role": "champion"}},
        source__kafka={"fetch.message.max.bytes": 20_000, "fetch.max.bytes": 1_000_000},
    )
    here.train()
    assert here.learner("v")["events"]["learnt"] == 41


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Path]]:
    """A broker that wants a name, a password and TLS, and the folder with its certificate."""
    folder = tmp_path_factory.mktemp("secure")
    keys = keystore(folder / "keys")
    broker = Broker(folder / "broker", secure=keys).start()
    yield broker, keys
    broker.stop()


def secrets(keys: Path, password: str = USERS["alice"], mechanism: str = "SCRAM-SHA-256") -> dict[str, str]:
    return {
        "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.username": "alice",
        "sasl.password": password, "ssl.ca.location": str(keys / "ca.pem"),
    }  # fmt: skip


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_sasl_over_tls(make: Callable[..., Folder], secure: tuple[Broker, Path], topic: str, mechanism: str) -> None:
    """Events, dead letters and produce, all through the same settings; no secret in any output."""
    broker, keys = secure
    here = make(address=broker.secure_address, source__kafka=secrets(keys, mechanism=mechanism))
    (here.path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(e) + b"\n" for e in numbers(100)) + b"bad\n")
    said = here.run("produce", "rows.jsonl").stderr
    said += here.run("train", "--until-end").stderr
    counts = here.learner()["events"]
    assert (counts["learnt"], counts["dead_lettered"]) == (100, 1)
    assert "wonderland" not in said
    assert "wonderland" not in str(here.status())


@pytest.mark.parametrize("case", ["password", "certificate"])
def test_who_is_not_let_in_is_told_why(
    make: Callable[..., Folder], secure: tuple[Broker, Path], topic: str, case: str, tmp_path: Path
) -> None:
    """A wrong password, a certificate of somebody else: said with the setting to mend.

    Once the broker knows the password it goes on by itself.
    """
    broker, keys = secure
    create(broker.address, topic)
    put(broker.address, topic, numbers(30))
    wrong = secrets(keys, "jabberwocky") if case == "password" else secrets(keystore(tmp_path / "other"))
    here = make(address=broker.secure_address, source__kafka=wrong)
    here.start("train")
    expected = "sasl.password" if case == "password" else "ssl.ca.location"
    wait_for(lambda: expected in (here.status()["source"]["why"] or ""), 60)
    assert here.status()["source"]["state"] == "waiting"
    assert "jabberwocky" not in here.log("train")
    if case == "password":
        try:
            know(broker.address, "jabberwocky")
            wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 30, 60)
        finally:
            know(broker.address, USERS["alice"])


def know(address: str, password: str) -> None:
    """Give alice another password on the broker."""
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    change = UserScramCredentialUpsertion("alice", credential, password.encode())
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.alter_user_scram_credentials([change]).values():
        future.result()


def test_an_expired_certificate_is_said(make: Callable[..., Folder], tmp_path: Path, topic: str) -> None:
    """The broker's own has run out."""
    keys = keystore(tmp_path / "keys", expired=True)
    broker = Broker(tmp_path / "broker", secure=keys).start()
    try:
        here = make(address=broker.secure_address, source__kafka=secrets(keys))
        here.start("train")
        wait_for(lambda: "certificate" in (here.status()["source"]["why"] or ""), 60)
        assert "expired" in here.status()["source"]["why"]
        here.end()
    finally:
        broker.stop()


class Producing:
    """Produces numbered events until told to stop; knows which were acknowledged."""

    def __init__(self, address: str, topic: str, limit: int = 10**9, rate: float = 400) -> None:
        self.acknowledged: list[int] = []
        self._address, self._topic, self._limit, self._rate = address, topic, limit, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        producer = Producer({
            "bootstrap.servers": self._address, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
            "message.timeout.ms": 300_000, "log_level": 0, "topic.metadata.refresh.interval.ms": 500,
        })  # fmt: skip
        number = 0
        while not self._stop.is_set() and number < self._limit:
            (event,) = numbers(1, first=number)
            producer.produce(
                self._topic, orjson.dumps(event),
                on_delivery=lambda error, _, n=number: self.acknowledged.append(n) if error is None else None,
            )  # fmt: skip
            producer.poll(0)
            number += 1
            time.sleep(1 / self._rate)
        producer.flush(300)

    def end(self) -> int:
        """Stop and wait for every acknowledgement; return how many there are."""
        self._stop.set()
        self._thread.join(300)
        return len(self.acknowledged)


def test_a_cluster_whose_leader_dies_and_that_is_gone_for_a_while(
    folder: Callable[..., Folder], tmp_path: Path, topic: str
) -> None:
    """Three nodes; the leader killed under way, then all for a while: nothing lost, nothing twice, nothing reordered.

    ``HOLDFAST_TEST_AWAY`` says for how many seconds (10; ``make soak``: 120).
    """
    away = float(os.environ.get("HOLDFAST_TEST_AWAY", "10"))
    cluster = Cluster(tmp_path / "cluster").start()
    try:
        admin = AdminClient({"bootstrap.servers": cluster.address})
        for future in admin.create_topics([NewTopic(topic, 1, 3)]).values():
            future.result()
        settings = {"bootstrap.servers": cluster.address, "topic.metadata.refresh.interval.ms": 1000}
        here = folder(source__kind="kafka", source__topics=[topic], source__kafka=settings)
        here.start("train")
        producing = Producing(cluster.address, topic)
        wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] > 500, 60)
        leader = cluster.leader(topic)
        leader.stop(signal.SIGKILL)
        learnt = here.learner()["events"]["learnt"]
        wait_for(lambda: here.learner()["events"]["learnt"] > learnt + 800, 90)
        leader.start()
        cluster.stop(signal.SIGKILL)
        time.sleep(away)
        assert here.status()["source"]["state"] == "waiting"
        cluster.start()
        learnt = here.learner()["events"]["learnt"]
        wait_for(lambda: here.learner()["events"]["learnt"] > learnt + 500, 120)
        total = producing.end()
        wait_for(lambda: here.learner()["events"]["consumed"] >= total, 60)
        there = read_all(cluster.address, topic)
        here.end()
    finally:
        cluster.stop(signal.SIGKILL)
    ids = [orjson.loads(message.value())["id"] for message in there]
    assert ids == [f"e{n}" for n in range(total)]
    counts = here.learner()["events"]
    assert (counts["consumed"], counts["learnt"], counts["duplicate"]) == (total, total, 0)
    assert here.state() == never_disturbed(folder, [message.value() for message in there])


def test_a_partition_without_a_leader_is_waited_for(folder: Callable[..., Folder], tmp_path: Path, topic: str) -> None:
    """The other partitions are learnt meanwhile; when it has a leader again, what it held is learnt once."""
    cluster = Cluster(tmp_path / "cluster").start()
    try:
        admin = AdminClient({"bootstrap.servers": cluster.address})
        first, second = list(cluster.brokers)[:2]
        for future in admin.create_topics([NewTopic(topic, 2, replica_assignment=[[first], [second]])]).values():
            future.result()
        admin.list_topics(timeout=10)
        producer = Producer({"bootstrap.servers": cluster.address, "message.timeout.ms": 60_000})
        events = numbers(400)
        for i, event in enumerate(events[:200]):
            producer.produce(topic, orjson.dumps(event), partition=i % 2)
        assert producer.flush(60) == 0
        here = folder(
            source__kind="kafka", source__topics=[topic], source__kafka={"bootstrap.servers": cluster.address}
        )
        here.start("train")
        wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 200, 60)
        cluster.brokers[second].stop(signal.SIGKILL)
        for event in events[200:300]:
            producer.produce(topic, orjson.dumps(event), partition=0)
        assert producer.flush(60) == 0
        wait_for(lambda: here.learner()["events"]["learnt"] == 300, 60)
        cluster.brokers[second].start()
        for event in events[300:]:
            producer.produce(topic, orjson.dumps(event), partition=1)
        assert producer.flush(60) == 0
        wait_for(lambda: here.learner()["events"]["learnt"] == 400, 90)
        assert accounted(here.learner()["events"])
        here.end()
    finally:
        cluster.stop(signal.SIGKILL)


def test_what_is_forgotten_leaves_the_dead_letters_too(make: Callable[..., Folder], kafka: str, topic: str) -> None:
    """Kafka deletes only from the beginning: the others are written again behind the end, with all that they had."""
    create(kafka, topic)
    bad = [orjson.dumps({"id": f"p{number}", "x": {}, "y": 7}) for number in range(40)]
    put(kafka, topic, [*numbers(100), *bad, b"neither JSON nor 'p3' quoted", b'{"id": "p5", "x": torn'])
    here = make(event__max_refused_share=1.0)
    here.train()
    before = read_all(kafka, f"{topic}.dead-letter")
    assert len(before) == 42
    here.run("archive", "run", "--until-end")
    done = here.run("forget", "p5", "p17", "e8")
    assert "1 events are out of the archive and 3 out of the dead letters" in done.stdout
    assert f"topic {topic}" in done.stdout
    after = read_all(kafka, f"{topic}.dead-letter")
    kept = [(one.key(), one.value(), one.headers(), one.timestamp()) for one in before
            if not any(name in one.value() for name in (b'"p5"', b'"p17"'))]  # fmt: skip
    assert [(one.key(), one.value(), one.headers(), one.timestamp()) for one in after] == kept
    assert len(kept) == 39
