"""Predictions to a topic; while the broker is away, to a bounded spool on local disk that is sent afterwards."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException

from stream.process.presence import Logged
from stream.sink.own_file import OwnFile
from stream.source import lines as files
from stream.source.kafka_client import Settings, producer

log = logging.getLogger("holdfast.predictions")
#: no acknowledgement for so long, while some are waited for: the broker is away
_AWAY_SECONDS = 1.0
_SAY_SECONDS = 60.0
_LOT = 2000
_FLUSH_SECONDS = 3.0
_NAME = "predictions"
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)  # noqa: SLF001  the names that the library gives them


class LogCounts(Logged):
    """What became of answers, counted as it happens."""

    def leave_out(self, reason: str, count: int) -> None:
        """Count what is lost."""
        self.left_out[reason] = self.left_out.get(reason, 0) + count


class KafkaLog:
    """An idempotent producer that waits for the broker as long as it takes, and a spool for what it cannot hold.

    Each record is sent once. Where the process is killed while it empties its spool, some of it may be sent again; the
    join counts those as duplicates.
    """

    def __init__(
        self, settings: Settings, topic: str, spool: Path, most_bytes: int, counts: LogCounts,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._topic, self._counts, self._elapsed, self._said = topic, counts, elapsed, -_SAY_SECONDS
        self._producer = producer({"linger.ms": 5, **settings}, log, message_timeout_ms=0)
        self._waiting = self._from_spool = self._sent = 0
        self._heard = elapsed()
        self._spool = Spool(spool, most_bytes)
        self._again: list[tuple[str, bytes]] = []
        self._counts.spooled = self._spool.records

    def write(self, records: list[tuple[str, bytes]]) -> None:
        """Send records, or spool them while the broker is away."""
        for number, (identity, value) in enumerate(records):
            if self._is_away() or not self._send(identity, value):
                self._keep(records[number:])
                return

    def _is_away(self) -> bool:
        return self._waiting > 0 and self._elapsed() - self._heard > _AWAY_SECONDS

    def _send(self, identity: str, value: bytes, *, spooled: bool = False) -> bool:
        """Give one to the library; False when its queue is full."""

        def delivered(error: KafkaError | None, message: Any) -> None:
            self._waiting -= 1
            self._from_spool -= spooled
            self._heard = self._elapsed()
            if error is None:
                self._counts.logged += 1
            elif error.code() not in _PURGED:
                self._refused(error.str())
            elif not spooled:
                self._again.append((identity, message.value()))

        if self._waiting == 0:
            self._heard = self._elapsed()
        try:
            self._producer.produce(self._topic, value, identity, on_delivery=delivered)
        except BufferError:
            return False
        except KafkaException as cause:
            self._refused(str(cause))
            return True
        self._waiting += 1
        self._from_spool += spooled
        return True

    def _refused(self, why: str) -> None:
        self._counts.leave_out("refused", 1)
        log.error("%s did not take a prediction: %s", self._topic, why)

    def _keep(self, records: list[tuple[str, bytes]]) -> None:
        """Put records into the spool, as many as there is room for."""
        kept = self._spool.append(records)
        self._counts.spooled = self._spool.records
        if kept < len(records):
            self._counts.leave_out("spool_full", len(records) - kept)
            if self._elapsed() - self._said > _SAY_SECONDS:
                self._said = self._elapsed()
                full = self._counts.left_out["spool_full"]
                log.error("the spool is full (predictions.spool_megabytes): %d predictions are in no log so far", full)

    def idle(self) -> None:
        """Hear what was delivered; once the broker is there, send what is in the spool, a lot after another."""
        self._producer.poll(0)
        if self._from_spool:
            return
        if self._sent:
            self._spool.remove(self._sent)
            self._sent = 0
        if self._spool.records and not self._is_away():
            for identity, value in self._spool.first(_LOT):
                if not self._send(identity, value, spooled=True):
                    break
                self._sent += 1
        self._counts.spooled = self._spool.records

    def close(self) -> None:
        """Wait a little; what is not delivered then goes into the spool, for the next process."""
        self._producer.flush(_FLUSH_SECONDS)
        self._producer.purge()
        self._producer.flush(_FLUSH_SECONDS)
        if self._again:
            self._keep(self._again)
        self._producer.poll(0)
        self._spool.close()


class Spool:
    """Lines on local disk, ``most_bytes`` of them in all processes' files together. First in, first out.

    A file that an ended process left is taken over.
    """

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self._directory, self._most = directory, most_bytes
        self._file = OwnFile(directory, _NAME)
        self._at, self._ends = 0, list[int]()
        path = Path(self._file.open().name)
        self._path = path
        for other in sorted(directory.glob(f"{_NAME}-*.jsonl")):
            if other != path and (file := files.taken(other)) is not None:
                with file, other.open("rb") as left:
                    if data := left.read():
                        self._file.append(data if data.endswith(b"\n") else data + b"\n")
                    other.unlink()
        self.records = sum(1 for _ in path.open("rb"))

    def append(self, records: list[tuple[str, bytes]]) -> int:
        """Keep records; return how many there was room for."""
        there = sum(one.stat().st_size for one in self._directory.glob(f"{_NAME}-*.jsonl"))
        lines, room = [], self._most - there
        for identity, value in records:
            line = orjson.dumps([identity, orjson.Fragment(value)]) + b"\n"
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        if lines:
            self._file.append(b"".join(lines))
        self.records += len(lines)
        return len(lines)

    def first(self, most: int) -> list[tuple[str, bytes]]:
        """The oldest records."""
        found: list[tuple[str, bytes]] = []
        self._ends = []
        with self._path.open("rb") as file:
            file.seek(self._at)
            while len(found) < most and (line := file.readline()):
                try:
                    identity, value = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # a crash tore it
                found.append((identity, orjson.dumps(value)))
                self._ends.append(file.tell())
        return found

    def remove(self, count: int) -> None:
        """The oldest so many are sent."""
        self._at = self._ends[count - 1]
        self.records -= count
        if self._at >= self._path.stat().st_size:
            os.truncate(self._path, 0)
            self._at = self.records = 0

    def close(self) -> None:
        """Leave what is left to the next process: what was sent is cut off."""
        if self._at:
            rest = self._path.read_bytes()[self._at :]
            fresh = self._path.with_suffix(".tmp")
            fresh.write_bytes(rest)
            fresh.replace(self._path)
        self._file.close()
