"""A roll-out as a serving process carries it out: who answers which request, who predicts it too, and taking it back.

The request path reads one pointer (``routing``) and counts; it takes no lock and calls nobody (promise 4).
"""

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any

from learners import Features, LearnersError, Prediction
from snapshots import Lineage
from snapshots.decisions.ledger import Decision, Entry
from snapshots.decisions.rollout import Rollout, candidate_of
from snapshots.errors import DamagedError, RefusedError, VersionMismatchError
from stream.process import logs
from stream.rollout.routing import key_of, position_of
from stream.rollout.told import Told, broken
from stream.serve.arms import MEAN, Arms, Shares, mean_of, route_of
from stream.serve.loaded import CHAMPION, Serving, answer_of, load_baseline, load_snapshot
from stream.serve.shadow import Answered, Routing, Shadowing, timed
from stream.settings import Config
from stream.sink.prediction_log import PredictionLog, new_id

log = logging.getLogger("holdfast.serving")
_AGAIN_SECONDS = 30.0


class Candidacy:
    """Follows the ledger's newest roll-out, and predicts requests. ``now`` is in Unix seconds."""

    def __init__(self, config: Config, log_: PredictionLog | None, now: Callable[[], float]) -> None:
        self._config, self._log, self._now = config, log_, now
        self.arms = Arms(config, now)
        self.routing: Routing | None = None
        self.told: Told | None = None
        self._broken = ""
        self._refused: dict[str, float] = {}
        self._most_ms = config.rollout.max_p99_ms
        self.shadowing = Shadowing(config, log_, now, self.failed)
        self._salt = hashlib.blake2b(config.name.encode(), digest_size=16).digest()

    # Following ---------------------------------------------------------------------------------------------------

    def follow(self, lineage: Lineage) -> None:
        """Look once what the ledger says of a roll-out; load its candidate, and take it back where it breaks a limit.

        Raises what the store raises.
        """
        rollout = lineage.decided.rollout
        if rollout is None or not rollout.active:
            self.routing, self.told, self._broken = None, None, ""
            return
        if self.told is None or self.told.entry != rollout.entry:
            self.routing, self.told, self._broken = None, Told(rollout.entry, rollout.step), ""
        self.told.at_step(rollout.step)
        self._broken = self._broken or broken(self.told, self._config.rollout)
        if self._broken:
            self.routing = None
            self._take_back(lineage, rollout)
            return
        candidate = self._candidate(lineage, rollout)
        if candidate is None:
            self.routing = None
        elif self.routing is None or self.routing.candidate is not candidate or self.routing.rollout != rollout:
            name = rollout.candidate
            self.routing = Routing(rollout, name, bytes.fromhex(rollout.salt), candidate, self.told)

    def _candidate(self, lineage: Lineage, rollout: Rollout) -> Serving | None:
        """What answers for the candidate; None while nothing may, which ``told`` says."""
        meant = candidate_of(rollout.candidate)
        learner = meant.learner or rollout.champion
        number = lineage.serving(learner) if meant.kind == "learner" else meant.number
        there = self.routing.candidate if self.routing is not None else None
        if number is None:
            self._trouble(f"no snapshot of {learner} has passed the guard")
            return None
        if there is not None and there.snapshot == number:
            return there
        again = self._refused.get(f"{meant.kind}:{number}", 0.0)
        if self._now() - again < _AGAIN_SECONDS:
            return there if meant.kind == "learner" else None
        try:
            if meant.kind == "baseline":
                found = load_baseline(lineage, number, self._now())
            else:
                found, _ = load_snapshot(self._config, lineage, number, learner, self._now())
        except (DamagedError, VersionMismatchError, LearnersError) as cause:
            self._refused = {f"{meant.kind}:{number}": self._now()}
            log.error("the candidate %s cannot answer: %s", rollout.candidate, cause)
            self._trouble(str(cause))
            return there
        if self.told is not None:
            self.told.absent = ""
        log.info("%s %d is the candidate's (%g %%)", meant.kind, number, rollout.share)
        return found

    def _trouble(self, why: str) -> None:
        if self.told is not None:
            self.told.absent = why

    def _take_back(self, lineage: Lineage, rollout: Rollout) -> None:
        """Write that the roll-out is over, unless somebody else did."""

        def decide(_: list[Entry]) -> Decision:
            lineage.refresh_entries()
            found = lineage.decided.rollout
            if found is None or not found.active or found.entry != rollout.entry:
                raise RefusedError("it is over")
            return Decision(
                "rollout_abort", "serving", self._broken, candidate=rollout.candidate,
            )  # fmt: skip

        try:
            entry = lineage.ledger.append(self._now(), decide)
        except RefusedError:
            return
        log.error("%s is taken back: %s", rollout.candidate, self._broken, extra=logs.facts(entry=entry.seq))

    # Answering ---------------------------------------------------------------------------------------------------

    def predicted(self, champion: Serving, identity: str | int | None, features: Features) -> Answered:
        """Answer one request. Where the candidate fails the champion answers; raises what that raises."""
        if identity is None and self._log is not None:
            identity = new_id(time.time())
        routing = self.routing
        if routing is None:
            shares = self.arms.shares
            if shares is not None:
                return Answered(self._now(), features, self._by_policy(shares, champion, identity, features))
            answer = answer_of(champion, champion.learner.predict(features), identity)
            answer["route"], answer["propensity"] = CHAMPION, 1.0
            return Answered(self._now(), features, answer)
        key = identity if identity is not None else new_id(time.time())
        share = routing.rollout.share
        chosen = position_of(key_of(self._config.rollout.by, features, key), routing.salt) < share
        said = self._ask(routing, champion, features) if chosen else None
        serving = champion if said is None else routing.candidate
        if said is None:
            said = timed(champion, features, routing.told.champion, champion, self._most_ms)
        answer = answer_of(serving, said, identity)
        by_candidate = serving is routing.candidate
        answer["route"] = routing.name if by_candidate else CHAMPION
        answer["propensity"] = share / 100 if by_candidate else 1 - share / 100 if share < 100 else 1.0
        other = champion if by_candidate else None if chosen else routing.candidate
        return Answered(self._now(), features, answer, routing, said, other, champion)

    def _by_policy(
        self, shares: Shares, champion: Serving, identity: str | int | None, features: Features
    ) -> dict[str, Any]:
        """Answer by the one whose turn it is, or by the mean of all; by the champion where that one fails."""
        if shares.weights is not None:
            answer = answer_of(champion, mean_of(shares, features, champion), identity)
            return {**answer, "learner": MEAN, "route": MEAN, "propensity": 1.0}
        key = key_of(self._config.routing.by, features, identity if identity is not None else new_id(time.time()))
        name = shares.chosen(key, self._salt)
        serving, share = shares.servings[name], shares.shares[name]
        try:
            answer = answer_of(serving, serving.learner.predict(features), identity)
        except Exception:
            if name == champion.name:
                raise
            name, share = champion.name, 1.0
            answer = answer_of(champion, champion.learner.predict(features), identity)
        return {**answer, "route": route_of(name, champion.name), "propensity": share}

    def _ask(self, routing: Routing, champion: Serving, features: Features) -> Prediction | None:
        """What the candidate says; None where it fails, and then nobody asks it again once that is too often."""
        try:
            said = timed(routing.candidate, features, routing.told.candidate, champion, self._most_ms)
            answer_of(routing.candidate, said, None)
        except Exception as cause:
            self.failed(routing, cause)
            return None
        return said

    def failed(self, routing: Routing, cause: Exception) -> None:
        """Count a prediction of the candidate that failed; that once it is too often nobody asks it any more."""
        told = routing.told
        told.candidate.fail()
        told.trouble = f"{type(cause).__name__}: {cause}"[:300]
        why = broken(told, self._config.rollout)
        if why and self.told is told:
            self._broken, self.routing = why, None
