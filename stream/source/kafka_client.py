"""Clients of the Kafka library: made in one place, with what a wrong setting says."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from snapshots.store.redaction import without_values
from stream.errors import ConfigError

#: settings whose values are no secrets, since they are ours
_OURS = {"group.id", "isolation.level", "auto.offset.reset", "acks"}
Settings = Mapping[str, str | int | float | bool]
_CONSUMER_ONLY = {
    "fetch.wait.max.ms", "fetch.min.bytes", "fetch.max.bytes", "max.partition.fetch.bytes",
    "queued.max.messages.kbytes",
    "queued.min.messages", "check.crcs", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms",
    "group.protocol", "group.instance.id", "partition.assignment.strategy", "client.rack", "allow.auto.create.topics",
    "fetch.message.max.bytes", "fetch.error.backoff.ms", "fetch.queue.backoff.ms",
}  # fmt: skip


def client(kind: Callable[..., Any], settings: Mapping[str, Any], logger: logging.Logger) -> Any:
    """Make a client of the library; a setting that it does not take is a :class:`ConfigError` that names it."""
    try:
        return kind(dict(settings), logger=logger)
    except KafkaException as cause:
        error = cause.args[0]
        said = error.str() if isinstance(error, KafkaError) else str(error)
        said = without_values(said, {key: value for key, value in settings.items() if key not in _OURS})
        raise ConfigError(f"[source.kafka]: {said}. The settings are those of librdkafka") from cause


def producer_settings(settings: Settings) -> dict[str, str | int | float | bool]:
    """The librdkafka settings that a producer takes: those of the consumer without what only a consumer knows."""
    return {key: value for key, value in settings.items() if key not in _CONSUMER_ONLY}


def producer(settings: Settings, logger: logging.Logger, **wanted: str | float | bool) -> Any:
    """A producer by whom nothing arrives twice, and nothing is sent before all replicas in sync have it.

    ``settings`` is the table ``[source.kafka]``; ``wanted``, with ``_`` for ``.``, goes before it.
    """
    found: dict[str, Any] = {
        "linger.ms": 5,
        "reconnect.backoff.max.ms": 1000,
        "message.max.bytes": 10_000_000,
        "log_level": 2,
    }
    found |= producer_settings(settings) | {"acks": "all", "enable.idempotence": True}
    return client(Producer, found | {name.replace("_", "."): value for name, value in wanted.items()}, logger)
