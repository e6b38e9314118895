"""The process of one learner: takes batches from the trainer, predicts, scores and learns them, and saves itself.

Each learner has a process, so that learners share neither a core nor a fault, and a large model that is being saved
holds nobody up but itself. It ends with the trainer: at the end of the socket, or when the kernel says that its parent
is gone.
"""

import contextlib
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from learners import Event, Features, Learner, LearnersError, Metrics, Prediction, learn
from learners.errors import FactoryRefusedError, LearnerRaisedError
from learners.evidence.against_baseline import AgainstBaseline, Evidence, concatenated
from learners.evidence.losses import Floats, losses
from learners.evidence.own_loss import OwnLoss
from learners.evidence.paired import Paired
from learners.prequential import opinion
from learners.purity import Purity
from snapshots import SnapshotsError, Store
from snapshots.errors import RefusedError, StoreError
from snapshots.records import baselines
from snapshots.records import cut as snapshots
from snapshots.records.manifest import Part
from stream import parts
from stream.config import unpacked
from stream.errors import StreamError
from stream.learner import wire
from stream.process import logs, wall
from stream.process.lent_store import borrowed
from stream.process.patience import patiently
from stream.settings import Config

if TYPE_CHECKING:
    from learners.baseline.served import Baseline

log = logging.getLogger("holdfast.learner")
_BACKOFF_SECONDS = 5.0
_SETTLED_EVENTS = 1000


class _Scored(msgspec.Struct):
    """Losses of a few events, before anybody learnt them; ``reference`` and ``baseline``: None where there is none."""

    own: Floats
    reference: Floats | None
    baseline: Floats | None
    slices: list[list[str]] | None


