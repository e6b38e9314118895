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
from stream.refusal import Refusal
from stream.settings import JoinConfig
from stream.source.codec import GivenLabel


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
        moves = self._no_longer_early(label_of(row.body or b""), "orphan") if row.phase == Phase.EARLY else {}
        return [_given(record, moves)] if moves else []

    def _no_longer_early(self, early: EarlyLabel, becomes: str, alone: str = "") -> dict[str, int]:
        """How classes change when a label stops waiting; not at all where it was counted before what waits was lost.

        ``alone``: what a reward becomes that came by itself, if not the same.
        """
        if not self.state.early:
            return {}
        self.state.early -= 1
        moves = {"labels.early": -early.labelled - early.alone}
        if early.labelled:
            moves[f"labels.{becomes}"] = 1
        if early.alone:
            name = f"labels.{alone or becomes}"
            moves[name] = moves.get(name, 0) + 1
        return moves

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
        if isinstance(event, Refusal):
            return [_given(record, {"consumed": 1, "dead_lettered": 1}, refusal=event)]
        if event.label is None and not event.time:  # from when on would its label be waited for?
            return [_given(record, {"consumed": 1, "unlabelled": 1})]
        event.time = event.time or self.state.now
        row = self.waiting.find(found.key)
        if row is not None and row.phase != Phase.EARLY:
            return self._known_event(record, found, event, row)
        seq = self.state.events
        if event.label is not None:
            moves = {"consumed": 1}
            if row is not None:
                self.waiting.remove(row)
                moves |= self._no_longer_early(label_of(row.body or b""), "duplicate")
            self._keep(Row(seq, found.key, 0.0, Phase.JOINED, None), event.time, Phase.JOINED)
            return [_given(record, moves, event, mode="learn", served=found.served)]
        asked = Asked(event.id, event.features.raw, event.time, event.weight, found.served)
        fresh = Row(seq, found.key, event.time + self._wait, Phase.PENDING, encode(asked))
        if row is None:
            self.waiting.put(fresh)
            self.state.pending += 1
            return [self._arrived(record, event, seq)]
        self.waiting.remove(row)
        return self._awaited(record, event, fresh, asked, label_of(row.body or b""))

    def _awaited(self, record: Record, event: Event, fresh: Row, asked: Asked, early: EarlyLabel) -> list[Record]:
        """An event whose label, or reward, is there already."""
        if not early.labelled:
            asked.rewarded = True
            self.waiting.put(msgspec.structs.replace(fresh, body=encode(asked)))
            self.state.pending += 1
            given = _given(record, self._no_longer_early(early, "rewarded"))
            return [self._arrived(record, event, fresh.seq), _with_reward(given, asked, early.reward)]
        if early.label is None:
            self._keep(fresh, event.time, Phase.WITHDRAWN)
            moves = {"consumed": 1, "unlabelled": 1, **self._no_longer_early(early, "withdrawn", "rewarded")}
            return [_with_reward(_given(record, moves), asked, early.reward)]
        self._keep(fresh, event.time, Phase.JOINED)
        moves = {"pending": -1, **self._no_longer_early(early, "joined", "rewarded")}
        pair = self._settled(record, fresh, asked, early.label, "learn", moves, early.weight, early.time)
        return [self._arrived(record, event, fresh.seq), _with_reward(pair, asked, early.reward)]

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
        reward = label.reward if isinstance(label, GivenLabel) else None
        alone = isinstance(label, GivenLabel) and not label.labelled
        if row is None or row.phase == Phase.EARLY:
            early = EarlyLabel(label.label, label.weight, label.time, reward, not alone, alone)
            return [self._early(time, record, found.key, row, early)]
        return [self._rewarded(record, row, reward) if alone else self._of_known(record, row, label, reward)]

    def _early(self, time: float, record: Record, key: int, row: Row | None, label: EarlyLabel) -> Record:
        """A label or a reward whose event has not come; the other half of one that waits is put beside it."""
        if row is None:
            row = Row(-self.state.labels, key, time + self._wait, Phase.EARLY, None)
            self.state.early += 1
        else:
            there = label_of(row.body or b"")
            if there.labelled and label.alone and there.reward is None:
                label = msgspec.structs.replace(there, reward=label.reward, alone=True)
            elif there.labelled or label.alone:
                return _counted(record, "duplicate")
            else:
                label = msgspec.structs.replace(label, reward=there.reward, alone=True)
        self.waiting.put(msgspec.structs.replace(row, body=encode(label)))
        return _counted(record, "early")

    def _of_known(self, record: Record, row: Row, label: Event, reward: float | None) -> Record:
        """A label whose event is known."""
        if row.phase == Phase.PENDING:
            return self._in_time(record, row, label, reward)
        if row.phase == Phase.NEGATIVE:
            return self._too_late(record, row, label, reward)
        if row.phase == Phase.TIMED_OUT:
            return _counted(record, "late", delay=label.time - (row.due - self._known))
        return _counted(record, "duplicate")

    def _rewarded(self, record: Record, row: Row, reward: float | None) -> Record:
        """A reward by itself: the event goes on waiting for its label, or is what it was."""
        if row.phase > Phase.NEGATIVE or (asked := self._asked(row)).rewarded:
            return _counted(record, "late" if row.phase == Phase.TIMED_OUT else "duplicate")
        asked.rewarded = True
        self.waiting.put(msgspec.structs.replace(row, body=encode(asked)))
        return _with_reward(_counted(record, "rewarded"), asked, reward)

    def _in_time(self, record: Record, row: Row, label: Event, reward: float | None) -> Record:
        asked = self._asked(row)
        reward = None if asked.rewarded else reward
        self.state.pending -= 1
        if label.label is None:
            self._keep(row, asked.time, Phase.WITHDRAWN)
            return _with_reward(_counted(record, "withdrawn", {"pending": -1, "unlabelled": 1}), asked, reward)
        self._keep(row, asked.time, Phase.JOINED)
        moves = {"labels.consumed": 1, "labels.joined": 1, "pending": -1}
        given = self._settled(record, row, asked, label.label, "learn", moves, label.weight, label.time)
        return _with_reward(given, asked, reward)

    def _too_late(self, record: Record, row: Row, label: Event, reward: float | None) -> Record:
        """A label of what was learnt as no. A late yes puts it right; withdrawn it stays what it was."""
        asked, moves = self._asked(row), {"labels.consumed": 1, "labels.late": 1}
        self._keep(row, asked.time, Phase.JOINED)
        mode: Mode = "late" if label.label else "score"
        given = self._settled(record, row, asked, bool(label.label), mode, moves, label.weight, label.time)
        return _with_reward(given, asked, None if asked.rewarded else reward)

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


def _with_reward(record: Record, asked: Asked, reward: float | None) -> Record:
    """The same record, and what the answer to its event earned."""
    if record.joined is not None and reward is not None and asked.served is not None:
        record.joined.reward, record.joined.served = reward, asked.served
    return record


def _more(record: Record, what: str) -> Record:
    if record.joined is not None:
        record.joined.moves[what] = 1
    return record
