"""The log of predictions: every answered request with its features and its answer, kept until labels come.

The request path appends to a queue in memory and goes on; a thread writes it. With Kafka a broker that is away makes it
write to a bounded spool on local disk, which is sent when the broker is back. Only what neither takes is left out, and
counted.
"""

import logging
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from stream.settings import Config
from stream.sink.kafka_log import KafkaLog, LogCounts
from stream.sink.own_file import OwnFile

log = logging.getLogger("holdfast.predictions")
_EVERY_SECONDS, _PATIENCE_SECONDS = 0.02, 5.0
_MOST_RECORDS, _MOST_BYTES = 100_000, 256 * 1024 * 1024
_SAY_SECONDS = 60.0


class LogSink(Protocol):
    """Where records go; :class:`OSError` says that they are to be given again."""

    def write(self, records: list[tuple[str, bytes]]) -> None:
        """Take records, each with its id."""

    def idle(self) -> None:
        """Do what has to be done now and then."""

    def close(self) -> None:
        """Keep what is still on its way."""


class PredictionLog:
    """Takes answers without waiting for anybody; times are in Unix seconds."""

    def __init__(self, config: Config) -> None:
        self.counts = LogCounts()
        self._share = config.predictions.share
        self._waiting: deque[tuple[float, bytes, Mapping[str, Any], Mapping[str, Any]]] = deque()
        self._put_bytes = self._taken_bytes = 0
        self._left_out = 0
        self._said = 0.0
        self._config = config
        self._sink: LogSink | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(
        self, features: bytes, answer: Mapping[str, Any], when: float, more: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Keep an answer of ``when``, as it was given, its ``id`` included, and ``more``. Neither lock nor disk."""
        if self._share < 1.0 and zlib.crc32(str(answer["id"]).encode()) >= self._share * 2**32:
            return
        if len(self._waiting) >= _MOST_RECORDS or self._put_bytes - self._taken_bytes >= _MOST_BYTES:
            self._left_out += 1
            return
        self._put_bytes += len(features)
        self._waiting.append((when, features, answer, more))

    def _run(self) -> None:
        left: list[tuple[str, bytes]] = []
        while not self._stop.wait(_EVERY_SECONDS):
            left = self._write_all(left)
        until = time.monotonic() + _PATIENCE_SECONDS
        while (left := self._write_all(left)) and time.monotonic() < until:
            time.sleep(_EVERY_SECONDS)
        self.counts.leave_out("ended", len(left))
        if self._sink is not None:
            self._sink.close()

    def _write_all(self, left: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Write what waits; return what is to be written again."""
        try:
            if self._sink is None:
                self._sink = _sink_of(self._config, self.counts)
            records = left or self._taken()
            while records:
                self._sink.write(records)
                left, records = [], self._taken()
            self._sink.idle()
        except OSError as cause:
            self._say(f"predictions cannot be logged: {cause}; they wait in memory")
            left = records
        except Exception:
            log.exception("the log of predictions stumbled")
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self.counts.leave_out("queue_full", count)
            self._say(f"{count:,} predictions are left out of the log: it does not keep up")
        return left

    def _say(self, what: str) -> None:
        if time.monotonic() - self._said > _SAY_SECONDS:
            self._said = time.monotonic()
            log.error("%s", what)

    def _taken(self, most: int = 5000) -> list[tuple[str, bytes]]:
        """The oldest that wait, as bytes, with their ids."""
        found: list[tuple[str, bytes]] = []
        while self._waiting and len(found) < most:
            when, features, answer, more = self._waiting.popleft()
            self._taken_bytes += len(features)
            record = {"ts": when, **answer, "x": orjson.Fragment(features), **more}
            found.append((str(answer["id"]), orjson.dumps(record)))
        return found

    def close(self) -> None:
        """Write what waits, for a few seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * _PATIENCE_SECONDS)


def _sink_of(config: Config, counts: LogCounts) -> LogSink:
    settings = config.predictions
    if settings.directory:
        return FilesLog(config.base / settings.directory, counts)
    spool = config.base / settings.spool
    return KafkaLog(config.source.kafka, settings.topic, spool, settings.spool_megabytes * 1_000_000, counts)


class FilesLog:
    """Appends to a file of the directory that is this process's own."""

    def __init__(self, directory: Path, counts: LogCounts) -> None:
        self._file, self._counts = OwnFile(directory, "predictions"), counts

    def write(self, records: list[tuple[str, bytes]]) -> None:
        """Append and flush to the disk."""
        self._file.append(_lines(value for _, value in records))
        self._counts.logged += len(records)

    def idle(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Give the file free."""
        self._file.close()


def _lines(values: Iterable[bytes]) -> bytes:
    return b"".join(value.replace(b"\n", b" ") + b"\n" for value in values)


def new_id(now: float) -> str:
    """An id for a request that has none: a UUID of version 7, so that ids sort by time."""
    data = bytearray(int(now * 1000).to_bytes(6, "big") + os.urandom(10))
    data[6], data[8] = 0x70 | data[6] & 0x0F, 0x80 | data[8] & 0x3F
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
