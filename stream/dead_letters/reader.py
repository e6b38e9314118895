"""Reading dead letters back: from the directory beside the events, or from the topics ``<topic>.dead-letter``.

A letter is known by its origin, topic, partition and offset: after a crash it may lie there twice, and is given once.
"""

import base64
import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from snapshots.errors import SnapshotsError
from snapshots.store.numbers import whole_in
from snapshots.store.store import Store
from stream.dead_letters.writer import PREFIX, SUFFIX
from stream.errors import CommandError, StreamError
from stream.settings import Config
from stream.source.kafka_client import client

log = logging.getLogger("holdfast.dead_letter")
#: what a letter that was too large for the broker is called in the store
ADDRESS = re.compile(r"dead-letters/[0-9a-f]{64}")
_PATIENCE_SECONDS = 30.0
_METADATA_SECONDS = 10.0
#: how long a broker may take to give examples, and among how many letters they are looked for
_EXAMPLES_SECONDS, _EXAMPLES = 3.0, 1000
#: a letter in a file is about so long
_USUAL_BYTES = 1000
Header = tuple[str, bytes | None]


class Letter(msgspec.Struct, frozen=True):
    """What was refused, where it was read, and why. ``time`` is that of its record in Unix seconds, or None."""

    topic: str
    partition: str
    offset: int
    reason: str
    message: str
    value: bytes | None
    key: bytes | None = None
    headers: list[Header] = []
    time: float | None = None

    @property
    def id(self) -> str:
        """How commands name it: ``TOPIC:PARTITION:OFFSET``."""
        return f"{self.topic}:{self.partition}:{self.offset}"


class _Line(msgspec.Struct):
    topic: str
    partition: str
    offset: int
    reason: str
    message: str
    value_base64: str
    field: str | None = None


_line = msgspec.json.Decoder(_Line)


def examples_of(config: Config, store: Store) -> dict[str, dict[str, Any]]:
    """The newest dead letter of each reason; none when they cannot be read just now."""
    found = {}
    with contextlib.suppress(StreamError, SnapshotsError):
        for letter in letters_of(config, store, seconds=_EXAMPLES_SECONDS, newest=_EXAMPLES):
            found[letter.reason] = {"letter": letter.id, "message": letter.message}
    return found


def letters_of(
    config: Config, store: Store, *, seconds: float = _PATIENCE_SECONDS, newest: int | None = None
) -> Iterator[Letter]:
    """Every letter, each once, in the order of its partition; with ``newest`` only about so many of each partition.

    Raises :class:`CommandError` when nothing comes for so many ``seconds``.
    """
    seen: set[tuple[str, str, int]] = set()
    found = (
        _from_files(config, newest) if config.source.kind == "files" else _from_kafka(config, store, seconds, newest)
    )
    for letter in found:
        origin = (letter.topic, letter.partition, letter.offset)
        if origin not in seen:
            seen.add(origin)
            yield letter


def _from_files(config: Config, newest: int | None) -> Iterator[Letter]:
    for path in files_of(config.base / config.source.directory):
        yield from _in_file(path, newest)


def files_of(events: Path) -> list[Path]:
    """The files of letters beside a directory of events; hidden ones, pipes and folders are none."""
    found = sorted(events.with_name(events.name + SUFFIX).glob("*"))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def _in_file(path: Path, newest: int | None) -> Iterator[Letter]:
    """The letters of a file; a line that a crash tore is none, and comes again whole."""
    try:
        with path.open("rb") as file:
            if newest is not None:  # from the middle of a line on, perhaps, which is no letter
                file.seek(max(0, file.seek(0, os.SEEK_END) - newest * _USUAL_BYTES))
            for line in file:
                try:
                    one = _line.decode(line)
                    value = base64.b64decode(one.value_base64, validate=True)
                except (msgspec.DecodeError, ValueError):
                    continue
                said = f"{one.field}: {one.message}" if one.field else one.message
                yield Letter(one.topic, one.partition, one.offset, one.reason, said, value)
    except OSError as cause:
        raise CommandError(f"{path} cannot be read: {cause.strerror}") from cause


