"""One contract over both sources (stream/source/source.py): a directory of files, and a real Kafka topic."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec
from support.lineages import wait_for

from snapshots.records.place import Place
from stream.errors import SourceAwayError, SourceLostError
from stream.record import Record
from stream.source.files import FilesSource
from stream.source.kafka import KafkaSource
from stream.source.source import Source


class Stand(Protocol):
    """A place where events can be put, and a source over it."""

    def put(self, partition: int, values: list[bytes]) -> None: ...
    def add_partition(self) -> int: ...
    def source(self, start: str = "earliest") -> Source: ...


class FilesStand:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "events"
        self.folder.mkdir()
        self.partitions = 2
        for partition in range(2):
            self.put(partition, [])

    def put(self, partition: int, values: list[bytes]) -> None:
        with (self.folder / f"p{partition}.jsonl").open("ab") as file:
            file.write(b"".join(value + b"\n" for value in values))

    def add_partition(self) -> int:
        self.partitions += 1
        return self.partitions - 1

    def source(self, start: str = "earliest") -> Source:
        return FilesSource(self.folder, start=start, poll_seconds=0.01)


class KafkaStand:
    def __init__(self, address: str, topic: str) -> None:
        self.address, self.topic = address, topic
        self.admin = AdminClient({"bootstrap.servers": address})
        for future in self.admin.create_topics([NewTopic(topic, 2)]).values():
            future.result()
        self.partitions = 2
        wait_for(self._led)

    def put(self, partition: int, values: list[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.address, "acks": "all"})
        for value in values:
            producer.produce(self.topic, value, partition=partition)
        assert producer.flush(20) == 0

    def add_partition(self) -> int:
        self.partitions += 1
        for future in self.admin.create_partitions([NewPartitions(self.topic, self.partitions)]).values():
            future.result()
        wait_for(self._led)
        return self.partitions - 1

    def _led(self) -> bool:
        """Every partition has a leader that answers: a topic that was just made has none for a moment."""
        asked = {TopicPartition(self.topic, number): OffsetSpec.latest() for number in range(self.partitions)}
        admin = AdminClient({"bootstrap.servers": self.address})  # the other knows the partitions that there were
        try:
            return all(future.result() for future in admin.list_offsets(asked).values())
        except KafkaException:
            return False

    def source(self, start: str = "earliest") -> Source:
        settings = {"bootstrap.servers": self.address}
        return KafkaSource([self.topic], settings, group="contract", start=start, poll_seconds=0.05)


@pytest.fixture(params=["files", pytest.param("kafka", marks=pytest.mark.kafka)])
def stand(request: pytest.FixtureRequest, tmp_path: Path, topic: str) -> Stand:
    if request.param == "files":
        return FilesStand(tmp_path)
    return KafkaStand(request.getfixturevalue("kafka"), topic)


def read(source: Source, count: int, limit: int = 7) -> list[Record]:
    """Poll until there are so many records, and see that no more come."""
    found: list[Record] = []

    def enough() -> bool:
        batch = source.poll(limit)
        assert len(batch) <= limit
        found.extend(batch)
        return len(found) >= count

    wait_for(enough, 30)
    found.extend(source.poll(limit))
    assert len(found) == count
    return found


def place_after(records: list[Record], place: Place) -> Place:
    place = {topic: dict(partitions) for topic, partitions in place.items()}
    for record in records:
        place.setdefault(record.topic, {})[record.partition] = record.following
    return place


def values(count: int, mark: str = "") -> list[bytes]:
    return [b'{"n":"%s%d"}' % (mark.encode(), i) for i in range(count)]


def by_partition(records: list[Record]) -> dict[str, list[bytes | None]]:
    found: dict[str, list[bytes | None]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record.value)
    return found


def test_everything_is_delivered_once_and_in_order(stand: Stand) -> None:
    """In order within each partition; offsets lead from one record to the next."""
    stand.put(0, values(50, "a"))
    stand.put(1, values(30, "b"))
    source = stand.source()
    source.open(source.resolve(), {})
    records = read(source, 80)
    assert sorted(by_partition(records).values(), key=len) == [values(30, "b"), values(50, "a")]
    source.close()


@pytest.mark.parametrize("cut", [1, 13, 79])
def test_resuming_at_a_place_goes_on_exactly_there(stand: Stand, cut: int) -> None:
    """Promise 1: what was delivered before the place and after it is everything, once."""
    stand.put(0, values(50, "a"))
    stand.put(1, values(30, "b"))
    source = stand.source()
    start = source.resolve()
    source.open(start, {})
    found: list[Record] = []
    while len(found) < cut:
        found += source.poll(cut - len(found))
    source.close()
    again = stand.source()
    again.open(place_after(found, start), {})
    rest = read(again, 80 - cut)
    assert sorted(by_partition(found + rest).values(), key=len) == [values(30, "b"), values(50, "a")]
    again.close()


def test_latest_begins_at_what_comes_after(stand: Stand) -> None:
    """source.start = "latest" is where each partition ends when the lineage begins."""
    stand.put(0, values(5, "old"))
    source = stand.source("latest")
    place = source.resolve()
    stand.put(0, values(3, "new"))
    source.open(place, {})
    assert [record.value for record in read(source, 3)] == values(3, "new")
    source.close()


def test_what_comes_later_is_followed(stand: Stand) -> None:
    """Also while nothing was there yet."""
    source = stand.source()
    source.open(source.resolve(), {})
    assert source.poll(10) == []
    for round_ in range(3):
        stand.put(0, values(2, str(round_)))
        assert [record.value for record in read(source, 2)] == values(2, str(round_))
    source.close()


def test_a_partition_added_while_running_is_read_from_its_start(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0, not from where it was discovered."""
    monkeypatch.setattr("stream.source.kafka._DISCOVER_SECONDS", 0.5)
    stand.put(0, values(3, "a"))
    source = stand.source()
    source.open(source.resolve(), {})
    read(source, 3)
    added = stand.add_partition()
    stand.put(added, values(4, "late"))
    records = read(source, 4)
    assert [record.value for record in records] == values(4, "late")
    source.close()


