"""Records of many partitions in one order: by time, then by where they are. Time is the stream's, never the clock's."""

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator

from stream.record import Record

_Partition = tuple[str, str]
#: records of one partition that are kept back before no more of it are asked for, and how few before they are again
_MOST, _FEW = 20_000, 5_000
#: after so many records without a time, and none with one, a partition is taken for one that has none
_UNTIMED = 20


class Ordered:
    """Puts records in the order of (time, topic, partition, offset).

    A record's time is what ``time_of`` finds in it (Unix seconds), and never before that of the record before it in its
    partition. It is let go once no other partition can have an earlier one: each has a later record, or was read to its
    end, is quiet, and ``idle`` seconds behind in the time of the others. So the order is the same whenever the same
    topics are read; what comes later than ``idle`` after its own time is passed by. ``times`` are those of what was let
    go last.
    """

    def __init__(self, time_of: Callable[[Record], float | None], idle: float) -> None:
        self._time_of, self._idle = time_of, idle
        self._queues: dict[_Partition, deque[tuple[float, Record]]] = {}
        self._last: dict[_Partition, float] = {}
        self._heads: list[tuple[float, str, str, int]] = []
        self._newest = 0.0
        self._held: set[_Partition] = set()
        self._untimed: dict[_Partition, int] = {}
        self.times: dict[_Partition, float] = {}

    def begin(self, partitions: Collection[_Partition], last: dict[_Partition, float]) -> None:
        """Begin anew with these partitions, whose newest times were these."""
        self._queues = {partition: deque() for partition in partitions}
        self._last, self.times = dict(last), dict(last)
        self._newest = max(last.values(), default=0.0)
        self._heads.clear()
        self._held.clear()

    def take(self, records: Collection[Record]) -> None:
        """Take records, in the order of each partition."""
        for record in records:
            partition = (record.topic, record.partition)
            queue = self._queues.setdefault(partition, deque())
            time = max(self._timed(partition, record), self._last.get(partition, 0.0))
            self._last[partition] = time
            self._newest = max(self._newest, time)
            if not queue:
                heapq.heappush(self._heads, (time, *partition, record.offset))
            queue.append((time, record))

    def _timed(self, partition: _Partition, record: Record) -> float:
        """The time of a record; in a partition none of whose records have one, the newest time of the others.

        So a file of whole events without times does not hold up what waits for its label. Their order among the others
        is as they are read.
        """
        found = self._time_of(record)
        if found is not None:
            self._untimed[partition] = -1
            return found
        untimed = self._untimed.get(partition, 0)
        if untimed < 0:
            return 0.0
        self._untimed[partition] = untimed + 1
        return self._newest if untimed >= _UNTIMED else 0.0

    def partitions(self) -> Collection[_Partition]:
        """The partitions that are known."""
        return self._queues.keys()

    def waiting(self) -> bool:
        """Tell whether records are kept back."""
        return bool(self._heads)

    def full(self) -> Collection[_Partition]:
        """The partitions of which enough are kept back."""
        for partition, queue in self._queues.items():
            if len(queue) > _MOST:
                self._held.add(partition)
            elif len(queue) < _FEW:
                self._held.discard(partition)
        return self._held

    def let_go(
        self, behind: Collection[_Partition], quiet: Collection[_Partition], limit: int, *, everything: bool
    ) -> Iterator[tuple[float, Record]]:
        """Up to ``limit`` records in order, with their times, of which nothing earlier can come.

        ``behind`` are partitions that have records which were not taken yet, ``quiet`` those from which nothing has
        come for a while. ``everything``: nothing comes any more.
        """
        empty = {one: self._last.get(one, 0.0) for one, queue in self._queues.items() if not queue}
        missing = [one for one in empty if one in behind]
        while self._heads and limit > 0 and (everything or not missing):
            time, topic, name, _ = self._heads[0]
            late = time + self._idle > self._newest
            if not everything and any(last <= time and (late or one not in quiet) for one, last in empty.items()):
                return
            heapq.heappop(self._heads)
            partition = (topic, name)
            queue = self._queues[partition]
            self.times[partition] = time
            yield queue.popleft()
            limit -= 1
            if queue:
                heapq.heappush(self._heads, (queue[0][0], topic, name, queue[0][1].offset))
            else:
                empty[partition] = self._last[partition]
                missing += [partition] if partition in behind else []
