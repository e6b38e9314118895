"""Events over HTTP: ``POST /events`` and ``POST /labels?trusted``. Accepted only once durable where they are read.

The body is checked by the trainer's own codec; what it refuses is the caller's to mend and never becomes a dead letter.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException

from learners.event import Event
from learners.labels import Labels, LabelValue
from stream.errors import SourceAwayError, TooLargeError
from stream.record import Record
from stream.refusal import Reason, Refusal
from stream.sink.own_file import OwnFile
from stream.source.kafka_client import Settings, producer

log = logging.getLogger("holdfast.intake")
_TOGETHER = 1000
_MOST_WAITING = 10_000


class Sink(Protocol):
    """Where accepted events go; the future holds once the event is durable, or says why it is not."""

    def append(self, value: bytes, identity: str) -> "Future[dict[str, Any]]":
        """Take one event; the result names where it is."""

    def close(self) -> None:
        """Let go of everything."""


def _promise() -> "Future[dict[str, Any]]":
    """A future that a caller who stops waiting cannot cancel: what becomes of the event is found out all the same."""
    future: Future[dict[str, Any]] = Future()
    future.set_running_or_notify_cancel()
    return future


class Intake:
    """Checks an event and appends it. ``seconds`` is how long a caller waits for it to be durable.

    ``decode`` makes an event of a record, or says why it is refused; ``labelled``: one without a label is refused, too.
    ``stamp`` gives what is stored the time, where it has none; ``ahead``: so many seconds may it be ahead of the clock.
    """

    def __init__(
        self,
        decode: Callable[[Record], Event | Refusal],
        labels: Labels,
        sink: Callable[[], Sink],
        seconds: float,
        now: Callable[[], float],
        *,
        labelled: bool = False,
        stamp: Callable[[bytes], bytes] | None = None,
        ahead: float | None = None,
    ) -> None:
        self._stamp, self._ahead = stamp, ahead
        self._labelled, self._decode = labelled, decode
        self._labels, self._make, self._now = labels, sink, now
        self._known: Sequence[LabelValue] = []
        self.seconds = seconds
        self._sink: Sink | None = None

    def know(self, labels: Sequence[LabelValue]) -> None:
        """Number classes as the stream has them, so that one too many is refused here as it would be there."""
        if labels != self._known:
            self._known = list(labels)
            self._labels.restore(self._known)

    def look(self, body: bytes) -> Refusal | None:
        """Return why an event is refused, or None."""
        found = self._found(body)
        return found if isinstance(found, Refusal) else None

    def take(self, body: bytes) -> Refusal | Future[dict[str, Any]]:
        """Return why the event is refused, or what tells when it is durable."""
        event = self._found(body)
        if isinstance(event, Refusal):
            return event
        if self._sink is None:
            self._sink = self._make()
        return self._sink.append(self._stamp(body) if self._stamp is not None else body, event.id)

    def _found(self, body: bytes) -> Event | Refusal:
        event = self._decode(Record("http", "0", 0, 0, body, self._now()))
        if isinstance(event, Event) and self._labelled and event.label is None:
            return Refusal(Reason.UNKNOWN_LABEL, "event.label", "there is no label, which is what was checked")
        if isinstance(event, Event) and self._ahead is not None and event.time > self._now() + self._ahead:
            why = (
                f"its time is {event.time - self._now():.0f} s ahead of the clock here, and would pull the stream ahead"
            )
            return Refusal(Reason.BAD_TIME, "event.time", why)
        return event

    def close(self) -> None:
        """Let go of the sink."""
        if self._sink is not None:
            self._sink.close()


class KafkaIntake:
    """Produces to the first topic of the source, acknowledged by all replicas in sync."""

    def __init__(self, settings: Settings, topic: str, seconds: float) -> None:
        self._topic = topic
        self._producer = producer({"linger.ms": 2, **settings}, log, message_timeout_ms=round(seconds * 1000))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="intake", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.1)

    def append(self, value: bytes, identity: str) -> "Future[dict[str, Any]]":
        """Produce, keyed by the id."""
        future = _promise()

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is None:
                where = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
                future.set_result(where)
            else:
                future.set_exception(_not_taken(error))

        try:
            self._producer.produce(self._topic, value, identity, on_delivery=delivered)
        except BufferError as cause:
            future.set_exception(SourceAwayError(f"the broker does not keep up: {cause}"))
        except KafkaException as cause:
            future.set_exception(_not_taken(cause.args[0]))
        return future

    def close(self) -> None:
        """Send what is waiting."""
        self._stop.set()
        self._thread.join(1)
        self._producer.flush(2)


def _not_taken(error: KafkaError) -> SourceAwayError | TooLargeError:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLargeError("the event is larger than the broker takes (message.max.bytes of the broker or topic)")
    return SourceAwayError(f"the broker did not take it: {error.str()}")


class FilesIntake:
    """Appends to a file of the events' directory that no other process has, named ``http-0.jsonl`` and so on.

    Many callers share one flush to the disk. A last line that a crash tore is ended before the next is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: queue.Queue[tuple[bytes, Future[dict[str, Any]]] | None] = queue.Queue(_MOST_WAITING)
        self._file = OwnFile(directory, "http")
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def append(self, value: bytes, identity: str) -> "Future[dict[str, Any]]":  # noqa: ARG002  a file has no keys
        """Append a line."""
        future = _promise()
        try:
            self._waiting.put_nowait((value.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n", future))
        except queue.Full:
            future.set_exception(SourceAwayError("the disk does not keep up"))
        return future

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            lot, ending = [first], False
            while len(lot) < _TOGETHER and not self._waiting.empty():
                more = self._waiting.get()
                if more is None:
                    ending = True
                    break
                lot.append(more)
            self._write(lot)
            if ending:
                return

    def _write(self, lot: list[tuple[bytes, "Future[dict[str, Any]]"]]) -> None:
        """Write a lot of lines and flush them to the disk, all or none acknowledged."""
        try:
            name, offset = self._file.append(b"".join(line for line, _ in lot))
        except OSError as cause:
            for _, future in lot:
                future.set_exception(SourceAwayError(f"{self._directory} cannot be written: {cause.strerror}"))
            return
        for line, future in lot:
            future.set_result({"topic": self._directory.name, "partition": name, "offset": offset})
            offset += len(line)

    def close(self) -> None:
        """Write what is waiting, and give the file free."""
        self._waiting.put(None)
        self._thread.join(2)
        self._file.close()
