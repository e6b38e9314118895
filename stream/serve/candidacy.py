"""A roll-out as a serving process carries it out: who answers which request, who predicts it too, and taking it back.

The request path reads one pointer (``routing``) and counts; it takes no lock and calls nobody (promise 4). What the one
that does not answer says is asked for after the answer has left.
"""

import asyncio
import hashlib
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from learners import Features, LearnersError, Prediction
from snapshots import Lineage
from snapshots.decisions.ledger import Decision, Entry
from snapshots.decisions.rollout import Rollout, candidate_of
from snapshots.errors import DamagedError, RefusedError, VersionMismatchError
from stream.process import logs
from stream.rollout.routing import key_of, position_of
from stream.rollout.told import Route, Told, agree, broken
from stream.serve.arms import MEAN, Arms, Shares, mean_of, route_of
from stream.serve.loaded import BASELINE, CHAMPION, Serving, answer_of, load_baseline, load_snapshot
from stream.settings import Config
from stream.sink.prediction_log import PredictionLog, new_id

log = logging.getLogger("holdfast.serving")
_AGAIN_SECONDS = 30.0
#: requests that wait to be shadowed; a tenth of the time is for them, in slices, and older ones are left out
_MOST_WAITING, _SLICE_SECONDS, _EVERY_SECONDS, _OLDEST_SECONDS = 10_000, 0.0002, 0.002, 0.1


class Routing(msgspec.Struct, frozen=True):
    """One roll-out in service. Replaced as a whole, never changed; ``told`` is counted into."""

    rollout: Rollout
    name: str
    salt: bytes
    candidate: Serving
    told: Told


class Answered(msgspec.Struct, gc=False):
    """One answer, when it was given (Unix seconds), and in a roll-out who said it, and who is to be asked as well."""

    when: float
    features: Features
    answer: dict[str, Any]
    routing: Routing | None = None
    said: Prediction | None = None
    other: Serving | None = None
    champion: Serving | None = None


class Candidacy:
    """Follows the ledger's newest roll-out, and predicts requests. ``now`` is in Unix seconds."""

    def __init__(self, config: Config, log_: PredictionLog | None, now: Callable[[], float]) -> None:
        self._config, self._log, self._now = config, log_, now
        self.arms = Arms(config, now)
        self.routing: Routing | None = None
        self.told: Told | None = None
        self._broken = ""
        self._refused: dict[str, float] = {}
        self._later: deque[Answered] = deque()
        self._scheduled = False
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
            self.told.trouble = ""
        log.info("%s %d is the candidate's (%g %%)", meant.kind, number, rollout.share)
        return found

    def _trouble(self, why: str) -> None:
        if self.told is not None:
            self.told.trouble = why

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
            said = self._timed(champion, features, routing.told.champion, champion)
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
            said = self._timed(routing.candidate, features, routing.told.candidate, champion)
            answer_of(routing.candidate, said, None)
        except Exception as cause:
            self._failed(routing, cause)
            return None
        return said

    def _failed(self, routing: Routing, cause: Exception) -> None:
        told = routing.told
        told.candidate.fail()
        told.trouble = f"{type(cause).__name__}: {cause}"[:300]
        why = broken(told, self._config.rollout)
        if why and self.told is told:
            self._broken, self.routing = why, None

    def _timed(self, serving: Serving, features: Features, route: Route, champion: Serving) -> Prediction:
        """Predict and count it; classes are counted by the champion's numbers."""
        began = time.perf_counter()
        said = serving.learner.predict(features)
        seconds = time.perf_counter() - began
        route.note(_numbered(said, serving, champion), seconds, self._config.rollout.max_p99_ms)
        return said

    # After the answer has left -----------------------------------------------------------------------------------

    def keep(self, one: Answered) -> None:
        """An answer leaves: count it, have it logged, and the other one asked once it has left."""
        routing = one.routing
        if routing is not None and one.said is not None:
            by_candidate = one.answer["route"] != CHAMPION
            told = routing.told
            (told.candidate if by_candidate else told.champion).answered += 1
            told.since_step += by_candidate or routing.rollout.share == 0
            if one.other is not None and self._shadowed(one.answer["id"]):
                if len(self._later) < _MOST_WAITING:
                    self._later.append(one)
                    self._schedule()
                    return
                self._skip(one)
                return
        if self._log is not None:
            self._log.put(one.features.raw, one.answer, one.when)

    def _skip(self, one: Answered) -> None:
        """There is no time to ask the other one."""
        if one.routing is not None:
            one.routing.told.skipped += 1
        if self._log is not None:
            self._log.put(one.features.raw, one.answer, one.when)

    def _shadowed(self, identity: object) -> bool:
        share = self._config.shadow.share
        return share >= 1.0 or zlib.crc32(str(identity).encode(errors="surrogatepass")) < share * 2**32

    def _schedule(self) -> None:
        """Ask the other one a little later, so that answers go first however many are wanted."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(_EVERY_SECONDS, self._catch_up)

    def _catch_up(self) -> None:
        self._scheduled = False
        until = time.perf_counter() + _SLICE_SECONDS
        while self._later:
            one = self._later.popleft()
            if self._now() - one.when > _OLDEST_SECONDS:  # others are waiting for answers: those go first
                self._skip(one)
            else:
                self._shadow(one)
            if self._later and time.perf_counter() > until:
                self._schedule()
                return

    def close(self) -> None:
        """Log what waits; nobody is asked any more."""
        while self._later:
            one = self._later.popleft()
            if self._log is not None:
                self._log.put(one.features.raw, one.answer, one.when)

    def _shadow(self, one: Answered) -> None:
        """Have the other one predict a request as well, and log both."""
        routing, other, champion = one.routing, one.other, one.champion
        if routing is None or other is None or champion is None or one.said is None:
            return
        told, to_candidate = routing.told, other is routing.candidate
        began, name = time.perf_counter(), routing.name if to_candidate else CHAMPION
        try:
            said = self._timed(other, one.features, told.candidate if to_candidate else told.champion, champion)
            shadow: dict[str, Any] = answer_of(other, said, None)
            answered = champion if to_candidate else routing.candidate
            told.both += 1
            told.agreed += agree(_numbered(one.said, answered, champion), _numbered(said, other, champion))
        except Exception as cause:
            shadow = {
                "learner": other.name,
                "snapshot": other.snapshot,
                "error": f"{type(cause).__name__}: {cause}"[:300],
            }
            if to_candidate:
                self._failed(routing, cause)
            else:
                told.champion.fail()
        shadow.pop("id", None)
        shadow |= {"route": name, "ms": round((time.perf_counter() - began) * 1000, 3)}
        if self._log is not None:
            more = {"shadow": shadow, "rollout": routing.rollout.entry}
            self._log.put(one.features.raw, one.answer, one.when, more)


def _numbered(said: Prediction, serving: Serving, champion: Serving) -> Prediction:
    """A prediction with the champion's numbers of classes; a baseline has its own."""
    if serving.task != "multiclass" or serving.name != BASELINE or serving is champion or said.value is None:
        return said
    label = serving.labels[int(said.value)]
    return Prediction(champion.labels.index(label) if label in champion.labels else -2, None, {})
