"""The trainer: consumes events and drives the learners. One per lineage."""

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from learners import Event, LearnersError
from snapshots.decisions.ledger import Decision
from snapshots.errors import RefusedError, SnapshotsError
from snapshots.records.held_rows import HeldRow
from stream.errors import GaveUpError, RaisedAtError, StreamError
from stream.learner.lot import Lot, moved
from stream.learner.process import LearnerProcess
from stream.record import COUNTED, Joined, Mode, Record
from stream.refusal import Refusal
from stream.source.alike.batches import BatchCodec
from stream.train.cut import Cutter
from stream.train.ledger_follower import LedgerFollower
from stream.train.refused import Refusals
from stream.train.resuming import Resuming
from stream.train.state import FAST_LANE_ROWS, Kit, State

log = logging.getLogger("holdfast.trainer")
_PAUSE_SECONDS = 0.2


class Trainer:
    """Reads like DESIGN section 3: poll, decode, account, predict, score, learn, note the place, cut when due.

    What it decides, cuts, follows and resumes from is in the modules beside this one; :mod:`stream.compose` hands in
    the parts.
    """

    def __init__(self, kit: Kit) -> None:
        self.kit, self.config = kit, kit.config
        self.state = State(kit)
        self.batches = BatchCodec(kit.codec)
        self.cutter = Cutter(kit, self.state)
        self.refusals = Refusals(kit, self.state, self.cutter)
        self.resuming = Resuming(kit, self.state, self.cutter)
        self.ledger = LedgerFollower(kit, self.state, self.cutter, self.teach, self.seal)
        kit.presence.others = [learner.process for learner in kit.learners]

    def run(self, *, until_end: bool = False) -> bool:
        """Learn until asked to stop, or to where the source ended when this began; then cut and leave.

        Returns False when it was asked to stop before that end.
        """
        source = self.kit.source
        try:
            self.begin()
            if until_end:
                self.state.patiently(source.mark_end, self.cutter.cut_if_due)
            done = False
            while not done:
                try:
                    done = self.step(until_end=until_end)
                except RaisedAtError as raised:
                    self.refusals.note(raised)
                    self.begin()
            self.state.matching.close()
            return not until_end or source.ended()
        except GaveUpError as cause:
            log.warning("asked to end: %s; nothing is lost, it comes again", cause)
            return False
        finally:
            self.close()

    def begin(self) -> None:
        """Go to the newest snapshot, all learners together; the first time another trainer is taken over from."""
        self.resuming.begin()

    def step(self, *, until_end: bool) -> bool:
        """Follow the ledger, take what the source has, cut when due; tell whether this was the last step."""
        last = self.kit.stopping() or (until_end and (self.kit.source.ended() or self.state.waits()))
        if not self.kit.source.whole():
            last = False
        else:
            self.ledger.follow(at_once=last)
        if not last:
            self.take(self.poll())
        if last and (until_end or self.cutter.anything_new()):
            self.cutter.cut(wait=True)
        elif last:
            self.state.writer.wait()
        else:
            self.cutter.cut_if_due()
        return last

    def poll(self) -> list[Record]:
        """The next records; none while the source is away, or is not to be read."""
        found: list[Record] = []
        kit, state = self.kit, self.state
        if state.waits():
            state.say("waiting", "a breaker is open, and breaker.when_open is wait")
            kit.sleep(_PAUSE_SECONDS)
            return found
        with contextlib.suppress(GaveUpError), state.sampling.waiting():
            state.patiently(lambda: found.extend(kit.source.poll(self.config.source.batch)), self.cutter.cut_if_due)
        state.note_losses()
        kit.progress(state.counts.consumed, kit.source.lag() if found else 0)
        state.say("reading")
        return found

    def take(self, records: Sequence[Record]) -> None:
        """Put each record into its class, let every learner predict, score and learn, and note the place."""
        state = self.state
        lot = Lot()
        events = iter(self.batches.decode_many([record for record in records if record.joined is None]))
        for record in records:
            if record.joined is not None:
                lot = self.take_joined(record, record.joined, lot)
            else:
                self.take_event(record, next(events), lot)
            state.place.setdefault(record.topic, {})[record.partition] = record.following
        self.teach_all(lot)
        if records:
            state.newest_event = max(state.newest_event, records[-1].time or self.kit.now())

    def take_event(self, record: Record, event: Event | Refusal, lot: Lot) -> None:
        """Put a record that came with its label into its class."""
        state, membership = self.state, self.kit.membership
        state.counts.consumed += 1
        state.matching.see(event)
        if isinstance(event, Refusal):
            state.counts.dead_lettered += 1
            self.dead_letter(record, event)
        elif event.label is None:
            state.counts.unlabelled += 1
        elif state.recent.seen(digest := membership.digest(event.id)):
            state.counts.duplicate += 1
        elif membership.claims(membership.owner(event, digest)):
            self.hold_out(record, event, digest)
        else:
            lot.add(record, event)

    def take_joined(self, record: Record, joined: Joined, lot: Lot) -> Lot:
        """Do what follows from a record of an event or a label that come apart; return the lot that goes on."""
        state = self.state
        state.counts.move(joined.moves)
        if joined.refusal is not None:
            self.dead_letter(record, joined.refusal)
        event = joined.event
        if joined.reward is not None and joined.served is not None:
            state.rivalry.reward(joined.served.learner, joined.reward, joined.served.propensity)
        if joined.delay is not None:
            state.arrivals.note_delay(joined, state.slices_of(event) if event is not None else None)
        if event is None:
            return lot
        if joined.asked:
            lot.ask(joined.sequence, event)
            state.arrivals.expect(joined)
            return lot
        if joined.mode is not None and joined.mode != lot.mode:
            self.teach_all(lot)
            lot = Lot(joined.mode)
        self.settle(record, event, joined, lot)
        return lot

    def settle(self, record: Record, event: Event, joined: Joined, lot: Lot) -> None:
        """Score an event whose label is there, and hold it out or add it to what is learnt."""
        state, membership = self.state, self.kit.membership
        digest = joined.digest or membership.digest(event.id)
        if joined.sequence < 0 and state.recent.seen(digest):
            state.counts.duplicate += 1
            return
        state.matching.see(event)
        held = membership.claims(membership.owner(event, digest))
        if joined.mode == "negative":  # what is held out waits until it is certain
            state.counts.pending -= not held
        else:
            state.arrivals.settle(event, joined, state.slices_of(event))
            state.counts.pending -= held and joined.mode != "learn"
            if held:
                self.hold_out(record, event, digest)
        if not held:
            lot.add(record, event)

    def teach_all(self, lot: Lot) -> None:
        """Hand a lot to every learner; every so-many-th event is scored for comparisons as well, by all on the same."""
        state, events = self.state, lot.events
        if not events and not lot.asked:
            for learner in state.learners:
                learner.check()
            return
        slices = [state.slices_of(event) for event in events] if self.config.event.slices else None
        sampled = state.sampling.of(state.counts.remaining() - len(events))
        state.lots += 1
        scored = sampled.start < len(events) and lot.mode != "negative"
        if scored and not state.refusing:
            able = {learner.name for learner in state.learners if learner.account.stopped is None}
            state.rivalry.expect(state.lots, able, slices[sampled] if slices is not None else None)
        for learner in state.learners:
            self.teach(
                learner, events, lot.origins, slices, sampled=sampled, lot=state.lots, mode=lot.mode, asked=lot.asked
            )
        if lot.mode != "negative":
            state.rows.extend(event.features.raw for event in events[-FAST_LANE_ROWS:])

    def teach(
        self, learner: LearnerProcess, events: Sequence[Event], origins: Sequence[Record],
        slices: list[list[str]] | None, **compared: Any,
    ) -> None:  # fmt: skip
        """Hand events to one learner, but for those that it may not or cannot learn; ``compared``: see its ``take``."""
        learner.check()
        names, stopped = self.kit.labels.names, learner.account.stopped
        mode: Mode = compared.get("mode", "learn")
        if stopped is not None:
            if stopped.cause == "breaker":
                learner.take(events, origins, slices, names, learn=False, asked=compared.get("asked", ()))
            learner.account.skip(len(events) if mode in COUNTED else 0)
            return
        if self.state.refusing:
            kept = [index for index, origin in enumerate(origins) if not self.refuse(learner, origin, mode)]
            events, origins = [events[i] for i in kept], [origins[i] for i in kept]
            slices = [slices[i] for i in kept] if slices is not None else None
            compared = {**compared, "asked": [moved(one, kept) for one in compared.get("asked", ())]}
        learner.take(events, origins, slices, names, self.state.holdout.scale, **compared)

    def refuse(self, learner: LearnerProcess, origin: Record, mode: Mode) -> bool:
        """Quarantine an event that the learner raised at twice; tell whether it did."""
        error = self.refusals.of(learner, origin)
        if error is not None and mode in COUNTED and self.refusals.refuse(learner, origin, error):
            self.ledger.hurry()
        return error is not None

    def hold_out(self, record: Record, event: Event, digest: bytes) -> None:
        """Count an event that is never learnt, and keep it for the holdout; seal a version when it is time."""
        state = self.state
        state.counts.held_out += 1
        row = HeldRow(
            record.topic, record.partition, record.offset, event.features.raw,
            event.label if event.label is not None else 0, event.time or record.time or 0.0, state.slices_of(event),
            digest,
        )  # fmt: skip
        if not (state.erased and state.erased.row(row)):
            state.holdout.add(row)
        if state.holdout.due(state.counts.remaining() + state.counts.held_out):
            self.seal()

    def seal(self) -> bool:
        """Seal the candidate as the next version of the holdout, without rows of what a revert quarantined."""
        quarantined = [one for learner in self.state.learners for one in learner.account.quarantine]
        left_out = [one.ranges for one in quarantined if one.reverted_by is not None and one.state != "replayed"]
        version = self.state.holdout.seal(left_out, self.kit.now())
        if version is not None:
            log.info("holdout version %d is sealed: %d rows", version.number, version.rows)
        return version is not None

    def dead_letter(self, record: Record, refusal: Refusal) -> None:
        """Send a refused record to the dead letters and count its reason."""
        self.kit.dead_letters.send(record, refusal)
        counts = self.state.counts
        counts.refused[refusal.reason] = counts.refused.get(refusal.reason, 0) + 1

    def decide(self, decision: Decision) -> None:
        """Append to the ledger, unless another trainer has taken over."""
        self.state.decide(decision)

    def first_snapshot(self) -> int:
        """Write the first snapshot of a lineage that has none, with what is imported; return its number."""
        lineage = self.kit.lineage
        try:
            if lineage.refresh().numbers:
                raise RefusedError(
                    f"this lineage has learnt already: its newest snapshot is {lineage.numbers[-1]}; nothing was "
                    "changed. To begin from a file, give it a name and a store.url of its own"
                )
            self.begin()
            return self.state.writer.number - 1
        finally:
            self.close()

    def close(self) -> None:
        """Let go of everything, in the order that loses nothing."""
        self.state.writer.close()
        for learner in self.kit.learners:
            learner.close()
        for part in (self.kit.source, self.kit.dead_letters, self.kit.presence):
            part.close()


#: What ends a trainer with a message rather than a stack trace.
EXPECTED = (StreamError, SnapshotsError, LearnersError)
