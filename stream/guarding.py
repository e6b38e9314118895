"""The guard's process: judges every snapshot that has no verdict, newest first, and never stalls learning."""

import logging
from collections.abc import Callable, Iterator

from snapshots import Lineage
from snapshots import verdict as verdicts
from snapshots.errors import SnapshotsError
from snapshots.guard import judge
from snapshots.verdict import Verdict
from stream.building import labels_of, reach_modules, store_of, types_of
from stream.config import Config
from stream.presence import Presence

log = logging.getLogger("holdfast.guard")
BACKLOG = 50


class Guarding:
    """Follows the store. The newest snapshot comes first; when too many wait, the oldest are marked skipped."""

    def __init__(
        self, config: Config, *, now: Callable[[], float], sleep: Callable[[float], None], stopping: Callable[[], bool]
    ) -> None:
        reach_modules(config)
        store = store_of(config)
        self.config, self.now, self.sleep, self.stopping = config, now, sleep, stopping
        self.lineage = Lineage(store)
        self.presence = Presence(store, "guard", now)

    def run(self) -> None:
        """Judge until asked to stop."""
        try:
            while not self.stopping():
                try:
                    self.follow()
                except SnapshotsError as cause:
                    log.error("%s; trying again", cause)
                    self.sleep(1.0)
                self.sleep(self.config.guard.poll_seconds)
        finally:
            self.presence.close()

    def follow(self) -> None:
        """Judge the newest snapshot, then older ones until a newer one comes; skip what is left too far behind."""
        waiting = list(self._unjudged())
        self.presence.say(waiting=len(waiting))
        if not waiting:
            return
        newest = waiting[-1][0]
        for number, learner in waiting[:-BACKLOG]:
            self.give(self.skip(number, learner, newest))
        for number, learner in reversed(waiting[-BACKLOG:]):
            if number != newest and (self.stopping() or self.lineage.refresh().numbers[-1] > newest):
                return
            self.give(self.judge(number, learner))

    def once(self) -> Iterator[Verdict]:
        """Judge every unjudged snapshot, oldest first, skipping none."""
        for number, learner in self._unjudged():
            yield self.give(self.judge(number, learner))

    def _unjudged(self) -> Iterator[tuple[int, str]]:
        self.lineage.refresh()
        for number in self.lineage.numbers:
            if self.lineage.manifest(number) is None:
                name = self.config.champion
                if (
                    self.lineage.verdict(number, name) is None
                    and verdicts.read(self.lineage.store, number, name) is None
                ):
                    yield number, name
            for learner in self.lineage.waiting(number):
                yield number, learner

    def judge(self, number: int, learner: str) -> Verdict:
        """Judge one learner of one snapshot."""
        labels = labels_of(self.config)
        return judge(self.lineage, number, learner, labels, types_of(self.config, learner), self.now())

    def skip(self, number: int, learner: str, newest: int) -> Verdict:
        """The verdict on a snapshot that a newer one overtook."""
        part = self.lineage.part(number, learner)
        manifest = self.lineage.manifest(number)
        line, created = (part.line, manifest.created) if part and manifest else (-1, self.now())
        return Verdict(learner, number, line, "skipped", f"overtaken by snapshot {newest}", {}, created, self.now())

    def give(self, verdict: Verdict) -> Verdict:
        """Write a verdict and say it; the first one written counts."""
        verdicts.give(self.lineage.store, verdict)
        level = logging.ERROR if verdict.verdict == "fail" else logging.INFO
        log.log(level, "snapshot %d of %s: %s: %s", verdict.snapshot, verdict.learner, verdict.verdict, verdict.why)
        return verdict
