"""Challengers against the champion: losses of the same fresh events, each scored before its learner learnt it."""

import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learners.errors import StateRefusedError
from learners.evidence.hedge import Hedge
from learners.evidence.losses import Floats
from learners.evidence.paired import Paired
from learners.evidence.since_entry import OfDuel, OfRollout
from learners.evidence.thompson import Thompson

_MOST_LOTS = 64


class _Lot(msgspec.Struct):
    """A batch whose losses are not all there yet."""

    slices: list[list[str]] | None
    losses: dict[str, list[float]]
    names: set[str]


class _Saved(msgspec.Struct, array_like=True):
    champion: str = ""
    paired: dict[str, bytes] = {}
    rollout: bytes = b""
    weights: dict[str, float] = {}
    duel: bytes = b""
    rewards: bytes = b""


class AgainstChampion:
    """Paired evidence of every challenger against the champion. Losses come learner by learner, batch by batch.

    A batch that not all learners were given whole is compared by nobody. Another champion begins everything anew.
    Safe to be told from several threads. ``rewarded`` takes rewards of answers, of whichever learner.
    """

    def __init__(self, champion: str = "", max_slices: int = 200, rewarded: Thompson | None = None) -> None:
        self.champion, self._max_slices = champion, max_slices
        self.rewarded = rewarded or Thompson()
        self._paired: dict[str, Paired] = {}
        self._lots: dict[int, _Lot] = {}
        self._lock = threading.Lock()
        self.rollout = OfRollout(max_slices)
        self.duel = OfDuel(max_slices)
        self.hedge = Hedge()

    def led_by(self, champion: str) -> None:
        """Compare with this champion from here on."""
        with self._lock:
            if champion != self.champion:
                self.champion, self._paired = champion, {}
                self._lots.clear()

    def expect(self, number: int, names: set[str], slices: list[list[str]] | None) -> None:
        """Say which learners were given a batch; ``slices`` of the events that are scored."""
        if self.champion in names and len(names) > 1:
            with self._lock:
                self._lots[number] = _Lot(slices, {}, names)
                while len(self._lots) > _MOST_LOTS:
                    del self._lots[min(self._lots)]

    def note(self, number: int, name: str, losses: Sequence[float] | None) -> None:
        """Take one learner's losses of a batch."""
        with self._lock:
            lot = self._lots.get(number)
            if lot is None or name not in lot.names:
                return
            if losses is None:  # nothing was scored
                del self._lots[number]
                return
            lot.losses[name] = list(losses)
            if lot.losses.keys() >= lot.names:
                del self._lots[number]
                self._compare(lot)

    def _compare(self, lot: _Lot) -> None:
        champion = np.array(lot.losses[self.champion])
        if len({len(one) for one in lot.losses.values()}) == 1:
            self.hedge.update(lot.losses)
        for name in lot.names - {self.champion}:
            own = np.array(lot.losses[name])
            if len(own) == len(champion) and (lot.slices is None or len(lot.slices) == len(own)):
                self._paired.setdefault(name, Paired(0.0, None, self._max_slices)).update(own, champion, lot.slices)
                self.rollout.note_learnt(name, own, champion, lot.slices)
                self.duel.note(name, own, champion, lot.slices)

    def close_look(self) -> None:
        """Let what was bet since the last look count."""
        with self._lock:
            for one in self._paired.values():
                one.close_look()
            self.rollout.close_look()
            self.duel.close_look()

    def roll_out(self, entry: int, candidate: str) -> None:
        """Compare a candidate since a roll-out began as well; 0: there is none."""
        with self._lock:
            self.rollout.begin(entry, candidate)

    def fight(self, entry: int) -> None:
        """Compare all challengers since a duel began as well; 0: there is none."""
        with self._lock:
            self.duel.begin(entry)

    def duel_figures(self, alpha: float) -> dict[str, Any]:
        """The evidence of the present duel; intervals hold but for ``alpha``."""
        with self._lock:
            return self.duel.figures(alpha)

    def note_logged(self, entry: int, own: Floats, champion: Floats, slices: Sequence[Sequence[str]] | None) -> None:
        """Take losses of requests that the candidate of a roll-out and the champion predicted."""
        with self._lock:
            self.rollout.note_logged(entry, own, champion, slices)

    def rollout_figures(self, alpha: float) -> dict[str, Any]:
        """The evidence of the present roll-out; intervals hold but for ``alpha``."""
        with self._lock:
            return self.rollout.figures(alpha)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Of each challenger: the difference to the champion (below 0: the challenger is better), and its alarm."""
        with self._lock:
            return {
                name: {"champion": self.champion, "better": one.better(), **one.figures()}
                for name, one in self._paired.items()
                if one.events()
            }

    def weights(self) -> dict[str, float]:
        """How much each learner is to be believed by its losses; nothing while there is nobody to compare."""
        with self._lock:
            return dict(self.hedge.weights)

    def reward(self, name: str, reward: float, propensity: float) -> None:
        """Take the reward of an answer that a learner gave with this probability."""
        with self._lock:
            self.rewarded.update(name, reward, propensity)

    def look_for_winner(self, entry: int) -> None:
        """Look for a winner by rewards since this entry of the ledger."""
        with self._lock:
            self.rewarded.begin(entry)

    def reward_figures(self, names: Sequence[str], alpha: float) -> dict[str, Any]:
        """What each of these earned, its share of the requests, and who wins; all but for ``alpha``."""
        with self._lock:
            return self.rewarded.figures(names, alpha)

    def dump(self) -> bytes:
        """Encode the whole state as msgpack."""
        with self._lock:
            paired = {name: one.dump() for name, one in self._paired.items()}
            return msgspec.msgpack.encode(
                _Saved(
                    self.champion,
                    paired,
                    self.rollout.dump(),
                    self.hedge.weights,
                    self.duel.dump(),
                    self.rewarded.dump(),
                )
            )

    def restore(self, data: bytes) -> None:
        """Take what :meth:`dump` wrote; empty: begin anew. Raise :class:`StateRefusedError` when it does not decode."""
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved) if data else _Saved()
        except (msgspec.DecodeError, RecursionError, msgspec.ValidationError) as cause:
            raise StateRefusedError(f"the evidence about challengers does not decode: {cause}") from cause
        with self._lock:
            self.champion, self._paired = saved.champion, {name: Paired.load(one) for name, one in saved.paired.items()}
            self.rollout.restore(saved.rollout)
            self.duel.restore(saved.duel)
            self.rewarded.restore(saved.rewards)
            self.hedge = Hedge(saved.weights)
            self._lots.clear()