def test_the_marked_end_is_reached_and_not_what_came_after_it(stand: Stand) -> None:
    """--until-end: to where the source ended when it was asked."""
    stand.put(0, values(20, "a"))
    source = stand.source()
    source.open(source.resolve(), {})
    source.mark_end()
    assert not source.ended()
    count = 0
    while not source.ended():
        count += len(source.poll(5))
        if count == 10:
            stand.put(1, values(1000, "later"))
    assert 20 <= count < 1020
    source.close()


def test_an_empty_source_has_ended(stand: Stand) -> None:
    """Nothing there is all there is."""
    source = stand.source()
    source.open(source.resolve(), {})
    source.mark_end()
    assert source.ended()
    source.close()


def test_lag_is_what_waits(stand: Stand) -> None:
    """Zero once everything was read."""
    stand.put(0, values(10, "a"))
    source = stand.source()
    source.open(source.resolve(), {})
    read(source, 10)
    assert wait_for(lambda: source.poll(1) == [] and source.lag() == 0)
    source.close()


# What only files have ------------------------------------------------------------------------------------------


def files(tmp_path: Path) -> tuple[Path, Callable[[], FilesSource]]:
    folder = tmp_path / "events"
    folder.mkdir()
    return folder, lambda: FilesSource(folder, start="earliest", poll_seconds=0.0)


def test_a_half_written_last_line_is_waited_for(tmp_path: Path) -> None:
    """A record is a whole line; blank lines are none."""
    folder, make = files(tmp_path)
    path = folder / "a.jsonl"
    path.write_bytes(b'{"a":1}\n\n{"b":')
    source = make()
    source.open(source.resolve(), {})
    assert [record.value for record in source.poll(10)] == [b'{"a":1}']
    assert source.poll(10) == []
    with path.open("ab") as file:
        file.write(b"2}\n")
    records = source.poll(10)
    assert [record.value for record in records] == [b'{"b":2}']
    assert (records[0].offset, records[0].following) == (9, 17)


