"""The trainer: consumes events and drives the learners. One per lineage."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from learners import Event, LearnersError
from learners.errors import FactoryRefusedError
from learners.event import slices_of
from learners.evidence.against_champion import Rivalry
from learners.labels import Labels
from snapshots import Lineage
from snapshots.errors import DamagedError, LedgerBrokenError, LineageTakenError, RefusedError, SnapshotsError
from snapshots.records import cut as snapshots
from snapshots.records import manifest as manifests
from snapshots.records.cut import Cut, Shared
from snapshots.records.erasure import Erased, erasures
from snapshots.records.held_rows import HeldRow
from snapshots.records.holdout import Holdout, Sizes
from snapshots.records.ledger import Decision, Entry
from snapshots.records.manifest import Counts, Durations, HoldoutState, LearnerPart, Manifest, Part, Place, Quarantined
from snapshots.records.membership import Membership
from stream.dead_letters.writer import DeadLetters
from stream.errors import GaveUpError, RaisedAtError, SourceAwayError, SourceLostError, StreamError
from stream.learner.process import Running, between, copy_counts, copy_place
from stream.process import logs
from stream.process.presence import Presence
from stream.record import Record
from stream.settings import Config
from stream.source.codec import Codec
from stream.source.refusal import Refusal
from stream.source.source import Source
from stream.train.name_matching import Matching
from stream.train.recent import RecentIds, RecentRows
from stream.train.replay import Selection, left_behind, opened, records, span_of
from stream.train.sampling import Sampling
from stream.train.writer import Draft, Writer, encode_shared

log = logging.getLogger("holdfast.trainer")
FAST_LANE_ROWS, FAST_LANE_BYTES = 256, 1 << 20
#: the share of refused events is looked at from few on; more than the most are too many anyway
FEW_REFUSED, MOST_REFUSED = 20, 1000
#: the share of the time that learning may stand still for saving; slow models are saved less often
SAVING_SHARE = 0.05
_LEDGER_SECONDS, _BROKEN_SECONDS = 0.2, 10.0
_BACKOFF_SECONDS = 10.0
_NOTHING = Part("", 0, "")


class Begin(msgspec.Struct, frozen=True):
    """How to begin: ``by`` names host and process, ``fresh`` a new lineage; ``accept`` takes changed learners.

    ``imports`` maps learners to files to begin from, in a lineage that has no snapshot yet. ``take_over``: also from a
    trainer that is alive.
    """

    by: str
    fresh: bool = False
    accept: bool = False
    operator: str = "operator"
    imports: dict[str, str] = {}
    take_over: bool = False


class Trainer:
    """Reads like DESIGN section 3: poll, decode, account, predict, score, learn, note the place, cut when due.

    Everything that it needs is handed in by :mod:`stream.compose`; ``now`` is the clock in Unix seconds, ``elapsed``
    one that nobody sets, for what is due; ``sleep`` waits, ``stopping`` tells whether the process was asked to end.
    """

    def __init__(  # noqa: PLR0913  the composition root hands in every part
        self,
        config: Config,
        *,
        source: Source,
        codec: Codec,
        labels: Labels,
        dead_letters: DeadLetters,
        lineage: Lineage,
        membership: Membership,
        learners: list[Running],
        begin: Begin,
        presence: Presence,
        reopen: Callable[[], Source],
        now: Callable[[], float],
        sleep: Callable[[float], None],
        stopping: Callable[[], bool],
        progress: Callable[[int, int | None], None] = lambda _count, _lag: None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.source, self.codec, self.labels = config, source, codec, labels
        self.dead_letters, self.lineage, self.membership = dead_letters, lineage, membership
        self.elapsed = elapsed
        self.presence, self.now, self.sleep, self.stopping, self.progress = presence, now, sleep, stopping, progress
        self.learners, self._begin, self._reopen = learners, begin, reopen
        self.presence.others = [learner.process for learner in learners]
        self.epoch: int | None = None
        self.place: Place = {}
        self.start: Place = {}
        self.counts = Counts()
        self.recent = RecentIds(config.event.recent_ids)
        self.rows = RecentRows(FAST_LANE_ROWS, FAST_LANE_BYTES)
        self.newest_event = 0.0
        rules = config.holdout
        self.holdout = Holdout(Sizes(rules.rows, rules.min_slice_rows, rules.min_class_rows), config.task)
        self.writer = Writer(lineage, now, sleep, stopping, config.snapshots.keep)
        self.erased = Erased(membership, [])
        self.matching = Matching(config, labels)
        self.sampling = Sampling(config.guard.share, elapsed)
        self.rivalry = Rivalry(config.first_champion, config.event.max_slices)
        for learner in learners:
            learner.scored = self.rivalry.note
            learner.waiting = lambda why: self.say("waiting", why)
        self._raised: set[tuple[str, str, str, int]] = set()
        self._refusing: dict[tuple[str, str, str, int], str] = {}
        self._cut_at, self._cut_consumed, self._ledger_at, self._stretched = 0.0, 0, 0.0, 0.0

    # The story -------------------------------------------------------------------------------------------------

    def run(self, *, until_end: bool = False) -> bool:
        """Learn until asked to stop, or to where the source ended when this began; then cut and leave.

        Returns False when it was asked to stop before that end.
        """
        try:
            self.begin()
            if until_end:
                self._patiently(self.source.mark_end)
            done = False
            while not done:
                try:
                    done = self.step(until_end=until_end)
                except RaisedAtError as raised:
                    self.begin_again(raised)
            self.matching.close()
            return not until_end or self.source.ended()
        except GaveUpError as cause:
            log.warning("asked to end: %s; nothing is lost, it comes again", cause)
            return False
        finally:
            self.close()

    def first_snapshot(self) -> int:
        """Write the first snapshot of a lineage that has none, with what is imported; return its number."""
        try:
            if self.lineage.refresh().numbers:
                raise RefusedError(
                    f"this lineage has learnt already: its newest snapshot is {self.lineage.numbers[-1]}; nothing was "
                    "changed. To begin from a file, give it a name and a store.url of its own"
                )
            self.begin()
            return self.writer.number - 1
        finally:
            self.close()

    def step(self, *, until_end: bool) -> bool:
        """Follow the ledger, take what the source has, cut when due; tell whether this was the last step."""
        last = self.stopping() or (until_end and (self.source.ended() or self.waits()))
        self.follow_ledger(at_once=last)
        if not last:
            self.take(self.poll())
        if last and (until_end or self.counts.consumed != self._cut_consumed):
            self.cut(wait=True)
        elif last:
            self.writer.wait()
        elif self.due():
            self.cut()
        return last

    def take(self, records: Sequence[Record]) -> None:
        """Put each record into its class, let every learner predict, score and learn, and note the place."""
        events: list[Event] = []
        origins: list[Record] = []
        for record in records:
            event = self.codec.decode(record)
            self.counts.consumed += 1
            self.matching.see(event)
            if isinstance(event, Refusal):
                self.dead_letter(record, event)
            elif event.label is None:
                self.counts.unlabelled += 1
            elif self.recent.seen(digest := self.membership.digest(event.id)):
                self.counts.duplicate += 1
            elif self.membership.claims(self.membership.owner(event, digest)):
                self.hold_out(record, event, digest)
            else:
                events.append(event)
                origins.append(record)
            self.place.setdefault(record.topic, {})[record.partition] = record.following
        slices = [self.slices_of(event) for event in events] if self.config.event.slices else None
        stride = self.sampling.stride
        sampled = slice(-(self.counts.remaining() - len(events)) % stride, None, stride)
        lot = self.counts.consumed
        if sampled.start < len(events) and not self._refusing:
            able = {learner.name for learner in self.learners if learner.stopped is None}
            self.rivalry.expect(lot, able, slices[sampled] if slices is not None else None)
        for learner in self.learners:
            self.teach(learner, events, origins, slices, sampled, lot)
        if events:
            self.rows.extend(event.features.raw for event in events[-FAST_LANE_ROWS:])
        if records:
            self.newest_event = max(self.newest_event, records[-1].time or self.now())

    def teach(
        self, learner: Running, events: Sequence[Event], origins: Sequence[Record], slices: list[list[str]] | None,
        sampled: slice = slice(None), lot: int = 0,
    ) -> None:  # fmt: skip
        """Hand the events to one learner, but for those that it may not or cannot learn."""
        learner.check()
        if learner.stopped is not None:
            if learner.stopped.cause == "breaker":
                learner.take(events, origins, slices, self.labels.names, learn=False)
            learner.skip(len(events))
            return
        if self._refusing:
            kept = []
            for index, origin in enumerate(origins):
                error = self._refusing.get((learner.name, origin.topic, origin.partition, origin.offset))
                if error is None:
                    kept.append(index)
                else:
                    self.refuse(learner, origin, error)
            events, origins = [events[i] for i in kept], [origins[i] for i in kept]
            slices = [slices[i] for i in kept] if slices is not None else None
        versions = self.holdout.versions
        scale = versions[-1].scale if versions else None
        learner.take(events, origins, slices, self.labels.names, scale, sampled=sampled, lot=lot)

    def hold_out(self, record: Record, event: Event, digest: bytes) -> None:
        """Count an event that is never learnt, and keep it for the holdout; seal a version when it is time."""
        self.counts.held_out += 1
        time = event.time or record.time or 0.0
        label = event.label if event.label is not None else 0
        row = HeldRow(
            record.topic, record.partition, record.offset, event.features.raw, label, time, self.slices_of(event),
            digest,
        )  # fmt: skip
        if not (self.erased and self.erased.row(row)):
            self.holdout.add(row)
        if self.holdout.due(self.counts.remaining() + self.counts.held_out):
            self.seal()

    def seal(self) -> bool:
        """Seal the candidate as the next version of the holdout, without rows of what a revert quarantined."""
        left_out = [
            one.ranges
            for learner in self.learners
            for one in learner.quarantine
            if one.id.isdigit() and one.state != "replayed"
        ]
        version = self.holdout.seal(left_out, self.now())
        if version is not None:
            log.info("holdout version %d is sealed: %d rows", version.number, version.rows)
        return version is not None

    def follow_ledger(self, *, at_once: bool = False) -> None:
        """Apply what the ledger decides and this trainer has not cut yet: reverts, learning stopped or resumed."""
        if self.elapsed() < self._ledger_at and not at_once:
            return
        self._ledger_at = self.elapsed() + _LEDGER_SECONDS
        try:
            self.writer.refuse_superseded()
            self.lineage.refresh_entries()
        except SnapshotsError as cause:
            if isinstance(cause, (LineageTakenError, DamagedError)):
                raise
            log.error("the ledger cannot be followed: %s", cause)
            return
        if self.lineage.broken:
            log.error("%s. Learning goes on", self.lineage.broken)
            self._ledger_at = self.elapsed() + _BROKEN_SECONDS
            return
        self.lineage.ledger.renew_head(self.now())
        self.writer.cover()
        changed = False
        for learner in self.learners:
            if learner.line < self.lineage.decided.line(learner.name).number:
                self.revert(learner)
                changed = True
            changed |= self.stop_or_resume(learner)
            if (reference := self.writer.references.get(learner.name)) is not None:
                learner.refer(reference)
            last = self.lineage.decided.switch(learner.name)
            learner.against(
                self.lineage.decided.baseline, last.seq if last is not None else 0, self.lineage.decided.last_retrain
            )
            changed |= self.replay(learner)
        changed |= self.refresh_holdout()
        changed |= self.follow_champion()
        if changed:
            self.cut(wait=True)

    def follow_champion(self) -> bool:
        """Give each learner the role that the ledger gives it; tell whether one is another."""
        promoted = self.lineage.decided.promoted
        name = promoted if any(one.name == promoted for one in self.learners) else self.config.first_champion
        changed = False
        for learner in self.learners:
            role: Literal["champion", "challenger"] = "champion" if learner.name == name else "challenger"
            changed |= learner.role != role
            learner.role = role
        self.rivalry.led_by(name or "")
        return changed

    def replay(self, learner: Running) -> bool:
        """Learn what the ledger wants out of quarantine, in offset order, and cut; tell whether anything changed.

        The range is read twice by a source of its own: first to see that it still is what was quarantined.
        """
        wanted = self.wanted_replay(learner)
        if wanted is None or learner.stopped is not None:
            return False
        entry, one = wanted
        selection = Selection([span_of(text) for text in entry.only], [span_of(text) for text in entry.without])
        try:
            there = sum(len(lot) for lot in self.quarantined(one))
            trouble = "" if there == one.events else f"it holds {one.events:,} events, and {there:,} are there now"
        except (SourceLostError, SourceAwayError) as cause:
            trouble = str(cause)
        if trouble:
            log.error("%s: replay of %s: %s; nothing was changed", learner.name, one.id, trouble)
            failed = Decision("replay_failed", "trainer", trouble, learner.name, cause=one.id)
            self.decide(failed)
            return False
        seen: list[tuple[Record, bool]] = []
        for lot in self.quarantined(one):
            chosen = [(record, event) for record, event in lot if selection.holds(record)]
            seen += [(record, selection.holds(record)) for record, _ in lot]
            events = [event for _, event in chosen]
            learner.quarantined -= len(chosen)
            slices = [self.slices_of(event) for event in events] if self.config.event.slices else None
            self.teach(learner, events, [record for record, _ in chosen], slices)
        replayed = sum(was for _, was in seen)
        learner.quarantine.remove(one)
        done = msgspec.structs.replace(one, state="replayed", events=replayed)
        learner.quarantine += [done, *left_behind(one, seen)]
        log.warning("%s learnt %d events of quarantine %s", learner.name, replayed, one.id)
        return True

    def wanted_replay(self, learner: Running) -> tuple[Entry, Quarantined] | None:
        """The first replay on this line that was neither done nor given up, and what it is about."""
        waiting = {one.id: one for one in learner.quarantine if one.state != "replayed"}
        for entry in self.lineage.decided.wanted_replays(learner.name):
            if entry.cause in waiting:
                return entry, waiting[entry.cause]
        return None

    def quarantined(self, one: Quarantined) -> Iterator[list[tuple[Record, Event]]]:
        """Read the events of a quarantined range that are neither refused, unlabelled, duplicate nor held out."""
        entry = next((e for e in self.lineage.entries if str(e.seq) == one.id and e.action == "revert"), None)
        target = self.lineage.manifest(entry.snapshot) if entry and entry.snapshot is not None else None
        known = snapshots.read_shared(self.lineage.store, target).recent_ids if target else b""
        recent = RecentIds(self.config.event.recent_ids, known)
        source = self._reopen()
        try:
            for lot in records(
                opened(source, one, self.place, self.source.identities()), one, self.config.source.batch
            ):
                found = []
                for record in lot:
                    event = self.codec.decode(record)
                    if isinstance(event, Refusal) or event.label is None:
                        continue
                    if recent.seen(digest := self.membership.digest(event.id)):
                        continue
                    if not self.membership.claims(self.membership.owner(event, digest)):
                        found.append((record, event))
                yield found
        finally:
            source.close()

    def refresh_holdout(self) -> bool:
        """Erase rows and seal the next version of the holdout, as the ledger says; tell whether it changed."""
        followed = self.holdout.followed
        refresh = [e.seq for e in self.lineage.decided.refreshes if e.seq > followed]
        erase = erasures(self.lineage.decided.erasures, followed)
        self.erased = Erased(self.membership, erasures(self.lineage.decided.erasures))
        if not refresh and not erase:
            return False
        self.holdout.followed = max(*refresh, *(one.seq for one in erase), 0)
        if erase:
            self.writer.wait()  # the blobs of the holdout are written with a snapshot
            store = self.lineage.store
            erased = Erased(self.membership, erase)
            gone = self.holdout.erase(erased.row, self.now(), lambda part: manifests.read(store, part))
            if gone:
                log.warning("%d rows are taken out of the holdout for good, as entry %d asks", gone, erase[-1].seq)
            self.rows.clear()
        return bool(refresh and self.seal()) or bool(erase)

    def stop_or_resume(self, learner: Running) -> bool:
        """Stop or resume a learner's learning as the ledger says; tell whether that changed anything."""
        wanted = self.lineage.decided.stopped(learner.name)
        if wanted is not None and learner.stopped is None:
            cause = "breaker" if wanted.action == "open_breaker" else "set_aside"
            learner.stop(f"stopped-{wanted.seq}-{learner.line}", cause, self.place)
            log.warning("%s learns nothing from here on: %s", learner.name, wanted.why)
        elif wanted is None and learner.stopped is not None:
            learner.resume(self.place)
            log.warning("%s learns again from here on", learner.name)
        else:
            return False
        return True

    def revert(self, learner: Running) -> None:
        """Put one learner back to the target of its line; the place stays, and what lies between is quarantined."""
        line = self.lineage.decided.line(learner.name)
        self.writer.wait()
        manifest = self.lineage.refresh().manifest(line.target or 0)
        if manifest is None:
            raise SnapshotsError(f"entry {line.number} reverts {learner.name} to snapshot {line.target}, which is gone")
        why = self.lineage.decided.by_number[line.number].why
        learner.load(manifest.snapshot, self.labels.names)
        learner.ready()
        learner.restore(manifest.learners[learner.name])
        learner.line = line.number
        learner.refer(manifest.snapshot)
        learner.pass_over(str(line.number), why or "revert", between(manifest.place, self.place), self.counts)
        log.warning(
            "%s is back at snapshot %s, line %d: %s", learner.name, line.target, line.number, why or "no reason",
            extra=logs.facts(learner=learner.name, snapshot=line.target, line=line.number),
        )  # fmt: skip

    def begin_again(self, raised: RaisedAtError) -> None:
        """A learner that raised is no longer what it was: go back to the newest snapshot, all learners together.

        Raising at the same event a second time puts that event into the learner's quarantine when it comes again.
        """
        if raised.for_good:
            self.lose(raised)
            return
        origin = raised.origin
        event = (raised.learner, origin.topic, origin.partition, origin.offset)
        with contextlib.suppress(RaisedAtError):
            self.writer.wait()
        about = logs.facts(
            learner=raised.learner, topic=origin.topic, partition=origin.partition, offset=origin.offset,
            error=raised.error,
        )  # fmt: skip
        if event in self._raised:
            self._refusing[event] = raised.error
            log.error("%s, for the second time: this event is quarantined for it (cause refused)", raised, extra=about)
        else:
            self._raised.add(event)
            log.error("%s; all learners go back to the newest snapshot and try again", raised, extra=about)
        self.begin()

    def lose(self, raised: RaisedAtError) -> None:
        """Go on without a challenger that may not learn; raise :class:`FactoryRefusedError` when it is the champion."""
        if any(one.name == raised.learner and one.role == "champion" for one in self.learners):
            raise FactoryRefusedError(raised.error) from raised
        log.error("%s. The others go on without it; mend it, then: holdfast learning resume %s", raised.error,
                  raised.learner)  # fmt: skip
        self.decide(Decision(action="stop_learning", by="trainer", why=raised.error, learner=raised.learner))
        self.begin()

    def refuse(self, learner: Running, origin: Record, error: str) -> None:
        """Quarantine one event for one learner; set the learner aside when there are too many of them."""
        learner.refuse(origin, error)
        self._cut_at = -math.inf  # what raises next goes back no further than here
        refused = learner.refused()
        share, limit = refused / max(1, refused + learner.learnt), self.config.event.max_refused_share
        if refused <= MOST_REFUSED and (refused < FEW_REFUSED or share <= limit):
            return
        why = (
            f"{learner.name} raised at {refused:,} events, {share:.1%} of those it was given, and "
            f"event.max_refused_share is {limit:.1%}; the last was: {error}"
        )
        log.error(
            "%s; it learns nothing more, and serving goes on from what it was. Mend its model, or fix the feature's "
            "type in [event.types], then: holdfast learning resume %s", why, learner.name,
        )  # fmt: skip
        self.decide(Decision(action="stop_learning", by="trainer", why=why, learner=learner.name))
        self._ledger_at = 0.0

    def due(self) -> bool:
        """Tell whether a snapshot is due: by events or by seconds, once the one before is written.

        A model that takes long to save is saved less often, so that saving keeps to its share of the time.
        """
        if not self.writer.ready() or self.counts.consumed == self._cut_consumed:
            return False
        waited, settings = self.elapsed() - self._cut_at, self.config.snapshots
        slowest = max(learner.save_seconds for learner in self.learners) / SAVING_SHARE
        if slowest > max(1.1 * settings.every_seconds, 1.5 * self._stretched):
            self._stretched = slowest
            log.warning(
                "snapshots come every %.1f s instead of %.1f: saving takes %.2f s, and it may take %.0f %% of the time",
                slowest, settings.every_seconds, slowest * SAVING_SHARE, 100 * SAVING_SHARE,
            )  # fmt: skip
        enough = self.counts.consumed - self._cut_consumed >= settings.every_events
        return waited >= slowest and (enough or waited >= settings.every_seconds)

    def cut(self, *, wait: bool = False) -> None:
        """Have everything at this place written as one snapshot, by the learners' processes and another thread."""
        self.writer.wait()
        self.dead_letters.flush(self.waiting)
        for learner in self.learners:
            learner.verify(self.counts)
        place = copy_place(self.place)
        self.rivalry.close_look()
        cut = Cut(
            lineage=self.config.name,
            task=self.config.task,
            epoch=self.epoch or 0,
            created=self.now(),
            place=place,
            topics=self.source.identities(),
            newest_event=self.newest_event,
            counts=copy_counts(self.counts),
            holdout=self.holdout.state(),
            written=Durations(list(self.writer.written.counts), self.writer.written.seconds),
            shared=encode_shared(
                Shared(
                    recent_ids=self.recent.dump(),
                    labels=list(self.labels.names),
                    rows=self.rows.dump(),
                    start=self.start,
                    held=self.holdout.tails(),
                    rivalry=self.rivalry.dump(),
                    matching=self.matching.dump(),
                )
            ),
        )
        parts = {learner.name: self.part(learner, place) for learner in self.learners}
        saved = {learner.name: learner.save(self.writer.number) for learner in self.learners}
        self._cut_at, self._cut_consumed = self.elapsed(), self.counts.consumed
        self.writer.write(Draft(cut, parts, saved, self.holdout.unwritten()), then=lambda: self.source.commit(place))
        if wait:
            self.writer.wait()
        self.say("reading")

    def part(self, learner: Running, place: Place) -> LearnerPart:
        """What the trainer knows of a learner's part; its bytes and figures come from the learner's process."""
        return LearnerPart(
            kind=learner.kind,
            role=learner.role,
            line=learner.line,
            learnt=learner.learnt,
            quarantined=learner.quarantined,
            quarantine=learner.quarantine_at(place),
            model=_NOTHING,
            metrics=_NOTHING,
            evidence=_NOTHING,
            reference=None,
            figures={
                "against_champion": self.rivalry.figures().get(learner.name),
                "unmatched": self.matching.sentences(),
            },
            built_from=learner.built_from,
        )

    # The parts -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Resume at the newest good snapshot, or resolve ``source.start`` and write a first one."""
        first = self.epoch is None
        fresh = first and self._begin.fresh
        newest = None if fresh else self.lineage.refresh().newest_good()
        if first and self.lineage.cut_back:
            raise LedgerBrokenError(f"{self.lineage.broken}; nothing was learnt again from before them")
        self.load(newest)
        if newest is None:
            self._patiently(self._resolve)
        if first:
            self.take_over(newest)
        for learner in self.learners:
            if learner.name not in (newest.learners if newest else {}) and self.counts.consumed:
                learner.pass_over("new", "new", between(self.start, self.place), self.counts)
        self._cut_at, self._cut_consumed = self.elapsed(), self.counts.consumed
        self._patiently(lambda: self._open(newest.topics if newest else {}))
        if newest is None or self.accepted(newest):
            self.cut(wait=True)
        for learner in self.learners:
            self.stop_or_resume(learner)
        if (promoted := self.lineage.decided.promoted) not in (None, self.config.first_champion):
            log.warning(
                "%s is the champion, as the ledger says, and not %s: holdfast promote %s makes it so", promoted,
                self.config.first_champion, self.config.first_champion,
            )  # fmt: skip
        log.info("learning %s from %s", ", ".join(one.name for one in self.learners), self.place)

    def load(self, newest: Manifest | None) -> None:
        """Take place, counts and learners of a snapshot; every learner loads in its own process, all at once."""
        shared = snapshots.read_shared(self.lineage.store, newest) if newest is not None else Shared()
        self.labels.restore(shared.labels)
        self.recent = RecentIds(self.config.event.recent_ids, shared.recent_ids)
        self.rows.clear()
        self.rows.extend(shared.rows)
        self.start = shared.start
        self.rivalry.restore(shared.rivalry)
        self.matching.restore(shared.matching)
        state = newest.holdout if newest is not None else HoldoutState()
        store = self.lineage.store
        for damage in self.holdout.restore(state, shared.held, lambda part: manifests.read(store, part)):
            log.error("rows of the next holdout are lost: %s", damage)
        self.place, self.counts, self.newest_event = {}, Counts(), 0.0
        if newest is not None:
            self.place, self.counts = copy_place(newest.place), copy_counts(newest.counts)
            self.newest_event = newest.newest_event
            self.writer.written = Durations(list(newest.written.counts), newest.written.seconds)
        for learner in self.learners:
            known = newest is not None and learner.name in newest.learners
            learner.load(
                newest.snapshot if newest and known else None,
                self.labels.names,
                accept=self._begin.accept,
                imported=self._begin.imports.get(learner.name, "") if newest is None else "",
            )
        for learner in self.learners:
            learner.ready()
            learner.forget()
            if newest is not None and learner.name in newest.learners:
                learner.restore(newest.learners[learner.name])

    def take_over(self, newest: Manifest | None) -> None:
        """Take the next epoch: from here on nothing counts that an older trainer writes beyond this snapshot."""
        if self._begin.fresh and self.lineage.refresh().highest >= 0:
            why = "train --new-lineage: all snapshots so far belong to another lineage"
            self.decide(Decision(action="new_lineage", by=self._begin.operator, why=why))
        epoch = self.lineage.begin_epoch(newest.snapshot if newest else None, self.now(), self._begin.by)
        self.epoch = epoch.number
        self.writer.begin(epoch)
        log.info("epoch %d, from snapshot %s", epoch.number, newest.snapshot if newest else "none")

    def accepted(self, newest: Manifest) -> bool:
        """Write into the ledger which changed learners an operator accepted; tell whether there are any."""
        changed = [
            learner.name
            for learner in self.learners
            if learner.name in newest.learners and learner.built_from != newest.learners[learner.name].built_from
        ]
        for name in changed:
            if newest.learners[name].learnt == 0:
                continue
            self.decide(Decision("accept", self._begin.operator, "train --accept", name, newest.snapshot))
        return bool(changed)

    def _resolve(self) -> None:
        self.place = self.source.resolve()
        self.start = copy_place(self.place)

    def _open(self, topics: dict[str, str]) -> None:
        self.place = self.source.open(self.place, topics)
        self._note_losses()

    def _note_losses(self) -> None:
        """Write into the ledger what ``source.when_lost = "go_on"`` passed over."""
        while self.source.losses:
            self.decide(Decision("lose", "trainer", self.source.losses[0]))
            self.source.losses.pop(0)

    def poll(self) -> list[Record]:
        """The next records; none while the source is away."""
        found: list[Record] = []

        def once() -> None:
            found.extend(self.source.poll(self.config.source.batch))

        if self.waits():
            self.say("waiting", "a breaker is open, and breaker.when_open is wait")
            self.sleep(_LEDGER_SECONDS)
            return found
        with contextlib.suppress(GaveUpError), self.sampling.waiting():
            self._patiently(once)
        self._note_losses()
        self.progress(self.counts.consumed, self.source.lag() if found else 0)
        self.say("reading")
        return found

    def waits(self) -> bool:
        """Tell whether nothing is read, since the guard stopped some learner's learning and ``when_open`` is wait."""
        opened = any(one.stopped is not None and one.stopped.cause == "breaker" for one in self.learners)
        return opened and self.config.breaker.when_open == "wait"

    def _patiently(self, action: Callable[[], object]) -> None:
        """Try again with backoff while the source is away, saying so; the place stays.

        Raises :class:`GaveUpError` when the process is asked to end before it succeeds.
        """
        delay = 0.2
        while True:
            try:
                action()
            except SourceAwayError as cause:
                if self.stopping():
                    raise GaveUpError(str(cause)) from cause
                if self.due():
                    self.cut()
                log.warning("%s; trying again in %.1f s", cause, delay)
                self.say("waiting", str(cause))
                self.sleep(delay)
                delay = min(delay * 2, _BACKOFF_SECONDS)
            else:
                return

    def dead_letter(self, record: Record, refusal: Refusal) -> None:
        """Send a refused record to the dead letters and count its reason."""
        self.dead_letters.send(record, refusal)
        self.counts.dead_lettered += 1
        self.counts.refused[refusal.reason] = self.counts.refused.get(refusal.reason, 0) + 1

    def slices_of(self, event: Event) -> list[str]:
        """The slices that an event belongs to, as ``feature=value``."""
        return slices_of(event.features, self.config.event.slices)

    def decide(self, decision: Decision) -> None:
        """Append to the ledger, unless another trainer has taken over: then nothing that this one says counts."""

        def made(_: list[Entry]) -> Decision:
            self.writer.refuse_superseded()
            return decision

        self.lineage.ledger.append(self.now(), made)

    def waiting(self, why: str) -> bool:
        """Say why a cut has to wait; tell whether to go on waiting."""
        log.warning("%s; waiting, nothing is lost", why)
        self.say("waiting", why)
        return not self.stopping()

    def say(self, state: str, why: str = "") -> None:
        """Tell ``status`` how the source is."""
        walls = {learner.name: learner.wall for learner in self.learners}
        self.presence.say(state=state, why=why, lag=self.source.lag() if state == "reading" else None, walls=walls)

    def close(self) -> None:
        """Let go of everything, in the order that loses nothing."""
        self.writer.close()
        for learner in self.learners:
            learner.close()
        self.source.close()
        self.dead_letters.close()
        self.presence.close()


#: What ends a trainer with a message rather than a stack trace.
EXPECTED = (StreamError, SnapshotsError, LearnersError)
