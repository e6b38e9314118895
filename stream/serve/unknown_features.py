"""Features that are asked for as nobody learns them: another spelling, or a number as text, answered in silence else.

Names and types are held against those of the newest learnt events (the 256 that a snapshot carries), of all snapshots
that answered here. Some requests are looked at, not all: this must cost nothing.
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
_KINDS: dict[type, str] = {float: "number", int: "number", str: "text", bool: "bool"}


class Strangers:
    """Counts names of asked features that no learnt event has. ``counts`` is by name, of the requests looked at.

    ``others`` counts in the same way those that were learnt, but never with a value of this type: ``'age' as text``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self._known: dict[str, set[type]] = {}
        self._asked = 0

    def learn(self, rows: Iterable[bytes]) -> None:
        """Take the names and types of learnt events, as JSON bytes of their features."""
        for row in rows:
            for name, value in Features(row).flat().items():
                if name in self._known or len(self._known) < _MOST_KNOWN:
                    self._known.setdefault(name, set()).add(type(value))

    def see(self, features: Features) -> None:
        """Look at what is asked, perhaps."""
        self._asked += 1
        if not self._known or (self._asked > _FIRST and self._asked % _STRIDE):
            return
        for name, value in features.flat().items():
            kinds = self._known.get(name)
            if kinds is None:
                if _count(self.counts, name):
                    log.warning("requests have the feature %r, which none of the newest learnt events has", name)
            elif type(value) not in kinds and _count(self.others, f"{name!r} as {_KINDS[type(value)]}"):
                learnt = " or ".join(sorted(_KINDS[one] for one in kinds))
                log.warning(
                    "requests have the feature %r as %s, which the newest learnt events have as %s only: what was "
                    "learnt of it does not count. [event.types] refuses it", name, _KINDS[type(value)], learnt,
                )  # fmt: skip


def _count(counts: Counter[str], name: str) -> bool:
    """Count a name, where there is room for it; tell whether it is the first time."""
    if name not in counts and len(counts) >= _MOST_SAID:
        return False
    counts[name] += 1
    return counts[name] == 1
