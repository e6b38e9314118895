"""What the broker says of topics: their partitions, ids and ends; and what to say when it does not answer."""

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from snapshots.store.redaction import without_values
from stream.errors import SourceAwayError
from stream.source.kafka_client import Settings, client

log = logging.getLogger("holdfast.kafka")
_METADATA_SECONDS, _DESCRIBE_SECONDS = 4.0, 2.0
NOT_THERE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001
HINTS = {
    KafkaError._AUTHENTICATION: ". Mend sasl.username and sasl.password in [source.kafka]",  # noqa: SLF001
    KafkaError._SSL: ". Mend ssl.ca.location in [source.kafka], or renew the broker's certificate if it has expired",  # noqa: SLF001
}


class Broker:
    """A consumer that is told its partitions, and the questions that are asked about its topics.

    ``trouble`` is what the library reported last; ``held`` are records that came while it was asked for that.
    """

    def __init__(self, topics: list[str], settings: Settings, group: str) -> None:
        self._topics, self._settings = topics, settings
        self._admin: AdminClient | None = None
        self.held: list[Any] = []
        self.trouble: KafkaError | None = None
        self.consumer = client(
            Consumer,
            {
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 1000,
                "fetch.queue.backoff.ms": 5,  # its default of a second starves a fast learner
                "queued.max.messages.kbytes": 32768,
                "log_level": 2,
                **settings,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "error_cb": self.note,
            },
            log,
        )

    def said(self, error: KafkaError) -> str:
        """What an error says, without values that may be secrets."""
        return without_values(error.str(), self._settings, but_harmless=True)

    def note(self, error: KafkaError) -> None:
        """Keep what the library reports beside its answers."""
        self.trouble = error

    def partitions(self) -> dict[str, list[int]]:
        """The partitions of every topic; :class:`SourceAwayError` when a topic or the broker is not there."""
        found = {}
        for topic in self._topics:
            try:
                metadata = self.consumer.list_topics(topic, timeout=_METADATA_SECONDS).topics[topic]
            except KafkaException as cause:
                raise self.away(cause) from cause
            if metadata.error is not None or not metadata.partitions:
                reason = metadata.error.str() if metadata.error else "it has no partitions"
                raise SourceAwayError(f"topic {topic!r} is not there: {reason}. Create it, or mend source.topics")
            found[topic] = sorted(metadata.partitions)
        return found

    def away(self, cause: KafkaException) -> SourceAwayError:
        """What to say when the broker does not answer: a wrong password is told by the library's callback only."""
        self.held += self.consumer.consume(1, 0)  # lets the library call back; a record that comes is kept
        trouble, self.trouble = self.trouble, None
        return self.absent(trouble if trouble is not None else cause.args[0])

    def absent(self, error: KafkaError) -> SourceAwayError:
        """That the broker does not answer, and what to mend where the error tells."""
        return SourceAwayError(f"no answer from the broker: {self.said(error)}{HINTS.get(error.code(), '')}")

    def identities(self) -> dict[str, str]:
        """The id of every topic, which is another when the topic was made anew."""
        if self._admin is None:
            self._admin = client(AdminClient, self._settings, log)
        try:
            found = self._admin.describe_topics(TopicCollection(self._topics), request_timeout=_DESCRIBE_SECONDS)
            return {topic: str(one.result().topic_id) for topic, one in found.items()}
        except KafkaException as cause:
            if cause.args[0].code() in NOT_THERE:
                raise SourceAwayError(f"a topic is not there: {cause.args[0].str()}") from cause
            raise self.away(cause) from cause

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """Where a partition begins and ends."""
        try:
            low, high = self.consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_METADATA_SECONDS)
        except KafkaException as cause:
            raise SourceAwayError(f"{topic}[{partition}]: {cause.args[0].str()}") from cause
        return low, high
