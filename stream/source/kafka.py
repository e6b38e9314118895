"""Events from Kafka: assigned partitions, read in batches, never committed before a snapshot holds them."""

import contextlib
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from snapshots.records.place import Place
from stream.errors import SourceAwayError, SourceError, SourceLostError
from stream.record import Record
from stream.source.kafka_broker import HINTS, NOT_THERE, Broker
from stream.source.kafka_client import Settings

log = logging.getLogger("holdfast.kafka")
_DISCOVER_SECONDS = 5.0
_CREATE_TIME = 1
_LOG_APPEND_TIME = 2
_AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE}  # noqa: SLF001
_GO_ON = (
    '. To go on regardless: source.when_lost = "go_on" (the ledger keeps what was lost); to learn everything that is '
    "there again: holdfast train --new-lineage"
)


def _made_anew(topic: str, was: str, now: str) -> str:
    return (
        f"topic {topic!r} was made anew: its id was {was} and is {now}. What the old topic held and was not learnt is "
        "lost, and the place points into a topic that is gone"
    )


class KafkaSource:
    """Reads every partition of ``topics`` from a place on, committed transactions only.

    ``settings`` is the table ``[source.kafka]`` of the configuration; ``group`` the lineage's name. New partitions are
    looked for every few seconds and read from their beginning.
    """

    def __init__(
        self,
        topics: list[str],
        settings: Settings,
        *,
        group: str,
        start: str,
        poll_seconds: float,
        when_lost: str = "stop",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.losses: list[str] = []
        self._when_lost = when_lost
        self._ids: dict[str, str] = {}
        self._marked: dict[tuple[str, int], int] | None = None
        self._start = start
        self._poll_seconds = poll_seconds
        self._now = now
        self._discover_at = 0.0
        self._positions: dict[tuple[str, int], int] = {}
        self._names: dict[int, str] = {}
        self._end: dict[tuple[str, int], int] | None = None
        self._broker = Broker(topics, settings, group)
        self._consumer = self._broker.consumer
        self._stumbled: SourceAwayError | SourceError | None = None
        self._ends: dict[tuple[str, int], int] = {}
        self._read: dict[tuple[str, int], int] = {}
        self._held: set[tuple[str, int]] = set()

    def identities(self) -> dict[str, str]:
        """The id of each topic, as the broker gave it when it was made.

        Asked of the broker before every cut: records of a topic that was made anew under way may have been delivered at
        the old one's offsets, and no snapshot must hold them. A broker that is away is no reason to cut nothing.
        """
        with contextlib.suppress(SourceAwayError):
            self._refuse_made_anew()
        return dict(self._ids)

    def cut(self) -> dict[str, str]:
        """Nothing is kept beside the place."""
        return self.identities()

    def _refuse_made_anew(self) -> None:
        """Raise :class:`SourceLostError` when a topic that is being read is another than it was."""
        now = self._broker.identities()
        anew = [topic for topic, name in self._ids.items() if now.get(topic, name) != name]
        if anew:
            raise SourceLostError(_made_anew(anew[0], self._ids[anew[0]], now[anew[0]]) + _GO_ON)

    def resolve(self) -> Place:
        """Where each partition now begins, or with ``latest`` where it now ends."""
        which = 1 if self._start == "latest" else 0
        return {
            topic: {str(partition): self._broker.watermarks(topic, partition)[which] for partition in partitions}
            for topic, partitions in self._broker.partitions().items()
        }

    def open(self, place: Place, topics: dict[str, str]) -> Place:
        """Assign every partition at the place; the place of a topic that was made anew is its beginning."""
        if self._positions:
            self._consumer.unassign()
        self._positions.clear()
        for known in (self._ends, self._read, self._held):
            known.clear()
        self._broker.held.clear()
        self._stumbled = None
        self._end = dict(self._marked) if self._marked is not None else None
        place = {topic: dict(partitions) for topic, partitions in place.items()}
        for topic in self._check_ids(topics):
            place.pop(topic, None)
        return self._assign(place)

    def _check_ids(self, known: dict[str, str]) -> list[str]:
        """Return the topics that are not those they were; raise :class:`SourceLostError` unless it is to go on."""
        self._ids = self._broker.identities()
        anew = [topic for topic, name in known.items() if self._ids.get(topic, name) != name]
        for topic in anew:
            self._lose(_made_anew(topic, known[topic], self._ids[topic]))
        return anew

    def _assign(self, place: Place) -> Place:
        """Assign every partition that is not assigned yet; all of them or, when the broker is away, none."""
        fresh: dict[tuple[str, int], int] = {}
        for topic, partitions in self._broker.partitions().items():
            for partition in partitions:
                if (topic, partition) in self._positions:
                    continue
                named = place.get(topic, {}).get(str(partition))
                low, high = self._broker.watermarks(topic, partition)
                if named is not None and not low <= named <= high:
                    named = place[topic][str(partition)] = self._lost(topic, partition, named, low, high)
                fresh[topic, partition] = named or 0
                self._ends[topic, partition] = high
        if fresh:
            self._consumer.incremental_assign(
                [TopicPartition(topic, number, offset or OFFSET_BEGINNING) for (topic, number), offset in fresh.items()]
            )
        self._positions |= fresh
        self._names |= {partition: str(partition) for _, partition in fresh}
        self._discover_at = self._now() + _DISCOVER_SECONDS
        return place

    def _lost(self, topic: str, partition: int, offset: int, low: int, high: int) -> int:
        """Say what is lost, and where it goes on."""
        if offset < low:
            self._lose(
                f"{topic}[{partition}]: offsets {offset} to {low} are lost: retention deleted them before they were "
                "learnt"
            )
            return low
        self._lose(
            f"{topic}[{partition}]: the place is at offset {offset} and the topic ends at {high}: it was cut off, and "
            f"what comes at offsets {high} to {offset} is not what was learnt there"
        )
        return high

    def _lose(self, what: str) -> None:
        """Note a loss and go on, or stop with it, as ``source.when_lost`` says."""
        if self._when_lost != "go_on":
            raise SourceLostError(what + _GO_ON)
        log.error("%s; going on, as source.when_lost says", what)
        self.losses.append(what)

    def poll(self, limit: int) -> list[Record]:
        """The next records of any partition."""
        if self._now() >= self._discover_at:
            self._discover()
        try:
            messages = [*self._broker.held, *self._consumer.consume(limit, self._poll_seconds)]
            self._broker.held.clear()
        except KafkaException as cause:
            raise SourceAwayError(str(cause)) from cause
        records = []
        for message in messages:
            try:
                record = self._record(message)
            except (SourceAwayError, SourceError) as cause:
                self._stumbled = self._stumbled or cause
            else:
                records += [record] if record is not None else []
        if not records:
            self._raise_trouble()
        return records

    def _raise_trouble(self) -> None:
        """Raise what went wrong, but only when no record waits to be delivered first."""
        stumbled, self._stumbled = self._stumbled, None
        trouble, self._broker.trouble = self._broker.trouble, None
        if stumbled is not None:
            raise stumbled
        if trouble is not None and (trouble.code() in _AWAY or trouble.code() in HINTS):
            raise self._broker.absent(trouble)

    def _discover(self) -> None:
        """Pick up partitions that were added; an absent broker is no news here."""
        self._discover_at = self._now() + _DISCOVER_SECONDS
        try:
            self._refuse_made_anew()
            self._assign({})
        except SourceAwayError as cause:
            log.debug("partitions were not looked up: %s", cause)

    def _record(self, message: Any) -> Record | None:
        error = message.error()
        if error is not None:
            self._raise_or_note(message, error)
            return None
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        kind, milliseconds = message.timestamp()
        self._positions[topic, partition] = offset + 1
        return Record(
            topic,
            self._names[partition],
            offset,
            offset + 1,
            message.value(),
            milliseconds / 1000 if kind in (_CREATE_TIME, _LOG_APPEND_TIME) else None,
            message.key(),
            message.headers(),
        )

    def _raise_or_note(self, message: Any, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001  the name that the library gives it
            place = (message.topic(), message.partition())
            self._read[place] = max(message.offset(), self._read.get(place, 0))
            if self._end is not None and message.offset() >= self._end.get(place, 0):
                self._end.pop(place, None)
        elif code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  the same
            topic, partition = message.topic(), message.partition()
            self._refuse_made_anew()
            at = self._lost(
                topic, partition, self._positions[topic, partition], *self._broker.watermarks(topic, partition)
            )
            self._positions[topic, partition] = at
            self._consumer.incremental_unassign([TopicPartition(topic, partition)])
            self._consumer.incremental_assign([TopicPartition(topic, partition, at)])
        elif code in _AWAY or code in NOT_THERE or error.retriable():
            self._discover_at = 0.0 if code in NOT_THERE else self._discover_at
            raise SourceAwayError(error.str())
        else:
            raise SourceError(f"{message.topic()}[{message.partition()}]: {error.str()}")

    def whole(self) -> bool:
        """Each record is delivered at once."""
        return True

    def mark_end(self) -> None:
        """Remember where every partition ends now."""
        ends = {
            (topic, partition): self._broker.watermarks(topic, partition)[1]
            for topic, partitions in self._broker.partitions().items()
            for partition in partitions
        }
        self._marked = {place: end for place, end in ends.items() if self._positions.get(place, 0) < end}
        self._end = dict(self._marked)

    def ended(self) -> bool:
        """Tell whether every partition was read to its marked end (which a transaction's mark may be)."""
        if self._end is None:
            return False
        self._end = {place: end for place, end in self._end.items() if self._positions.get(place, 0) < end}
        return not self._end

    def commit(self, place: Place) -> None:
        """Commit the place to the group, asynchronously and for lag tools only."""
        offsets = [
            TopicPartition(topic, int(partition), offset)
            for topic in {topic for topic, _ in self._positions} & place.keys()
            for partition, offset in place[topic].items()
        ]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as cause:
            log.warning("offsets were not committed for lag tools: %s", cause)

    def lag(self) -> int | None:
        """How many offsets are waiting, from what the consumer last heard."""
        total = 0
        for (topic, partition), position in self._positions.items():
            try:
                _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            except KafkaException:
                return None
            total += max(0, high - position) if high > 0 else 0
        return total

    def behind(self) -> Collection[tuple[str, str]]:
        """Partitions that end beyond what was delivered, as far as the library has heard."""
        return {
            (topic, self._names[partition])
            for (topic, partition), position in self._positions.items()
            if max(position, self._read.get((topic, partition), 0)) < self._high(topic, partition)
        }

    def _high(self, topic: str, partition: int) -> int:
        """Where a partition ends: as it was when it was assigned, or later."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
        return max(int(high), self._ends.get((topic, partition), 0))

    def hold(self, partitions: Collection[tuple[str, str]]) -> None:
        """Pause these partitions, and resume the others that were paused."""
        wanted = {(topic, int(name)) for topic, name in partitions} & self._positions.keys()
        if fresh := wanted - self._held:
            self._consumer.pause([TopicPartition(topic, number) for topic, number in fresh])
        if over := (self._held - wanted) & self._positions.keys():
            self._consumer.resume([TopicPartition(topic, number) for topic, number in over])
        self._held = wanted

    def close(self) -> None:
        """Leave without committing anything."""
        self._consumer.close()
