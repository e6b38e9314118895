"""Pairs of somebody and the champion on the same events, since an entry of the ledger: of a duel, or of a roll-out."""

from collections.abc import Sequence
from typing import Any

import msgspec

from learners.errors import StateRefusedError
from learners.evidence.losses import Floats
from learners.evidence.paired import Paired


class SinceEntry:
    """Pairs by name since ledger entry ``entry``; 0: there is nothing to compare."""

    def __init__(self, max_slices: int = 200) -> None:
        self._max_slices = max_slices
        self.entry = 0
        self._paired: dict[str, Paired] = {}

    def begin(self, entry: int) -> None:
        """Begin anew for another entry; one that is known goes on."""
        if entry != self.entry:
            self.entry, self._paired = entry, {}

    def note(self, name: str, own: Floats, champion: Floats, slices: Sequence[Sequence[str]] | None) -> None:
        """Take losses of the same events."""
        if self.entry:
            self._paired.setdefault(name, Paired(0.0, None, self._max_slices)).update(own, champion, slices)

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        for one in self._paired.values():
            one.close_look()

    def dump(self) -> bytes:
        """Encode the whole state as msgpack; nothing where nothing is compared."""
        if not self.entry:
            return b""
        return msgspec.msgpack.encode((self.entry, {name: one.dump() for name, one in self._paired.items()}))

    def restore(self, data: bytes) -> None:
        """Take what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        self.begin(0)
        if not data:
            return
        try:
            entry, found = msgspec.msgpack.decode(data, type=tuple[int, dict[str, bytes]])
        except (msgspec.DecodeError, RecursionError) as cause:
            raise StateRefusedError(f"the evidence since an entry of the ledger does not decode: {cause}") from cause
        self.entry, self._paired = entry, {name: Paired.load(one) for name, one in found.items()}


class OfDuel(SinceEntry):
    """Every challenger against the champion, each just before it learnt the event."""

    def figures(self, alpha: float) -> dict[str, Any]:
        """Each challenger minus the champion; the intervals of all hold at any time but for ``alpha``."""
        if not self.entry:
            return {}
        each = alpha / max(1, len(self._paired))
        found = {name: one.figures_together(each) for name, one in self._paired.items()}
        return {"entry": self.entry, "challengers": found}


class OfRollout(SinceEntry):
    """The candidate of a roll-out against the champion.

    ``learnt``: both predicted an event just before they learnt it. ``logged``: both predicted a request that was
    answered, and its label has come.
    """

    def __init__(self, max_slices: int = 200) -> None:
        super().__init__(max_slices)
        self.candidate = ""

    def begin(self, entry: int, candidate: str = "") -> None:
        """Begin anew for another roll-out; one that is known goes on."""
        super().begin(entry)
        self.candidate = candidate

    def note_learnt(self, name: str, own: Floats, champion: Floats, slices: list[list[str]] | None) -> None:
        """Take losses of events that a learner and the champion predicted just before they learnt them."""
        if name == self.candidate:
            self.note("learnt", own, champion, slices)

    def note_logged(self, entry: int, own: Floats, champion: Floats, slices: Sequence[Sequence[str]] | None) -> None:
        """Take losses of requests that were answered in the roll-out of an entry."""
        if entry > self.entry:
            self.begin(entry)
        if entry == self.entry:
            self.note("logged", own, champion, slices)

    def figures(self, alpha: float) -> dict[str, Any]:
        """Candidate minus champion, with intervals that all hold at any time but for a probability ``alpha``."""
        if not self.entry:
            return {}
        return {"entry": self.entry, **{name: one.figures_together(alpha) for name, one in self._paired.items()}}

    def dump(self) -> bytes:
        """Encode the whole state, and who the candidate is."""
        return msgspec.msgpack.encode((self.candidate, super().dump())) if self.entry else b""

    def restore(self, data: bytes) -> None:
        """Take what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            candidate, rest = msgspec.msgpack.decode(data, type=tuple[str, bytes]) if data else ("", b"")
        except (msgspec.DecodeError, RecursionError) as cause:
            raise StateRefusedError(f"the evidence of a roll-out does not decode: {cause}") from cause
        super().restore(rest)
        self.candidate = candidate
