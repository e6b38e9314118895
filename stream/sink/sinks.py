"""Where ``produce`` sends events: a topic, or a file of the directory of events."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from snapshots.store import private_files
from stream.errors import CommandError, SourceAwayError
from stream.settings import Config
from stream.source import lines
from stream.source.kafka_client import client, producer, producer_settings

log = logging.getLogger("holdfast.produce")


class Sink(Protocol):
    """Takes the bytes of events."""

    def send(self, value: bytes, key: str | None) -> None:
        """Take one event."""

    def close(self) -> int:
        """Wait until all are durable; return how many are."""


class KafkaSink:
    """Produces to a topic, idempotently, acknowledged by all replicas."""

    def __init__(self, config: Config, topic: str) -> None:
        settings = producer_settings(config.source.kafka)
        self._topic = topic
        self._producer = producer(config.source.kafka, log)
        self._done = 0
        self._failed: KafkaError | None = None
        self._create(settings)

    def _create(self, settings: dict[str, Any]) -> None:
        """Create the topic unless it is there; say at once when no broker answers."""
        admin = client(AdminClient, settings, log)
        try:
            for future in admin.create_topics([NewTopic(self._topic)], request_timeout=10).values():
                future.result()
        except KafkaException as cause:
            error = cause.args[0]
            if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):  # noqa: SLF001
                raise CommandError(
                    f"no answer from {settings.get('bootstrap.servers')}: {error.str()}. Is the broker running?"
                ) from None

    def _delivered(self, error: KafkaError | None, _: Any) -> None:
        if error is None:
            self._done += 1
        else:
            self._failed = error

    def send(self, value: bytes, key: str | None) -> None:
        """Produce, waiting while the queue is full."""
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        if self._failed is not None:
            raise CommandError(f"{self._topic} did not take an event: {self._failed.str()}")

    def close(self) -> int:
        """Flush; raise when some were not taken."""
        left = self._producer.flush(60)
        if left or self._failed is not None:
            reason = self._failed.str() if self._failed else "no answer within 60 s"
            raise CommandError(f"{self._topic} took {self._done} events and not {left} more: {reason}")
        return self._done


class FilesSink:
    """Appends to a file of the events' directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.jsonl"
        self._file: IO[bytes] | None = None
        self._done = 0

    def is_file(self, path: Path) -> bool:
        """Tell whether another name is that of the file that is appended to."""
        return path.exists() and self._path.exists() and path.samefile(self._path)

    def send(self, value: bytes, key: str | None) -> None:  # noqa: ARG002  a file has no keys
        """Append a line."""
        with self._writing():
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                torn = self._path.is_file() and lines.ends_torn(self._path)
                self._file = open(self._path, "ab", opener=private_files.opener)  # noqa: SIM115  kept open
                self._file.write(b"\n" * torn)
            self._file.write(value.replace(b"\n", b" ") + b"\n")
        self._done += 1

    def close(self) -> int:
        """Flush and fsync."""
        if self._file is not None:
            with self._writing():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
        return self._done

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Say what to do where the disk takes no more; the end of the file may be half a line, which nobody reads."""
        try:
            yield
        except OSError as cause:
            raise SourceAwayError(
                f"{self._path} cannot be written: {cause.strerror}. About {self._done:,} events are in it; mend that "
                "and send the table again: those that were sent have their ids, and count once"
            ) from cause


def sink_of(config: Config, topic: str | None, path: Path) -> Sink:
    """Where events of this configuration go."""
    if config.source.kind == "files":
        if topic is not None:
            raise CommandError('--topic needs source.kind = "kafka"; with files the directory is the topic')
        directory = config.base / config.source.directory
        if path.exists() and path.resolve().parent == directory.resolve():
            raise CommandError(
                f"{path} lies in the directory of events already, so it is read as it is; nothing was sent"
            )
        sink = FilesSink(directory, path.name.split(".")[0])
        if sink.is_file(path):
            raise CommandError(f"{path} is the very file that its events would be appended to; nothing was sent")
        return sink
    return KafkaSink(config, topic or config.source.topics[0])
