"""Who earns most: what rewards say for certain is written down, under ``routing.policy = "thompson"``."""

import logging

from snapshots.decisions.ledger import Decision
from stream.guard.deciding import BY_GUARD, Deciding
from stream.process import logs

log = logging.getLogger("holdfast.guard")


class BestArm(Deciding):
    """Declares the learner whose answers earn more than every other's; requests go on being spread by the policy."""

    def watch(self) -> None:
        """Write down who wins, once; from there on it is looked for anew."""
        newest, last = self.lineage.newest(), self.lineage.decided.winner
        if newest is None or not newest.rewards or newest.rewards["entry"] != (last.seq if last is not None else 0):
            return
        winner = newest.rewards["winner"]
        if not winner or (last is not None and last.learner == winner):
            return
        words = "; ".join(
            f"{name} {one['low']:.4f} to {one['high']:.4f} ({one['rewards']} rewards)"
            for name, one in newest.rewards["arms"].items()
        )
        why = f"{winner} earns most for certain, on every request: {words}"
        entry = self._decide(
            Decision("policy_winner", BY_GUARD, why, winner), lambda: self.lineage.decided.winner == last
        )
        if entry is not None:
            log.warning("%s", why, extra=logs.facts(learner=winner, entry=entry.seq))
            self._tell("policy_winner", winner, why, entry.seq)
