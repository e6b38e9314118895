"""Dead letters: what was refused, with its original bytes and where it came from.

Headers are named as Kafka Connect names them. No cut passes a letter that is not acknowledged: ``flush`` returns
only when all are.
"""

import base64
import contextlib
import fcntl
import hashlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import orjson
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from snapshots.store import private_files
from snapshots.store.confined import make_folder
from snapshots.store.store import Store, claim, flush_directory
from stream.errors import GaveUpError
from stream.record import Record
from stream.refusal import Refusal
from stream.source import lines
from stream.source.kafka_client import Settings, client, producer, producer_settings

log = logging.getLogger("holdfast.dead_letter")
SUFFIX = ".dead-letter"
PREFIX = "__connect.errors."
_RETRY_SECONDS = 1.0
_WRITE_EVERY = 10_000
_LONGEST_HEADER = 10_000


class DeadLetters(Protocol):
    """Takes refused records; ``flush`` blocks until each is durable, saying so to ``waiting`` while it cannot."""

    def send(self, record: Record, refusal: Refusal) -> None:
        """Take a refused record."""

    def flush(self, waiting: Callable[[str], bool]) -> None:
        """Return when every letter taken is durable; ``waiting`` is told why not, and returns False to give up."""

    def close(self) -> None:
        """Let go of everything."""


def headers_of(record: Record, refusal: Refusal, lineage: str) -> list[tuple[str, bytes]]:
    """The reason and the origin of a refused record, as Kafka Connect names them."""
    fields = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "connector.name": lineage,
        "stage": "VALUE_CONVERTER",
        "exception.class.name": refusal.reason.value,
        "exception.message": f"{refusal.field}: {refusal.message}" if refusal.field else refusal.message,
    }
    return [(PREFIX + name, str(value).encode("utf-8", "replace")) for name, value in fields.items()]


class Told:
    """Passes letters on, counts them in ``refused`` by their reasons, and says the first of each reason in the log."""

    def __init__(self, letters: DeadLetters, refused: Counter[str]) -> None:
        self._letters, self._refused = letters, refused

    def send(self, record: Record, refusal: Refusal) -> None:
        """Take a refused record."""
        self._letters.send(record, refusal)
        reason = refusal.reason.value
        self._refused[reason] += 1
        if self._refused[reason] == 1:
            where = f"{refusal.field}: " if refusal.field else ""
            log.warning(
                "refused: %s, as %s:%s:%d: %s%s. Others of this reason are not said here: holdfast dead-letters list",
                reason, record.topic, record.partition, record.offset, where, refusal.message,
            )  # fmt: skip

    def flush(self, waiting: Callable[[str], bool]) -> None:
        """Return when every letter taken is durable."""
        self._letters.flush(waiting)

    def close(self) -> None:
        """Let go of everything."""
        self._letters.close()


class FileDeadLetters:
    """A directory beside the events: for each file of events one of dead letters, as JSON lines.

    Letters are collected and written by ``flush``; a million bad events between two cuts are written on the way.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.with_name(directory.name + SUFFIX)
        self._letters: dict[str, list[bytes]] = {}
        self._count = 0

    def send(self, record: Record, refusal: Refusal) -> None:
        """Take a letter; ``value_base64`` holds the exact bytes."""
        line = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "reason": refusal.reason.value,
            "field": refusal.field,
            "message": refusal.message,
            "value_base64": base64.b64encode(record.value or b"").decode(),
        }
        self._letters.setdefault(record.partition, []).append(orjson.dumps(line) + b"\n")
        self._count += 1
        if self._count % _WRITE_EVERY == 0:
            with contextlib.suppress(OSError):  # flush says so, and waits
                self._write()

    def _write(self) -> None:
        """Append what was collected, flushed to the disk, the directory's entries too; a torn last line is ended."""
        make_folder(self._directory)
        for partition in list(self._letters):
            path = self._directory / partition
            with open(path, "ab", buffering=0, opener=private_files.opener) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not lines.is_there(file):
                    break  # holdfast forget has put another in its place: flush comes again
                if lines.ends_torn(path):
                    lines.append(file, b"\n")
                lines.append(file, b"".join(self._letters[partition]))
            del self._letters[partition]
        for folder in (self._directory, self._directory.parent):
            flush_directory(folder)

    def flush(self, waiting: Callable[[str], bool]) -> None:
        """Write every letter taken; try again while the disk refuses."""
        while self._letters:
            try:
                self._write()
            except OSError as cause:
                if not waiting(
                    f"dead letters cannot be written to {cause.filename or self._directory}: {cause.strerror}"
                ):
                    raise GaveUpError("dead letters are not written") from cause
                time.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """Nothing is held open; what was not written comes again after the next start."""


