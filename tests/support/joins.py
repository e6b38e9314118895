"""Events and labels apart, in directories of their own, and what the join makes of them."""

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from learners.labels import Labels
from snapshots.records.place import Place
from stream.join.build import joined
from stream.join.source import JoinedSource
from stream.record import Record
from stream.settings import Config, EventPaths, JoinConfig, LabelsConfig, LearnerConfig, PredictionLog, RoutingConfig
from stream.settings import Source as SourceConfig
from stream.source.codec import Codec
from stream.source.files import FilesSource
from stream.source.source import Source

KEY = b"k" * 32


class Given(NamedTuple):
    """What the join gave of one record."""

    topic: str
    offset: int
    moves: tuple[tuple[str, int], ...]
    id: str | None
    label: Any
    mode: str | None
    sequence: int
    reward: float | None = None


def given(record: Record) -> Given:
    """What the join gave, in a form to compare."""
    found = record.joined
    assert found is not None
    moves = tuple(sorted((name, by) for name, by in found.moves.items() if by))
    event = found.event
    return Given(
        record.topic, record.offset, moves, event.id if event else None, event.label if event else None, found.mode,
        found.sequence, found.reward,
    )  # fmt: skip


class Apart:
    """Directories of events, predictions and labels; ``settings`` are those of ``[join]``.

    ``rewards``: labels may say what answers earned, between these two.
    """

    def __init__(self, folder: Path, rewards: tuple[float, float] | None = None, **settings: Any) -> None:
        self.folder = folder
        for name in ("events", "predictions", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.config = Config(
            name="apart", task="binary", learners={"one": LearnerConfig("river", "champion")},
            source=SourceConfig(kind="files", poll_seconds=0.001), predictions=PredictionLog(directory="predictions"),
            labels=LabelsConfig(directory="labels"), join=JoinConfig(**{"idle": 0.01, **settings}), base=folder,
            routing=RoutingConfig() if rewards is None else RoutingConfig("thompson", rewards=rewards),
        )  # fmt: skip

    def put(self, kind: str, rows: Iterable[dict[str, Any]], partition: int = 0) -> None:
        """Append rows to a file of a directory."""
        with (self.folder / kind / f"p{partition}.jsonl").open("ab") as file:
            file.writelines(orjson.dumps(row) + b"\n" for row in rows)

    def source(self, *, lasting: bool = False) -> JoinedSource:
        """A joined source over the directories."""
        labels = Labels("binary")

        def source_of(config: Config) -> Source:
            one = config.source
            return FilesSource(
                self.folder / one.directory, start="earliest", poll_seconds=0.001, max_bytes=config.event.max_bytes
            )

        import hashlib

        def digest(identity: str) -> bytes:
            return hashlib.blake2b(identity.encode(), key=KEY, digest_size=16).digest()

        path = self.folder / "waiting" / "apart.sqlite" if lasting else None
        return joined(self.config, source_of, Codec(EventPaths(), labels), labels, digest, path)

    def all(self, limit: int = 1000) -> list[Given]:
        """Everything that the join gives, read with polls of at most so many records."""
        source = self.source()
        source.open(source.resolve(), {})
        source.mark_end()
        found = rest(source, limit)
        source.close()
        return found


def rest(source: JoinedSource, limit: int) -> list[Given]:
    """What a source still gives up to its marked end."""
    found: list[Given] = []
    while not source.ended():
        found += map(given, source.poll(limit))
    return found


def place_after(place: Place, records: Iterable[Record]) -> None:
    """Move a place on."""
    for record in records:
        place.setdefault(record.topic, {})[record.partition] = record.following


def totals(found: Iterable[Given]) -> dict[str, int]:
    """What all moves come to; those that come to nothing are left out."""
    sums: Counter[str] = Counter()
    for one in found:
        for name, by in one.moves:
            sums[name] += by
    return {name: count for name, count in sums.items() if count}


def a_stream(
    draw: random.Random, count: int = 120, *, partitions: int = 2, twice: float = 0.1
) -> dict[str, list[list[dict[str, Any]]]]:
    """Events and labels in order of time: some labels never come, some early, late, twice, or null, some are strangers.

    Delays are up to 60 s; events come about one a second.
    """
    events: list[list[dict[str, Any]]] = [[] for _ in range(partitions)]
    labels: list[tuple[float, dict[str, Any]]] = []
    now = 1000.0
    for number in range(count):
        now += draw.expovariate(1.0)
        event = {"id": f"e{number}", "ts": round(now, 3), "x": {"a": round(draw.gauss(0, 1), 3)}}
        events[draw.randrange(partitions)].append(event)
        for _ in range(2 if draw.random() < twice else 1):
            if draw.random() < 0.85:
                at = now + draw.choice((-5.0, draw.uniform(0, 60), draw.uniform(0, 10)))
                value = None if draw.random() < 0.05 else draw.randrange(2)
                labels.append((at, {"id": event["id"], "y": value, "ts": round(at, 3)}))
        if draw.random() < 0.05:
            labels.append((now, {"id": f"stranger{number}", "y": 1, "ts": round(now, 3)}))
    labels.sort(key=lambda one: one[0])
    apart: list[list[dict[str, Any]]] = [[] for _ in range(partitions)]
    for _, label in labels:
        apart[draw.randrange(partitions)].append(label)
    return {"events": events, "labels": apart}


def put_all(apart: Apart, stream: dict[str, list[list[dict[str, Any]]]]) -> None:
    """Put a stream into the directories."""
    for kind, partitions in stream.items():
        for number, rows in enumerate(partitions):
            apart.put(kind, rows, number)


def copied(place: Place) -> Place:
    """A place that stays."""
    return msgspec.convert(msgspec.to_builtins(place), Place)
