"""Which learner earns most, from rewards that only the one that answered can get: Thompson sampling.

Each learner is an arm with a Beta posterior, whose counts shrink with every reward, so that what
was earned long ago is forgotten (Raj & Kalyani 2017, discounted Thompson sampling). A reward between the least and the
greatest counts as a part of a success. Requests are spread by the probability that an arm is the best, and never less
than a floor.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.errors import StateRefusedError
from learners.evidence.losses import Floats
from learners.evidence.paired import stitched

_GRID = 1000
_SPREAD = 8.0


class Arm(msgspec.Struct, array_like=True):
    """One learner's rewards, scaled to [0, 1]: ``won`` and ``lost`` shrink with time, the rest add up since a winner.

    ``total`` and ``square`` belong to its confidence sequence: a sum of estimates in [0, 1], and of their squared
    differences from the mean before.
    """

    won: float = 0.0
    lost: float = 0.0
    rewards: int = 0
    earned: float = 0.0
    total: float = 0.0
    square: float = 0.0


class _Saved(msgspec.Struct, array_like=True):
    entry: int
    events: int
    arms: dict[str, Arm]


class Thompson:
    """Posteriors, and who is the best for certain, since ledger entry ``entry``.

    ``memory`` is after how many rewards a reward counts 1/e of itself; ``floor`` is the least probability with which an
    arm answers; ``between`` are the least and the greatest reward.
    """

    def __init__(
        self, memory: int = 10_000, floor: float = 0.02, between: tuple[float, float] = (0.0, 1.0)
    ) -> None:  # fmt: skip
        self._keep, self._floor = 1 - 1 / memory, floor
        self._least, self._range = between[0], between[1] - between[0]
        self.entry = self.events = 0
        self.arms: dict[str, Arm] = {}

    def begin(self, entry: int) -> None:
        """Look for a winner anew after another entry; posteriors stay."""
        if entry != self.entry:
            self.entry, self.events = entry, 0
            for arm in self.arms.values():
                arm.rewards, arm.earned, arm.total, arm.square = 0, 0.0, 0.0, 0.0

    def update(self, name: str, reward: float, propensity: float) -> None:
        """Take the reward of an answer that ``name`` gave with this probability."""
        scaled = min(max((reward - self._least) / self._range, 0.0), 1.0)
        if name not in self.arms:
            self.arms[name] = Arm(total=0.5 * self.events)
        for other, arm in self.arms.items():
            arm.won *= self._keep
            arm.lost *= self._keep
            estimate = 0.5
            if other == name:
                arm.won += scaled
                arm.lost += 1 - scaled
                arm.rewards += 1
                arm.earned += scaled
                # inverse propensity, around the middle, and so scaled by the floor that it stays within [0, 1]
                estimate += (scaled - 0.5) * self._floor / max(propensity, self._floor)
            mean = (0.5 + arm.total) / (self.events + 1)
            arm.total += estimate
            arm.square += (estimate - mean) ** 2
        self.events += 1

    def shares(self, names: Sequence[str]) -> dict[str, float]:
        """The probability with which each answers: that of being the best, at least the floor; they sum to 1.

        >>> thompson = Thompson(floor=0.1)
        >>> for reward in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        ...     thompson.update("a", reward, 0.5)
        ...     thompson.update("b", 1 - reward, 0.5)
        >>> {name: round(share, 2) for name, share in thompson.shares(["a", "b"]).items()}
        {'a': 0.9, 'b': 0.1}
        """
        if not names:
            return {}
        arms = [self.arms.get(name, Arm()) for name in names]
        best = _chances_to_be_best(np.array([1 + arm.won for arm in arms]), np.array([1 + arm.lost for arm in arms]))
        floor = min(self._floor, 1 / len(names))
        return {name: floor + (1 - floor * len(names)) * float(one) for name, one in zip(names, best, strict=True)}

    def interval(self, name: str, alpha: float) -> tuple[float, float]:
        """What the arm earns on every request, with an interval that holds at any time but for ``alpha``."""
        arm = self.arms.get(name)
        if arm is None or not self.events:
            return self._unscaled(0.0), self._unscaled(1.0)
        middle = (arm.total / self.events - 0.5) / self._floor + 0.5
        half = stitched(arm.square, alpha / 2) / self.events / self._floor
        return self._unscaled(max(0.0, middle - half)), self._unscaled(min(1.0, middle + half))

    def _unscaled(self, value: float) -> float:
        return self._least + value * self._range

    def figures(self, names: Sequence[str], alpha: float) -> dict[str, Any]:
        """Each arm's rewards, and the winner: the one that earns more than each other for certain, "" while nobody."""
        found: dict[str, Any] = {}
        for name, share in self.shares(names).items():
            arm, (low, high) = self.arms.get(name, Arm()), self.interval(name, alpha / len(names))
            mean = self._unscaled(arm.earned / arm.rewards) if arm.rewards else None
            found[name] = {"share": share, "rewards": arm.rewards, "reward": mean, "low": low, "high": high}
        best = max(names, key=lambda name: float(found[name]["low"]), default="")
        others = [one["high"] for name, one in found.items() if name != best]
        winner = best if others and found[best]["low"] > max(others) else ""
        return {"entry": self.entry, "rewards": self.events, "arms": found, "winner": winner}

    def dump(self) -> bytes:
        """Encode the whole state as msgpack; nothing before the first reward."""
        return msgspec.msgpack.encode(_Saved(self.entry, self.events, self.arms)) if self.arms else b""

    def restore(self, data: bytes) -> None:
        """Take what :meth:`dump` wrote; raise :class:`StateRefusedError` when it does not decode."""
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved) if data else _Saved(0, 0, {})
        except (msgspec.DecodeError, RecursionError) as cause:
            raise StateRefusedError(f"the rewards do not decode: {cause}") from cause
        self.entry, self.events, self.arms = saved.entry, saved.events, saved.arms


def _chances_to_be_best(won: Floats, lost: Floats) -> Floats:
    """The probability of each Beta(won, lost) to be the greatest, by adding up over a grid; they sum to 1."""
    mean = won / (won + lost)
    deviation = np.sqrt(mean * (1 - mean) / (won + lost + 1))
    low, high = max(0.0, float((mean - _SPREAD * deviation).min())), min(1.0, float((mean + _SPREAD * deviation).max()))
    grid = np.linspace(low, high, _GRID + 1)
    from scipy.special import betainc  # noqa: PLC0415  slow to import, and wanted by this policy only

    below = betainc(won[:, None], lost[:, None], grid)
    middle = betainc(won[:, None], lost[:, None], (grid[1:] + grid[:-1]) / 2)
    mass = np.diff(below, axis=1)
    others = np.stack([np.prod(np.delete(middle, index, axis=0), axis=0) for index in range(len(won))])
    found: Floats = np.maximum((mass * others).sum(axis=1), 0.0)
    whole = float(found.sum())
    return found / whole if whole > 0 else np.full(len(won), 1 / len(won))