# A letter has its event's own timestamp, so that a broker would delete one of an old event within minutes, by age.
_KEPT = {"retention.ms": "-1", "retention.bytes": str(1 << 30)}


class KafkaDeadLetters:
    """The topic ``<topic>.dead-letter``: original key, value, headers and timestamp, and why.

    A letter that the broker refuses for good (too large) goes to the store, and its digest and address to the topic.
    The topic is created when it is not there and the broker allows it; it keeps letters by size and not by age.
    """

    def __init__(self, settings: Settings, lineage: str, store: Store) -> None:
        self._lineage = lineage
        self._store = store
        self._settings = producer_settings(settings)
        self._producer = producer({"message.timeout.ms": 10_000, **settings}, log)
        self._open: set[int] = set()
        self._again: deque[tuple[Record, Refusal]] = deque()
        self._too_large: deque[tuple[Record, Refusal]] = deque()
        self._known: set[str] = set()
        self._trouble = ""
        self._number = 0

    def send(self, record: Record, refusal: Refusal) -> None:
        """Produce a letter; what becomes of it is found out by ``flush``."""
        topic = record.topic + SUFFIX
        if topic not in self._known:
            self._create(topic)
        self._produce(topic, record, refusal, [*(record.headers or []), *headers_of(record, refusal, self._lineage)])

    def _create(self, topic: str) -> None:
        """Create the topic unless it is there; a refusal shows when the letter is not taken."""
        try:
            admin = client(AdminClient, self._settings, log)
            for future in admin.create_topics([NewTopic(topic, config=_KEPT)], request_timeout=10).values():
                future.result()
        except KafkaException as cause:
            if cause.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                log.warning("topic %s could not be created: %s", topic, cause.args[0].str())
        self._known.add(topic)

    def _produce(self, topic: str, record: Record, refusal: Refusal, headers: list[Any]) -> None:
        """Produce once. The callback only notes what happened: librdkafka must not be called out of it."""
        self._number += 1
        number = self._number
        self._open.add(number)

        def done(error: KafkaError | None, _: Any) -> None:
            self._open.discard(number)
            if error is None:
                return
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._too_large.append((record, refusal))
            else:
                self._trouble = error.str()
                self._again.append((record, refusal))

        timestamp = {} if record.time is None else {"timestamp": round(record.time * 1000)}
        try:
            self._producer.produce(topic, record.value, record.key, headers=headers, on_delivery=done, **timestamp)
        except BufferError:
            self._open.discard(number)
            self._again.append((record, refusal))
            self._producer.poll(0.1)
        except KafkaException as cause:
            done(cause.args[0], None)
        self._producer.poll(0)

    def _store_large(self, record: Record, refusal: Refusal) -> None:
        """Keep a letter that is too large for the broker in the store, and send its digest and address."""
        value = record.value or b""
        digest = hashlib.sha256(value).hexdigest()
        name = f"dead-letters/{digest}"
        claim(self._store, name, value)
        headers = [*(record.headers or []), *headers_of(record, refusal, self._lineage)]
        short = [(key, content) for key, content in headers if len(content or b"") < _LONGEST_HEADER]
        address = [("holdfast.value.sha256", digest.encode()), ("holdfast.value.store", name.encode())]
        key = record.key
        if key is not None and len(key) >= _LONGEST_HEADER:
            long_key = f"dead-letters/{hashlib.sha256(key).hexdigest()}"
            claim(self._store, long_key, key)
            address.append(("holdfast.key.store", long_key.encode()))
            key = None
        slim = Record(record.topic, record.partition, record.offset, record.following, None, record.time, key)
        self._produce(record.topic + SUFFIX, slim, refusal, [*short, *address])

    def flush(self, waiting: Callable[[str], bool]) -> None:
        """Wait until every letter is acknowledged; produce again those that were not."""
        while self._open or self._again or self._too_large:
            while self._too_large:
                self._store_large(*self._too_large.popleft())
            again, self._again = self._again, deque()
            for record, refusal in again:
                self._known.discard(record.topic + SUFFIX)
                self.send(record, refusal)
            self._producer.flush(_RETRY_SECONDS)
            left = len(self._open) + len(self._again) + len(self._too_large)
            if left and not waiting(f"{left} dead letters are not acknowledged: {self._trouble or 'no answer'}"):
                raise GaveUpError(f"{left} dead letters are not acknowledged")

    def close(self) -> None:
        """Let go of the producer; what was not acknowledged is sent again after the next start."""
        self._producer.purge()
        self._producer.flush(1)
