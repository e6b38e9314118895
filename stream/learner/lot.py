"""What is handed to the learners together: events of one mode, and questions in between."""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from learners.event import Event
from stream.learner.process import Asked
from stream.record import Mode, Record


class Lot:
    """Events in order, where each was read, and what is asked before which of them."""

    def __init__(self, mode: Mode = "learn") -> None:
        self.mode = mode
        self.events: list[Event] = []
        self.origins: list[Record] = []
        self.asked: list[Asked] = []

    def add(self, origin: Record, event: Event) -> None:
        """An event to be learnt or scored."""
        self.events.append(event)
        self.origins.append(origin)

    def ask(self, sequence: int, event: Event) -> None:
        """An event without a label, to be predicted by learners as they are before the next one is learnt."""
        self.asked.append(Asked(sequence, event.features.raw, len(self.events)))


def moved(asked: Asked, kept: Sequence[int]) -> Asked:
    """A question in a lot of which only some events are kept, by their indices."""
    return msgspec.structs.replace(asked, before=bisect_left(kept, asked.before))
