"""The protocol that every learner keeps."""

from typing import Any, Protocol, Self, runtime_checkable

from learners.event import Event, Features, Prediction

#: what a learner is executed by when its loops are compiled; anything else is a sentence
COMPILED = "compiled"


@runtime_checkable
class Learner(Protocol):
    """Learns from one event at a time, and predicts.

    Contract, checked for every kind by ``tests/contract/test_learners.py``:

    * ``predict`` changes nothing that a later prediction or a later ``step`` could tell (promise 5); it works
      before the first ``step``.
    * ``step`` answers what ``predict`` would have answered, then learns (test-then-train). An event of weight 0
      is predicted and not learnt.
    * ``load(save())`` continues exactly as the one that was saved.
    * After an exception out of ``step`` the learner is no longer what it was, and must be thrown away.
    """

    kind: str

    def predict(self, features: Features) -> Prediction:
        """Predict, and change nothing."""

    def step(self, event: Event) -> Prediction:
        """Predict the labelled event, then learn it; return the prediction made before learning."""

    def save(self) -> bytes:
        """All of the learner's state, in its library's own format."""

    def load(self, data: bytes) -> Self:
        """Return a learner like this one with the saved state in it."""

    def state(self) -> bytes:
        """Canonical state: equal for two learners that behave identically. For tests and comparisons."""

    def describe(self) -> dict[str, Any]:
        """What it was built from (factory or arguments), for the manifest."""
