"""The guard's process: judges snapshots as they come, and undoes what harms. It never stalls learning."""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from snapshots import Lineage
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import RefusedError, SnapshotsError
from snapshots.judging import looks as looks_
from snapshots.judging.judge import target_of
from snapshots.judging.table import JudgingSettings, Rules
from snapshots.records import cut as snapshots
from snapshots.records import verdict as verdicts
from snapshots.records.verdict import Verdict
from stream.guard.breaker import Step, next_step
from stream.guard.judge_process import Judging
from stream.guard.notify import Notifier
from stream.guard.succession import Answering
from stream.guard.trusted_labels import Voice
from stream.parts import store_of
from stream.process import logs
from stream.process.presence import Presence
from stream.settings import Config

log = logging.getLogger("holdfast.guard")
#: findings that are about the learner, and not about a file
_HARM = ("broken", "forgetting", "diverged", "moved")
#: held-out rows between two looks for a jump
_JUMP_ROWS = 10
_YEAR_SECONDS = 31_536_000.0
#: share of the events that are compared at the least
_LEAST_SAMPLED = 0.05
#: so many of the newest snapshots tell the pace
_PACE = 50
_OVERTAKEN = "overtaken by snapshot "


def _planned(config: Config) -> float:
    """Looks a year, when a snapshot comes every ``snapshots.every_seconds``."""
    return _YEAR_SECONDS / config.snapshots.every_seconds


def looks_a_year(config: Config, lineage: Lineage) -> float:
    """Looks a year at the pace of the newest snapshots, in doublings of the planned one: the error budget is a year's.

    ``snapshots.every_events`` and decisions make snapshots come faster than ``every_seconds`` says.
    """
    planned = _planned(config)
    newest = [found.created for n in lineage.numbers[-_PACE:] if (found := lineage.manifest(n)) is not None]
    if len(newest) < _PACE:
        return planned
    pace = _YEAR_SECONDS * (len(newest) - 1) / max(newest[-1] - newest[0], 1e-3)
    return planned * 2.0 ** max(0, math.ceil(math.log2(pace / planned / 1.25)))


def rules_of(config: Config) -> Rules:
    """How ``[guard]`` and ``[holdout]`` have snapshots judged."""
    return Rules(
        **{name: getattr(config.guard, name) for name in JudgingSettings.__struct_fields__},
        floor_tolerance=config.holdout.floor_tolerance,
        looks_a_year=_planned(config),
        min_slice_rows=config.holdout.min_slice_rows,
        sample=config.guard.share or _LEAST_SAMPLED,
    )