def test_long_lines_and_many_lines_cross_the_chunks(tmp_path: Path) -> None:
    """Lines longer than what is read at once come whole."""
    folder, make = files(tmp_path)
    lines = [b'{"a":"' + b"x" * size + b'"}' for size in (10, 300_000, 5, 1_000_000, 70_000)] * 2
    (folder / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    source = make()
    source.open(source.resolve(), {})
    found: list[Record] = []
    while len(found) < len(lines):
        found += source.poll(3)
    assert [record.value for record in found] == lines


def test_a_long_file_is_read_in_pieces(tmp_path: Path) -> None:
    """What was read and not yet handed out stays small, however few records a poll wants."""
    folder, make = files(tmp_path)
    (folder / "a.jsonl").write_bytes(b'{"a": "some bytes of an event, as many as there are"}\n' * 200_000)
    source = make()
    source.open(source.resolve(), {})
    tracemalloc.start()
    try:
        for _ in range(300):
            assert len(source.poll(100)) == 100
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * 2**20


@pytest.mark.parametrize("when", ["resuming", "running"])
def test_truncation_is_noticed(tmp_path: Path, when: str) -> None:
    """It says which bytes are gone, and what to do."""
    folder, make = files(tmp_path)
    path = folder / "a.jsonl"
    path.write_bytes(b'{"a":1}\n' * 10)
    source = make()
    source.open(source.resolve(), {})
    place = place_after(source.poll(10), {})
    path.write_bytes(b'{"a":1}\n' * 5)
    with pytest.raises(SourceLostError, match="bytes 40 to 80 are gone"):
        source.open(place, {}) if when == "resuming" else source.poll(10)


def test_a_rewritten_file_is_noticed(tmp_path: Path) -> None:
    """No line ends where the place is."""
    folder, make = files(tmp_path)
    (folder / "a.jsonl").write_bytes(b'{"another": "file, longer than before"}\n')
    with pytest.raises(SourceLostError, match="rewritten"):
        make().open({"events": {"a.jsonl": 8}}, {})


def test_a_missing_directory_is_waited_for(tmp_path: Path) -> None:
    """It is away, not lost."""
    with pytest.raises(SourceAwayError, match="waiting"):
        FilesSource(tmp_path / "none", start="earliest", poll_seconds=0).poll(1)


def test_a_file_rewritten_and_grown_is_noticed(tmp_path: Path) -> None:
    """Never half a line of another file."""
    folder, make = files(tmp_path)
    path = folder / "a.jsonl"
    path.write_bytes(b'{"a":1}\n' * 2)
    source = make()
    source.open(source.resolve(), {})
    assert len(source.poll(10)) == 2
    path.write_bytes(b'{"a":1,"b":2,"c":3,"d":4}\n')
    with pytest.raises(SourceLostError, match="rewritten"):
        source.poll(10)


def test_a_file_deleted_while_followed_is_noticed(tmp_path: Path) -> None:
    """What was not read of it is gone."""
    folder, make = files(tmp_path)
    (folder / "a.jsonl").write_bytes(b'{"a":1}\n{"a":2}\n')
    source = make()
    source.open(source.resolve(), {})
    source.poll(1)
    (folder / "a.jsonl").unlink()
    with pytest.raises(SourceLostError, match="are gone"):
        source.poll(10)


@pytest.mark.kafka
def test_a_hiccup_while_partitions_are_looked_up_skips_none(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All new partitions are assigned, or none until the next look."""
    monkeypatch.setattr("stream.source.kafka._DISCOVER_SECONDS", 0.3)
    stand = KafkaStand(kafka, topic)
    source = KafkaSource([topic], {"bootstrap.servers": kafka}, group="hiccup", start="earliest", poll_seconds=0.05)
    source.open(source.resolve(), {})
    for _ in range(2):
        added = stand.add_partition()
        stand.put(added, values(5, f"p{added}-"))
    watermarks, stumbled = source._broker.watermarks, []

    def stumbling(name: str, partition: int) -> tuple[int, int]:
        if partition == 3 and not stumbled:
            stumbled.append(partition)
            raise SourceAwayError("just now")
        return watermarks(name, partition)

    monkeypatch.setattr(source._broker, "watermarks", stumbling)
    assert sorted(by_partition(read(source, 10))) == ["2", "3"]
    assert stumbled
    source.close()
