"""What the one that does not answer says to the same requests, asked for after the answer has left.

A tenth of the time of a serving process is for that, so that answers go first however many are wanted.
"""

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from learners import Features, Prediction
from snapshots.decisions.rollout import Rollout
from stream.rollout.told import Route, Told, agree
from stream.serve.loaded import BASELINE, CHAMPION, Serving, answer_of
from stream.settings import Config
from stream.sink.prediction_log import PredictionLog

#: requests that wait, how long they are worked at, how often, and how old they may get
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


class Shadowing:
    """Counts and logs answers, and asks the other one; ``failed`` is told where the candidate fails at that."""

    def __init__(
        self, config: Config, log: PredictionLog | None, now: Callable[[], float],
        failed: Callable[[Routing, Exception], None],
    ) -> None:  # fmt: skip
        self._log, self._now, self._failed = log, now, failed
        self._share, self._most_ms = config.shadow.share, config.rollout.max_p99_ms
        self._later: deque[Answered] = deque()
        self._scheduled = False

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
        share = self._share
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
            said = timed(
                other, one.features, told.candidate if to_candidate else told.champion, champion, self._most_ms
            )
            shadow: dict[str, Any] = answer_of(other, said, None)
            answered = champion if to_candidate else routing.candidate
            told.both += 1
            told.agreed += agree(numbered(one.said, answered, champion), numbered(said, other, champion))
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


def timed(serving: Serving, features: Features, route: Route, champion: Serving, most_ms: float) -> Prediction:
    """Predict and count it; classes are counted by the champion's numbers."""
    began = time.perf_counter()
    said = serving.learner.predict(features)
    seconds = time.perf_counter() - began
    route.note(numbered(said, serving, champion), seconds, most_ms)
    return said


def numbered(said: Prediction, serving: Serving, champion: Serving) -> Prediction:
    """A prediction with the champion's numbers of classes; a baseline has its own."""
    if serving.task != "multiclass" or serving.name != BASELINE or serving is champion or said.value is None:
        return said
    label = serving.labels[int(said.value)]
    return Prediction(champion.labels.index(label) if label in champion.labels else -2, None, {})
