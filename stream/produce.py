"""``holdfast produce``: sends JSON lines as they are, and makes events of CSV and Parquet."""

import csv
import gzip
import io
import logging
import math
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import orjson
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from learners.extras import install
from learners.labels import canonical
from stream.config import Config
from stream.dead_letter import producer_settings
from stream.errors import CommandError
from stream.kafka import client
from stream.payments import payment

log = logging.getLogger("holdfast.produce")

csv.field_size_limit(16 * 2**20)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,15}")


class Columns(msgspec.Struct, frozen=True):
    """Which columns of a table are what; ``features`` None means all the others.

    ``name`` stands for the file's in the ids of rows that have none.
    """

    label: str | None = None
    positive: str | None = None
    id: str | None = None
    time: str | None = None
    features: list[str] | None = None
    name: str = ""


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
        self._producer = client(
            Producer,
            {
                "linger.ms": 5,
                "message.max.bytes": 10_000_000,
                "log_level": 2,
                **settings,
                "acks": "all",
                "enable.idempotence": True,
            },
            log,
        )
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

    def send(self, value: bytes, key: str | None) -> None:  # noqa: ARG002  a file has no keys
        """Append a line."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
        self._file.write(value.replace(b"\n", b" ") + b"\n")
        self._done += 1

    def close(self) -> int:
        """Flush and fsync."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._done


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
        return FilesSink(directory, path.name.split(".")[0])
    return KafkaSink(config, topic or config.source.topics[0])


def produce(
    config: Config,
    path: Path,
    sink: Sink,
    columns: Columns,
    *,
    rate: float | None = None,
    progress: Callable[[int, int], None] = lambda _events, _bytes: None,
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Send every event of a file; ``rate`` in events a second. Returns how many were sent.

    ``progress`` is told how many events were sent and how many bytes of the file were read.
    """
    began = time.monotonic()
    sent = 0
    for value, key in keyed_events_of(config, path, columns, progress, often=rate is not None):
        if stopping():
            break
        sink.send(value, key)
        sent += 1
        if rate is not None and (ahead := sent / rate - (time.monotonic() - began)) > 0.005:
            time.sleep(ahead)
    return sent


def events_of(
    config: Config, path: Path, columns: Columns, progress: Callable[[int, int], None] = lambda _events, _bytes: None
) -> Iterator[bytes]:
    """The events of a file, as they are sent."""
    return (value for value, _ in keyed_events_of(config, path, columns, progress))


def keyed_events_of(
    config: Config, path: Path, columns: Columns, progress: Callable[[int, int], None], *, often: bool = False
) -> Iterator[tuple[bytes, str | None]]:
    """The events of a file with their keys; ``progress`` is told how many, and how many bytes of the file were read."""
    if columns.positive is not None and columns.label is None:
        raise CommandError("--positive says which value of a label means yes: name the label's column with --label")
    sent = 0
    try:
        with path.open("rb") as file:
            for found in _events(config, path, file, columns):
                yield found
                sent += 1
                if sent % 500 == 0 or often:
                    progress(sent, file.tell())
    except (UnicodeDecodeError, csv.Error, EOFError, OSError, zlib.error) as cause:
        raise CommandError(f"{path} cannot be read after event {sent}: {cause}") from cause
    progress(sent, path.stat().st_size)


def produce_demo(
    sink: Sink, rate: float, *, now: Callable[[], float], stopping: Callable[[], bool] = lambda: False
) -> int:
    """Send the demo's payments at a rate (events a second) until asked to stop; return how many were sent.

    Numbers begin at the present millisecond, so that ids are not sent again when this is started again.
    """
    first, began, sent = int(now() * 1000), time.monotonic(), 0
    while not stopping():
        sink.send(orjson.dumps(payment(first + sent, now())), None)
        sent += 1
        time.sleep(max(0.0, sent / rate - (time.monotonic() - began)))
    return sent


def _events(config: Config, path: Path, file: IO[bytes], columns: Columns) -> Iterator[tuple[bytes, str | None]]:
    names = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = names[-1] if names else ""
    plain: IO[bytes] = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file  # type: ignore[assignment]
    if kind in (".jsonl", ".json", ".ndjson"):
        for line in plain:
            if line.strip():
                yield line.rstrip(b"\r\n"), None
        return
    if kind == ".csv":
        rows: Iterator[dict[str, Any]] = _csv_rows(path, plain, columns)
    elif kind == ".parquet":
        rows = _parquet_rows(path, plain)
    else:
        raise CommandError(f"{path}: a file ends in .jsonl, .csv or .parquet (and .gz)")
    for number, row in enumerate(rows, 1):
        yield event_of(config, row, columns, f"{columns.name or path.name}:{number}")


def _csv_rows(path: Path, plain: IO[bytes], columns: Columns) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.TextIOWrapper(plain, "utf-8-sig", newline=""))
    _check_columns(path, list(reader.fieldnames or []), columns)
    for row in reader:
        if None in row or None in row.values():
            raise CommandError(f"{path}: line {reader.line_num} has another number of values than there are columns")
        yield {name: _value(text) for name, text in row.items()}


def _parquet_rows(path: Path, plain: IO[bytes]) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415  an optional extra
    except ImportError:
        raise CommandError(f"Parquet needs pyarrow: {install('parquet')}") from None
    source = io.BytesIO(plain.read()) if path.suffix == ".gz" else plain
    try:
        for batch in parquet.ParquetFile(source).iter_batches():
            for row in batch.to_pylist():
                yield {name: _plain(value) for name, value in row.items()}
    except ArrowException as cause:
        raise CommandError(f"{path} cannot be read: {cause}") from cause


def _check_columns(path: Path, have: list[str], columns: Columns) -> None:
    twice = {name for name in have if have.count(name) > 1}
    if twice:
        raise CommandError(f"{path} has the column {', '.join(sorted(twice))} twice")
    for name in (columns.label, columns.id, columns.time, *(columns.features or [])):
        if name is not None and name not in have:
            raise CommandError(f"{path} has no column {name!r}; it has {', '.join(have)}")


def _value(text: str | None) -> Any:
    """A number where the text is one; None where it is empty or not a number."""
    if text is None or text == "" or text.lower() == "nan":
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def event_of(config: Config, row: dict[str, Any], columns: Columns, identity: str) -> tuple[bytes, str]:
    """Make an event of a table's row, its fields at the configured paths."""
    event: dict[str, Any] = {}
    paths = config.event
    if columns.id is not None and row[columns.id] is not None:
        identity = str(row[columns.id])
    _put(event, paths.id, identity)
    if columns.time is not None and row[columns.time] is not None:
        _put(event, paths.time, row[columns.time])
    special = {columns.id, columns.time, columns.label}
    chosen = columns.features if columns.features is not None else [name for name in row if name not in special]
    features = {name: row[name] for name in chosen if row[name] is not None}
    if paths.features == ".":
        event |= features
    else:
        _put(event, paths.features, features)
    if columns.label is not None and row[columns.label] is not None:
        label = row[columns.label]
        _put(
            event,
            paths.label,
            label if columns.positive is None else int(canonical(label) == canonical(columns.positive)),
        )
    return orjson.dumps(event), identity


def _put(event: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    for folder in folders:
        event = event.setdefault(folder, {})
    event[name] = value
