"""What every compiled last step does."""

from typing import Any, Protocol

from learners.event import Prediction
from learners.river.compiled.arrays.block import Block, Floats
from learners.river.compiled.arrays.stages import Flags


class Model(Protocol):
    """The last step of a compiled model."""

    #: whether it ends with River's own bits; else within 1e-9 of its figures
    exact: bool

    def learn(self, block: Block, labels: Floats, weights: Floats, learns: Flags) -> tuple[int, Any]:
        """Predict and learn each event; how many were, and what was said of them, for :meth:`predictions`.

        The event after the last is River's own to handle.
        """

    def predictions(self, said: Any) -> list[Prediction]:
        """What was said, as predictions."""

    def read(self) -> None:
        """Take the state of the River object."""

    def write(self) -> None:
        """Give the state back to the River object."""


def predictions_of(said: Floats, *, number: bool) -> list[Prediction]:
    """Numbers, or probabilities of yes and what they come to, as predictions."""
    if number:
        return [Prediction(value) for value in said.tolist()]
    return [Prediction(chance > 1.0 - chance, chance) for chance in said.tolist()]
