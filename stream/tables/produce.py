"""``holdfast produce``: sends JSON lines as they are, and makes events of the rows of tables.

What is sent is decoded as the trainer will decode it, so that whoever sends is told at once what will be refused.
"""

import logging
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from learners.event import Label
from learners.labels import LabelValue, canonical, folded
from stream.errors import CommandError
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import Config
from stream.sink.sinks import FilesSink, KafkaSink, Sink, sink_of
from stream.source.codec import Codec
from stream.tables.cells import MISSING, text_of
from stream.tables.columns import Columns, Survey
from stream.tables.payments import payment
from stream.tables.readers import Row, Table, is_json, json_values, plain

__all__ = [
    "Columns",
    "FilesSink",
    "Ids",
    "KafkaSink",
    "Run",
    "Sent",
    "Sink",
    "events_of",
    "produce",
    "produce_demo",
    "sink_of",
]
log = logging.getLogger("holdfast.produce")
Progress = Callable[[int, int], None]


def _silent(_events: int, _bytes: int) -> None:
    """Tell nobody."""


class Sent(msgspec.Struct):
    """What was sent, and what a trainer of this configuration makes of it.

    ``labels`` counts by the label as learners see it (binary: true and false), ``refused`` by reason; ``example`` is
    the first refusal. ``duplicates`` are ids that came within the last ``event.recent_ids`` of the run.
    """

    events: int = 0
    labels: Counter[Label] = msgspec.field(default_factory=Counter)
    unlabelled: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    example: str = ""
    duplicates: int = 0

    @property
    def useless(self) -> bool:
        """Tell whether every event that was sent will be refused."""
        return self.events > 0 and self.refused.total() == self.events


class Ids:
    """The newest ids of all files of a run, as many as ``event.recent_ids``; an id is known by its hash."""

    def __init__(self, recent: int) -> None:
        self._order: deque[int] = deque()
        self._recent, self._known = recent, set[int]()

    def repeats(self, identity: str) -> bool:
        """Take an id; tell whether it came before."""
        key = hash(identity)
        if key in self._known:
            return True
        if self._recent:
            self._known.add(key)
            self._order.append(key)
            if len(self._order) > self._recent:
                self._known.discard(self._order.popleft())
        return False


class Run(msgspec.Struct):
    """What files have in common that are sent together: the ids that came, and what was seen of their columns.

    ``survey`` is None where nobody has looked at the columns yet.
    """

    ids: Ids
    survey: Survey | None = None


class _Count:
    """Decodes what is sent, and counts."""

    def __init__(self, codec: Codec, ids: Ids, recorded: Callable[[], float | None]) -> None:
        self.sent = Sent()
        self._codec, self._recorded, self._ids = codec, recorded, ids

    def take(self, value: bytes) -> None:
        """Count one event."""
        sent = self.sent
        sent.events += 1
        found = self._codec.decode(Record("", "", 0, 0, value, self._recorded()))
        if isinstance(found, Refusal):
            sent.refused[found.reason] += 1
            where = f"{found.field}: " if found.field else ""
            sent.example = sent.example or f"event {sent.events}: {where}{found.message}"
            return
        if found.label is None:
            sent.unlabelled += 1
        else:
            sent.labels[found.label] += 1
        sent.duplicates += self._ids.repeats(found.id)


def produce(
    config: Config,
    path: Path,
    sink: Sink,
    columns: Columns,
    *,
    rate: float | None = None,
    progress: Progress = _silent,
    stopping: Callable[[], bool] = lambda: False,
    run: Run | None = None,
) -> Sent:
    """Send every event of a file; ``rate`` in events a second. Returns what was sent.

    ``progress`` is told how many events were sent and how many bytes of the file were read. ``run`` is what this file
    has in common with others that are sent together; without it this one is alone.
    """
    from stream.parts import codec_of, fit_labels, labels_of, reach_modules  # noqa: PLC0415  learners are slow to import

    if config.event.decoder is not None:
        reach_modules(config)
    run = run or Run(Ids(config.event.recent_ids))
    recorded = time.time if config.source.kind == "kafka" else lambda: None
    labels = labels_of(config)
    if config.task == "multiclass":
        fit_labels(config, labels)
    count = _Count(codec_of(config, labels), run.ids, recorded)
    began = time.monotonic()
    for value, key in keyed_events_of(config, path, columns, progress, survey=run.survey):
        if stopping():
            break
        sink.send(value, key)
        count.take(value)
        sent = count.sent.events
        if rate is not None and (ahead := sent / rate - (time.monotonic() - began)) > 0.005:
            progress(sent, 0)
            time.sleep(ahead)
    return count.sent


def survey_of(config: Config, paths: list[Path], columns: Columns, progress: Progress = _silent) -> Survey | None:
    """What the columns of tables are, seen over all rows of all of them; None where the files hold events.

    Raises :class:`CommandError` for a column that no file has, and for a ``--positive`` that no row has.
    """
    _refuse_without_label(columns)
    tables = [
        Table(path, encoding=columns.encoding, delimiter=columns.delimiter)
        for path in paths
        if columns.named or not is_json(path)
    ]
    if not tables:
        return None
    survey = Survey(tables, columns, config.event.types)
    for table in tables:
        survey.look(table.rows(progress))
    survey.decide()
    if columns.positive is not None:
        _check_positive(config, survey, columns.positive)
    return survey


