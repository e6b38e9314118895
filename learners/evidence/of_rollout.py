"""The evidence of a roll-out: losses of its candidate and of the champion on the same events."""

from collections.abc import Sequence
from typing import Any

import msgspec

from learners.errors import StateRefusedError
from learners.evidence.losses import WHOLE, Floats
from learners.evidence.paired import Paired


class OfRollout:
    """Pairs of a candidate and the champion since ledger entry ``entry``; 0 where there is no roll-out.

    ``learnt``: both predicted an event just before they learnt it. ``logged``: both predicted a request that was
    answered, and its label has come.
    """

    def __init__(self, max_slices: int = 200) -> None:
        self._max_slices = max_slices
        self.begin(0, "")

    def begin(self, entry: int, candidate: str) -> None:
        """Begin anew for another roll-out; one that is known goes on."""
        if entry != getattr(self, "entry", None):
            self.learnt, self.logged = (Paired(0.0, None, self._max_slices) for _ in range(2))
        self.entry, self.candidate = entry, candidate

    def note_learnt(self, name: str, own: Floats, champion: Floats, slices: list[list[str]] | None) -> None:
        """Take losses of events that a learner and the champion predicted just before they learnt them."""
        if self.entry and name == self.candidate:
            self.learnt.update(own, champion, slices)

    def note_logged(self, entry: int, own: Floats, champion: Floats, slices: Sequence[Sequence[str]] | None) -> None:
        """Take losses of requests that were answered in the roll-out of an entry."""
        if entry > self.entry:
            self.begin(entry, "")
        if entry == self.entry:
            self.logged.update(own, champion, slices)

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        self.learnt.close_look()
        self.logged.close_look()

    def figures(self, alpha: float) -> dict[str, Any]:
        """Candidate minus champion, with intervals that all hold at any time but for a probability ``alpha``."""
        if not self.entry:
            return {}
        found = {name: figures_of(one, alpha) for name, one in (("learnt", self.learnt), ("logged", self.logged))}
        return {"entry": self.entry, **{name: one for name, one in found.items() if one["events"]}}

    def dump(self) -> bytes:
        """Encode the whole state as msgpack; nothing where there is no roll-out."""
        if not self.entry:
            return b""
        return msgspec.msgpack.encode((self.entry, self.candidate, self.learnt.dump(), self.logged.dump()))

    def restore(self, data: bytes) -> None:
        """Take what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        self.begin(0, "")
        if not data:
            return
        try:
            saved = msgspec.msgpack.decode(data, type=tuple[int, str, bytes, bytes])
        except (msgspec.DecodeError, RecursionError) as cause:
            raise StateRefusedError(f"the evidence of a roll-out does not decode: {cause}") from cause
        self.begin(saved[0], saved[1])
        self.learnt, self.logged = Paired.load(saved[2]), Paired.load(saved[3])


def figures_of(paired: Paired, alpha: float) -> dict[str, Any]:
    """Means and intervals of the whole and of each slice, which all hold at any time but for ``alpha``."""
    names = [name for name in paired.slices if name != WHOLE and paired.events(name)]
    each = alpha / (1 + len(names))
    whole, slices = paired.interval(alpha=each), {name: paired.interval(name, each) for name in names}
    return {
        "events": whole.n, "difference": whole.mean, "low": whole.low, "high": whole.high,
        "slices": {name: [one.mean, one.low, one.high, one.n] for name, one in slices.items()},
    }  # fmt: skip