class Guarding:
    """Follows the store: judges the newest snapshot, marks those that it overtook, and acts on what fails."""

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        stopping: Callable[[], bool],
        voice: Voice | None = None,
    ) -> None:
        store = store_of(config)
        self.voice = voice
        self.config, self.now, self.sleep, self.stopping = config, now, sleep, stopping
        self.lineage = Lineage(store)
        self.judging = Judging(config, store)
        self.presence = Presence(store, "guard", now)
        self.notifier = Notifier(config, now)
        self.answering = Answering(
            config, self.lineage, self.decide, lambda action, learner, why, entry: self.tell(
                action, learner, why, entry=entry), lambda: looks_a_year(config, self.lineage),
            self.judging.judge_baseline, now=now,
        )  # fmt: skip
        self._looked: dict[str, int] = {}

    def run(self) -> None:
        """Judge until asked to stop."""
        if self.voice is not None:
            threading.Thread(target=self.voice.run, args=(self.stopping,), name="trusted", daemon=True).start()
        try:
            while not self.stopping():
                try:
                    self.follow()
                except SnapshotsError as cause:
                    log.error("%s; trying again", cause)
                    self.sleep(1.0)
                self.sleep(self.config.guard.poll_seconds)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of everything."""
        self.judging.close()
        self.notifier.close()
        self.presence.close()

    def follow(self) -> None:
        """Judge every learner of the newest snapshot; those before it that nobody judged are overtaken."""
        waiting = list(self._unjudged())
        self.presence.say(waiting=len(waiting), wall=self.judging.wall)
        if not waiting:
            self.watch()
            return
        newest: dict[str, int] = {}
        for number, learner in reversed(waiting):
            if learner in newest:
                self.skip(number, learner, newest[learner])
                continue
            verdict = self.give(number, learner)
            if verdict is None:
                continue
            self.act(verdict)
            if verdict.found != "damaged":
                newest[learner] = number
        self.watch()

    def once(self) -> Iterator[Verdict]:
        """Judge every unjudged snapshot, oldest first, skipping none."""
        if self.voice is not None:
            self.voice.take()
        for number, learner in list(self._unjudged()):
            verdict = self.give(number, learner)
            if verdict is not None:
                yield verdict
                self.act(verdict)

    def _unjudged(self) -> Iterator[tuple[int, str]]:
        self.lineage.refresh()
        for number in self.lineage.numbers:
            if self.lineage.manifest(number) is None:
                name = self.config.first_champion
                if (
                    self.lineage.verdict(number, name) is None
                    and verdicts.read(self.lineage.store, number, name) is None
                ):
                    yield number, name
            for learner in self.lineage.waiting(number):
                yield number, learner

    def skip(self, number: int, learner: str, newest: int) -> None:
        """Give the verdict on a snapshot that a newer one overtook."""
        part = self.lineage.part(number, learner)
        manifest = self.lineage.manifest(number)
        line, created = (part.line, manifest.created) if part and manifest else (-1, self.now())
        why = f"{_OVERTAKEN}{newest}"
        verdicts.give(self.lineage.store, Verdict(learner, number, line, "skipped", why, {}, created, self.now()))

    def give(self, number: int, learner: str) -> Verdict | None:
        """Judge, write looks and verdict, and say it; the first verdict written counts.

        None when the trainer deleted the snapshot meanwhile, as one that is too old: that is no fault of it.
        """
        rules = msgspec.structs.replace(rules_of(self.config), looks_a_year=looks_a_year(self.config, self.lineage))
        verdict, looks = self.judging.judge(number, learner, rules, self.now())
        if verdict.found == "damaged" and self.lineage.store.get(snapshots.manifest_name(number)) is None:
            log.warning("snapshot %d was deleted before it could be judged: the guard is far behind", number)
            return None
        if looks is not None:
            looks_.write(self.lineage.store, number, learner, looks)
        verdicts.give(self.lineage.store, verdict)
        self.lineage.refresh()
        level = {"fail": logging.ERROR, "suspect": logging.WARNING}.get(verdict.verdict, logging.INFO)
        about = logs.facts(
            snapshot=number, learner=learner, verdict=verdict.verdict, found=verdict.found, slices=verdict.slices
        )
        log.log(level, "snapshot %d of %s: %s: %s", number, learner, verdict.verdict, verdict.why, extra=about)
        return verdict

    def explain(self, number: int, learner: str) -> tuple[Verdict, bool | None]:
        """Compute a verdict again from the store alone; tell whether it is the one that was given.

        None for one that was not computed but overtaken. Raises :class:`RefusedError` when there is no verdict.
        """
        given = self.lineage.refresh().verdict(number, learner)
        if given is None:
            raise RefusedError(f"no guard has judged snapshot {number} of {learner} yet: is holdfast guard running?")
        if given.why.startswith(_OVERTAKEN):
            return given, None
        known = looks_.read(self.lineage.store, number, learner)
        rules = msgspec.convert(given.rules, Rules) if given.rules else rules_of(self.config)
        again, _ = self.judging.judge(number, learner, rules, given.judged, known)
        return again, again == given

    def given(self, number: int) -> list[Verdict]:
        """The verdicts on a snapshot that is gone, as they were given."""
        found = [verdicts.read(self.lineage.store, number, name) for name in self.config.learners]
        packed = [one for name in self.lineage.store.names(verdicts.shard(number)) if verdicts.is_pack(name)
                  for one in verdicts.unpack(self.lineage.store, name) if one.snapshot == number]  # fmt: skip
        return [one for one in found if one is not None] or packed

    # Acting ------------------------------------------------------------------------------------------------------

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
