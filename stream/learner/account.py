"""The account of one learner: what it has learnt, what it has not and why, on which line. Pure."""

from typing import Literal

import msgspec

from snapshots.errors import SnapshotsError
from snapshots.records.manifest import Counts, LearnerPart, Quarantined
from snapshots.records.place import Place, Ranges, between
from stream.record import Record


class Account:
    """``learnt`` and ``quarantined`` count this learner's events; the other classes belong to the place (promise 2).

    ``stopped`` is the quarantine that grows while the learner may not learn; None while it may.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = self.learnt = self.quarantined = 0
        self.quarantine: list[Quarantined] = []
        self.stopped: Quarantined | None = None

    def restore(self, part: LearnerPart) -> None:
        """Take counts, line and quarantine of a snapshot."""
        self.line, self.learnt, self.quarantined = part.line, part.learnt, part.quarantined
        self.quarantine, self.stopped = list(part.quarantine), None

    def pass_over(self, kind: Literal["revert", "new"], name: str, cause: str, ranges: Ranges, counts: Counts) -> None:
        """Quarantine everything of these ranges that this learner has not learnt."""
        before, self.quarantined = self.quarantined, counts.remaining() - self.learnt
        self.quarantine.append(Quarantined(name, cause, ranges, self.quarantined - before, kind=kind))

    def refuse(self, origin: Record, error: str) -> None:
        """Quarantine one event that the learner raised at."""
        ranges: Ranges = {origin.topic: {origin.partition: (origin.offset, origin.following)}}
        name = f"refused-{origin.topic}-{origin.partition}-{origin.offset}"
        self.quarantine.append(Quarantined(name, "refused", ranges, 1, error=error, kind="refused"))
        self.quarantined += 1

    def refused(self) -> int:
        """How many events are in quarantine because the learner raised at them."""
        return sum(one.events for one in self.quarantine if one.kind == "refused" or one.cause == "refused")

    def stop(self, name: str, cause: str, place: Place) -> None:
        """Learn nothing more from here on: what comes is quarantined until :meth:`resume`."""
        going_on = next((one for one in self.quarantine if one.id == name), None)
        begins: Ranges = {t: {p: (offset, None) for p, offset in parts.items()} for t, parts in place.items()}
        if going_on is None:
            self.stopped = Quarantined(name, cause, begins, 0, kind="stopped")
            return
        self.quarantine.remove(going_on)
        for topic, partitions in going_on.ranges.items():
            begins.setdefault(topic, {}).update({p: (begin, None) for p, (begin, _) in partitions.items()})
        self.stopped = msgspec.structs.replace(going_on, ranges=begins)

    def resume(self, place: Place) -> None:
        """Learn again from here on."""
        if self.stopped is not None:
            self.quarantine.append(self._until(self.stopped, place))
            self.stopped = None

    def skip(self, count: int) -> None:
        """Count events that are quarantined because learning is stopped."""
        if self.stopped is not None:
            self.quarantined += count
            self.stopped = msgspec.structs.replace(self.stopped, events=self.stopped.events + count)

    def _until(self, stopped: Quarantined, place: Place) -> Quarantined:
        begins: Place = {t: {p: ends[0] for p, ends in parts.items()} for t, parts in stopped.ranges.items()}
        return msgspec.structs.replace(stopped, ranges=between(begins, place))

    def quarantine_at(self, place: Place) -> list[Quarantined]:
        """The quarantine as a snapshot at this place holds it."""
        return [*self.quarantine, *([self._until(self.stopped, place)] if self.stopped is not None else [])]

    def verify(self, counts: Counts) -> None:
        """Hold the accounting equation (promise 2); a difference is a fault of the program."""
        if counts.remaining() != self.learnt + self.quarantined or counts.labels_left():
            raise SnapshotsError(
                f"the accounting of {self.name} does not add up: {counts} against {self.learnt} learnt and "
                f"{self.quarantined} quarantined. No snapshot was written; please report this"
            )
