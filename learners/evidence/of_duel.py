"""The evidence of a duel: every challenger against the champion on the same events, since the duel began."""

from typing import Any

import msgspec

from learners.errors import StateRefusedError
from learners.evidence.losses import Floats
from learners.evidence.of_rollout import figures_of
from learners.evidence.paired import Paired


class OfDuel:
    """Pairs of each challenger and the champion since ledger entry ``entry``; 0 where there is no duel."""

    def __init__(self, max_slices: int = 200) -> None:
        self._max_slices = max_slices
        self.entry, self._paired = 0, dict[str, Paired]()

    def begin(self, entry: int) -> None:
        """Begin anew for another duel; one that is known goes on."""
        if entry != self.entry:
            self.entry, self._paired = entry, {}

    def note(self, name: str, own: Floats, champion: Floats, slices: list[list[str]] | None) -> None:
        """Take losses of events that a challenger and the champion predicted just before they learnt them."""
        if self.entry:
            self._paired.setdefault(name, Paired(0.0, None, self._max_slices)).update(own, champion, slices)

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        for one in self._paired.values():
            one.close_look()

    def figures(self, alpha: float) -> dict[str, Any]:
        """Each challenger minus the champion; the intervals of all hold at any time but for ``alpha``."""
        if not self.entry:
            return {}
        each = alpha / max(1, len(self._paired))
        return {"entry": self.entry, "challengers": {name: figures_of(one, each) for name, one in self._paired.items()}}

    def dump(self) -> bytes:
        """Encode the whole state as msgpack; nothing where there is no duel."""
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
            raise StateRefusedError(f"the evidence of a duel does not decode: {cause}") from cause
        self.entry, self._paired = entry, {name: Paired.load(one) for name, one in found.items()}
