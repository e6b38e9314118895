"""A source whose events have their labels: it reads events and labels in order of time, and delivers what they mean."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice

import msgspec

from learners.event import Event
from snapshots.records.place import Place, copy_place, is_before
from stream.errors import SourceLostError
from stream.join.join import Join, JoinState, Mark
from stream.join.ordered import Ordered
from stream.join.records import Decoded, Decoder, key_of
from stream.record import Record
from stream.source.source import Source

log = logging.getLogger("holdfast.join")
#: under this name a snapshot keeps the state of the join
_STATE = "join"
#: marks in a horizon: more make what is read again shorter, and each snapshot longer
_MARKS = 4
_SAY_SECONDS = 10.0
#: how long it waits the first time that there is nothing; twice as long each time after that
_SHORTEST_SECONDS = 0.002
_encode = msgspec.json.Encoder().encode
_state_of = msgspec.json.Decoder(JoinState).decode
_place_of = msgspec.json.Decoder(Place).decode


class JoinedSource:
    """Keeps the contract of a source over one of events and labels. Each record carries what the join made of it.

    One record may be delivered several times, once for each thing that follows from it, all with its offset. The rows
    that wait are in the join's; where they are missing or of another place, they are read from the topics again.
    """

    def __init__(
        self, inner: Source, join: Join, decoder: Decoder, idle: float, poll_seconds: float,
        *, elapsed: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._poll_seconds, self._sleep, self._pause = poll_seconds, sleep, _SHORTEST_SECONDS
        self.losses = inner.losses
        self._inner, self._join, self._waiting, self._decoder = inner, join, join.waiting, decoder
        self._idle, self._elapsed = idle, elapsed
        self._ordered = Ordered(decoder.time_of, idle)
        self._place: Place = {}
        self._ready: Iterator[Record] = iter(())
        self._goal: tuple[Place, JoinState] | None = None
        self._beyond: list[Record] = []
        self._read_to: Place = {}
        self._lost = 0
        self._heard: dict[tuple[str, str], float] = {}

    def resolve(self) -> Place:
        """Where a new lineage begins."""
        return self._inner.resolve()

    def identities(self) -> dict[str, str]:
        """The ids of the topics, and the state of the join."""
        return {**self._inner.identities(), _STATE: self._state()}

    # Places ------------------------------------------------------------------------------------------------------

    def open(self, place: Place, topics: dict[str, str]) -> Place:
        """Begin at a place; where what waits there is not known, read on from where it can be known again.

        ``topics`` is what :meth:`cut` gave at that place, or nothing: then everything is read from the beginning.
        """
        state = _state_of(topics[_STATE]) if _STATE in topics else JoinState()
        self._ready = iter(())
        self._waiting.go_back()
        memo = self._waiting.memo()
        begun = _place_of(memo[0]) if memo is not None else None
        if memo is None or begun is None or not is_before(begun, place) or _state_of(memo[1]).now > state.now:
            self._waiting.begin_anew()
            begun = None
        else:
            known = _state_of(memo[1])
        if begun is None:
            if state.events or state.labels:
                log.warning("what waits for its label is not here, and is read again from the topics")
            mark = self._mark_for(state)
            begun = _filled(mark.place, place) if mark is not None else place
            known = JoinState(events=mark.events, labels=mark.labels, times=mark.times) if mark is not None else state
        try:
            if begun != place:
                self._inner.open(place, topics)  # raises where the topics no longer hold what this place says
            opened = self._begin(begun, known, topics)
        except SourceLostError as cause:
            if begun == place:
                raise
            raise SourceLostError(
                f"what waits for its label cannot be read again, since topics no longer hold it: {cause}. Restore "
                "join.directory from another disk if there is one, or let the topics keep longer than join.wait"
            ) from cause
        self._goal, self._lost = (place, state), 0
        self._read_on()
        return {**opened, **copy_place(place)}

    def _mark_for(self, state: JoinState) -> Mark | None:
        """The newest mark from which everything that waits can be known; the first where none is old enough."""
        old = [mark for mark in state.marks if mark.time <= state.now - self._join.horizon]
        return old[-1] if old else (state.marks[0] if state.marks else None)

    def _begin(self, place: Place, state: JoinState, topics: dict[str, str]) -> Place:
        opened = self._inner.open(place, topics)
        partitions = {(topic, name) for topic, names in opened.items() for name in names}
        times = {(topic, name): last for topic, names in state.times.items() for name, last in names.items()}
        self._ordered.begin(partitions, times)
        self._place = copy_place(opened)
        self._join.state = state
        self._heard = {}
        self._beyond, self._read_to = [], copy_place(opened)
        if not state.marks and not (state.events or state.labels):
            state.marks = [Mark(0.0, copy_place(opened), 0, 0, {})]
        return opened

    def _read_on(self) -> None:
        """Read up to the goal, keeping what waits and giving nothing."""
        said = self._elapsed()
        while self._goal is not None and not self._reached():
            before = copy_place(self._place)
            self._ready = self._next(1000)
            first = next(self._ready, None)
            if first is not None:
                self._ready = chain([first], self._ready)
                return
            if self._elapsed() - said > _SAY_SECONDS:
                said = self._elapsed()
                log.info("what waits for its label is read again: so far up to %s", self._place)
            if self._place == before:
                self._give_up_goal()
                self._sleep(_SHORTEST_SECONDS)

    def _give_up_goal(self) -> None:
        """Where the topics hold nothing more up to the goal, go on with what there is."""
        if self._goal is not None and not self._ordered.waiting() and (self._beyond or not self._inner.behind()):
            log.warning("what waits for its label may not be whole: the topics no longer hold all of it")
            self._arrive(self._goal[1])

    def _reached(self) -> bool:
        """Tell whether the goal is reached; from there on the state is that of the snapshot."""
        if self._goal is None:
            return True
        place, state = self._goal
        if not is_before(place, self._place):
            return False
        self._arrive(state)
        return True

    def _arrive(self, state: JoinState) -> None:
        """The place is reached: the state is the snapshot's, but for what could not be read again."""
        self._goal, there = None, self._join.state.pending
        if state.marks:
            self._lost, state.pending = max(0, state.pending - there), there
            self._join.state = state

    # Records -----------------------------------------------------------------------------------------------------

    def poll(self, limit: int) -> list[Record]:
        """The next records with what they mean."""
        found = list(islice(self._ready, limit))
        if not found:
            self._ready = self._next(limit)
            found = list(islice(self._ready, limit))
        if not found:
            self._give_up_goal()
            self._sleep(self._pause)
            self._pause = min(self._poll_seconds, 2 * self._pause)
        else:
            self._pause = _SHORTEST_SECONDS
        return found

    def whole(self) -> bool:
        """Tell whether everything that follows from the last record was delivered, and what waits is known."""
        first = next(self._ready, None)
        if first is not None:
            self._ready = chain([first], self._ready)
        return first is None and self._reached()

    def _next(self, limit: int) -> Iterator[Record]:
        """What follows from the next records in order; an order is taken at once, what it means as it is asked for."""
        self._inner.hold({*self._ordered.full(), *((one.topic, one.partition) for one in self._beyond)})
        ended = self._inner.ended()
        records = [] if ended else self._inner.poll(limit)
        known = self._up_to_goal(records)
        self._ordered.take(known)
        behind, now = self._inner.behind(), self._elapsed()
        for one in (*behind, *{(record.topic, record.partition) for record in records}):
            self._heard[one] = now
        still = {one for one in self._ordered.partitions() if now - self._heard.setdefault(one, now) >= self._idle}
        everything = ended or len(still) == len(self._ordered.partitions()) or self._all_read_to_goal(behind)
        lot = list(self._ordered.let_go(behind, still, limit, everything=everything))
        decoded = [self._decoder.decode(record) for _, record in lot]
        self._waiting.look_up([found.key for found in decoded])
        return self._meaning(lot, decoded)

    def _meaning(self, lot: list[tuple[float, Record]], decoded: list[Decoded]) -> Iterator[Record]:
        for (when, record), found in zip(lot, decoded, strict=True):
            known = not self._reached()
            self._place.setdefault(record.topic, {})[record.partition] = record.following
            given = self._join.take(when, record, found)
            if known:
                deque(given, maxlen=0)
            else:
                yield from given

    def _up_to_goal(self, records: list[Record]) -> list[Record]:
        """The records that may be put in order now: until the goal is reached those before it only.

        What lies beyond it may be of an earlier time, and was not there when the snapshot was cut.
        """
        if self._goal is None:
            found, self._beyond = [*self._beyond, *records], []
            return found
        place, found = self._goal[0], []
        for record in records:
            known = record.offset < place.get(record.topic, {}).get(record.partition, 0)
            (found if known else self._beyond).append(record)
            self._read_to.setdefault(record.topic, {})[record.partition] = record.following
        return found

    def _all_read_to_goal(self, behind: Collection[tuple[str, str]]) -> bool:
        """Tell whether every record before the goal was read, so that their order is known."""
        if self._goal is None:
            return False
        past = {(record.topic, record.partition) for record in self._beyond}
        return all(
            self._read_to.get(topic, {}).get(name, 0) >= offset or (topic, name) in past or (topic, name) not in behind
            for topic, partitions in self._goal[0].items()
            for name, offset in partitions.items()
        )

    # Cuts --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The newest snapshot is durable: what waited at its place is written."""
        self._waiting.settle()

    def cut(self) -> dict[str, str]:
        """A snapshot is cut here: what waits now is what its place means."""
        self._note_mark()
        state = self._state()
        self._waiting.seal(_encode(self._place), state.encode())
        return {**self._inner.identities(), _STATE: state}

    def _state(self) -> str:
        self._join.state.times = self._times()
        return _encode(self._join.state).decode()

    def _times(self) -> dict[str, dict[str, float]]:
        times: dict[str, dict[str, float]] = {}
        for (topic, name), last in self._ordered.times.items():
            times.setdefault(topic, {})[name] = last
        return times

    def _note_mark(self) -> None:
        """Keep this place as one to begin from, now and then, and those that are still needed."""
        state, horizon = self._join.state, self._join.horizon
        if state.marks and state.now - state.marks[-1].time < horizon / _MARKS:
            return
        state.marks.append(Mark(state.now, copy_place(self._place), state.events, state.labels, self._times()))
        old = [mark for mark in state.marks if mark.time <= state.now - horizon]
        del state.marks[: max(0, len(old) - 1)]

    def note_arrival(self, sequence: int, digest: bytes, arrived: bytes) -> None:
        """Keep what learners predicted when an event came; ``digest`` is the keyed hash of its id."""
        self._waiting.note_arrival(sequence, key_of(digest), arrived)

    def missing(self) -> int:
        """How many events should wait and could not be read again: retention deleted them, or ``holdfast forget``."""
        return self._lost

    def lost(self) -> int:
        """How many are :meth:`missing`, and were not told yet."""
        lost, self._lost = self._lost, 0
        return lost

    def forget(self, meant: Callable[[Event], bool], held: Callable[[Event], bool]) -> dict[str, int]:
        """Take events out of what waits, for good; return how the classes change."""
        self._waiting.wipe()
        return self._join.forget(meant, held)

    # The rest is the source's ------------------------------------------------------------------------------------

    def mark_end(self) -> None:
        """Remember where the topics end now."""
        self._inner.mark_end()

    def ended(self) -> bool:
        """Tell whether everything up to the marked end was delivered; what waits for a label goes on waiting."""
        return self._inner.ended() and not self._ordered.waiting() and not self._beyond and self.whole()

    def commit(self, place: Place) -> None:
        """Tell lag tools."""
        self._inner.commit(place)

    def lag(self) -> int | None:
        """How many records wait to be read."""
        return self._inner.lag()

    def behind(self) -> Collection[tuple[str, str]]:
        """What the topics have beyond what was delivered."""
        return self._inner.behind()

    def hold(self, partitions: Collection[tuple[str, str]]) -> None:
        """Nobody holds what is joined."""

    def close(self) -> None:
        """Let go of everything."""
        self._waiting.close()
        self._inner.close()


def _filled(mark: Place, place: Place) -> Place:
    """A mark, with the beginning of each partition that came after it."""
    return {
        topic: {name: mark.get(topic, {}).get(name, 0) for name in partitions} for topic, partitions in place.items()
    }
