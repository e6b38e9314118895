"""The learners of a lineage whose processes are killed, and how."""

import random
import time
from pathlib import Path
from typing import Any

from support.lineages import Folder

LEARNERS = {
    "linear": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}


def being_written(store: Path, since: int) -> bool:
    """The newest snapshot's folder was touched since then (nanoseconds), and its manifest is not there."""
    try:
        newest = max((store / "snapshots").iterdir())
        return newest.stat().st_mtime_ns > since and not (newest / "manifest.json").exists()
    except (FileNotFoundError, ValueError):
        return False


def kill(here: Folder, process: Any, draw: random.Random, *, writing: bool) -> bool:
    """Kill the trainer while it writes a snapshot, or at a random moment; tell whether it was writing."""
    store, began = here.path / "store", time.time_ns()
    deadline = time.monotonic() + 60
    while not being_written(store, began):
        assert time.monotonic() < deadline, here.log("train")[-2000:]
    time.sleep(draw.random() * (0.002 if writing else 0.3))
    process.kill()
    process.wait()
    return being_written(store, began)
