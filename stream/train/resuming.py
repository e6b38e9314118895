"""Beginning: at the newest good snapshot, or at ``source.start`` in a lineage that has none."""

import logging

from snapshots.decisions.erasure import Erased, erasures
from snapshots.decisions.ledger import Decision
from snapshots.errors import LedgerBrokenError
from snapshots.records import cut as snapshots
from snapshots.records import manifest as manifests
from snapshots.records.cut import Shared
from snapshots.records.manifest import Counts, Durations, HoldoutState, Manifest
from snapshots.records.place import between, copy_place
from stream.errors import SourceLostError
from stream.train.cut import Cutter
from stream.train.recent import RecentIds
from stream.train.state import Kit, State

log = logging.getLogger("holdfast.trainer")


class Resuming:
    """Takes the state of a snapshot, and the lineage over from whoever wrote it."""

    def __init__(self, kit: Kit, state: State, cutter: Cutter) -> None:
        self.kit, self.state, self.cutter, self.lineage = kit, state, cutter, kit.lineage

    def begin(self) -> None:
        """Resume at the newest good snapshot, or resolve ``source.start`` and write a first one."""
        state, begin = self.state, self.kit.begin
        first = state.epoch is None
        newest = None if first and begin.fresh else self.lineage.refresh().newest_good()
        if first and self.lineage.cut_back:
            raise LedgerBrokenError(f"{self.lineage.broken}; nothing was learnt again from before them")
        self.load(newest)
        if newest is None:
            state.patiently(self._resolve)
        if first:
            self.take_over(newest)
        for learner in state.learners:
            if learner.name not in (newest.learners if newest else {}) and state.counts.consumed:
                learner.account.pass_over("new", "new", "new", between(state.start, state.place), state.counts)
        self.cutter.cut_here()
        state.patiently(lambda: self._open(newest.topics if newest else {}), self.cutter.cut_if_due)
        self._forget_again()
        if newest is None or self.accepted(newest):
            self.cutter.cut(wait=True)
        for learner in state.learners:
            state.stop_or_resume(learner)
        self._say_champion()
        log.info("learning %s from %s", ", ".join(one.name for one in state.learners), state.place)

    def _say_champion(self) -> None:
        promoted, first = self.lineage.decided.promoted, self.kit.config.first_champion
        if promoted not in (None, first):
            log.warning(
                "%s is the champion, as the ledger says, and not %s: holdfast promote %s makes it so", promoted, first,
                first,
            )  # fmt: skip

    def load(self, newest: Manifest | None) -> None:
        """Take place, counts and learners of a snapshot; every learner loads in its own process, all at once."""
        state, store, labels = self.state, self.lineage.store, self.kit.labels
        shared = snapshots.read_shared(store, newest) if newest is not None else Shared()
        labels.restore(shared.labels)
        state.recent = RecentIds(self.kit.config.event.recent_ids, shared.recent_ids)
        state.rows.clear()
        state.rows.extend(shared.rows)
        state.start = shared.start
        state.rivalry.restore(shared.rivalry)
        state.matching.restore(shared.matching)
        state.arrivals.restore(shared.arrivals)
        held = newest.holdout if newest is not None else HoldoutState()
        for damage in state.holdout.restore(held, shared.held, lambda part: manifests.read(store, part)):
            log.error("rows of the next holdout are lost: %s", damage)
        state.place, state.counts, state.newest_event = {}, Counts(), 0.0
        if newest is not None:
            state.place, state.counts = copy_place(newest.place), newest.counts.copy()
            state.newest_event = newest.newest_event
            state.writer.written = Durations(list(newest.written.counts), newest.written.seconds)
        self._load_learners(newest)

    def _load_learners(self, newest: Manifest | None) -> None:
        begin, names = self.kit.begin, self.kit.labels.names
        known = newest.learners if newest is not None else {}
        for learner in self.state.learners:
            learner.load(
                newest.snapshot if newest and learner.name in known else None,
                names,
                accept=begin.accept,
                imported=begin.imports.get(learner.name, "") if newest is None else "",
            )
        for learner in self.state.learners:
            learner.ready()
            learner.forget()
            if learner.name in known:
                learner.restore(known[learner.name])

    def take_over(self, newest: Manifest | None) -> None:
        """Take the next epoch: from here on nothing counts that an older trainer writes beyond this snapshot."""
        begin = self.kit.begin
        if begin.fresh and self.lineage.refresh().highest >= 0:
            why = "train --new-lineage: all snapshots so far belong to another lineage"
            self.state.decide(Decision(action="new_lineage", by=begin.operator, why=why))
        epoch = self.lineage.begin_epoch(newest.snapshot if newest else None, self.kit.now(), begin.by)
        self.state.epoch = epoch.number
        self.state.writer.begin(epoch)
        log.info("epoch %d, from snapshot %s", epoch.number, newest.snapshot if newest else "none")

    def accepted(self, newest: Manifest) -> bool:
        """Write into the ledger which changed learners an operator accepted; tell whether there are any."""
        changed = [
            learner.name
            for learner in self.state.learners
            if learner.name in newest.learners and learner.built_from != newest.learners[learner.name].built_from
        ]
        for name in changed:
            if newest.learners[name].learnt:
                operator = self.kit.begin.operator
                self.state.decide(Decision("accept", operator, "train --accept", name, newest.snapshot))
        return bool(changed)

    def _resolve(self) -> None:
        self.state.place = self.kit.source.resolve()
        self.state.start = copy_place(self.state.place)

    def _forget_again(self) -> None:
        """What waits may have been read from the topics again, with what was erased before this snapshot."""
        followed = self.state.holdout.followed
        done = [one for one in erasures(self.lineage.decided.erasures) if one.seq <= followed]
        if done:
            self.state.forget_waiting(Erased(self.kit.membership, done))

    def _open(self, topics: dict[str, str]) -> None:
        self.state.place = self.kit.source.open(self.state.place, topics)
        missing = self.kit.join.missing() if self.kit.join is not None else 0
        if missing and not self._erased_since():
            what = f"{missing} events that wait for their labels are no longer in the topics, or in the files"
            if self.kit.config.source.when_lost == "stop":
                raise SourceLostError(
                    f'{what}. Put them back; or go on regardless with source.when_lost = "go_on" (they count as '
                    "unlabelled then, and the ledger keeps what was lost); or holdfast train --new-lineage"
                )
            self.kit.source.losses.append(what)
        self.state.note_losses()

    def _erased_since(self) -> bool:
        """Whether something was erased that the snapshot does not know of: its records are meant to be gone."""
        return any(one.seq > self.state.holdout.followed for one in self.lineage.decided.erasures)
