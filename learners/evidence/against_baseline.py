"""The online learner against the baseline, on the same fresh events: evidence to fall back, and to return.

Two e-detectors of :class:`learners.evidence.paired.Paired`. Falling back: loss(online) - loss(baseline) exceeds the
margin; it goes on through reverts and new snapshots, and starts again with another baseline. Returning: loss(online) is
below loss(baseline); it starts when serving falls back. Never an average since the beginning, which a long good time
blinds.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.errors import StateRefusedError
from learners.evidence.losses import WHOLE, Floats
from learners.evidence.own_loss import OwnLoss
from learners.evidence.paired import Paired


class AgainstBaseline:
    """Evidence about one learner and one baseline.

    ``switch`` is the ledger's entry by which serving last fell back or returned (0: none); another begins both anew.
    """

    def __init__(self, baseline: int, margin: float, max_slices: int = 200, *, switch: int = 0) -> None:
        self.baseline, self.margin, self.switch = baseline, margin, switch
        self._max_slices = max_slices
        self._falling = Paired(margin, baseline, max_slices)
        self._returning = Paired(0.0, baseline, max_slices)

    def switched(self, switch: int) -> None:
        """Begin the evidence for the other direction: serving fell back, or returned."""
        if switch != self.switch:
            self.switch = switch
            self._returning = Paired(0.0, self.baseline, self._max_slices)
            self._falling = Paired(self.margin, self.baseline, self._max_slices)

    def update(self, online: Floats, baseline: Floats, slices: Sequence[Sequence[str]] | None) -> None:
        """Take the losses of a batch of fresh events, scored before the learner learnt them."""
        self._falling.update(online, baseline, slices)
        self._returning.update(online, baseline, None)

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        self._falling.close_look()
        self._returning.close_look()

    def figures(self) -> dict[str, Any]:
        """What a snapshot's manifest says: differences (online minus baseline; below 0: online is better)."""
        names = [name for name in self._falling.slices if self._falling.events(name)]
        intervals = {name: self._falling.interval(name) for name in names}
        whole = self._falling.interval()
        return {
            "baseline": self.baseline, "switch": self.switch, "events": whole.n, "difference": whole.mean,
            "low": whole.low, "high": whole.high, "fall_back": self._falling.worse(),
            "return_events": self._returning.events(), "return": self._returning.better(),
            "slices": {
                name: [one.mean, one.low, one.high, one.n] for name, one in intervals.items() if name != WHOLE
            },
        }  # fmt: skip

    def dump(self) -> bytes:
        """Encode the whole state as msgpack."""
        return msgspec.msgpack.encode({
            "baseline": self.baseline, "margin": self.margin, "switch": self.switch, "max_slices": self._max_slices,
            "falling": self._falling.dump(), "returning": self._returning.dump(),
        })  # fmt: skip

    @classmethod
    def load(cls, data: bytes) -> "AgainstBaseline":
        """Return what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            saved: dict[str, Any] = msgspec.msgpack.decode(data)
            found = cls(saved["baseline"], saved["margin"], saved["max_slices"], switch=saved["switch"])
            found._falling = Paired.load(saved["falling"])
            found._returning = Paired.load(saved["returning"])
        except (msgspec.DecodeError, RecursionError, KeyError, TypeError, ValueError) as cause:
            raise StateRefusedError(f"the evidence about the baseline does not decode: {cause}") from cause
        return found


class Evidence(msgspec.Struct):
    """What a snapshot carries of a learner's evidence: against its reference, the baseline, and its own past."""

    paired: Paired
    versus: AgainstBaseline | None = None
    own: OwnLoss | None = None

    def dump(self) -> bytes:
        """Encode all of it."""
        parts = (self.paired, self.versus, self.own)
        return msgspec.msgpack.encode([one.dump() if one is not None else None for one in parts])

    @classmethod
    def load(cls, data: bytes) -> "Evidence":
        """Return what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            paired, versus, own = [*msgspec.msgpack.decode(data, type=list[bytes | None]), None][:3]
        except (msgspec.DecodeError, RecursionError, msgspec.ValidationError, ValueError) as cause:
            raise StateRefusedError(f"the evidence does not decode: {cause}") from cause
        return cls(
            Paired.load(paired or b""),
            AgainstBaseline.load(versus) if versus is not None else None,
            OwnLoss.load(own) if own is not None else None,
        )


def concatenated(parts: Sequence[Floats | None]) -> Floats | None:
    """One array of several; None when there is none."""
    found = [one for one in parts if one is not None]
    return np.concatenate(found) if found else None
