"""What the trainer's parts share: what was handed in, and what is known at the place where it reads."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from learners.event import Event, slices_of
from learners.evidence.against_champion import AgainstChampion
from learners.evidence.thompson import Thompson
from learners.labels import Labels
from snapshots import Lineage
from snapshots.decisions.erasure import Erased
from snapshots.decisions.ledger import Decision, Entry
from snapshots.records.holdout import Holdout, Sizes
from snapshots.records.manifest import Counts
from snapshots.records.membership import Membership
from stream.dead_letters.writer import DeadLetters
from stream.errors import GaveUpError, SourceAwayError
from stream.join.source import JoinedSource
from stream.learner.arrivals import Arrivals
from stream.learner.process import LearnerProcess
from stream.process.patience import patiently
from stream.process.presence import Presence
from stream.settings import Config
from stream.source.codec import Codec
from stream.source.source import Source
from stream.train.begin import Begin
from stream.train.name_matching import Matching
from stream.train.recent import RecentIds, RecentRows
from stream.train.sampling import Sampling
from stream.train.writer import Writer

if TYPE_CHECKING:
    from snapshots.records.place import Place

log = logging.getLogger("holdfast.trainer")
#: the intervals of all rewards hold at any time, but for this probability
_REWARD_ALPHA = 0.05
FAST_LANE_ROWS, FAST_LANE_BYTES = 256, 1 << 20


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What the composition root hands in.

    ``join`` is the source where labels come later, None where they come with their events.

    ``now`` is the clock in Unix seconds, ``elapsed`` one that nobody sets, for what is due; ``sleep`` waits,
    ``stopping`` tells whether the process was asked to end. ``reopen`` gives another source of the same records.
    """

    config: Config
    source: Source
    codec: Codec
    labels: Labels
    dead_letters: DeadLetters
    lineage: Lineage
    membership: Membership
    learners: list[LearnerProcess]
    begin: Begin
    presence: Presence
    reopen: Callable[[], Source]
    now: Callable[[], float]
    sleep: Callable[[float], None]
    stopping: Callable[[], bool]
    progress: Callable[[int, int | None], None] = lambda _count, _lag: None
    elapsed: Callable[[], float] = time.monotonic
    join: JoinedSource | None = None


