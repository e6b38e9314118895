"""What the guard costs: learning lost to asking the reference as well, and the time to judge one snapshot."""

import tempfile
import time
from multiprocessing.connection import Pipe
from pathlib import Path

import learning
import orjson
from figures import Row, median_of
from learners_for import river_linear, vw_linear
from lineages import Folder
from samples import numbers

from learners import Event, Features, Learner
from snapshots import LocalStore
from stream import wire
from stream.building import labels_of
from stream.config import Config, check
from stream.guarding import Guarding
from stream.worker import Worker

EVENTS, ROUNDS, ROWS = 20_000, 5, 5000
BUILD = {"river": river_linear, "vw": vw_linear}


def _worker(kind: str, reference: Learner | None) -> Worker:
    """A learner's process without the process: it learns what it is handed here."""
    table = {
        "name": "bench", "task": "binary", "source": {"kind": "files"}, "learners": {"only": learning.LEARNERS[kind]},
    }  # fmt: skip
    config: Config = check(table, Path())
    ours, theirs = Pipe()
    worker = Worker(theirs, config, "only", LocalStore(Path(tempfile.mkdtemp())))
    worker._learner, worker._reference, worker._spoilt = BUILD[kind](), reference, False  # noqa: SLF001  measured from inside
    worker._paired.refer(1 if reference is not None else None)  # noqa: SLF001  the same
    worker.ours = ours  # type: ignore[attr-defined]  kept open
    return worker


def _seconds(kind: str, batches: list[wire.Batch], reference: Learner | None) -> float:
    worker = _worker(kind, reference)
    began = time.perf_counter()
    for batch in batches:
        worker._learn(batch)  # noqa: SLF001  the same
    return time.perf_counter() - began


def lost_to_reference() -> list[Row]:
    """Learning with a reference asked about every tenth event, against learning without."""
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
        detail = "39 numbers, 6 slices, guard.sample = 0.1; the learner's process alone"
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


def rows(folder: Path) -> list[Row]:
    """Both."""
    return [*lost_to_reference(), *time_to_judge(folder)]
