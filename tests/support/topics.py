"""Topics of a real broker."""

import time
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def create(address: str, topic: str, partitions: int = 1, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
        future.result()


def put(address: str, topic: str, values: Any, **settings: Any) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all", "message.max.bytes": 5_000_000, **settings})
    for value in values:
        data = value if isinstance(value, (bytes, type(None))) else orjson.dumps(value)
        while True:
            try:
                producer.produce(topic, data)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def read_all(address: str, topic: str) -> list[Any]:
    """Every message of a topic's first partition, from outside."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "outside", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.5):
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                consumer.close()
                return found
    raise AssertionError(f"{topic} has no end")
