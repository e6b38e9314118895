"""The trainer: consumes events and drives the learners. One per lineage."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence

from learners import Event, LearnersError
from learners.errors import LearnerRaisedError
from learners.labels import Labels
from snapshots import Lineage
from snapshots import snapshot as snapshots
from snapshots.errors import SnapshotsError
from snapshots.holdout import Membership
from snapshots.manifest import Counts, Manifest, Place
from snapshots.snapshot import Cut, Shared
from stream.codec import Codec
from stream.config import Config
from stream.cutting import Writer, encode_shared
from stream.dead_letter import DeadLetters
from stream.errors import GaveUpError, SourceAwayError, StreamError
from stream.presence import Presence
from stream.reasons import Refusal
from stream.recent import RecentIds
from stream.record import Record
from stream.running import Running, between, copy_counts, copy_place
from stream.source import Source

log = logging.getLogger("holdfast.trainer")
FAST_LANE_ROWS = 256
_LEDGER_SECONDS = 0.2
_BACKOFF_SECONDS = 10.0


class Trainer:
    """Reads like DESIGN section 3: poll, decode, account, predict, score, learn, note the place, cut when due.

    Everything that it needs is handed in by :mod:`stream.compose`; ``now`` is the clock in Unix seconds, ``sleep``
    waits, ``stopping`` tells whether the process was asked to end.
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
        learners: Callable[[Manifest | None], list[Running]],
        presence: Presence,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        stopping: Callable[[], bool],
        progress: Callable[[int, int | None], None] = lambda _count, _lag: None,
    ) -> None:
        self.config, self.source, self.codec, self.labels = config, source, codec, labels
        self.dead_letters, self.lineage, self.membership = dead_letters, lineage, membership
        self.presence, self.now, self.sleep, self.stopping, self.progress = presence, now, sleep, stopping, progress
        self._build_learners = learners
        self.learners: list[Running] = []
        self.place: Place = {}
        self.start: Place = {}
        self.counts = Counts()
        self.recent = RecentIds(config.event.recent_ids)
        self.rows: deque[bytes] = deque(maxlen=FAST_LANE_ROWS)
        self.newest_event = 0.0
        self.writer = Writer(lineage, now, sleep, stopping, config.snapshots.keep)
        self._cut_at, self._cut_consumed, self._ledger_at = 0.0, 0, 0.0

    # The story -------------------------------------------------------------------------------------------------

    def run(self, *, until_end: bool = False) -> bool:
        """Learn until asked to stop, or to where the source ended when this began; then cut and leave.

        Returns False when it was asked to stop before that end.
        """
        try:
            self.begin()
            if until_end:
                self._patiently(self.source.mark_end)
            while not self.stopping() and not (until_end and self.source.ended()):
                self.follow_ledger()
                self.take(self.poll())
                if self.due():
                    self.cut()
            self.follow_ledger(at_once=True)
            if until_end or self.counts.consumed != self._cut_consumed:
                self.cut(wait=True)
            self.writer.wait()
            return not until_end or self.source.ended()
        except GaveUpError as cause:
            log.warning("asked to end: %s; nothing is lost, it comes again", cause)
            return False
        finally:
            self.close()

    def take(self, records: Sequence[Record]) -> None:
        """Put each record into its class, let every learner predict, score and learn, and note the place."""
        events: list[Event] = []
        origins: list[Record] = []
        for record in records:
            event = self.codec.decode(record)
            self.counts.consumed += 1
            if isinstance(event, Refusal):
                self.dead_letter(record, event)
            elif event.label is None:
                self.counts.unlabelled += 1
            elif self.recent.seen(digest := self.membership.digest(event.id)):
                self.counts.duplicate += 1
            elif self.membership.claims(self.owner(event, digest)):
                self.counts.held_out += 1
            else:
                events.append(event)
                origins.append(record)
            self.place.setdefault(record.topic, {})[record.partition] = record.following
        self.teach(events, origins)
        if records:
            self.newest_event = max(self.newest_event, records[-1].time or self.now())

    def teach(self, events: Sequence[Event], origins: Sequence[Record]) -> None:
        """Let every learner predict, score and learn the events; say where one raised."""
        if not events:
            return
        slices = [self.slices_of(event) for event in events] if self.config.event.slices else None
        try:
            for learner in self.learners:
                learner.take(events, slices)
        except LearnerRaisedError as cause:
            at = next(r for e, r in zip(events, origins, strict=True) if e.id == cause.event_id)
            raise StreamError(
                f"{cause}, at {at.topic}[{at.partition}] offset {at.offset}. The learner is no longer what it was, so "
                "nothing after the newest snapshot is kept: mend the learner or fix the feature's type in "
                "[event.types], then start again"
            ) from cause
        self.rows.extend(event.features.raw for event in events[-FAST_LANE_ROWS:])

    def follow_ledger(self, *, at_once: bool = False) -> None:
        """Apply a revert that the ledger holds and that this trainer has not cut yet (promise 8)."""
        if self.now() < self._ledger_at and not at_once:
            return
        self._ledger_at = self.now() + _LEDGER_SECONDS
        try:
            self.lineage.entries = self.lineage.ledger.entries()
        except SnapshotsError as cause:
            log.error("the ledger cannot be followed: %s", cause)
            return
        behind = [one for one in self.learners if one.line < self.lineage.line(one.name).number]
        for learner in behind:
            self.revert(learner)
        if behind:
            self.cut(wait=True)

    def revert(self, learner: Running) -> None:
        """Put one learner back to the target of its line; the place stays, and what lies between is quarantined."""
        line = self.lineage.line(learner.name)
        self.writer.wait()
        manifest = self.lineage.refresh().manifest(line.target or 0)
        if manifest is None:
            raise SnapshotsError(f"entry {line.number} reverts {learner.name} to snapshot {line.target}, which is gone")
        why = next(entry.why for entry in self.lineage.entries if entry.seq == line.number)
        types = self.config.learners[learner.name].types
        learner.learner, learner.metrics = snapshots.read_learner(
            self.lineage.store, manifest, learner.name, self.labels, types
        )
        learner.restore(manifest.learners[learner.name])
        learner.line = line.number
        learner.pass_over(str(line.number), why or "revert", between(manifest.place, self.place), self.counts)
        log.warning(
            "%s is back at snapshot %s, line %d: %s", learner.name, line.target, line.number, why or "no reason"
        )

    def due(self) -> bool:
        """Tell whether a snapshot is due: by events or by seconds, once the one before is written."""
        if not self.writer.ready() or self.counts.consumed == self._cut_consumed:
            return False
        enough = self.counts.consumed - self._cut_consumed >= self.config.snapshots.every_events
        return enough or self.now() - self._cut_at >= self.config.snapshots.every_seconds

    def cut(self, *, wait: bool = False) -> None:
        """Write everything at this place as one snapshot: serialised here, written by another thread."""
        self.dead_letters.flush(self.waiting)
        for learner in self.learners:
            learner.check(self.counts)
        place = copy_place(self.place)
        cut = Cut(
            lineage=self.config.name,
            task=self.config.task,
            created=self.now(),
            place=place,
            newest_event=self.newest_event,
            counts=copy_counts(self.counts),
            shared=encode_shared(Shared(self.recent.dump(), list(self.labels.names), list(self.rows), self.start)),
            learners={learner.name: learner.cut() for learner in self.learners},
        )
        self._cut_at, self._cut_consumed = self.now(), self.counts.consumed
        self.writer.write(cut, then=lambda: self.source.commit(place))
        if wait:
            self.writer.wait()
        self.say("reading")

    # The parts -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Resume at the newest good snapshot, or resolve ``source.start`` and write snapshot 0."""
        newest = self.lineage.refresh().newest_good()
        if newest is not None:
            shared = snapshots.read_shared(self.lineage.store, newest)
            self.labels.restore(shared.labels)
            self.recent = RecentIds(self.config.event.recent_ids, shared.recent_ids)
            self.rows.extend(shared.rows)
            self.place, self.counts = copy_place(newest.place), copy_counts(newest.counts)
            self.start, self.newest_event = shared.start, newest.newest_event
            self.learners = self._build_learners(newest)
        else:
            self.learners = self._build_learners(None)
            self._patiently(self._resolve)
        for learner in self.learners:
            if learner.name not in (newest.learners if newest else {}) and self.counts.consumed:
                learner.pass_over("new", "new", between(self.start, self.place), self.counts)
        self._cut_at, self._cut_consumed = self.now(), self.counts.consumed
        if newest is None:
            self.cut(wait=True)
        self._patiently(lambda: self.source.open(self.place))
        log.info("learning %s from %s", ", ".join(one.name for one in self.learners), self.place)

    def _resolve(self) -> None:
        self.place = self.source.resolve()
        self.start = copy_place(self.place)

    def poll(self) -> list[Record]:
        """The next records; none while the source is away."""
        found: list[Record] = []

        def once() -> None:
            found.extend(self.source.poll(self.config.source.batch))

        with contextlib.suppress(GaveUpError):
            self._patiently(once)
        self.progress(self.counts.consumed, self.source.lag() if found else 0)
        self.say("reading")
        return found

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

    def owner(self, event: Event, digest: bytes) -> bytes:
        """The hash that decides membership of the holdout: of the id, or of the feature ``holdout.by``."""
        by = self.config.holdout.by
        value = None if by == "id" else event.features.flat().get(by)
        return digest if value is None else self.membership.digest(f"{by}={value}")

    def slices_of(self, event: Event) -> list[str]:
        """The slices that an event belongs to, as ``feature=value``."""
        flat = event.features.flat()
        return [f"{path}={flat[path]}" for path in self.config.event.slices if path in flat]

    def waiting(self, why: str) -> bool:
        """Say why a cut has to wait; tell whether to go on waiting."""
        log.warning("%s; waiting, nothing is lost", why)
        self.say("waiting", why)
        return not self.stopping()

    def say(self, state: str, why: str = "") -> None:
        """Tell ``status`` how the source is."""
        self.presence.say(state=state, why=why, lag=self.source.lag() if state == "reading" else None)

    def close(self) -> None:
        """Let go of everything, in the order that loses nothing."""
        self.writer.close()
        self.source.close()
        self.dead_letters.close()
        self.presence.close()


#: What ends a trainer with a message rather than a stack trace.
EXPECTED = (StreamError, SnapshotsError, LearnersError)
