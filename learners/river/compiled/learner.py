"""A River learner that is learnt with compiled loops, as far as they go, and is River's own to everybody else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from learners.event import Event, Features, Prediction
from learners.prequential import opinion
from learners.river.compiled.arrays.block import Block
from learners.river.compiled.execution import Execution
from learners.river.learner import RiverLearner

#: after an event that only River takes, so many are tried at once, and then twice as many each time
_AFTER_RIVER = 8
#: when so many events, and more than half, were River's to handle, no more are tried
_LEFT_TO_RIVER = 1000


class CompiledRiver:
    """Wraps a :class:`RiverLearner`; see :class:`learners.learner.Learner` for what both promise.

    :meth:`learn_many` learns with compiled loops. Whatever else is asked goes to River's object, which is given its
    state back first. Raises :class:`NotCompiledError` where the model is not one of those that are compiled.
    """

    kind = "river"

    def __init__(self, river: RiverLearner) -> None:
        self._river = river
        self._execution = Execution(river)
        self._tried = self._left = 0

    @property
    def model(self) -> Any:
        """River's object, with what was learnt in it."""
        self._execution.write()
        return self._river.model

    def predict(self, features: Features) -> Prediction:
        """Predict with River."""
        return self._own().predict(features)

    def step(self, event: Event) -> Prediction:
        """Predict and learn one event with River."""
        return self._own().step(event)

    def learn_many(self, events: Sequence[Event], said: list[Prediction]) -> None:
        """Predict and learn these events, in order; ``said`` gets what was predicted of each before it was learnt.

        An event without a label is only asked about. What River raises on learning is raised; then ``said`` is as long
        as what was learnt before.
        """
        at, self._tried = 0, self._tried + len(events)
        useless = self._execution.exact and self._left > max(_LEFT_TO_RIVER, self._tried // 2)
        while at < len(events) and (self._river.fresh or useless):  # a new model is asked by way of a copy
            said.append(self._by_river(events[at]))
            at += 1
        rest = events[at:]
        if self._execution.crowded:
            self._execution.write()
            self._execution = Execution(self._river)
        block = self._block(rest)
        labels = np.array([float(event.label or 0) for event in rest])
        weights = np.array([event.weight if event.label is not None else 0.0 for event in rest])
        given = weights if self._river.weighted else np.ones(len(rest))
        at, most = 0, len(rest)
        while at < len(rest):
            found = self._execution.learn(block, labels, given, weights != 0, at, min(at + most, len(rest)))
            said += found
            at += len(found)
            if len(found) == most:
                most *= 2
            elif at < len(rest):
                said.append(self._by_river(rest[at]))
                at, most = at + 1, _AFTER_RIVER

    def _block(self, events: Sequence[Event]) -> Block:
        names = events[0].features.names if events else None
        if names is None or not all(event.features.names is names for event in events):
            return self._execution.block([event.features.flat() for event in events])
        rows = b"".join([event.features.row or b"" for event in events])
        return self._execution.numbers(names, np.frombuffer(bytearray(rows)))

    def _by_river(self, event: Event) -> Prediction:
        self._left += 1
        return opinion(self, event.features) if event.label is None else self.step(event)

    def save(self) -> bytes:
        """As River's own."""
        self._execution.write()
        return self._river.save()

    def load(self, data: bytes) -> "CompiledRiver":
        """A learner like this one with the saved state in it."""
        return CompiledRiver(self._river.load(data))

    def state(self) -> bytes:
        """As River's own."""
        self._execution.write()
        return self._river.state()

    def describe(self) -> dict[str, Any]:
        """As River's own: how it is executed is no part of what it is."""
        return self._river.describe()

    def _own(self) -> RiverLearner:
        """River's learner, up to date; the arrays are read again, since River notes even what it is asked."""
        self._execution.write()
        self._execution.forget()
        return self._river
