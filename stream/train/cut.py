"""When a snapshot is due, and cutting it: what the trainer knows at a place, as one snapshot."""

import logging
import math

from snapshots.records.cut import Cut, Shared
from snapshots.records.manifest import Durations, LearnerPart, Part
from snapshots.records.place import Place, copy_place
from stream.learner.process import LearnerProcess
from stream.rollout.limits import alpha_of
from stream.train.state import Kit, State
from stream.train.writer import Draft, encode_shared

log = logging.getLogger("holdfast.trainer")
#: the share of the time that learning may stand still for saving; slow models are saved less often
SAVING_SHARE = 0.05
#: the intervals of a duel hold but for this probability
_DUEL_ALPHA = 0.05
_NOTHING = Part("", 0, "")


class Cutter:
    """Cuts snapshots, by events or by seconds, once the one before is written."""

    def __init__(self, kit: Kit, state: State) -> None:
        self.kit, self.state, self.writer = kit, state, state.writer
        self._at, self._consumed, self._stretched = 0.0, 0, 0.0

    def cut_here(self) -> None:
        """The place is that of the newest snapshot."""
        self._at, self._consumed = self.kit.elapsed(), self._records()

    def hurry(self) -> None:
        """Cut at the next occasion: what raises next goes back no further than here."""
        self._at = -math.inf

    def anything_new(self) -> bool:
        """Tell whether records were consumed since the newest snapshot."""
        return self._records() != self._consumed

    def _records(self) -> int:
        counts = self.state.counts
        return counts.consumed + counts.labels.get("consumed", 0)

    def due(self) -> bool:
        """Tell whether a snapshot is due.

        A model that takes long to save is saved less often, so that saving keeps to its share of the time.
        """
        if not self.writer.ready() or not self.anything_new() or not self.kit.source.whole():
            return False
        waited, settings = self.kit.elapsed() - self._at, self.kit.config.snapshots
        slowest = max(learner.save_seconds for learner in self.state.learners) / SAVING_SHARE
        if slowest > max(1.1 * settings.every_seconds, 1.5 * self._stretched):
            self._stretched = slowest
            log.warning(
                "snapshots come every %.1f s instead of %.1f: saving takes %.2f s, and it may take %.0f %% of the time",
                slowest, settings.every_seconds, slowest * SAVING_SHARE, 100 * SAVING_SHARE,
            )  # fmt: skip
        enough = self._records() - self._consumed >= settings.every_events
        return waited >= slowest and (enough or waited >= settings.every_seconds)

    def cut_if_due(self) -> None:
        """Cut when it is time."""
        if self.due():
            self.cut()

    def cut(self, *, wait: bool = False) -> None:
        """Have everything at this place written as one snapshot, by the learners' processes and another thread."""
        state = self.state
        self.writer.wait()
        self.kit.dead_letters.flush(state.waiting)
        if self.kit.join is not None and (lost := self.kit.join.lost()):
            log.warning("%d events that waited for labels are gone from the topics: they are never learnt", lost)
            state.counts.move({"pending": -lost, "unlabelled": lost})
        state.note_evictions()
        for learner in state.learners:
            learner.account.verify(state.counts)
        place = copy_place(state.place)
        if self.kit.config.labels.given:
            state.arrivals.score(state.holdout.scale or 1.0)
        state.rivalry.close_look()
        cut = self._cut(place)
        parts = {learner.name: self._part(learner, place) for learner in state.learners}
        saved = {learner.name: learner.save(self.writer.number) for learner in state.learners}
        self.cut_here()
        draft = Draft(cut, parts, saved, state.holdout.unwritten())
        self.writer.write(draft, then=lambda: self._durable(place))
        if wait:
            self.writer.wait()
        state.say("reading")

    def _durable(self, place: Place) -> None:
        """A snapshot is written: tell lag tools, and write what waits there for labels."""
        self.kit.source.commit(place)
        if self.kit.join is not None:
            self.kit.join.settle()

    def _cut(self, place: Place) -> Cut:
        state, config = self.state, self.kit.config
        shared = Shared(
            recent_ids=state.recent.dump(),
            labels=list(self.kit.labels.names),
            rows=state.rows.dump(),
            start=state.start,
            held=state.holdout.tails(),
            rivalry=state.rivalry.dump(),
            matching=state.matching.dump(),
            arrivals=state.arrivals.dump(),
        )
        rewards = state.rewards()
        return Cut(
            lineage=config.name,
            task=config.task,
            epoch=state.epoch or 0,
            created=self.kit.now(),
            place=place,
            topics=self.kit.source.cut(),
            newest_event=state.newest_event,
            counts=state.counts.copy(),
            holdout=state.holdout.state(),
            written=Durations(list(self.writer.written.counts), self.writer.written.seconds),
            shared=encode_shared(shared),
            delays=state.arrivals.labels(state.counts),
            weights={name: one["share"] for name, one in rewards["arms"].items()}
            if rewards
            else state.rivalry.weights(),
            rewards=rewards,
            duel=state.rivalry.duel_figures(_DUEL_ALPHA),
            rollout=state.rivalry.rollout_figures(alpha_of(config.rollout)),
        )

    def _part(self, learner: LearnerProcess, place: Place) -> LearnerPart:
        """What the trainer knows of a learner's part; its bytes and figures come from the learner's process."""
        account, state = learner.account, self.state
        return LearnerPart(
            kind=learner.kind,
            role=learner.role,
            line=account.line,
            learnt=account.learnt,
            quarantined=account.quarantined,
            quarantine=account.quarantine_at(place),
            model=_NOTHING,
            metrics=_NOTHING,
            evidence=_NOTHING,
            reference=None,
            figures={
                "against_champion": state.rivalry.figures().get(learner.name),
                "unmatched": state.matching.sentences(),
                **(state.arrivals.figures(learner.name) if self.kit.config.labels.given else {}),
            },
            built_from=learner.built_from,
        )
