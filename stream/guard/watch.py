"""The guard's process: judges snapshots as they come, and undoes what harms. It never stalls learning."""

import logging
import math
import threading
from collections.abc import Callable, Iterator

import msgspec

from snapshots import Lineage
from snapshots.errors import RefusedError, SnapshotsError
from snapshots.judging import looks as looks_
from snapshots.judging.table import JudgingSettings, Rules
from snapshots.records import cut as snapshots
from snapshots.records import verdict as verdicts
from snapshots.records.verdict import Verdict
from stream.guard.acting import Acting
from stream.guard.judge_process import Judging
from stream.guard.trusted_labels import Voice
from stream.parts import store_of
from stream.process import logs
from stream.process.presence import Presence
from stream.settings import Config

log = logging.getLogger("holdfast.guard")
_YEAR_SECONDS = 31_536_000.0
#: share of the events that are compared at the least
_LEAST_SAMPLED = 0.05
#: so many of the newest snapshots tell the pace
_PACE = 50


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
        self.acting = Acting(config, self.lineage, self.judging, now, lambda: looks_a_year(config, self.lineage))

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
        self.acting.close()
        self.presence.close()

    def follow(self) -> None:
        """Judge every learner of the newest snapshot; those before it that nobody judged are overtaken."""
        waiting = list(self._unjudged())
        self.presence.say(waiting=len(waiting), wall=self.judging.wall)
        if not waiting:
            self.acting.watch()
            return
        newest: dict[str, int] = {}
        for number, learner in reversed(waiting):
            if learner in newest:
                self.skip(number, learner, newest[learner])
                continue
            verdict = self.give(number, learner)
            if verdict is None:
                continue
            self.acting.act(verdict)
            if verdict.found != "damaged":
                newest[learner] = number
        self.acting.watch()

    def once(self) -> Iterator[Verdict]:
        """Judge every unjudged snapshot, oldest first, skipping none."""
        if self.voice is not None:
            self.voice.take()
        for number, learner in list(self._unjudged()):
            verdict = self.give(number, learner)
            if verdict is not None:
                yield verdict
                self.acting.act(verdict)

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
        why = f"overtaken by snapshot {newest}"
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

        None for one that was skipped, and not computed. Raises :class:`RefusedError` when there is no verdict.
        """
        given = self.lineage.refresh().verdict(number, learner)
        if given is None:
            raise RefusedError(f"no guard has judged snapshot {number} of {learner} yet: is holdfast guard running?")
        if given.verdict == "skipped":
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
