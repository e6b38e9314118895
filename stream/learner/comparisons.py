"""What a learner is compared with on the same fresh events: its reference, the baseline, and its own past."""

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from learners import Event, Learner, LearnersError, Prediction
from learners.evidence.against_baseline import AgainstBaseline, Evidence, concatenated
from learners.evidence.losses import Floats, losses
from learners.evidence.own_loss import OwnLoss
from learners.evidence.paired import Paired
from learners.labels import Labels
from learners.prequential import opinion
from snapshots import SnapshotsError, Store
from snapshots.errors import RefusedError
from snapshots.records import baselines
from snapshots.records import cut as snapshots
from stream.learner import wire
from stream.settings import Config

if TYPE_CHECKING:
    from learners.baseline.served import Baseline

log = logging.getLogger("holdfast.learner")
_SETTLED_EVENTS = 1000


class _Scored(msgspec.Struct):
    """Losses of a few events, before anybody learnt them; ``reference`` and ``baseline``: None where there is none."""

    own: Floats
    reference: Floats | None
    baseline: Floats | None
    slices: list[list[str]] | None


class Comparisons:
    """The evidence of one learner: ``paired`` with its reference, ``versus`` the baseline, and its ``own`` loss."""

    def __init__(self, config: Config, name: str, store: Store, labels: Labels) -> None:
        self._config, self._name, self._store = config, name, store
        self._baseline: Baseline | None = None
        self._baseline_number = 0
        self.begin(labels)

    def begin(self, labels: Labels) -> None:
        """Be new."""
        self._labels, tolerance = labels, self._config.guard.tolerance
        self.paired, self.own = Paired(tolerance, None, self._config.event.max_slices), OwnLoss(tolerance)
        self.versus: AgainstBaseline | None = None
        self._reference: Learner | None = None
        self._scored: list[_Scored] = []

    def restore(self, labels: Labels, evidence: Evidence) -> None:
        """Go on from the evidence of a snapshot."""
        self.begin(labels)
        self.paired, self.versus, self.own = evidence.paired, evidence.versus, evidence.own or self.own
        self._reference = self._loaded(self.paired.reference)
        if self._reference is None and self.paired.reference is not None:
            self.paired.refer(None)  # the guard then asks for another

    def close_look(self) -> bytes:
        """Let what was seen since the last look count, and return the evidence as a snapshot holds it."""
        self.settle()
        self.paired.close_look()
        self.own.close_look()
        if self.versus is not None:
            self.versus.close_look()
        return Evidence(self.paired, self.versus, self.own).dump()

    def figures(self) -> dict[str, Any]:
        """What the manifest says of them."""
        return {"baseline": self.versus.figures() if self.versus is not None else None, "own": self.own.figures()}

    def refer(self, number: int) -> None:
        """Compare with another snapshot from here on; with none where it is gone."""
        self.settle()
        self._reference = self._loaded(number)
        self.paired.refer(number if self._reference is not None else None)

    def against(self, order: wire.Against) -> None:
        """Compare with a baseline; without onnxruntime, or when it is damaged, with none, which is said."""
        self.settle()
        if order.since != self.own.since:
            self.own = OwnLoss(self._config.guard.tolerance, order.since)
        if order.baseline is None:
            self.versus = self._baseline = None
            return
        if self._baseline is None or self._baseline_number != order.baseline:
            self._baseline, self._baseline_number = self._baseline_of(order.baseline), order.baseline
        if self._baseline is None:
            self.versus = None
        elif self.versus is None or self.versus.baseline != order.baseline:
            margin, most = self._config.fallback.margin, self._config.event.max_slices
            self.versus = AgainstBaseline(order.baseline, margin, most, switch=order.switch)
        else:
            self.versus.switched(order.switch)

    def _baseline_of(self, number: int) -> "Baseline | None":
        from learners.baseline.served import Baseline  # noqa: PLC0415  only where there is one

        try:
            return Baseline(baselines.model_of(self._store, number)[1])
        except (LearnersError, SnapshotsError) as cause:
            log.error("%s cannot be compared with baseline %d: %s", self._name, number, cause)
            return None

    def _loaded(self, number: int | None) -> Learner | None:
        """The learner of an older snapshot, to predict beside this one; None when it is gone, which is said."""
        if number is None:
            return None
        try:
            manifest = snapshots.read_manifest(self._store, number)
            if manifest is None:
                raise RefusedError(f"snapshot {number} is gone")
            types = self._config.learners[self._name].types
            return snapshots.read_learner(self._store, manifest, self._name, self._labels, types)[0]
        except (LearnersError, SnapshotsError, KeyError) as cause:
            log.warning("%s cannot be compared with snapshot %d: %s", self._name, number, cause)
            return None

    def compare(self, batch: wire.Batch, events: list[Event], predictions: list[Prediction]) -> list[float] | None:
        """Score every ``stride``-th event for learner and reference, both as they were before they learnt it.

        Returns the learner's own losses.
        """
        chosen = range(batch.first, len(events), batch.stride)
        if batch.scale is None or not chosen:
            return None
        few = [events[index] for index in chosen]
        answers = [event.label for event in few]
        own = losses(self._config.task, answers, [predictions[index] for index in chosen], batch.scale)
        others = None
        if self._reference is not None:
            asked = [opinion(self._reference, event.features) for event in few]
            others = losses(self._config.task, answers, asked, batch.scale)
        based = None
        if self.versus is not None and self._baseline is not None:
            said = self._baseline.predict_many([event.features for event in few])
            based = losses(self._config.task, answers, said, batch.scale)
        slices = [batch.slices[index] for index in chosen] if batch.slices is not None else None
        self._scored.append(_Scored(own, others, based, slices))
        if sum(len(one.own) for one in self._scored) >= _SETTLED_EVENTS:
            self.settle()
        return own.tolist()  # type: ignore[no-any-return]

    def settle(self) -> None:
        """Let what was scored count: many events at once, since each time costs as much as learning a few dozen."""
        if not self._scored:
            return
        scored, self._scored = self._scored, []
        own = np.concatenate([one.own for one in scored])
        self.own.update(own)
        slices = None
        if scored[0].slices is not None:
            slices = [names for one in scored for names in one.slices or ()]
        self.paired.update(own, concatenated([one.reference for one in scored]), slices)
        based = concatenated([one.baseline for one in scored])
        if self.versus is not None and based is not None:
            self.versus.update(own, based, slices)
