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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from msgspec import structs

from learners import Event, Features, Learner, LearnersError, Metrics, Prediction
from learners.errors import FactoryRefusedError, LearnerRaisedError
from learners.late_labels import weight_of_late_yes, weight_of_no
from learners.prequential import learn_batch, opinion
from learners.purity import Purity
from snapshots import SnapshotsError, Store
from snapshots.errors import RefusedError, StoreError
from snapshots.records import cut as snapshots
from snapshots.records.manifest import Part
from stream import parts
from stream.config import unpacked
from stream.errors import StreamError
from stream.learner import taken_over, wire
from stream.learner.comparisons import Comparisons
from stream.process import logs, wall
from stream.process.lent_store import borrowed
from stream.process.patience import patiently
from stream.settings import Config

log = logging.getLogger("holdfast.learner")
_BACKOFF_SECONDS = 5.0


class Worker:
    """Does what it is told, in order; saving goes on beside learning once the bytes are made."""

    def __init__(self, connection: Connection, config: Config, name: str, store: Store) -> None:
        self._connection = connection
        self._config, self._name, self._store = config, name, store
        self._labels = parts.labels_of(config)
        self._learner: Learner | None = None
        self._purity: Purity | None = None
        self._metrics = Metrics(config.task)
        self._compared = Comparisons(config, name, store, self._labels)
        self._spoilt = True
        self._pool = ThreadPoolExecutor(1, "parts")
        self._wall = self._execution = ""
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
                self._compared.refer(order.snapshot)
            case wire.Against():
                self._compared.against(order)
            case wire.Save():
                self._save(order)
            case wire.Load():
                built_from = self._load(order)
                self._reply(wire.Loaded(built_from, self._wall, self._execution))

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
            self._shut_in(self._learner.describe())
            self._metrics = Metrics(self._config.task, self._config.metrics.window, self._config.event.max_slices)
            self._compared.begin(self._labels)
            about: dict[str, Any] = {}
            if order.imported:
                self._learner, file = taken_over.imported(self._learner, Path(order.imported), self._name)
                about = {"imported": file}
            built_from = parts.built_from(one, self._learner) | about
        else:
            if manifest is None:
                raise RefusedError(f"snapshot {order.snapshot} of {self._name} is gone")
            part = manifest.learners[self._name]
            built_from = parts.reconcile(self._config, self._name, part, accept=order.accept)
            self._shut_in(built_from)
            self._learner, self._metrics = snapshots.read_learner(
                self._store, manifest, self._name, self._labels, one.types, built_from
            )
            if order.accept and one.kind == "river":
                taken_over.hold_against_module(self._name, self._learner)
            self._compared.restore(self._labels, snapshots.read_evidence(self._store, manifest, self._name))
        if one.compiled and one.kind == "river":
            from learners.river.compiled import faster  # noqa: PLC0415  River is large

            self._learner, self._execution = faster.faster(self._learner)
        untouched = order.snapshot is None or (manifest is not None and not manifest.learners[self._name].learnt)
        self._strange = one.kind == "vw" and untouched and "imported" in built_from
        self._purity = Purity(self._learner, self._name)
        self._spoilt = False
        return built_from

    def _shut_in(self, built_from: dict[str, Any]) -> None:
        """Put up the wall, once, before the first byte of a model is read; trials of arguments come before it."""
        if not self._wall:
            one = self._config.learners[self._name]
            parts.import_kind(one.kind)
            if one.compiled and one.kind == "river":
                from learners.river.compiled import faster  # noqa: PLC0415  River is large

                faster.prepare(built_from)
            scratch = [Path(folder)] if (folder := os.environ.get("HOLDFAST_SCRATCH")) else []
            self._wall = wall.put_up(scratch) if self._config.wall.enabled else wall.OFF

    def _learn(self, batch: wire.Batch) -> None:
        if self._spoilt or self._learner is None:
            return
        if batch.labels is not None:
            self._labels.restore(batch.labels)
        weights = batch.weights or [1.0] * len(batch.answers)
        events = [
            Event("", features, label, weight)
            for features, label, weight in zip(_features(batch), batch.answers, weights, strict=True)
        ]
        said: list[Prediction] = []
        if self._strange:
            self._strange = False
            taken_over.say_unweighted(self._learner, self._name, [event.features for event in events])
        order = self._order(batch, events)
        if not batch.learn or batch.mode == "score":
            self._score(batch, order)
            return
        try:
            learn_batch(self._learner, order, said, self._name)
        except LearnerRaisedError as raised:
            self._spoilt = True
            cause = raised.__cause__
            learnt = len(_parted(batch, said)[0])
            self._reply(wire.Raised(batch.number, learnt, f"{type(cause).__name__}: {cause}"))
            return
        predictions, answers = _parted(batch, said)
        try:
            if self._purity is not None:
                self._purity.look(events)
        except FactoryRefusedError as cause:
            self._spoilt = True  # and so never saved
            self._reply(wire.Raised(batch.number, 0, str(cause), for_good=True))
            return
        if batch.mode == "negative":  # scored when it is known whether it was one
            self._reply(wire.Learnt(batch.number, None, answers))
            return
        compared = self._marked(batch, events, predictions)
        self._reply(wire.Learnt(batch.number, compared, answers))

    def _marked(self, batch: wire.Batch, events: list[Event], predictions: list[Prediction]) -> list[float] | None:
        """Score predictions; return the losses of those that are compared."""
        if not events:
            return None
        self._metrics.update(events, predictions, batch.slices)
        return self._compared.compare(batch, events, predictions) if batch.learn else None

    def _order(self, batch: wire.Batch, events: list[Event]) -> Iterable[Event]:
        """Events, and what is asked between them without a label, in order; with the weights that late labels want."""
        if not batch.asked and self._weights(batch) is None:
            return events
        found = self._mixed(batch, events)
        return list(found) if self._weights(batch) is None else found

    def _mixed(self, batch: wire.Batch, events: list[Event]) -> Iterator[Event]:
        rule, learner = self._weights(batch), self._learner
        asked = deque(zip(batch.before, batch.asked, strict=True))
        for index, event in enumerate(events):
            while asked and asked[0][0] <= index:
                yield Event("", Features(asked.popleft()[1]))
            if rule is None or learner is None:
                yield event
            else:  # what the learner says at this very moment counts
                chance = opinion(learner, event.features).probability
                yield structs.replace(event, weight=event.weight * rule(self._config.join.correction, chance))
        for _, features in asked:
            yield Event("", Features(features))

    def _weights(self, batch: wire.Batch) -> Callable[[str, float | None], float] | None:
        """The rule by which weights make up for labels that are not known in time; None where they stay."""
        if batch.mode == "negative":
            return weight_of_no if self._config.join.correction == "fnw" else None
        return weight_of_late_yes if batch.mode == "late" else None

    def _score(self, batch: wire.Batch, order: Iterable[Event]) -> None:
        """Predict and score what an open breaker passes over, or what was learnt before its label was certain."""
        learner, events = self._learner, list(order)
        if learner is None:
            return
        predictions, answers = _parted(batch, [opinion(learner, event.features) for event in events])
        own = [event for event in events if event.label is not None]
        self._reply(wire.Learnt(batch.number, self._marked(batch, own, predictions), answers))

    def _save(self, order: wire.Save) -> None:
        if self._spoilt or self._learner is None:
            self._reply(wire.Failed("Save", "StreamError", "the learner is no longer what it was", order.order))
            return
        began = time.perf_counter()
        evidence = self._compared.close_look()
        parts = {"model": self._learner.save(), "metrics": self._metrics.dump(), "evidence": evidence}
        figures = {
            **self._compared.figures(),
            "metrics": self._metrics.overall(),
            "recent": self._metrics.recent(),
            "slices": self._metrics.by_slice(),
        }
        seconds = time.perf_counter() - began
        self._pool.submit(self._write, order, parts, figures, self._compared.paired.reference, seconds)

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


def _features(batch: wire.Batch) -> Iterable[Features]:
    """Of each event that has a label: as bytes, or as rows of numbers."""
    if not batch.names:
        return map(Features, batch.features)
    names, size = tuple(batch.names), 8 * len(batch.names)
    return (
        Features(b"", None, None, names, batch.rows[at : at + size]) for at in range(0, size * len(batch.answers), size)
    )


def _parted(batch: wire.Batch, said: list[Prediction]) -> tuple[list[Prediction], list[Prediction]]:
    """What was said of events that have a label, and of those that are only asked about, which stand before some."""
    if not batch.asked:
        return said, []
    places = {index + number for number, index in enumerate(batch.before)}
    parted: tuple[list[Prediction], list[Prediction]] = ([], [])
    for index, one in enumerate(said):
        parted[index in places].append(one)
    return parted


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
