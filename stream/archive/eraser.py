"""``holdfast forget``: events that somebody has a right to have deleted, out of archive, holdout and dead letters.

The ledger says so first, by a salted hash only; trainer and archiver follow it. What cannot be taken out (snapshots,
baselines, the topics themselves) is told, with what ends it.
"""

import base64
import fcntl
import logging
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from learners.event import Features
from snapshots import Lineage
from snapshots.decisions import erasure, trusted
from snapshots.decisions.erasure import BY_ID, Erased, erasures
from snapshots.decisions.ledger import Decision, Entry
from snapshots.records import baselines
from snapshots.records import cut as snapshots
from snapshots.records.held_rows import read_version, rows_of
from snapshots.records.membership import Membership
from snapshots.records.place import Place
from snapshots.store import private_files
from snapshots.store.store import flush_directory
from stream.archive import logged_predictions, rewriting
from stream.archive.files import IMPORTED, Archive, File, Part, Row
from stream.dead_letters.reader import files_of
from stream.dead_letters.writer import SUFFIX
from stream.errors import CommandError
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import Config
from stream.source import lines
from stream.source.codec import Codec
from stream.source.kafka_client import client, producer, producer_settings

log = logging.getLogger("holdfast.forget")
_WAIT_SECONDS = 10.0
#: how long nothing may come from a broker
_PATIENCE_SECONDS = 60.0
_EXACT = 2.0**53
#: what a dead letter in the store is called
_LETTER = re.compile(rb"dead-letters/[0-9a-f]{64}")


class Report(msgspec.Struct):
    """What was taken out, and what still holds it."""

    entry: int
    asked_retrain: int | None
    archived: int
    held_out: int
    dead_letters: int
    predictions: int
    ranges: dict[str, dict[str, list[tuple[int, int]]]]
    imported: dict[str, int]
    snapshots: list[int]
    pinned: list[int]
    baselines: list[int]


def meant(codec: Codec, erased: Erased) -> Callable[[Part, Row], bool]:
    """Tell of archived events whether they are to be erased."""

    def is_meant(part: Part, row: Row) -> bool:
        record = Record(part.topic, part.partition, row.offset, row.following, row.value, row.time)
        event = codec.decode(record)
        features = Features(b"{}") if isinstance(event, Refusal) else event.features
        return erased.event(row.id, features, row.time)

    return is_meant


