"""Whether a learner does worse than it did: its losses against its own past, by an e-detector."""

import math

import msgspec
import numpy as np

from learners.errors import StateRefusedError
from learners.evidence.losses import Floats
from learners.evidence.paired import BETS, RECENT_EVENTS


class OwnLoss:
    """A learner's fresh losses against the best that it held before, for whatever reason it now does worse.

    The level is the lowest of all blocks of 2,000 scored events so far: a block's mean and three of its standard
    errors, so that a lucky block does not become the measure. While the mean loss stays at or below level and
    tolerance, the expected number of looks to an alarm at threshold c is at least c. ``since`` is the ledger's entry
    from which on it is measured; another begins anew.
    """

    def __init__(self, tolerance: float, since: int = 0) -> None:
        self.tolerance, self.since = tolerance, since
        self.level: float | None = None
        self.n = 0
        self.recent = math.nan
        self._block = np.zeros(3)  # events, sum, sum of squares
        self._r, self._s = np.zeros(len(BETS)), np.zeros(len(BETS))

    def update(self, losses: Floats) -> None:
        """Take the losses of a batch of fresh events, scored before the learner learnt them."""
        if not len(losses):
            return
        if self.level is not None:
            grown = (losses - self.level - self.tolerance) / (1 + self.tolerance)
            self._s += np.log1p(grown[:, None] * BETS).sum(axis=0)
        self.n += len(losses)
        mean = float(losses.mean())
        share = min(1.0, len(losses) / min(self.n, RECENT_EVENTS))
        self.recent = mean if math.isnan(self.recent) else self.recent + share * (mean - self.recent)
        self._block += (len(losses), losses.sum(), (losses * losses).sum())
        count, total, square = self._block
        if count >= RECENT_EVENTS:
            deviation = math.sqrt(max(0.0, square / count - (total / count) ** 2))
            highest = float(total / count + 3 * deviation / math.sqrt(count))
            self.level = highest if self.level is None else min(self.level, highest)
            self._block[:] = 0

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        if self._s.any():
            with np.errstate(over="ignore"):
                self._r = np.minimum((self._r + 1) * np.exp(self._s), 1e300)
            self._s[:] = 0

    def figures(self) -> dict[str, float | None]:
        """What a snapshot's manifest says; ``alarm`` is the e-detector."""
        recent = None if math.isnan(self.recent) else self.recent
        return {"level": self.level, "recent": recent, "events": self.n, "alarm": float(self._r.mean()),
                "since": self.since}  # fmt: skip

    def dump(self) -> bytes:
        """Encode the whole state as msgpack."""
        return msgspec.msgpack.encode((
            self.tolerance, self.since, self.level, self.n, self.recent, self._block.tolist(), self._r.tolist(),
            self._s.tolist(),
        ))  # fmt: skip

    @classmethod
    def load(cls, data: bytes) -> "OwnLoss":
        """Return what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            tolerance, since, level, n, recent, block, r, s = msgspec.msgpack.decode(data)
            found = cls(tolerance, since)
            found.level, found.n, found.recent = level, n, recent
            found._block, found._r, found._s = (np.array(one, np.float64) for one in (block, r, s))
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as cause:
            raise StateRefusedError(f"the evidence about a learner's own loss does not decode: {cause}") from cause
        return found
