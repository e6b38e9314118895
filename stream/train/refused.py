"""Events that a learner raises at: tried again once, then quarantined for it, and too many of them end its learning."""

import contextlib
import logging

from learners.errors import FactoryRefusedError
from snapshots.decisions.ledger import Decision
from stream.errors import RaisedAtError
from stream.learner.process import LearnerProcess
from stream.process import logs
from stream.record import Record
from stream.train.cut import Cutter
from stream.train.state import Kit, State

log = logging.getLogger("holdfast.trainer")
#: the share of refused events is looked at from few on; more than the most are too many anyway
FEW_REFUSED, MOST_REFUSED = 20, 1000


class Refusals:
    """What follows when a learner raises. The trainer goes back to the newest snapshot after :meth:`note`."""

    def __init__(self, kit: Kit, state: State, cutter: Cutter) -> None:
        self.kit, self.state, self.cutter = kit, state, cutter
        self._raised: set[tuple[str, str, str, int]] = set()

    def note(self, raised: RaisedAtError) -> None:
        """A learner that raised is no longer what it was.

        Raising at the same event a second time puts that event into the learner's quarantine when it comes again.
        """
        if raised.for_good:
            self._lose(raised)
            return
        origin = raised.origin
        event = (raised.learner, origin.topic, origin.partition, origin.offset)
        with contextlib.suppress(RaisedAtError):
            self.state.writer.wait()
        about = logs.facts(
            learner=raised.learner, topic=origin.topic, partition=origin.partition, offset=origin.offset,
            error=raised.error,
        )  # fmt: skip
        if event in self._raised:
            self.state.refusing[event] = raised.error
            log.error("%s, for the second time: this event is quarantined for it (cause refused)", raised, extra=about)
        else:
            self._raised.add(event)
            log.error("%s; all learners go back to the newest snapshot and try again", raised, extra=about)

    def _lose(self, raised: RaisedAtError) -> None:
        """Go on without a challenger that may not learn; raise :class:`FactoryRefusedError` when it is the champion."""
        if any(one.name == raised.learner and one.role == "champion" for one in self.state.learners):
            raise FactoryRefusedError(raised.error) from raised
        log.error("%s. The others go on without it; mend it, then: holdfast learning resume %s", raised.error,
                  raised.learner)  # fmt: skip
        self.state.decide(Decision(action="stop_learning", by="trainer", why=raised.error, learner=raised.learner))

    def of(self, learner: LearnerProcess, origin: Record) -> str | None:
        """What a learner said of an event that it raised at twice; None when it may learn it."""
        return self.state.refusing.get((learner.name, origin.topic, origin.partition, origin.offset))

    def refuse(self, learner: LearnerProcess, origin: Record, error: str) -> bool:
        """Quarantine one event for one learner; set the learner aside when there are too many, and tell so."""
        account = learner.account
        account.refuse(origin, error)
        self.cutter.hurry()
        refused, limit = account.refused(), self.kit.config.event.max_refused_share
        share = refused / max(1, refused + account.learnt)
        if refused <= MOST_REFUSED and (refused < FEW_REFUSED or share <= limit):
            return False
        why = (
            f"{learner.name} raised at {refused:,} events, {share:.1%} of those it was given, and "
            f"event.max_refused_share is {limit:.1%}; the last was: {error}"
        )
        log.error(
            "%s; it learns nothing more, and serving goes on from what it was. Mend its model, or fix the feature's "
            "type in [event.types], then: holdfast learning resume %s", why, learner.name,
        )  # fmt: skip
        self.state.decide(Decision(action="stop_learning", by="trainer", why=why, learner=learner.name))
        return True
