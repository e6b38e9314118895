"""Two ways of letters back into the source: a file of their own, or a transaction. All of a lot arrive, or none."""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaException, TopicPartition

from snapshots import Lineage
from snapshots.store import private_files
from snapshots.store.store import Store, claim, flush_directory
from stream.dead_letters.reader import Letter, between, partitions_of, reader
from stream.dead_letters.replay import Way
from stream.errors import CommandError
from stream.settings import Config
from stream.source import lines
from stream.source.kafka_client import producer

log = logging.getLogger("holdfast.dead_letter")
_HEADER = "holdfast.replay"
_SECONDS = 60.0


class IntoFiles:
    """A file of its own for each lot in the directory of events, linked to its name when it is whole and durable."""

    def __init__(self, config: Config, lineage: Lineage) -> None:
        self._directory, self._lineage = config.base / config.source.directory, lineage

    def _path(self, number: int) -> Path:
        return self._directory / f"replayed-{number:08d}.jsonl"

    def send(self, number: int, letters: list[Letter]) -> None:
        """Write them; a value is one line, since JSON needs no other."""
        path = self._path(number)
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        events = [(one.value or b"").replace(b"\r", b" ").replace(b"\n", b" ") + b"\n" for one in letters]
        try:
            with open(hidden, "wb", buffering=0, opener=private_files.only_file) as file:
                lines.append(file, b"".join(events))
            path.hardlink_to(hidden)
            flush_directory(self._directory)
        except FileExistsError:
            raise CommandError(
                f"{path} is there already: somebody else looked after these letters. Look again"
            ) from None
        except OSError as cause:
            raise CommandError(f"{path} cannot be written: {cause.strerror}; run this again") from cause
        finally:
            with suppress(OSError):
                hidden.unlink()

    def arrived(self, number: int) -> bool:
        """Tell by the file, or by the trainer's place where the file was read and is gone.

        An absent one is made, and left empty, so that one who was only slow cannot link another in its place.
        """
        path, newest = self._path(number), self._lineage.refresh().newest()
        if newest is not None and newest.place.get(self._directory.name, {}).get(path.name, 0) > 0:
            return True
        try:
            with path.open("xb"):
                flush_directory(self._directory)
        except FileExistsError:
            return path.stat().st_size > 0
        except OSError as cause:
            raise CommandError(f"{path} cannot be written: {cause.strerror}; run this again") from cause
        return False

    def close(self) -> None:
        """Nothing is held open."""


class IntoKafka:
    """A transaction for each lot: original partition, key, headers and timestamp, and which entry of the ledger.

    Where the topics ended before is kept in the store, so that one who comes later knows where to look.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self._config, self._store = config, store
        transactional = f"holdfast-{config.name}-dead-letters"
        self._producer = producer(config.source.kafka, log, transactional_id=transactional)
        try:  # ends what one who was cut off had begun
            self._producer.init_transactions(_SECONDS)
        except KafkaException as cause:
            raise CommandError(
                f"the broker lets nothing be sent in a transaction: {cause.args[0].str()}. Is it running, and may this "
                f"client use the transactional id holdfast-{config.name}-dead-letters? Nothing was sent"
            ) from cause

    def _name(self, number: int) -> str:
        return f"letters/{number:012d}.json"

    def send(self, number: int, letters: list[Letter]) -> None:
        """Produce them all and commit; where that fails none of them is there, or it is found out next time."""
        try:
            ends = self._ends({letter.topic for letter in letters})
            claim(self._store, self._name(number), msgspec.json.encode(ends))
            self._producer.begin_transaction()
            self._produce(number, letters, ends)
            self._producer.commit_transaction(_SECONDS)
        except KafkaException as cause:
            with suppress(KafkaException):
                self._producer.abort_transaction(_SECONDS)
            raise CommandError(
                f"the broker did not take letters (ledger entry {number}): {cause.args[0].str()}. Run this again: it "
                "looks first whether they are there"
            ) from cause

    def _produce(self, number: int, letters: list[Letter], ends: dict[str, dict[str, int]]) -> None:
        failed: list[Any] = []
        mark = (_HEADER, f"{self._config.name}/{number}".encode())
        for letter in letters:
            where: dict[str, Any] = {} if letter.time is None else {"timestamp": round(letter.time * 1000)}
            where |= {"partition": int(letter.partition)} if letter.partition in ends[letter.topic] else {}
            while True:
                try:
                    self._producer.produce(
                        letter.topic, letter.value, letter.key, headers=[*letter.headers, mark],
                        on_delivery=lambda error, _: failed.append(error) if error is not None else None, **where,
                    )  # fmt: skip
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)
        self._producer.flush(_SECONDS)
        if failed:
            raise KafkaException(failed[0])

    def _ends(self, topics: Iterable[str]) -> dict[str, dict[str, int]]:
        consumer = reader(self._config, "replay")
        try:
            return {
                topic: {
                    str(one): consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=10)[1]
                    for one in partitions_of(consumer, topic)
                }
                for topic in topics
            }
        finally:
            consumer.close()

    def arrived(self, number: int) -> bool:
        """Look for one of them behind where the topics ended; what retention has taken meanwhile counts as sent."""
        data = self._store.get(self._name(number))
        if data is None:  # nothing was begun
            return False
        consumer = reader(self._config, "replay")
        mark = (_HEADER, f"{self._config.name}/{number}".encode())
        try:
            for topic, partitions in msgspec.json.decode(data, type=dict[str, dict[str, int]]).items():
                for partition, begin in partitions.items():
                    low, high = consumer.get_watermark_offsets(TopicPartition(topic, int(partition)), timeout=10)
                    if low > begin:
                        return True
                    messages = between(consumer, topic, int(partition), begin, high)
                    if any(mark in (message.headers() or []) for message in messages):
                        return True
        except KafkaException as cause:
            raise CommandError(f"{cause.args[0].str()}: run this again when the broker is back") from cause
        finally:
            consumer.close()
        return False

    def close(self) -> None:
        """Let go of the producer."""
        self._producer.purge()


def way_of(config: Config, lineage: Lineage) -> Way:
    """How letters get back into the configured source."""
    return IntoFiles(config, lineage) if config.source.kind == "files" else IntoKafka(config, lineage.store)
