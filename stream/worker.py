"""The process of one learner: takes batches from the trainer, predicts, scores and learns them, and saves itself.

Each learner has a process, so that learners share neither a core nor a fault, and a large model that is being saved
holds nobody up but itself. It ends with the trainer: at the end of the socket, or when the kernel says that its parent
is gone.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from learners import Event, Features, Learner, LearnersError, Metrics, learn
from learners.errors import LearnerRaisedError
from snapshots import SnapshotsError, Store
from snapshots import snapshot as snapshots
from snapshots.errors import RefusedError, StoreError
from stream import building, logs, wire
from stream.config import Config
from stream.errors import StreamError

log = logging.getLogger("holdfast.learner")
_PR_SET_PDEATHSIG = 1
_BACKOFF_SECONDS = 5.0


class Worker:
    """Does what it is told, in order; saving goes on beside learning once the bytes are made."""

    def __init__(self, connection: Connection, config: Config, name: str, store: Store) -> None:
        self._connection = connection
        self._config, self._name, self._store = config, name, store
        self._labels = building.labels_of(config)
        self._learner: Learner | None = None
        self._metrics = Metrics(config.task)
        self._spoilt = True
        self._pool = ThreadPoolExecutor(1, "parts")
        self._sending = threading.Lock()

    def run(self) -> None:
        """Follow orders until the trainer is gone."""
        while True:
            try:
                order = wire.orders.decode(self._connection.recv_bytes())
            except EOFError:
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
            case wire.Save():
                self._save(order.snapshot)
            case wire.Load():
                self._reply(wire.Loaded(self._load(order)))

    def _reply(self, reply: wire.Reply) -> None:
        with self._sending:
            self._connection.send_bytes(wire.encode(reply))

    def _load(self, order: wire.Load) -> dict[str, Any]:
        self._labels = building.labels_of(self._config)
        self._labels.restore(order.labels)
        one = self._config.learners[self._name]
        if order.snapshot is None:
            self._learner = building.build_learner(self._config, self._name, self._labels)
            self._metrics = Metrics(self._config.task, self._config.metrics.window, self._config.event.max_slices)
            built_from = building.built_from(one, self._learner)
            if order.imported:
                self._learner, about = building.imported(self._learner, Path(order.imported), self._name)
                built_from |= {"imported": about}
        else:
            manifest = snapshots.read_manifest(self._store, order.snapshot)
            if manifest is None:
                raise RefusedError(f"snapshot {order.snapshot} of {self._name} is gone")
            part = manifest.learners[self._name]
            built_from = building.reconcile(self._config, self._name, part, accept=order.accept)
            self._learner, self._metrics = snapshots.read_learner(
                self._store, manifest, self._name, self._labels, one.types, built_from
            )
        self._spoilt = False
        return built_from

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
        predictions = []
        try:
            for _, prediction in learn(self._learner, events, name=self._name):
                predictions.append(prediction)
        except LearnerRaisedError as raised:
            self._spoilt = True
            cause = raised.__cause__
            self._reply(wire.Raised(batch.number, len(predictions), f"{type(cause).__name__}: {cause}"))
            return
        self._metrics.update(events, predictions, batch.slices)
        self._reply(wire.Learnt(batch.number))

    def _save(self, number: int) -> None:
        if self._spoilt or self._learner is None:
            self._reply(wire.Failed("Save", "StreamError", "the learner is no longer what it was"))
            return
        began = time.perf_counter()
        model, metrics = self._learner.save(), self._metrics.dump()
        figures = {
            "metrics": self._metrics.overall(),
            "recent": self._metrics.recent(),
            "slices": self._metrics.by_slice(),
        }
        seconds = time.perf_counter() - began
        self._pool.submit(self._write, number, model, metrics, figures, seconds)

    def _write(self, number: int, model: bytes, metrics: bytes, figures: dict[str, Any], seconds: float) -> None:
        """Write both parts, trying again while the store is away."""
        delay = 0.2
        while True:
            try:
                parts = [
                    snapshots.put(self._store, number, f"{self._name}.{what}", data)
                    for what, data in (("model", model), ("metrics", metrics))
                ]
            except StoreError as cause:
                log.error("snapshot %d of %s is not written: %s; trying again", number, self._name, cause)
                time.sleep(delay)
                delay = min(delay * 2, _BACKOFF_SECONDS)
            except SnapshotsError as cause:
                self._reply(wire.Failed("Save", type(cause).__name__, str(cause)))
                return
            else:
                self._reply(wire.Saved(number, parts[0], parts[1], figures, seconds))
                return


def main() -> None:
    """Run on the socket whose descriptor is the first argument."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer decides when to end
    logs.configure(os.environ.get("HOLDFAST_LOG", "console"))
    connection = Connection(int(sys.argv[1]))
    try:
        setup = wire.orders.decode(connection.recv_bytes())
    except EOFError:
        return
    if not isinstance(setup, wire.Setup):
        raise TypeError("the first word is a setup")
    config = msgspec.msgpack.decode(setup.config, type=Config, dec_hook=lambda _, value: Path(value))
    config.base = Path(setup.base)
    building.reach_modules(config)
    Worker(connection, config, setup.name, building.store_of(config)).run()
    os._exit(0)  # a part that is still being written belongs to no snapshot


if __name__ == "__main__":
    main()
