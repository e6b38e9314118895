"""Snapshots as a trainer would write them."""

import pickle
from typing import Any

from learners.evidence.paired import Paired
from snapshots import Store
from snapshots.records import cut as snapshots
from snapshots.records.cut import Cut, Shared
from snapshots.records.manifest import Counts, Durations, HoldoutState, LearnerPart, Manifest
from stream.train.writer import encode_shared


def write(
    store: Store, number: int, model: bytes | None = None, reference: int | None = None, **changes: Any
) -> Manifest:
    """A snapshot of one learner, its parts written as a learner's process writes them."""
    fields: dict[str, Any] = {
        "lineage": "test", "task": "binary", "epoch": 1, "created": 1.0, "place": {"t": {"0": 3}}, "topics": {"t": "x"},
        "newest_event": 1.0, "counts": Counts(consumed=3), "holdout": HoldoutState(), "written": Durations(),
        "shared": encode_shared(Shared()),
    }  # fmt: skip
    part = LearnerPart(
        kind="river", role="champion", line=0, learnt=3, quarantined=0, quarantine=[],
        model=snapshots.put(store, number, "a.model", pickle.dumps(1) if model is None else model),
        metrics=snapshots.put(store, number, "a.metrics", b"m"),
        evidence=snapshots.put(store, number, "a.evidence", Paired(0.01).dump()), reference=reference,
        figures={}, built_from={},
    )  # fmt: skip
    return snapshots.write(store, number, Cut(**(fields | changes)), {"a": part})
