"""``holdfast produce --labels``: labels that come later, sent where they are read."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson

from stream.errors import CommandError
from stream.join.build import labels_codec
from stream.parts import labels_of, stamped_with
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import Config, EventPaths
from stream.sink.sinks import FilesSink, KafkaSink, Sink
from stream.tables.columns import Columns, Survey
from stream.tables.produce import Progress, Sent, keyed_events_of


def sink_of(config: Config, topic: str | None, path: Path) -> Sink:
    """Where labels of this configuration go."""
    place = config.labels
    if not place.given:
        raise CommandError("labels have no place: set labels.directory or labels.topics, and see docs/labels.md")
    if place.directory:
        if topic is not None:
            raise CommandError("--topic needs labels.topics; with labels.directory the directory is the topic")
        directory = config.base / place.directory
        if path.exists() and path.resolve().parent == directory.resolve():
            raise CommandError(f"{path} lies in the directory of labels already, so it is read as it is")
        return FilesSink(directory, path.name.split(".")[0])
    return KafkaSink(config, topic or place.topics[0])


def produce(
    config: Config, path: Path, sink: Sink, columns: Columns, progress: Progress, survey: Survey | None,
    stopping: Callable[[], bool],
) -> Sent:  # fmt: skip
    """Send every label of a file; a row of a table needs its id and its label, and may have a time."""
    fields, codec, sent = config.labels, labels_codec(config, labels_of(config)), Sent()
    paths = EventPaths(id=fields.id, time=fields.time, label=fields.label, time_format=config.event.time_format)
    as_labels = msgspec.structs.replace(config, event=paths)
    recorded = time.time() if config.labels.topics else None
    stamp = stamped_with(fields.time, config.event.time_format, time.time)

    def stamped(value: bytes) -> bytes:
        try:
            return stamp(value)
        except msgspec.DecodeError:
            return value  # it is refused where it is read

    for value, key in keyed_events_of(as_labels, path, columns, progress, survey=survey):
        if stopping():
            break
        if key is not None:
            event = orjson.loads(value)
            event.pop("x", None)
            value = orjson.dumps({fields.label: None, **event})  # noqa: PLW2901  without its features
        if recorded is None:
            value = stamped(value)  # noqa: PLW2901  a file has no other time
        sink.send(value, key)
        sent.events += 1
        found = codec.label_of(Record("", "", 0, 0, value, recorded))
        if isinstance(found, Refusal):
            sent.refused[found.reason] += 1
            sent.example = sent.example or f"label {sent.events}: {found.message}"
        elif found.label is None:
            sent.unlabelled += 1
        else:
            sent.labels[found.label] += 1
    return sent
