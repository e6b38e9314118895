"""The guard's part in a roll-out: it gives the next step when everything is there, and takes back what is worse."""

import logging

import msgspec

from snapshots.decisions.ledger import Decision
from snapshots.decisions.rollout import CAUSE, Rollout, candidate_of
from snapshots.errors import RefusedError
from snapshots.judging.reverts import decide_revert
from stream.guard.deciding import BY_GUARD, Deciding
from stream.process import logs
from stream.process.presence import present
from stream.rollout.report import seen_of
from stream.rollout.steps import Seen, back, lacks, next_share

log = logging.getLogger("holdfast.guard")
_EVERY_SECONDS = 0.2


class RollingOut(Deciding):
    """Follows the newest roll-out."""

    _looked_at = 0.0

    def watch(self) -> None:
        """Take the candidate back, give it the next share, or make it champion: whatever is due."""
        rollout = self.lineage.decided.rollout
        if rollout is None or not rollout.active or abs(self.now() - self._looked_at) < _EVERY_SECONDS:
            return
        self._looked_at = self.now()
        seen = seen_of(self.lineage, rollout, present(self.lineage.store, self.now()))
        why = back(seen, self.config.rollout)
        if why:
            self._write(rollout, Decision("rollout_abort", BY_GUARD, why, candidate=rollout.candidate), logging.ERROR)
            return
        if rollout.state == "paused" or rollout.awaits or self._lacks(rollout, seen):
            return
        said = _found(seen.loss)
        if self.config.rollout.sign_off and not rollout.approved:
            self._write(
                rollout, Decision("rollout_await", BY_GUARD, said, candidate=rollout.candidate), logging.WARNING
            )
            return
        share = next_share(rollout, self.config.rollout)
        if share is None:
            self._lead(rollout, said)
        else:
            step = Decision("rollout_step", BY_GUARD, said, candidate=rollout.candidate, share=share)
            self._write(rollout, step, logging.INFO)

    def _lacks(self, rollout: Rollout, seen: Seen) -> bool:
        here = msgspec.structs.replace(seen, guarded=True)  # this is the guard
        return bool(lacks(rollout, here, self.config.rollout, self.now()))

    def _lead(self, rollout: Rollout, why: str) -> None:
        """Make the candidate champion: what answers all requests is what answers from now on."""
        why, meant = f"its roll-out (entry {rollout.entry}) is through: {why}", candidate_of(rollout.candidate)
        if meant.kind == "baseline":
            if self.lineage.decided.baseline != meant.number:
                accepted = Decision("accept_baseline", BY_GUARD, why, baseline=meant.number)
                self._decide(accepted, lambda: self._stands(rollout))
            led = Decision("fall_back", BY_GUARD, why, rollout.champion, baseline=meant.number)
        elif meant.kind == "snapshot":
            learner = meant.learner or rollout.champion
            try:
                led = decide_revert(self.lineage, learner, meant.number, by=BY_GUARD, why=why, stay=False)
            except RefusedError as cause:
                self._write(
                    rollout, Decision("rollout_abort", BY_GUARD, str(cause), candidate=rollout.candidate), logging.ERROR
                )
                return
        else:
            led = Decision("promote", BY_GUARD, why, meant.learner, replaces=rollout.champion)
        led = msgspec.structs.replace(led, cause=CAUSE, candidate=rollout.candidate, share=100.0)
        self._write(rollout, led, logging.WARNING)

    def _stands(self, rollout: Rollout) -> bool:
        """Tell whether nobody decided about it meanwhile."""
        return self.lineage.decided.rollout == rollout

    def _write(self, rollout: Rollout, decision: Decision, level: int) -> None:
        entry = self._decide(decision, lambda: self._stands(rollout))
        if entry is None:
            return
        about = logs.facts(candidate=rollout.candidate, share=decision.share, entry=entry.seq)
        log.log(
            level, "%s: %s %g %%: %s", rollout.candidate, decision.action, decision.share, decision.why, extra=about
        )
        self._tell(decision.action, rollout.candidate, decision.why, entry.seq)


def _found(loss: dict[str, float] | None) -> str:
    if loss is None:
        return ""
    return (
        f"its loss is {loss['difference']:+.4f} ({loss['low']:+.4f} to {loss['high']:+.4f}) beside the champion's, "
        f"on {loss['events']} events"
    )