def _refuse_without_label(columns: Columns) -> None:
    if columns.positive is not None and columns.label is None:
        raise CommandError("--positive says which value of a label means yes: name the label's column with --label")


def _key_of(config: Config) -> Callable[[LabelValue], str]:
    """What makes two labels one."""
    return folded if config.event.fold_labels else canonical


def _check_positive(config: Config, survey: Survey, positive: str) -> None:
    found = {value: count for value, count in survey.labels.items() if value not in (None, "")}
    key_of = _key_of(config)
    if found and not any(key_of(value) == key_of(positive) for value in found):
        shown = ", ".join(f"{value!r} ({count:,})" for value, count in Counter(found).most_common(10))
        raise CommandError(
            f"--positive {positive!r} is no value of the column {survey.chosen.label!r}; its values are {shown}. "
            "Nothing was sent: spaces and case count, so write it as it stands there"
        )


def events_of(
    config: Config, path: Path, columns: Columns, progress: Progress = _silent, survey: Survey | None = None
) -> Iterator[bytes]:
    """The events of a file, as they are sent."""
    return (value for value, _ in keyed_events_of(config, path, columns, progress, survey=survey))


def keyed_events_of(
    config: Config, path: Path, columns: Columns, progress: Progress, *, survey: Survey | None = None
) -> Iterator[tuple[bytes, str | None]]:
    """The events of a file with their keys; ``progress`` is told how many, and how many bytes of the file were read."""
    _refuse_without_label(columns)
    if is_json(path) and not columns.named:
        yield from _as_they_are(path, progress)
        return
    seen = survey or survey_of(config, [path], columns)
    assert seen is not None  # noqa: S101  only files of events have none
    table = Table(path, encoding=columns.encoding, delimiter=columns.delimiter)
    for number, row in enumerate(table.rows(progress), 1):
        yield event_of(config, row, seen, f"{columns.name or path.name}:{number}")


def _as_they_are(path: Path, progress: Progress) -> Iterator[tuple[bytes, None]]:
    sent = 0
    try:
        with path.open("rb") as file:
            for value in json_values(path, plain(path, file)):
                yield value, None
                sent += 1
                if sent % 500 == 0:
                    progress(sent, file.tell())
    except (EOFError, OSError, zlib.error) as cause:
        raise CommandError(f"{path} cannot be read after event {sent}: {cause}") from cause
    progress(sent, path.stat().st_size)


def produce_demo(
    sink: Sink, rate: float, *, now: Callable[[], float], stopping: Callable[[], bool] = lambda: False
) -> int:
    """Send the demo's payments at a rate (events a second) until asked to stop; return how many were sent.

    Numbers begin at the present millisecond, so that ids are not sent again when this is started again.
    """
    first, began, sent = int(now() * 1000), time.monotonic(), 0
    while not stopping():
        sink.send(orjson.dumps(payment(first + sent, now())), None)
        sent += 1
        time.sleep(max(0.0, sent / rate - (time.monotonic() - began)))
    return sent


def event_of(config: Config, row: Row, survey: Survey, identity: str) -> tuple[bytes, str]:
    """Make an event of a table's row, its fields at the configured paths."""
    event: dict[str, Any] = {}
    paths, columns, chosen = config.event, survey.columns, survey.chosen
    values = {name: columns[name].value(cell) for name, cell in row.items()}
    if chosen.id is not None and row.get(chosen.id) not in (None, ""):
        identity = text_of(row[chosen.id])
    _put(event, paths.id, identity)
    moment = None if chosen.time is None else values.get(chosen.time)
    if moment is not None and moment not in MISSING:
        _put(event, paths.time, _time(survey, moment, paths.time_format))
    special = {chosen.id, chosen.time, chosen.label}
    wanted = chosen.features if chosen.features is not None else [name for name in values if name not in special]
    features = {name: values[name] for name in wanted if values.get(name) is not None}
    if paths.features == ".":
        event |= features
    else:
        _put(event, paths.features, features)
    label = None if chosen.label is None else values.get(chosen.label)
    if label is not None:
        yes, key_of = chosen.positive, _key_of(config)
        _put(event, paths.label, label if yes is None else int(key_of(label) == key_of(yes)))
    return orjson.dumps(event), identity


def _time(survey: Survey, moment: str, wanted: str) -> Any:
    """The time as ``event.time_format`` wants it, or the text that no form fits, which is then refused."""
    try:
        seconds = survey.read_time(moment)
        if wanted == "iso":
            return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return moment
    return seconds * 1000 if wanted == "ms" else seconds


def _put(event: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    for folder in folders:
        event = event.setdefault(folder, {})
    event[name] = value
