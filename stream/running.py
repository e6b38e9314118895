"""One learner as the trainer drives it: the learner, its metrics, its counts, its line and its quarantine."""

from collections.abc import Sequence
from typing import Any

import msgspec

from learners import Event, Learner, Metrics, learn
from snapshots.errors import SnapshotsError
from snapshots.manifest import Counts, LearnerPart, Place, Quarantined, Ranges
from snapshots.snapshot import LearnerCut


class Running:
    """``learnt`` and ``quarantined`` are this learner's; the other classes belong to the place (promise 2)."""

    def __init__(self, name: str, role: str, learner: Learner, metrics: Metrics, built_from: dict[str, Any]) -> None:
        self.name = name
        self.role = role
        self.learner = learner
        self.metrics = metrics
        self.built_from = built_from
        self.line = 0
        self.learnt = 0
        self.quarantined = 0
        self.quarantine: list[Quarantined] = []

    def take(self, events: Sequence[Event], slices: Sequence[Sequence[str]] | None) -> None:
        """Predict, score and learn a batch."""
        predictions = [prediction for _, prediction in learn(self.learner, events, name=self.name)]
        self.metrics.update(events, predictions, slices)
        self.learnt += len(events)

    def restore(self, part: LearnerPart) -> None:
        """Take counts, line and quarantine of a snapshot."""
        self.line, self.learnt, self.quarantined = part.line, part.learnt, part.quarantined
        self.quarantine = list(part.quarantine)

    def pass_over(self, name: str, cause: str, ranges: Ranges, counts: Counts) -> None:
        """Quarantine everything of these ranges that this learner has not learnt."""
        before, self.quarantined = self.quarantined, counts.remaining() - self.learnt
        self.quarantine.append(Quarantined(name, cause, ranges, self.quarantined - before))

    def check(self, counts: Counts) -> None:
        """Hold the accounting equation (promise 2); a difference is a fault of the program."""
        if counts.remaining() != self.learnt + self.quarantined:
            raise SnapshotsError(
                f"the accounting of {self.name} does not add up: {counts} against {self.learnt} learnt and "
                f"{self.quarantined} quarantined. No snapshot was written; please report this"
            )

    def cut(self) -> LearnerCut:
        """Serialise."""
        return LearnerCut(
            kind=self.learner.kind,
            role=self.role,
            line=self.line,
            learnt=self.learnt,
            quarantined=self.quarantined,
            quarantine=list(self.quarantine),
            model=self.learner.save(),
            metrics=self.metrics.dump(),
            figures={
                "metrics": self.metrics.overall(),
                "recent": self.metrics.recent(),
                "slices": self.metrics.by_slice(),
            },
            built_from=self.built_from,
        )


def between(earlier: Place, later: Place) -> Ranges:
    """The ranges of offsets from one place to another, per partition."""
    ranges: Ranges = {}
    for topic, partitions in later.items():
        for partition, offset in partitions.items():
            begin = earlier.get(topic, {}).get(partition, 0)
            if begin < offset:
                ranges.setdefault(topic, {})[partition] = (begin, offset)
    return ranges


def copy_place(place: Place) -> Place:
    """A place that does not change when the trainer goes on."""
    return {topic: dict(partitions) for topic, partitions in place.items()}


def copy_counts(counts: Counts) -> Counts:
    """Counts that do not change when the trainer goes on."""
    return msgspec.structs.replace(counts, refused=dict(counts.refused))
