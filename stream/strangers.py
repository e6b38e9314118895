"""Features that are asked for and that nobody learns: a caller's other spelling would else be answered in silence.

Names are held against those of the newest learnt events (the 256 that a snapshot carries), of all snapshots that
answered here. Some requests are looked at, not all: this must cost nothing.
"""

import logging
from collections import Counter
from collections.abc import Iterable

from learners.event import Features

log = logging.getLogger("holdfast.serving")
#: the first requests are all looked at, of the rest one in so many
_FIRST, _STRIDE = 200, 16
#: names that are remembered and said; a caller who makes up names fills nothing
_MOST_KNOWN, _MOST_SAID = 100_000, 20


class Strangers:
    """Counts names of asked features that no learnt event has. ``counts`` is by name, of the requests looked at."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: set[str] = set()
        self._asked = 0

    def learn(self, rows: Iterable[bytes]) -> None:
        """Take the names of learnt events, as JSON bytes of their features."""
        for row in rows:
            if len(self._known) < _MOST_KNOWN:
                self._known.update(Features(row).flat())

    def see(self, features: Features) -> None:
        """Look at what is asked, perhaps."""
        self._asked += 1
        if not self._known or (self._asked > _FIRST and self._asked % _STRIDE):
            return
        for name in features.flat():
            if name not in self._known and (name in self.counts or len(self.counts) < _MOST_SAID):
                self.counts[name] += 1
                if self.counts[name] == 1:
                    log.warning("requests have the feature %r, which none of the newest learnt events has", name)