class Worker:
    """Does what it is told, in order; saving goes on beside learning once the bytes are made."""

    def __init__(self, connection: Connection, config: Config, name: str, store: Store) -> None:
        self._connection = connection
        self._config, self._name, self._store = config, name, store
        self._labels = parts.labels_of(config)
        self._learner: Learner | None = None
        self._purity: Purity | None = None
        self._metrics = Metrics(config.task)
        self._paired = self._no_evidence()
        self._reference: Learner | None = None
        self._versus: AgainstBaseline | None = None
        self._baseline: Baseline | None = None
        self._baseline_number = 0
        self._scored: list[_Scored] = []
        self._own = OwnLoss(config.guard.tolerance)
        self._spoilt = True
        self._pool = ThreadPoolExecutor(1, "parts")
        self._wall = ""
        self._sending = threading.Lock()

    def run(self) -> None:
        """Follow orders until the trainer is gone."""
        while True:
            try:
                order = wire.orders.decode(self._connection.recv_bytes())
            except (EOFError, ConnectionResetError):
                return
            try:
                self._follow(order)
            except (LearnersError, SnapshotsError, StreamError) as cause:
                self._spoilt = True
                self._reply(wire.Failed(type(order).__name__, type(cause).__name__, str(cause)))

    def _follow(self, order: wire.Order) -> None:
        match order:
            case wire.Batch():
                self._learn(order)
            case wire.Refer():
                self._refer(order.snapshot)
            case wire.Against():
                self._against(order)
            case wire.Save():
                self._save(order)
            case wire.Load():
                built_from = self._load(order)
                self._reply(wire.Loaded(built_from, self._wall))

    def _reply(self, reply: wire.Reply) -> None:
        with self._sending, contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the trainer is gone
            self._connection.send_bytes(wire.encode(reply))

    def _load(self, order: wire.Load) -> dict[str, Any]:
        self._labels = parts.labels_of(self._config)
        self._labels.restore(order.labels)
        one = self._config.learners[self._name]
        manifest = None if order.snapshot is None else snapshots.read_manifest(self._store, order.snapshot)
        if order.snapshot is None or (manifest is not None and parts.is_new(one, manifest.learners[self._name])):
            self._learner = parts.build_learner(self._config, self._name, self._labels)
            self._shut_in()
            self._metrics = Metrics(self._config.task, self._config.metrics.window, self._config.event.max_slices)
            self._paired, self._reference = self._no_evidence(), None
            self._versus, self._own = None, OwnLoss(self._config.guard.tolerance)
            self._scored.clear()
            about: dict[str, Any] = {}
            if order.imported:
                self._learner, file = parts.imported(self._learner, Path(order.imported), self._name)
                about = {"imported": file}
            built_from = parts.built_from(one, self._learner) | about
        else:
            if manifest is None:
                raise RefusedError(f"snapshot {order.snapshot} of {self._name} is gone")
            part = manifest.learners[self._name]
            built_from = parts.reconcile(self._config, self._name, part, accept=order.accept)
            self._shut_in()
            self._learner, self._metrics = snapshots.read_learner(
                self._store, manifest, self._name, self._labels, one.types, built_from
            )
            evidence = snapshots.read_evidence(self._store, manifest, self._name)
            self._paired, self._versus = evidence.paired, evidence.versus
            self._own = evidence.own or OwnLoss(self._config.guard.tolerance)
            self._scored.clear()
            self._reference = self._loaded(self._paired.reference)
            if self._reference is None and self._paired.reference is not None:
                self._paired.refer(None)  # the guard then asks for another
        self._purity = Purity(self._learner, self._name)
        self._spoilt = False
        return built_from

    def _shut_in(self) -> None:
        """Put up the wall, once, before the first byte of a model is read; trials of arguments come before it."""
        if not self._wall:
            parts.import_kind(self._config.learners[self._name].kind)
            scratch = [Path(folder)] if (folder := os.environ.get("HOLDFAST_SCRATCH")) else []
            self._wall = wall.put_up(scratch) if self._config.wall.enabled else wall.OFF

    def _no_evidence(self) -> Paired:
        return Paired(self._config.guard.tolerance, None, self._config.event.max_slices)

    def _refer(self, number: int) -> None:
        self._settle()
        self._reference = self._loaded(number)
        self._paired.refer(number if self._reference is not None else None)

    def _against(self, order: wire.Against) -> None:
        """Compare with a baseline; without onnxruntime, or when it is damaged, with none, which is said."""
        self._settle()
        if order.since != self._own.since:
            self._own = OwnLoss(self._config.guard.tolerance, order.since)
        if order.baseline is None:
            self._versus = self._baseline = None
            return
        if self._baseline is None or self._baseline_number != order.baseline:
            self._baseline, self._baseline_number = self._baseline_of(order.baseline), order.baseline
        if self._baseline is None:
            self._versus = None
        elif self._versus is None or self._versus.baseline != order.baseline:
            margin, most = self._config.fallback.margin, self._config.event.max_slices
            self._versus = AgainstBaseline(order.baseline, margin, most, switch=order.switch)
        else:
            self._versus.switched(order.switch)

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

    def _compare(self, batch: wire.Batch, events: list[Event], predictions: list[Prediction]) -> list[float] | None:
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
        if self._versus is not None and self._baseline is not None:
            said = self._baseline.predict_many([event.features for event in few])
            based = losses(self._config.task, answers, said, batch.scale)
        slices = [batch.slices[index] for index in chosen] if batch.slices is not None else None
        self._scored.append(_Scored(own, others, based, slices))
        if sum(len(one.own) for one in self._scored) >= _SETTLED_EVENTS:
            self._settle()
        return own.tolist()  # type: ignore[no-any-return]

    def _settle(self) -> None:
        """Let what was scored count: many events at once, since each time costs as much as learning a few dozen."""
        if not self._scored:
            return
        scored, self._scored = self._scored, []
        own = np.concatenate([one.own for one in scored])
        self._own.update(own)
        slices = None
        if scored[0].slices is not None:
            slices = [names for one in scored for names in one.slices or ()]
        self._paired.update(own, concatenated([one.reference for one in scored]), slices)
        based = concatenated([one.baseline for one in scored])
        if self._versus is not None and based is not None:
            self._versus.update(own, based, slices)

    def _learn(self, batch: wire.Batch) -> None:
        if self._spoilt or self._learner is None:
            return
        if batch.labels is not None:
            self._labels.restore(batch.labels)
        weights = batch.weights or [1.0] * len(batch.features)
        events = [
            Event("", Features(features), label, weight)
            for features, label, weight in zip(batch.features, batch.answers, weights, strict=True)
        ]
        predictions: list[Prediction] = []
        if not batch.learn:
            self._score(batch, events)
            return
        try:
            for _, prediction in learn(self._learner, events, name=self._name):
                predictions.append(prediction)
        except LearnerRaisedError as raised:
            self._spoilt = True
            cause = raised.__cause__
            self._reply(wire.Raised(batch.number, len(predictions), f"{type(cause).__name__}: {cause}"))
            return
        try:
            if self._purity is not None:
                self._purity.look(events)
        except FactoryRefusedError as cause:
            self._spoilt = True  # and so never saved
            self._reply(wire.Raised(batch.number, 0, str(cause), for_good=True))
            return
        self._metrics.update(events, predictions, batch.slices)
        self._reply(wire.Learnt(batch.number, self._compare(batch, events, predictions)))

    def _score(self, batch: wire.Batch, events: list[Event]) -> None:
        """Predict and score what an open breaker passes over."""
        learner = self._learner
        predictions = [opinion(learner, event.features) for event in events] if learner is not None else []
        self._metrics.update(events, predictions, batch.slices)
        self._reply(wire.Learnt(batch.number))

    def _save(self, order: wire.Save) -> None:
        if self._spoilt or self._learner is None:
            self._reply(wire.Failed("Save", "StreamError", "the learner is no longer what it was", order.order))
            return
        began = time.perf_counter()
        self._settle()
        self._paired.close_look()
        self._own.close_look()
        if self._versus is not None:
            self._versus.close_look()
        evidence = Evidence(self._paired, self._versus, self._own).dump()
        parts = {"model": self._learner.save(), "metrics": self._metrics.dump(), "evidence": evidence}
        figures = {
            "baseline": self._versus.figures() if self._versus is not None else None,
            "own": self._own.figures(),
            "metrics": self._metrics.overall(),
            "recent": self._metrics.recent(),
            "slices": self._metrics.by_slice(),
        }
        seconds = time.perf_counter() - began
        self._pool.submit(self._write, order, parts, figures, self._paired.reference, seconds)

    def _write(
        self, order: wire.Save, parts: dict[str, bytes], figures: dict[str, Any], reference: int | None, seconds: float
    ) -> None:
        """Write the parts, trying again while the store is away."""

        def put() -> list[Part]:
            named = {f"{self._name}.{what}": data for what, data in parts.items()}
            return [snapshots.put(self._store, order.snapshot, name, data) for name, data in named.items()]

        def trouble(cause: Exception, _: float) -> None:
            log.error("snapshot %d of %s is not written: %s; trying again", order.snapshot, self._name, cause)

        try:
            model, metrics, evidence = patiently(put, StoreError, trouble, time.sleep, _BACKOFF_SECONDS)
        except SnapshotsError as cause:
            self._reply(wire.Failed("Save", type(cause).__name__, str(cause), order.order))
        else:
            self._reply(wire.Saved(order.order, model, metrics, evidence, reference, figures, seconds))


def main() -> None:
    """Run on the sockets whose descriptors are the arguments: for orders, and for the store that the trainer lends."""
    connection, store = borrowed()
    logs.configure(os.environ.get("HOLDFAST_LOG", "console"))
    try:
        setup = wire.orders.decode(connection.recv_bytes())
    except EOFError:
        return
    if not isinstance(setup, wire.Setup):
        raise TypeError("the first word is a setup")
    config = unpacked(setup.config)
    parts.reach_modules(config)
    Worker(connection, config, setup.name, store).run()
    os._exit(0)  # a part that is still being written belongs to no snapshot


if __name__ == "__main__":
    main()