def _from_kafka(config: Config, store: Store, seconds: float, newest: int | None) -> Iterator[Letter]:
    consumer = reader(config, "dead-letters")
    try:
        for topic in config.source.topics:
            for partition in partitions_of(consumer, topic + SUFFIX, seconds):
                low, high = consumer.get_watermark_offsets(
                    TopicPartition(topic + SUFFIX, partition), timeout=min(seconds, _METADATA_SECONDS)
                )
                low = low if newest is None else max(low, high - newest)
                for message in between(consumer, topic + SUFFIX, partition, low, high, seconds):
                    letter = _of_message(message, store)
                    if letter is not None:
                        yield letter
    except KafkaException as cause:
        raise CommandError(f"the dead letters cannot be read: {cause.args[0].str()}. Is the broker running?") from cause
    finally:
        consumer.close()


def reader(config: Config, what: str) -> Any:
    """A consumer that commits nothing and belongs to no group of the trainer's; ``what`` it is for is in its name."""
    settings = {key: value for key, value in config.source.kafka.items() if key != "group.protocol"}
    return client(
        Consumer,
        {
            "log_level": 2, **settings, "group.id": f"{config.name}-{what}", "enable.auto.commit": False,
            "enable.partition.eof": True, "auto.offset.reset": "earliest", "isolation.level": "read_committed",
        }, log,
    )  # fmt: skip


def partitions_of(consumer: Any, topic: str, seconds: float = _METADATA_SECONDS) -> list[int]:
    """The partitions of a topic; none when it is not there."""
    found = consumer.list_topics(topic, timeout=min(seconds, _METADATA_SECONDS)).topics[topic]
    if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def between(
    consumer: Any, topic: str, partition: int, low: int, high: int, seconds: float = _PATIENCE_SECONDS
) -> Iterator[Any]:
    """The messages of a partition from offset ``low`` to before ``high``."""
    if low >= high:
        return
    consumer.assign([TopicPartition(topic, partition, low)])
    until = time.monotonic() + seconds
    while low < high:
        if time.monotonic() > until:
            raise CommandError(f"{topic}[{partition}] gives nothing beyond offset {low}; try again")
        for message in consumer.consume(500, min(1.0, seconds)):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's name
                raise KafkaException(error)
            until = time.monotonic() + seconds
            low = message.offset() + (error is None)
            if error is not None:
                low = high
            elif low <= high:
                yield message
    consumer.unassign()


def _of_message(message: Any, store: Store) -> Letter | None:
    """A letter out of a message; None for one that holds no letter of ours."""
    headers = list(message.headers() or [])
    said = {name: value for name, value in headers if value is not None}  # the last of a name is ours

    def header(name: str) -> str:
        return bytes(said.get(PREFIX + name, b"")).decode("utf-8", "replace")

    offset = whole_in(header("offset"))
    if not header("topic") or offset is None:
        return None
    _, milliseconds = message.timestamp()
    return Letter(
        header("topic"), header("partition"), offset, header("exception.class.name"),
        header("exception.message"),
        _kept(store, said, "holdfast.value.store", message.value()),
        _kept(store, said, "holdfast.key.store", message.key()),
        [(name, value) for name, value in headers if not name.startswith((PREFIX, "holdfast."))],
        milliseconds / 1000 if milliseconds > 0 else None,
    )  # fmt: skip


def _kept(store: Store, said: dict[str, bytes], name: str, value: bytes | None) -> bytes | None:
    """What stands in the store when the broker did not take it; only under a name that is its digest."""
    address = said.get(name, b"").decode("ascii", "replace")
    if not ADDRESS.fullmatch(address):
        return value
    found = store.get(address)
    if found is None or f"dead-letters/{hashlib.sha256(found).hexdigest()}" != address:
        raise CommandError(f"{address} is gone from the store, or is not what its name says; its letter is unreadable")
    return found
