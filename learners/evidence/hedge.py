"""How much each learner is to be believed, by its losses so far: weights for a policy over several models."""

from collections.abc import Mapping, Sequence

import numpy as np

from learners.evidence.losses import Floats

#: losses are squared errors in [0, 1], for which this rate loses least to the best learner in hindsight
RATE = 2.0
#: what each event gives back to all: a learner that becomes the best is believed again after some hundred events
SHARED = 0.001


class Hedge:
    """Weights that sum to 1: w ∝ w · exp(-RATE · loss), and a little of all for each.

    Herbster & Warmuth (1998), Tracking the best expert (fixed share), on the losses of all on the same events.

    >>> hedge = Hedge()
    >>> hedge.update({"a": [0.0] * 20, "b": [1.0] * 20})
    >>> hedge.weights["a"] > 0.99
    True
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights: dict[str, float] = dict(weights or {})

    def update(self, losses: Mapping[str, Sequence[float] | Floats]) -> None:
        """Take the losses of a batch, event by event; who has none keeps its weight relative to nobody."""
        names = list(losses)
        if len(names) < 2:
            return
        known = [self.weights.get(name, 0.0) for name in names]
        whole = sum(known)
        weights = np.array(known) / whole if whole > 0 else np.full(len(names), 1 / len(names))
        weights = (1 - SHARED) * weights + SHARED / len(names)
        for row in np.exp(-RATE * np.array([losses[name] for name in names], np.float64)).T:
            weights = weights * row
            weights = (1 - SHARED) * weights / weights.sum() + SHARED / len(names)
        self.weights = {**dict.fromkeys(self.weights, 0.0), **dict(zip(names, weights.tolist(), strict=True))}
