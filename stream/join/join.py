"""The join: which label belongs to which event, and what follows when none comes, or a late one. No clock, no source.

Everything is a function of the records in their order (:mod:`stream.join.ordered`). An event waits ``join.wait`` after
its own time; what it then was is known for as long as a late label may come.
"""

from collections.abc import Callable, Iterator

import msgspec

from learners.event import Event, Features
from snapshots.records.place import Place
from stream.join.records import Decoded
from stream.join.waiting import Asked, EarlyLabel, Phase, Row, Waiting, asked_of, encode, label_of
from stream.record import Joined, Mode, Record
from stream.refusal import Reason, Refusal
from stream.settings import JoinConfig

_NO_TIME = Refusal(
    Reason.BAD_TIME, "", "it has no time, from which on its label is waited for: give each event the field event.time"
)


class Mark(msgspec.Struct, array_like=True):
    """Where the join can be begun from with nothing waiting: a place, its time, how many events and labels came."""

    time: float
    place: Place
    events: int
    labels: int
    times: dict[str, dict[str, float]]


class JoinState(msgspec.Struct):
    """What the join knows at a place, but for the rows. ``times``: the newest of each partition.

    ``events`` and ``labels`` count records, which gives each its number whatever became of those before.
    """

    now: float = 0.0
    events: int = 0
    labels: int = 0
    pending: int = 0
    early: int = 0
    times: dict[str, dict[str, float]] = {}
    marks: list[Mark] = []


