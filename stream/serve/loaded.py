"""What can answer: a snapshot of a learner, or a baseline, loaded into memory; and the answer it gives."""

from typing import Protocol

import msgspec

from learners import Features, Prediction
from learners.event import Task
from learners.labels import LabelValue
from snapshots import Lineage
from snapshots.errors import DamagedError
from snapshots.records import baselines
from snapshots.records import cut as snapshots
from stream.parts import labels_of, types_of
from stream.settings import Config

#: what answers say in the learner's place when a baseline answers
BASELINE = "baseline"
#: what answers say as their route unless a candidate answers
CHAMPION = "champion"


class Asked(Protocol):
    """What answers: a learner, or the baseline."""

    def predict(self, features: Features) -> Prediction:
        """Predict, and change nothing."""


class Serving(msgspec.Struct, frozen=True):
    """One snapshot in service, or one baseline (``name`` is then :data:`BASELINE`, ``snapshot`` its number).

    Replaced as a whole, never changed. ``created`` and ``newest_event`` are Unix seconds; ``epoch`` is None for a
    baseline, which belongs to no trainer.
    """

    snapshot: int
    name: str
    line: int
    learner: Asked
    labels: list[LabelValue]
    task: Task
    created: float
    newest_event: float
    epoch: int | None
    since: float


def load_snapshot(config: Config, lineage: Lineage, number: int, name: str, now: float) -> tuple[Serving, list[bytes]]:
    """Load a learner's part of a snapshot; return it with some of the newest events' features.

    Raises :class:`DamagedError`, :class:`VersionMismatchError` or :class:`LearnersError` when it cannot answer.
    """
    manifest = lineage.manifest(number)
    if manifest is None:
        raise DamagedError(f"snapshot {number} is gone, or its manifest is damaged")
    labels = labels_of(config)
    shared = snapshots.read_shared(lineage.store, manifest)
    labels.restore(shared.labels)
    learner, _ = snapshots.read_learner(lineage.store, manifest, name, labels, types_of(config, name))
    return Serving(
        number, name, manifest.learners[name].line, learner, list(labels.names), config.task, manifest.created,
        manifest.newest_event, manifest.epoch, now,
    ), shared.rows  # fmt: skip


def load_baseline(lineage: Lineage, number: int, now: float) -> Serving:
    """Load a baseline; raise :class:`DamagedError` or :class:`LearnersError` when it cannot answer."""
    from learners.baseline.served import Baseline  # noqa: PLC0415  only where there is one

    manifest, model = baselines.model_of(lineage.store, number)
    learner = Baseline(model)
    return Serving(
        number, BASELINE, 0, learner, learner.names, learner.task, manifest.created, manifest.last_time, None, now
    )


def answer_of(serving: Serving, prediction: Prediction, identity: object) -> dict[str, object]:
    """The answer to one request: class numbers become the labels that the events carry."""
    answer: dict[str, object] = {"id": identity, "prediction": prediction.value}
    if prediction.probabilities is not None or serving.task == "multiclass":
        if prediction.value is not None:
            answer["prediction"] = _whole(serving.labels[int(prediction.value)])
        if prediction.probabilities is not None:
            answer["probabilities"] = {
                _text(serving.labels[number]): chance for number, chance in prediction.probabilities.items()
            }
    elif prediction.probability is not None:
        answer["probability"] = prediction.probability
    answer["learner"] = serving.name
    answer["snapshot"] = serving.snapshot
    return answer


def _whole(label: LabelValue) -> LabelValue:
    """A class that is a whole number, as one: events may say 2 or 2.0, which is one label."""
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _text(label: LabelValue) -> str:
    label = _whole(label)
    return label if isinstance(label, str) else str(label).lower() if isinstance(label, bool) else str(label)