class Erasing:
    """One request. ``say`` is told the step and how far it is; ``wait`` is a lease's patience in Unix seconds."""

    def __init__(
        self,
        config: Config,
        *,
        lineage: Lineage,
        archive: Archive,
        codec: Codec,
        membership: Membership,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        say: Callable[[str, float, float], None],
    ) -> None:
        self.config, self.lineage, self.archive, self.codec = config, lineage, archive, codec
        self.membership, self.now, self.sleep, self.say = membership, now, sleep, say

    def run(self, values: Sequence[str], by: str, operator: str, why: str) -> Report:
        """Decide, erase, and look for what is left; a run that was cut off is simply run again."""
        decision = erasure.decide(by, list(self._digests(values, by)), operator, why)
        entry = self.lineage.ledger.append(self.now(), lambda _: decision)
        erased = Erased(self.membership, erasures([entry]))
        ranges: dict[str, dict[str, list[tuple[int, int]]]] = {}
        imported: dict[str, int] = defaultdict(int)
        times: list[float] = []
        features: set[bytes] = set()
        archived = 0
        for file, rows in self._archived(erased):
            archived += len(rows)
            times += [row.time for row in rows]
            features.update(self._features(file.part, row) for row in rows)
            if file.part.topic == IMPORTED:
                imported[file.part.partition] += len(rows)
            else:
                found = ranges.setdefault(file.part.topic, {}).setdefault(file.part.partition, [])
                found += spans((row.offset, row.following) for row in rows)
        self.say("training data", 0, 1)
        shutil.rmtree(self.config.base / self.config.retrain.work, ignore_errors=True)
        self._samples(erased, features)
        trusted.erase(self.lineage.store, erased.row)
        letters = self._dead_letters([*values], by)
        logged = self._logged(erased)
        asked = self._ask_retrain(entry, archived)
        holding = holders(self.lineage.refresh(), ranges)
        return Report(
            entry.seq, asked, archived, held(self.lineage, erased), letters, logged, ranges, dict(imported), holding,
            sorted(self.lineage.decided.pinned.intersection(holding)), taught(self.lineage, times),
        )  # fmt: skip

    def _digests(self, values: Sequence[str], by: str) -> Iterator[bytes]:
        for value in values:
            if not value:
                raise CommandError("an empty id, or value, names nobody; nothing was changed")
            if by == BY_ID:
                yield self.membership.digest(value)
                continue
            yield erasure.value_digest(self.membership, by, value)
            if value.lower() in ("true", "false"):
                yield erasure.value_digest(self.membership, by, value.lower() == "true")
            number = _number(value)
            if number is not None and abs(number) > _EXACT:
                raise CommandError(
                    f"{value} is beyond 2^53, where numbers are rounded, so others would be erased with it; nothing "
                    "was changed. Forget its events by their ids"
                )
            if number is not None:
                yield erasure.value_digest(self.membership, by, number)

    def _archived(self, erased: Erased) -> Iterator[tuple[File, list[Row]]]:
        with self._alone():
            yield from rewriting.erase(self.archive, self.archive.files(), meant(self.codec, erased), self.now(),
                lambda done, whole: self.say("archive", done, whole),
            )  # fmt: skip
            rewriting.sweep(self.archive, self.now(), 0.0)  # what was put together lately may hold it still

    def _alone(self) -> Any:
        """Hold the archive's lease; wait while the archiver puts files together."""
        lease = rewriting.lease_of(self.lineage.store, self.now)
        until = self.now() + rewriting.LEASE_SECONDS + _WAIT_SECONDS
        while lease.holder() is not None and self.now() < until:
            self.say("waiting for the archiver", 0, 1)
            self.sleep(0.5)
        return lease.held()

    def _features(self, part: Part, row: Row) -> bytes:
        event = self.codec.decode(Record(part.topic, part.partition, row.offset, row.following, row.value, row.time))
        return b"" if isinstance(event, Refusal) else event.features.raw

    def _samples(self, erased: Erased, features: set[bytes]) -> None:
        """Delete what baselines keep of rows, where one is meant: the sample that tells drift, a holdout of their own.

        Until the next retrain nothing is told of drift then.
        """
        store = self.lineage.store
        for name in store.names("baselines/"):
            what = name.split("/")[-1].split("-")[0]
            data = store.get(name) if what in ("sample", "holdout") else None
            if data is None:
                continue
            if what == "holdout":
                meant_ = any(erased.row(row) for row in rows_of(data, name))
            else:
                meant_ = not features.isdisjoint(msgspec.msgpack.decode(data, type=list[bytes]))
            if meant_:
                store.delete(name)
                log.warning("%s is deleted: it held what is erased", name)

    def _ask_retrain(self, entry: Entry, archived: int) -> int | None:
        """Ask for a full retrain when the baseline may have learnt what is gone."""
        if not archived or self.lineage.decided.baseline is None:
            return None
        why = f"{archived} events were erased (ledger entry {entry.seq}), and the baseline learnt them"
        asked = Decision("retrain", entry.by, why, cause="forget")
        return self.lineage.ledger.append(self.now(), lambda _: asked).seq

    def _logged(self, erased: Erased) -> int:
        """Take out of the files of predictions, and of the spool, what is meant; topics keep theirs."""
        settings, newest = self.config.predictions, self.lineage.newest()
        files = list((self.config.base / settings.directory).glob("*.jsonl")) if settings.directory else []
        files += (self.config.base / settings.spool).glob("*.jsonl") if settings.topic else []
        read = newest.place.get(Path(settings.directory).name, {}) if newest is not None else {}
        return sum(logged_predictions.erase(path, self.codec, erased, read.get(path.name, 0)) for path in files)

    # Dead letters ------------------------------------------------------------------------------------------------

    def _dead_letters(self, values: list[str], by: str) -> int:
        """Take out what names them: the id (or feature) of a letter that can be read, or the value in its bytes."""
        path = self.config.event.id if by == BY_ID else f"{self.config.event.features}.{by}"
        if self.config.event.features == "." and by != BY_ID:
            path = by
        wanted = Named(path, values, numbers=by != BY_ID)
        if self.config.source.kind == "files":
            folder = self.config.base / self.config.source.directory
            return sum(self._letters_of(one, wanted) for one in files_of(folder))
        try:
            return sum(self._letters_on(topic + SUFFIX, wanted) for topic in self.config.source.topics)
        except KafkaException as cause:
            raise CommandError(
                f"archive and holdout are done, the dead letters are not: {cause}. Run this again when the broker is "
                "back"
            ) from cause

    def _letters_of(self, path: Path, wanted: "Named") -> int:
        """Rewrite a file of letters beside itself; the trainer, which appends to it, waits for the lock."""
        with path.open("rb") as old:
            fcntl.flock(old, fcntl.LOCK_EX)
            letters = old.read().splitlines(keepends=True)
            left = [line for line in letters if not wanted.means(_value_of(line))]
            if len(left) < len(letters):
                hidden = path.with_name(f".{path.name}")
                hidden.unlink(missing_ok=True)
                with open(hidden, "wb", buffering=0, opener=private_files.opener) as file:
                    lines.append(file, b"".join(left))
                hidden.rename(path)
                flush_directory(path.parent)
        return len(letters) - len(left)

    def _letters_on(self, topic: str, wanted: "Named") -> int:
        """Kafka deletes only from the beginning: what stays is written again behind the end, then all before goes.

        Cut off in between, letters are there twice, with the same origin in their headers, as after a crash.
        """
        settings = self.config.source.kafka
        consumer = client(Consumer, {**settings, "group.id": f"{self.config.name}-forget", "enable.auto.commit": False,
                                     "enable.partition.eof": True, "auto.offset.reset": "earliest"}, log)  # fmt: skip
        try:
            known = consumer.list_topics(topic, timeout=10).topics[topic]
            return sum(self._letters_in(consumer, topic, partition, wanted) for partition in sorted(known.partitions))
        finally:
            consumer.close()

    def _letters_in(self, consumer: Any, topic: str, partition: int, wanted: "Named") -> int:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        gone = sum(self._is_meant(one, wanted) for one in self._read(consumer, topic, partition, low, high))
        if not gone:
            return 0
        writer = producer(self.config.source.kafka, log)
        failed: list[str] = []
        for one in self._read(consumer, topic, partition, low, high):
            if self._is_meant(one, wanted):
                for key, value in one.headers() or []:
                    if key in ("holdfast.value.store", "holdfast.key.store") and (name := _address(value)):
                        self.lineage.store.delete(name)
                continue
            while True:
                try:
                    writer.produce(
                        topic, one.value(), one.key(), partition, headers=one.headers(),
                        timestamp=max(0, one.timestamp()[1]),
                        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
                    )  # fmt: skip
                    break
                except BufferError:  # many are on their way
                    writer.poll(0.5)
            writer.poll(0)
        if writer.flush(60) or failed:
            raise CommandError(
                f"{topic}: dead letters could not be written again ({failed[0] if failed else 'no answer'}), so none "
                "was deleted; archive and holdout are done. Run this again"
            )
        admin = client(AdminClient, producer_settings(self.config.source.kafka), log)
        for future in admin.delete_records([TopicPartition(topic, partition, high)]).values():
            future.result(30)
        return gone

    def _read(self, consumer: Any, topic: str, partition: int, low: int, high: int) -> Iterator[Any]:
        consumer.assign([TopicPartition(topic, partition, low)])
        until = self.now() + _PATIENCE_SECONDS
        while low < high:
            if self.now() > until:
                raise CommandError(
                    f"{topic}[{partition}] cannot be read beyond offset {low}; no dead letter was deleted there, "
                    "archive and holdout are done. Run this again when the broker is back"
                )
            for message in consumer.consume(1000, 1.0):
                until = self.now() + _PATIENCE_SECONDS
                if message.error() is not None:
                    if message.offset() is not None and message.offset() >= high:
                        low = high
                    continue
                low = message.offset() + 1
                if low <= high:
                    yield message
            self.say("dead letters", min(low, high), high)
        consumer.unassign()

    def _is_meant(self, message: Any, wanted: "Named") -> bool:
        value = message.value()
        for key, address in message.headers() or []:
            if key == "holdfast.value.store" and (name := _address(address)):
                value = self.lineage.store.get(name) or b""
        return wanted.means(value or b"") or any(message.key() == one.encode() for one in wanted.values)


