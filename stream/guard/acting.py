"""What the guard does about its verdicts: reverts, holds, follows, breakers, who answers; and telling somebody."""

import logging
from collections.abc import Callable
from typing import Any

from snapshots import Lineage
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import RefusedError
from snapshots.judging.judge import target_of
from snapshots.records import cut as snapshots
from snapshots.records.verdict import Verdict
from stream.guard.best_arm import BestArm
from stream.guard.breaker import Step, next_step
from stream.guard.duel import Dueling
from stream.guard.judge_process import Judging
from stream.guard.notify import Notifier
from stream.guard.rolling_out import RollingOut
from stream.guard.succession import Answering
from stream.process import logs
from stream.settings import Config

log = logging.getLogger("holdfast.guard")
#: held-out rows between two looks for a jump
_JUMP_ROWS = 10
#: findings that are about the learner, and not about a file
_HARM = ("broken", "forgetting", "diverged", "moved")


class Acting:
    """Writes decisions into the ledger, each while what it rests on still stands. ``looks``: looks a year."""

    def __init__(
        self, config: Config, lineage: Lineage, judging: Judging, now: Callable[[], float], looks: Callable[[], float]
    ) -> None:
        self.config, self.lineage, self.now = config, lineage, now
        self.notifier = Notifier(config, now)

        def tell(action: str, learner: str, why: str, entry: int) -> None:
            self.tell(action, learner, why, entry=entry)

        self.answering = Answering(config, lineage, self.decide, tell, looks, judging.judge_baseline, now=now)
        self.rolling_out = RollingOut(config, lineage, self.decide, tell, now)
        self.dueling = Dueling(config, lineage, self.decide, tell, now)
        self.best_arm = BestArm(config, lineage, self.decide, tell, now)
        self._looked: dict[str, int] = {}

    def close(self) -> None:
        """Let go of everything."""
        self.notifier.close()

    def act(self, verdict: Verdict) -> None:
        """Do what follows from a verdict: revert, hold, follow, ask for a retrain; and tell."""
        if not self.config.guard.act or verdict.line != self.lineage.decided.line(verdict.learner).number:
            return
        if verdict.verdict == "fail" and verdict.found in _HARM:
            stopped = self.lineage.decided.stopped(verdict.learner)
            # What does not learn has been put back already, but for what a jump stopped on this line.
            if stopped is None or (stopped.cause == "jump" and verdict.line < stopped.seq):
                self.revert(verdict)
        elif verdict.found == "moved" and verdict.verdict == "suspect":
            self.once_for("hold", verdict)
        elif verdict.found == "moved":
            self.once_for("refresh", verdict)
        elif verdict.found == "world_changed":
            self.once_for("retrain", verdict)

    def watch(self) -> None:
        """Act on what the newest snapshots say beside their verdicts: breakers, and who answers."""
        if self.config.guard.act:
            self.watch_breakers()
            self.answering.watch()
        self.rolling_out.watch()
        self.best_arm.watch()
        rollout = self.lineage.decided.rollout
        if rollout is None or not rollout.active:  # one change of champion at a time
            self.dueling.watch()

    def watch_breakers(self) -> None:
        """Open, half open or close each learner's breaker, as the ledger and the newest snapshots have it."""
        newest = self.lineage.newest()
        if newest is None:
            return
        for learner in newest.learners:
            fresh = newest.counts.held_out - self._looked.get(learner, 0) >= _JUMP_ROWS
            if fresh:
                self._looked[learner] = newest.counts.held_out
            step = next_step(self.lineage, learner, self.config.breaker, self.now(), fresh=fresh)
            if step is not None:
                self.step_breaker(learner, step)

    def step_breaker(self, learner: str, step: Step) -> None:
        """Write a breaker's next state; opening it asks for a full retrain as well."""
        was = self.lineage.decided.breaker(learner)
        decision = Decision(step.action, "guard", step.why, learner, cause=step.cause)
        entry = self.decide(decision, lambda: self.lineage.decided.breaker(learner) == was)
        if entry is None:
            return
        log.error("%s: %s: %s", learner, step.action, step.why)
        if step.action == "open_breaker":
            asked = Decision("retrain", "guard", f"the breaker opened: {step.why}", learner, cause="breaker")
            self.lineage.ledger.append(self.now(), lambda _: asked)
        self.tell(step.action, learner, step.why, entry=entry.seq)

    def revert(self, verdict: Verdict) -> None:
        """Put the learner back to the reference of the comparison that failed."""
        compared = self.lineage.part(verdict.snapshot, verdict.learner)
        target = target_of(self.lineage, verdict, compared.reference if compared else None)
        if target is None:
            log.error("%s fails, and there is no passing snapshot to go back to: %s", verdict.learner, verdict.why)
            return
        line = verdict.line
        try:
            snapshots.verify_all(self.lineage.store, self._manifest(target))
        except RefusedError as cause:
            log.info("%s is not reverted: %s", verdict.learner, cause)
            return
        decision = Decision(
            "revert", "guard", verdict.why, verdict.learner, target, cause=verdict.found, slices=verdict.slices
        )
        entry = self.decide(decision, lambda: self.lineage.decided.line(verdict.learner).number == line)
        if entry is None:
            return
        about = logs.facts(learner=verdict.learner, snapshot=target, entry=entry.seq, found=verdict.found)
        log.error("%s is reverted to snapshot %d: %s", verdict.learner, target, verdict.why, extra=about)
        self.tell("revert", verdict.learner, verdict.why, entry=entry.seq, target=target, **_about(verdict))

    def _manifest(self, number: int) -> Any:
        manifest = self.lineage.manifest(number)
        if manifest is None:
            raise RefusedError(f"snapshot {number} is gone")
        return manifest

    def once_for(self, action: Action, verdict: Verdict) -> None:
        """Append an entry unless this line has one of the kind already since its holdout was sealed."""
        manifest = self.lineage.manifest(verdict.snapshot)
        sealed = manifest.holdout.versions[-1].sealed if manifest and manifest.holdout.versions else 0.0
        for entry in self.lineage.entries:
            same = (entry.action, entry.learner) == (action, verdict.learner)
            if same and entry.seq > verdict.line and entry.time >= sealed:
                return
        decision = Decision(
            action, "guard", verdict.why, verdict.learner, verdict.snapshot, cause=verdict.found, slices=verdict.slices
        )
        entry = self.lineage.ledger.append(self.now(), lambda _: decision)
        log.warning("%s: %s: %s", verdict.learner, action, verdict.why)
        self.tell(action, verdict.learner, verdict.why, entry=entry.seq, **_about(verdict))

    def decide(self, decision: Decision, stands: Callable[[], bool]) -> Entry | None:
        """Append a decision while what it rests on still stands; None when somebody else was faster."""

        def made(_: list[Entry]) -> Decision:
            self.lineage.refresh_entries()
            if not stands():
                raise RefusedError("somebody else decided first")
            return decision

        try:
            entry = self.lineage.ledger.append(self.now(), made)
        except RefusedError:
            return None
        self.lineage.refresh_entries()
        return entry

    def tell(self, action: str, learner: str, why: str, **more: Any) -> None:
        """Notify whoever is configured; never waits."""
        about = {"lineage": self.config.name, "action": action, "learner": learner, "why": why, "time": self.now()}
        self.notifier.tell(about | more)


def _about(verdict: Verdict) -> dict[str, Any]:
    return {"snapshot": verdict.snapshot, "found": verdict.found, "slices": verdict.slices}