class Join:
    """Takes records in order, and gives each back with what it means."""

    def __init__(self, settings: JoinConfig, waiting: Waiting) -> None:
        self.waiting = waiting
        self._wait, self._late = settings.wait_seconds, settings.late_seconds
        self._known = self._wait + max(self._wait, self._late)
        self._missing, self._corrects = settings.missing, settings.corrects
        self._most = settings.max_pending
        self.state = JoinState()

    @property
    def horizon(self) -> float:
        """How far back what waits can come from, in seconds: the join begun earlier with nothing ends the same."""
        return self._wait + self._known

    def take(self, time: float, record: Record, found: Decoded) -> Iterator[Record]:
        """What one record means, after what its time brings about; all of it is to be taken."""
        self.state.now = max(self.state.now, time)
        for row in self.waiting.due(time):
            yield from self._due(row, record)
        for given in self._label(time, record, found) if found.is_label else self._event(record, found):
            if given.joined is not None:
                given.joined.digest = found.digest
            yield given
        while self.state.pending > self._most and (oldest := self.waiting.oldest(Phase.PENDING)) is not None:
            for given in self._due(oldest, record):
                yield _more(given, "labels.evicted")
        while self.state.early > self._most and (oldest := self.waiting.oldest(Phase.EARLY)) is not None:
            yield from self._due(oldest, record)

    # Time --------------------------------------------------------------------------------------------------------

    def _due(self, row: Row, record: Record) -> list[Record]:
        """A row is due: nothing came for it."""
        if row.phase == Phase.PENDING:
            return self._timed_out(row, record)
        if row.phase == Phase.NEGATIVE:
            asked = self._asked(row)
            self._keep(row, asked.time, Phase.TIMED_OUT)
            return [self._settled(record, row, asked, label=False, mode="score", moves={})]
        self.waiting.remove(row)
        moves = self._no_longer_early("orphan") if row.phase == Phase.EARLY else {}
        return [_given(record, moves)] if moves else []

    def _no_longer_early(self, becomes: str) -> dict[str, int]:
        """How classes change when a label stops waiting; not at all where it was counted before what waits was lost."""
        if not self.state.early:
            return {}
        self.state.early -= 1
        return {"labels.early": -1, f"labels.{becomes}": 1}

    def _timed_out(self, row: Row, record: Record) -> list[Record]:
        asked = self._asked(row)
        self.state.pending -= 1
        if self._corrects:
            self.waiting.put(msgspec.structs.replace(row, phase=Phase.NEGATIVE, due=row.due + self._late))
            return [self._settled(record, row, asked, label=False, mode="negative", moves={})]
        self._keep(row, asked.time, Phase.TIMED_OUT)
        if self._missing == "negative":
            return [self._settled(record, row, asked, label=False, mode="learn", moves={"pending": -1})]
        return [_given(record, {"pending": -1, "timed_out": 1})]

    # Events ------------------------------------------------------------------------------------------------------

    def _event(self, record: Record, found: Decoded) -> list[Record]:
        self.state.events += 1
        event = found.event
        if isinstance(event, Refusal) or not (event.time or event.label is not None):
            refusal = event if isinstance(event, Refusal) else _NO_TIME
            return [_given(record, {"consumed": 1, "dead_lettered": 1}, refusal=refusal)]
        event.time = event.time or self.state.now
        row = self.waiting.find(found.key)
        if row is not None and row.phase != Phase.EARLY:
            return self._known_event(record, found, event, row)
        seq = self.state.events
        if event.label is not None:
            moves = {"consumed": 1}
            if row is not None:
                self.waiting.remove(row)
                moves |= self._no_longer_early("duplicate")
            self._keep(Row(seq, found.key, 0.0, Phase.JOINED, None), event.time, Phase.JOINED)
            return [_given(record, moves, event, mode="learn", served=found.served)]
        asked = Asked(event.id, event.features.raw, event.time, event.weight, found.served)
        fresh = Row(seq, found.key, event.time + self._wait, Phase.PENDING, encode(asked))
        if row is None:
            self.waiting.put(fresh)
            self.state.pending += 1
            return [self._arrived(record, event, seq)]
        early = label_of(row.body or b"")
        self.waiting.remove(row)
        if early.label is None:
            self._keep(fresh, event.time, Phase.WITHDRAWN)
            return [_given(record, {"consumed": 1, "unlabelled": 1, **self._no_longer_early("withdrawn")})]
        self._keep(fresh, event.time, Phase.JOINED)
        moves = {"pending": -1, **self._no_longer_early("joined")}
        pair = self._settled(record, fresh, asked, early.label, "learn", moves, early.weight, early.time)
        return [self._arrived(record, event, seq), pair]

    def _known_event(self, record: Record, found: Decoded, event: Event, row: Row) -> list[Record]:
        """An event whose id came before: sent twice, or asked about before it was sent, with its label or without."""
        moves = {"consumed": 1, "duplicate": 1}
        if row.phase == Phase.PENDING and event.label is not None:
            asked = self._asked(row)
            self.state.pending -= 1
            self._keep(row, asked.time, Phase.JOINED)
            moves["pending"] = -1
            return [self._settled(record, row, asked, event.label, "learn", moves, event.weight, event.time)]
        if row.phase <= Phase.NEGATIVE and found.served is not None:
            asked = self._asked(row)
            if asked.served is None:
                asked.served = found.served
                self.waiting.put(msgspec.structs.replace(row, body=encode(asked)))
        return [_given(record, moves)]

    def _arrived(self, record: Record, event: Event, seq: int) -> Record:
        return _given(record, {"consumed": 1, "pending": 1}, event, sequence=seq, asked=True)

    # Labels ------------------------------------------------------------------------------------------------------

    def _label(self, time: float, record: Record, found: Decoded) -> list[Record]:
        self.state.labels += 1
        label = found.event
        if isinstance(label, Refusal):
            return [_given(record, {"labels.consumed": 1, "labels.dead_lettered": 1}, refusal=label)]
        row = self.waiting.find(found.key)
        if row is None:
            body = encode(EarlyLabel(label.label, label.weight, label.time))
            self.waiting.put(Row(-self.state.labels, found.key, time + self._wait, Phase.EARLY, body))
            self.state.early += 1
            return [_counted(record, "early")]
        if row.phase == Phase.PENDING:
            return [self._in_time(record, row, label)]
        if row.phase == Phase.NEGATIVE:
            return [self._too_late(record, row, label)]
        if row.phase == Phase.TIMED_OUT:
            return [_counted(record, "late", delay=label.time - (row.due - self._known))]
        return [_counted(record, "duplicate")]

    def _in_time(self, record: Record, row: Row, label: Event) -> Record:
        asked = self._asked(row)
        self.state.pending -= 1
        if label.label is None:
            self._keep(row, asked.time, Phase.WITHDRAWN)
            return _counted(record, "withdrawn", {"pending": -1, "unlabelled": 1})
        self._keep(row, asked.time, Phase.JOINED)
        moves = {"labels.consumed": 1, "labels.joined": 1, "pending": -1}
        return self._settled(record, row, asked, label.label, "learn", moves, label.weight, label.time)

    def _too_late(self, record: Record, row: Row, label: Event) -> Record:
        """A label of what was learnt as no. A late yes puts it right; withdrawn it stays what it was."""
        asked, moves = self._asked(row), {"labels.consumed": 1, "labels.late": 1}
        self._keep(row, asked.time, Phase.JOINED)
        mode: Mode = "late" if label.label else "score"
        return self._settled(record, row, asked, bool(label.label), mode, moves, label.weight, label.time)

    def forget(self, meant: Callable[[Event], bool], held: Callable[[Event], bool]) -> dict[str, int]:
        """Take events out of what waits; return how the classes change. ``held`` tells which are never learnt."""
        rows = [(row, asked) for row in self.waiting.waiting() if meant(_event_of(asked := self._asked(row)))]
        gone = 0
        for row, asked in rows:
            pending = row.phase == Phase.PENDING
            self.state.pending -= pending
            gone += pending or held(_event_of(asked))
            self._keep(row, asked.time, Phase.WITHDRAWN if pending else Phase.TIMED_OUT)
        return {"pending": -gone, "unlabelled": gone}

    # Rows --------------------------------------------------------------------------------------------------------

    def _keep(self, row: Row, time: float, phase: Phase) -> None:
        """Nothing more is waited for; what became of the event is known for a while."""
        self.waiting.put(Row(row.seq, row.key, time + self._known, phase, None))

    @staticmethod
    def _asked(row: Row) -> Asked:
        return asked_of(row.body or b"")

    def _settled(
        self, record: Record, row: Row, asked: Asked, label: bool | float, mode: Mode, moves: dict[str, int],
        weight: float = 1.0, time: float | None = None,
    ) -> Record:  # fmt: skip
        """An event with its label; the weight is that of the label where that has one."""
        event = Event(asked.id, Features(asked.features), label, weight if weight != 1.0 else asked.weight, asked.time)
        return _given(
            record, moves, event, mode=mode, sequence=row.seq, served=asked.served, arrived=row.arrived,
            delay=None if time is None else time - asked.time,
        )  # fmt: skip


def _event_of(asked: Asked) -> Event:
    return Event(asked.id, Features(asked.features), None, asked.weight, asked.time)


def _given(record: Record, moves: dict[str, int], event: Event | None = None, **more: object) -> Record:
    joined = Joined(moves, event, **more)  # type: ignore[arg-type]
    value = record.value if joined.refusal is not None or (joined.mode == "learn" and joined.sequence < 0) else None
    return Record(
        record.topic, record.partition, record.offset, record.following, value, record.time, record.key,
        record.headers, joined,
    )  # fmt: skip


def _counted(record: Record, label: str, moves: dict[str, int] | None = None, delay: float | None = None) -> Record:
    return _given(record, {"labels.consumed": 1, f"labels.{label}": 1, **(moves or {})}, delay=delay)


def _more(record: Record, what: str) -> Record:
    if record.joined is not None:
        record.joined.moves[what] = 1
    return record