class State:
    """Everything that goes with the place: a snapshot holds it, and a start takes it back.

    ``refusing`` are events that a learner raised at twice, by learner, topic, partition and offset, with what it said.
    """

    def __init__(self, kit: Kit) -> None:
        config = self.config = kit.config
        self.kit, self.learners = kit, kit.learners
        self.epoch: int | None = None
        self.place: Place = {}
        self.start: Place = {}
        self.counts = Counts()
        self.newest_event = 0.0
        self.recent = RecentIds(config.event.recent_ids)
        self.rows = RecentRows(FAST_LANE_ROWS, FAST_LANE_BYTES)
        rules = config.holdout
        self.holdout = Holdout(Sizes(rules.rows, rules.min_slice_rows, rules.min_class_rows), config.task)
        self.erased = Erased(kit.membership, [])
        self.matching = Matching(config, kit.labels)
        self.sampling = Sampling(config.guard.share, kit.elapsed)
        rewarded = Thompson(config.routing.memory, config.routing.floor, config.routing.rewards)
        self.rivalry = AgainstChampion(config.first_champion, config.event.max_slices, rewarded)
        self.writer = Writer(kit.lineage, kit.now, kit.sleep, kit.stopping, config.snapshots.keep)
        self.refusing: dict[tuple[str, str, str, int], str] = {}
        self.arrivals = Arrivals(config, self.learners, kit.join, self.rivalry.note_logged)
        self.lots = 0
        for learner in self.learners:
            learner.scored = self.rivalry.note
            learner.waiting = lambda why: self.say("waiting", why)

    def slices_of(self, event: Event) -> list[str]:
        """The slices that an event belongs to, as ``feature=value``."""
        return slices_of(event.features, self.config.event.slices)

    def forget_waiting(self, erased: Erased) -> dict[str, int]:
        """Take what is erased out of what waits for its label; return how the classes change."""
        membership = self.kit.membership
        if self.kit.join is None:
            return {}
        return self.kit.join.forget(
            lambda event: erased.event(event.id, event.features, event.time),
            lambda event: membership.claims(membership.owner(event, membership.digest(event.id))),
        )

    def decide(self, decision: Decision) -> None:
        """Append to the ledger, unless another trainer has taken over: then nothing that this one says counts."""

        def made(_: list[Entry]) -> Decision:
            self.writer.refuse_superseded()
            return decision

        self.kit.lineage.ledger.append(self.kit.now(), made)

    def note_losses(self) -> None:
        """Write into the ledger what ``source.when_lost = "go_on"`` passed over."""
        losses = self.kit.source.losses
        while losses:
            self.decide(Decision("lose", "trainer", losses[0]))
            losses.pop(0)

    def note_evictions(self) -> None:
        """Write into the ledger that events were timed out early; again when they are ten times as many."""
        evicted = self.counts.labels.get("evicted", 0)
        if not evicted:
            return
        said = [int(entry.cause) for entry in self.kit.lineage.entries if entry.action == "evict"]
        if evicted >= 10 * max(said, default=0):
            why = (
                f"{evicted} events were timed out before join.wait was over: more than "
                f"join.max_pending = {self.config.join.max_pending} waited for labels"
            )
            self.decide(Decision("evict", "trainer", why, cause=str(evicted)))
            self.kit.lineage.refresh_entries()

    def rewards(self) -> dict[str, Any]:
        """What answers earned, where requests are spread by it."""
        if self.config.routing.policy != "thompson":
            return {}
        return self.rivalry.reward_figures(list(self.config.learners), _REWARD_ALPHA)

    def follow_champion(self) -> bool:
        """Give each learner the role that the ledger gives it; tell whether one is another."""
        promoted = self.kit.lineage.decided.promoted
        name = promoted if any(one.name == promoted for one in self.learners) else self.config.first_champion
        changed = False
        for learner in self.learners:
            role: Literal["champion", "challenger"] = "champion" if learner.name == name else "challenger"
            changed |= learner.role != role
            learner.role = role
        self.rivalry.led_by(name or "")
        duel = self.kit.lineage.decided.duel
        self.rivalry.fight(duel.seq if duel is not None and duel.action == "duel_start" else 0)
        winner = self.kit.lineage.decided.winner
        self.rivalry.look_for_winner(winner.seq if winner is not None else 0)
        rollout = self.kit.lineage.decided.rollout
        if rollout is not None and rollout.active:
            self.rivalry.roll_out(rollout.entry, rollout.candidate)
        return changed

    def stop_or_resume(self, learner: LearnerProcess) -> bool:
        """Stop or resume a learner's learning as the ledger says; tell whether that changed anything."""
        wanted, account = self.kit.lineage.decided.stopped(learner.name), learner.account
        if wanted is not None and account.stopped is None:
            cause = "breaker" if wanted.action == "open_breaker" else "set_aside"
            account.stop(f"stopped-{wanted.seq}-{account.line}", cause, self.place)
            log.warning("%s learns nothing from here on: %s", learner.name, wanted.why)
        elif wanted is None and account.stopped is not None:
            account.resume(self.place)
            log.warning("%s learns again from here on", learner.name)
        else:
            return False
        return True

    def waits(self) -> bool:
        """Tell whether nothing is read, since the guard stopped some learner's learning and ``when_open`` is wait."""
        opened = any((stopped := one.account.stopped) and stopped.cause == "breaker" for one in self.learners)
        return opened and self.config.breaker.when_open == "wait"

    def say(self, state: str, why: str = "") -> None:
        """Tell ``status`` how the source is."""
        walls = {learner.name: learner.wall for learner in self.learners}
        execution = {learner.name: learner.execution for learner in self.learners if learner.execution}
        lag = self.kit.source.lag() if state == "reading" else None
        self.kit.presence.say(state=state, why=why, lag=lag, walls=walls, execution=execution)

    def waiting(self, why: str) -> bool:
        """Say why a cut has to wait; tell whether to go on waiting."""
        log.warning("%s; waiting, nothing is lost", why)
        self.say("waiting", why)
        return not self.kit.stopping()

    def patiently(self, action: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Try again with backoff while the source is away, saying so; the place stays.

        Raises :class:`GaveUpError` when the process is asked to end before it succeeds.
        """

        def trouble(cause: Exception, seconds: float) -> None:
            if self.kit.stopping():
                raise GaveUpError(str(cause)) from cause
            meanwhile()
            log.warning("%s; trying again in %.1f s", cause, seconds)
            self.say("waiting", str(cause))

        patiently(action, SourceAwayError, trouble, self.kit.sleep)
