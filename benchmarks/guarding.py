"""What the guard costs: learning lost to asking the reference as well, and the time to judge one snapshot."""

import tempfile
import time
from multiprocessing import Process
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import learning
import numpy as np
import orjson
from figures import Row, median_of
from learners_for import river_linear, vw_linear
from support.lineages import Folder
from support.samples import numbers

from learners import Event, Features, Learner
from snapshots import LocalStore
from stream.compose import trainer_of
from stream.config import check, load
from stream.guard.watch import Guarding
from stream.learner import wire
from stream.learner.worker import Worker
from stream.parts import labels_of
from stream.process.presence import resident_bytes
from stream.settings import Config

EVENTS, ROUNDS, ROWS, LOOKS = 20_000, 9, 5000, 10_000
BUILD = {"river": river_linear, "vw": vw_linear}


def _worker(kind: str, reference: Learner | None) -> Worker:
    """A learner's process without the process: it learns what it is handed here."""
    table = {
        "name": "bench", "task": "binary", "source": {"kind": "files"}, "learners": {"only": learning.LEARNERS[kind]},
    }  # fmt: skip
    config: Config = check(table, Path())
    ours, theirs = Pipe()
    worker = Worker(theirs, config, "only", LocalStore(Path(tempfile.mkdtemp())))
    worker._learner, worker._spoilt = BUILD[kind](), False  # noqa: SLF001  measured from inside
    worker._compared._reference = reference  # noqa: SLF001  the same
    worker._compared.paired.refer(1 if reference is not None else None)  # noqa: SLF001  the same
    worker.ours = ours  # type: ignore[attr-defined]  kept open
    return worker


def _seconds(kind: str, batches: list[wire.Batch], reference: Learner | None) -> float:
    worker = _worker(kind, reference)
    began = time.process_time()
    for batch in batches:
        worker._learn(batch)  # noqa: SLF001  the same
    return time.process_time() - began


def lost_to_reference() -> list[Row]:
    """Learning with a reference asked about every twentieth event, against learning without."""
    lines = [orjson.loads(line) for line in learning.events(EVENTS)]
    features = [orjson.dumps(line["x"]) for line in lines]
    answers = [bool(line["y"]) for line in lines]
    slices = [[f"s={i % 6}"] for i in range(1000)]
    found = []
    for kind, build in BUILD.items():
        batches = [
            wire.Batch(i, features[i : i + 1000], answers[i : i + 1000], None, slices, None, 1.0)  # type: ignore[arg-type]
            for i in range(0, EVENTS, 1000)
        ]
        without = [
            wire.Batch(i, features[i : i + 1000], answers[i : i + 1000], None, slices, None, None)  # type: ignore[arg-type]
            for i in range(0, EVENTS, 1000)
        ]
        reference = build()
        for raw, answer in zip(features[:500], answers[:500], strict=True):
            reference.step(Event("", Features(raw), answer))
        pairs = [(_seconds(kind, batches, reference), _seconds(kind, without, None)) for _ in range(ROUNDS)]
        share, low, high = median_of([100 * (1 - alone / both) for both, alone in pairs])
        detail = "39 numbers, 6 slices, guard.sample = 0.05; the learner's process alone"
        found.append(Row(f"learning lost to the reference ({kind})", detail, share, low, high, 10.0, unit=" %"))
    return found


def time_to_judge(folder: Path) -> list[Row]:
    """One snapshot of a learner, scored on 5,000 rows."""
    kinds = {
        "river": {"kind": "river", "factory": "model:mixed", "role": "champion"},
        "vw": {"kind": "vw", "args": "--loss_function logistic -b 18", "role": "champion"},
    }
    found = []
    for kind, learner in kinds.items():
        here = Folder(folder / f"judge-{kind}", {kind: learner}, holdout__rate=0.5, holdout__rows=ROWS)
        here.write(numbers(2 * ROWS + 2000))
        here.train()
        guarding = Guarding(here.config, now=time.time, sleep=time.sleep, stopping=lambda: False)
        newest = guarding.lineage.refresh().numbers[-1]
        times = []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            guarding.judging.judge(newest, kind, labels_of(here.config), (), time.time())
            times.append(1000 * (time.perf_counter() - began))
        middle, low, high = median_of(times[1:])
        found.append(Row(f"judging a snapshot on {ROWS:,} rows ({kind})", "8 numbers", middle, low, high, unit=" ms"))
    return found


def long(folder: Path, count: int = LOOKS) -> list[Row]:
    """Trainer and guard in step over so many snapshots: seconds of a look and resident memory, at the end and early.

    The guard has a process of its own, so that its memory is seen alone. A snapshot every million seconds is what the
    trainer is told, since it cuts when it is told here: the budget of false reverts is made as small in turn.
    """
    here = Folder(
        folder / "long", {"vw": {"kind": "vw", "args": "--loss_function logistic -b 12", "role": "champion"}},
        holdout__rate=0.2, holdout__rows=500, source__batch=60, guard__look_events=20, guard__reference_events=2000,
        snapshots__every_seconds=1e6, event__slices=["s"], guard__false_reverts_per_year=1e-6,
    )  # fmt: skip
    ours, theirs = Pipe()
    process = Process(target=_guard, args=(here.config_path, theirs), daemon=True)
    process.start()
    assert process.pid is not None
    trainer = trainer_of(here.config, stopping=lambda: False)
    times, sizes = [], []
    try:
        trainer.begin()
        for number in range(count):
            here.write({**event, "x": {**event["x"], "s": str(i % 4)}} for i, event in
                       enumerate(numbers(60, first=60 * number)))  # fmt: skip
            trainer.ledger.follow(at_once=True)
            trainer.take(trainer.poll())
            trainer.cutter.cut(wait=True)
            ours.send(number)
            times.append(ours.recv())
            sizes.append(resident_bytes(process.pid))
    finally:
        trainer.close()
        process.kill()
    early, late = slice(count // 20, count // 10), slice(count - count // 20, count)
    cost = float(np.median(times[late]) / np.median(times[early]))
    memory = max(sizes[late]) / max(sizes[early])
    detail = f"{1000 * np.median(times[early]):.1f} and {1000 * np.median(times[late]):.1f} ms, 500 rows, 4 slices"
    said = f"{max(sizes[early]) / 2**20:.0f} and {max(sizes[late]) / 2**20:.0f} MiB"
    return [
        Row(f"a look of the guard, after {count:,} snapshots / after {count // 10:,}", detail, cost, cost, cost, 1.1),
        Row(f"memory of the guard, after {count:,} / after {count // 10:,}", said, memory, memory, memory, 1.1),
    ]


def _guard(config: Path, connection: Connection) -> None:
    """Judge what is new when told to, and tell how long it took."""
    guarding = Guarding(load(config, {}), now=time.time, sleep=time.sleep, stopping=lambda: False)
    while True:
        connection.recv()
        began = time.perf_counter()
        guarding.follow()
        connection.send(time.perf_counter() - began)


def rows(folder: Path) -> list[Row]:
    """All of it."""
    return [*lost_to_reference(), *time_to_judge(folder), *long(folder)]