def _address(header: bytes | None) -> str | None:
    """The name of a letter in the store that a header gives.

    None for any other name: whoever may write the topic could name a snapshot.
    """
    return header.decode() if header is not None and _LETTER.fullmatch(header) else None


class Named:
    """Tells of bytes that are no valid event whether they name one of some values at a path.

    ``numbers``: 7 and 7.0 are the same, as they are for features; ids are texts.
    """

    def __init__(self, path: str, values: list[str], *, numbers: bool = False) -> None:
        self._path, self.values, self._numbers = path.split("."), values, numbers
        field = re.escape(orjson.dumps(self._path[-1]))
        ways = (orjson.dumps(one) for one in values)
        self._torn = [re.compile(re.escape(one) + rb"|" + field + rb"\s*:\s*" + re.escape(one[1:-1]) + rb"(?![\w.-])")
                      for one in ways]  # fmt: skip

    def means(self, data: bytes) -> bool:
        """By the field, when it is JSON that has it; else by the value in quotes, or after the field's name."""
        try:
            found: Any = orjson.loads(data)
            for step in self._path:
                found = found[step]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return any(one.search(data) for one in self._torn)
        if any(str(found) == one for one in self.values):
            return True
        return self._numbers and any(_number(found) == _number(one) is not None for one in self.values)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _value_of(line: bytes) -> bytes:
    try:
        return base64.b64decode(orjson.loads(line)["value_base64"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return line


def spans(offsets: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of offsets (``to`` exclusive) that touch, put together."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(offsets):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def holders(lineage: Lineage, ranges: dict[str, dict[str, list[tuple[int, int]]]]) -> list[int]:
    """The snapshots whose place is past one of the events: their models, or their holdouts, may hold it."""

    def past(place: Place) -> bool:
        return any(
            place.get(topic, {}).get(partition, 0) > spans_[0][0]
            for topic, partitions in ranges.items() for partition, spans_ in partitions.items() if spans_
        )  # fmt: skip

    return [n for n in lineage.numbers if (found := lineage.manifest(n)) is not None and past(found.place)]


def held(lineage: Lineage, erased: Erased) -> int:
    """How many different rows of the newest snapshot's holdout, sealed or collected, are meant."""
    newest = lineage.newest()
    if newest is None:
        return 0
    rows = snapshots.collected(lineage.store, newest)
    rows += [row for one in newest.holdout.versions for row in read_version(lineage.store, one)]
    return len({(row.topic, row.partition, row.offset) for row in rows if erased.row(row)})


def taught(lineage: Lineage, times: Sequence[float]) -> list[int]:
    """The baselines whose training data spans the time of one of the events."""
    manifests = (baselines.read(lineage.store, number) for number in baselines.numbers(lineage.store))
    return [one.number for one in manifests if one and any(one.first_time <= t <= one.last_time for t in times)]
