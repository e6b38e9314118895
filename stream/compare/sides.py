"""One side of a comparison: what it said of an event at the time, or says now of one that it never learnt."""

import msgspec

from learners.event import Event, Prediction
from learners.prequential import opinion
from snapshots import Lineage
from snapshots.decisions.rollout import candidate_of
from snapshots.errors import RefusedError
from stream.record import Served
from stream.serve.loaded import BASELINE, Serving, load_baseline, load_snapshot
from stream.settings import Config


class Side(msgspec.Struct, frozen=True):
    """A learner, whose predictions are those that were logged; or a model that stays what it is, asked again."""

    name: str
    learner: str
    number: int = -1
    model: Serving | None = None

    @property
    def since(self) -> float:
        """From when on events are ones that it has not learnt (Unix seconds)."""
        return self.model.newest_event if self.model is not None else 0.0

    def said(self, event: Event, served: Served | None) -> Prediction | None:
        """What it said of an event; None where that is not known."""
        if served is not None:
            for learner, number, prediction in (
                (served.learner, served.snapshot, served.prediction),
                (served.other_learner, served.other_snapshot, served.other),
            ):
                if prediction is not None and learner == self.learner and self.number in (-1, number):
                    return prediction
        if self.model is None or event.time <= self.since:
            return None
        return opinion(self.model.learner, event.features)  # type: ignore[arg-type]


def side_of(text: str, config: Config, lineage: Lineage, now: float) -> Side:
    """Read what somebody wants to compare; raise :class:`RefusedError` when it is not there."""
    try:
        meant = candidate_of(text)
    except ValueError as cause:
        raise RefusedError(str(cause)) from cause
    if meant.kind == "baseline":
        return Side(text, BASELINE, meant.number, load_baseline(lineage, meant.number, now))
    learner = meant.learner or lineage.champion() or ""
    newest = lineage.newest()
    if newest is None or learner not in newest.learners:
        there = ", ".join(newest.learners) if newest is not None else "no snapshot yet"
        raise RefusedError(f"there is no learner {learner!r}; there is {there}")
    if meant.kind == "learner":
        return Side(text, learner)
    if lineage.manifest(meant.number) is None:
        raise RefusedError(f"snapshot {meant.number} does not exist, or is gone. See: holdfast snapshots list")
    if lineage.part(meant.number, learner) is None:
        raise RefusedError(f"snapshot {meant.number} does not hold {learner}. See: holdfast snapshots list")
    return Side(text, learner, meant.number, load_snapshot(config, lineage, meant.number, learner, now)[0])
