"""What those parts of the guard have in common that decide by what the newest snapshots say."""

from collections.abc import Callable
from typing import Protocol

from snapshots import Lineage
from snapshots.decisions.ledger import Decision, Entry
from stream.settings import Config

#: tells people: action, learner or candidate, why, number of the entry
Tell = Callable[[str, str, str, int], None]
#: who decides, as the ledger says it
BY_GUARD = "guard"


class Decide(Protocol):
    """Appends a decision while what it rests on still ``stands``; returns None when somebody else was faster."""

    def __call__(self, decision: Decision, stands: Callable[[], bool]) -> Entry | None:
        """Append it."""


class Deciding:
    """Sees the lineage, decides, and tells; ``now`` is in Unix seconds."""

    def __init__(self, config: Config, lineage: Lineage, decide: Decide, tell: Tell, now: Callable[[], float]) -> None:
        self.config, self.lineage, self.now = config, lineage, now
        self._decide, self._tell = decide, tell
