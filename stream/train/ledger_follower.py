"""Following the ledger: reverts, replays, new versions of the holdout, learning stopped and resumed, roles."""

import logging
from collections.abc import Callable, Iterator

import msgspec

from learners.event import Event
from snapshots.decisions.erasure import Erased, erasures
from snapshots.decisions.ledger import Decision, Entry
from snapshots.errors import DamagedError, LineageTakenError, SnapshotsError
from snapshots.records import cut as snapshots
from snapshots.records import manifest as manifests
from snapshots.records.manifest import Quarantined
from snapshots.records.place import between
from stream.errors import SourceAwayError, SourceLostError
from stream.learner.process import LearnerProcess
from stream.process import logs
from stream.record import Record, counts
from stream.refusal import Refusal
from stream.train.cut import Cutter
from stream.train.recent import RecentIds
from stream.train.replay import Selection, left_behind, opened, opened_before, place_at, records, span_of
from stream.train.state import Kit, State

log = logging.getLogger("holdfast.trainer")
_SECONDS, _BROKEN_SECONDS = 0.2, 10.0


class LedgerFollower:
    """Does what the ledger decides and the newest snapshot does not hold yet.

    ``teach`` hands events to one learner, as :meth:`stream.train.trainer.Trainer.teach` does; ``seal`` seals the next
    version of the holdout, and tells whether there is one.
    """

    def __init__(
        self, kit: Kit, state: State, cutter: Cutter, teach: Callable[..., None], seal: Callable[[], bool]
    ) -> None:
        self.kit, self.state, self.cutter, self.lineage = kit, state, cutter, kit.lineage
        self._teach, self._seal = teach, seal
        self._at = 0.0

    def hurry(self) -> None:
        """Look at the next occasion."""
        self._at = 0.0

    def follow(self, *, at_once: bool = False) -> None:
        """Apply what the ledger decides and this trainer has not cut yet, and cut."""
        if (self.kit.elapsed() >= self._at or at_once) and self._look():
            self.lineage.ledger.renew_head(self.kit.now())
            self.state.writer.cover()
            changed = [self._follow(learner) for learner in self.state.learners]
            changed += [self.refresh_holdout(), self.state.follow_champion()]
            if any(changed):
                self.cutter.cut(wait=True)

    def _look(self) -> bool:
        """Read the ledger; False when it cannot be followed just now, which is said."""
        self._at = self.kit.elapsed() + _SECONDS
        try:
            self.state.writer.refuse_superseded()
            self.lineage.refresh_entries()
        except SnapshotsError as cause:
            if isinstance(cause, (LineageTakenError, DamagedError)):
                raise
            log.error("the ledger cannot be followed: %s", cause)
            return False
        if self.lineage.broken:
            log.error("%s. Learning goes on", self.lineage.broken)
            self._at = self.kit.elapsed() + _BROKEN_SECONDS
        return not self.lineage.broken

    def _follow(self, learner: LearnerProcess) -> bool:
        """What the ledger says of one learner; tell whether anything changed."""
        decided = self.lineage.decided
        changed = learner.account.line < decided.line(learner.name).number
        if changed:
            self.revert(learner)
        changed |= self.state.stop_or_resume(learner)
        if (reference := self.state.writer.references.get(learner.name)) is not None:
            learner.refer(reference)
        last = decided.switch(learner.name)
        learner.against(decided.baseline, last.seq if last is not None else 0, decided.last_retrain)
        return self.replay(learner) or changed

    def revert(self, learner: LearnerProcess) -> None:
        """Put one learner back to the target of its line; the place stays, and what lies between is quarantined."""
        line = self.lineage.decided.line(learner.name)
        self.state.writer.wait()
        manifest = self.lineage.refresh().manifest(line.target or 0)
        if manifest is None:
            raise SnapshotsError(f"entry {line.number} reverts {learner.name} to snapshot {line.target}, which is gone")
        why = self.lineage.decided.by_number[line.number].why or "revert"
        learner.load(manifest.snapshot, self.kit.labels.names)
        learner.ready()
        learner.restore(manifest.learners[learner.name])
        learner.account.line = line.number
        learner.refer(manifest.snapshot)
        undone = between(manifest.place, self.state.place)
        learner.account.pass_over("revert", str(line.number), why, undone, self.state.counts)
        log.warning(
            "%s is back at snapshot %s, line %d: %s", learner.name, line.target, line.number, why,
            extra=logs.facts(learner=learner.name, snapshot=line.target, line=line.number),
        )  # fmt: skip

    def refresh_holdout(self) -> bool:
        """Erase rows and seal the next version of the holdout, as the ledger says; tell whether it changed."""
        decided, state, membership = self.lineage.decided, self.state, self.kit.membership
        followed = state.holdout.followed
        refresh = [entry.seq for entry in decided.refreshes if entry.seq > followed]
        erase = erasures(decided.erasures, followed)
        state.erased = Erased(membership, erasures(decided.erasures))
        if not refresh and not erase:
            return False
        state.holdout.followed = max(*refresh, *(one.seq for one in erase), 0)
        if erase:
            state.writer.wait()  # the blobs of the holdout are written with a snapshot
            store, erased = self.lineage.store, Erased(membership, erase)
            gone = state.holdout.erase(erased.row, self.kit.now(), lambda part: manifests.read(store, part))
            if gone:
                log.warning("%d rows are taken out of the holdout for good, as entry %d asks", gone, erase[-1].seq)
            state.rows.clear()
            state.counts.move(state.forget_waiting(erased))
        return bool(refresh and self._seal()) or bool(erase)

    # Replays ---------------------------------------------------------------------------------------------------

    def replay(self, learner: LearnerProcess) -> bool:
        """Learn what the ledger wants out of quarantine, in offset order; tell whether anything changed.

        The range is read twice by a source of its own: first to see that it still is what was quarantined.
        """
        wanted, account = self._wanted(learner), learner.account
        if wanted is None or account.stopped is not None:
            return False
        entry, one = wanted
        if trouble := self._trouble(one):
            log.error("%s: replay of %s: %s; nothing was changed", learner.name, one.id, trouble)
            self.state.decide(Decision("replay_failed", "trainer", trouble, learner.name, cause=one.id))
            return False
        selection = Selection([span_of(text) for text in entry.only], [span_of(text) for text in entry.without])
        seen: list[tuple[Record, bool]] = []
        for lot in self._quarantined(one):
            chosen = [(record, event) for record, event in lot if selection.holds(record)]
            seen += [(record, selection.holds(record)) for record, _ in lot]
            events = [event for _, event in chosen]
            account.quarantined -= len(chosen)
            slices = [self.state.slices_of(event) for event in events] if self.kit.config.event.slices else None
            self._teach(learner, events, [record for record, _ in chosen], slices)
        replayed = sum(was for _, was in seen)
        account.quarantine.remove(one)
        done = msgspec.structs.replace(one, state="replayed", events=replayed)
        account.quarantine += [done, *left_behind(one, seen)]
        log.warning("%s learnt %d events of quarantine %s", learner.name, replayed, one.id)
        return True

    def _wanted(self, learner: LearnerProcess) -> tuple[Entry, Quarantined] | None:
        """The first replay on this line that was neither done nor given up, and what it is about."""
        waiting = {one.id: one for one in learner.account.quarantine if one.state != "replayed"}
        asked = self.lineage.decided.wanted_replays(learner.name)
        return next(((entry, waiting[entry.cause]) for entry in asked if entry.cause in waiting), None)

    def _trouble(self, one: Quarantined) -> str:
        """Why a range is not what was quarantined; empty when it is."""
        try:
            there = sum(len(lot) for lot in self._quarantined(one))
        except (SourceLostError, SourceAwayError) as cause:
            return str(cause)
        return "" if there == one.events else f"it holds {one.events:,} events, and {there:,} are there now"

    def _quarantined(self, one: Quarantined) -> Iterator[list[tuple[Record, Event]]]:
        """Read the events of a quarantined range that are neither refused, unlabelled, duplicate nor held out."""
        kit = self.kit
        entry = self.lineage.decided.by_number.get(one.reverted_by or 0)
        target = self.lineage.manifest(entry.snapshot) if entry and entry.snapshot is not None else None
        known = snapshots.read_shared(self.lineage.store, target).recent_ids if target else b""
        recent = RecentIds(kit.config.event.recent_ids, known)
        source = kit.reopen()
        try:
            if kit.config.labels.given:
                before = self.lineage.newest_before(place_at(one, self.state.place))
                begun = opened_before(source, one, before)
            else:
                begun = opened(source, one, self.state.place, kit.source.identities())
            for lot in records(begun, one, kit.config.source.batch):
                found = []
                for record in lot:
                    event = kit.codec.decode(record)
                    if isinstance(event, Refusal) or event.label is None or not counts(record):
                        continue
                    digest = kit.membership.digest(event.id)
                    if (record.joined is None or record.joined.sequence < 0) and recent.seen(digest):
                        continue
                    if not kit.membership.claims(kit.membership.owner(event, digest)):
                        found.append((record, event))
                yield found
        finally:
            source.close()
