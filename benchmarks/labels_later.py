"""Events whose labels come later, beside the same events sent whole: events a second, on files.

    python benchmarks/labels_later.py --events 150000 --waiting 20000

Both are learnt by ``holdfast train --until-end`` with the defaults but for ``join.wait`` and ``join.max_pending``: all
wait that do. The time of a start is taken off. Numbers: 9 features, River's scaler and logistic regression.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = """
from river import linear_model, preprocessing

def linear():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
"""
BASE = """
name = "later"
task = "binary"
[source]
kind = "files"
[learners.linear]
kind = "river"
factory = "model:linear"
"""


def written(folder: Path, count: int, waiting: int) -> None:
    """Two folders with the same events: whole, and with labels that come ``waiting`` events later."""
    draw = random.Random(1)
    shapes = [{f"f{j}": draw.gauss(0, 1) for j in range(9)} for _ in range(1000)]
    for name, more in (
        ("whole", ""),
        ("apart", '[labels]\ndirectory = "labels"\n[join]\nwait = "30d"\nmax_pending = 100000000\n'),
    ):
        for one in ("events", "labels"):
            (folder / name / one).mkdir(parents=True)
        (folder / name / "model.py").write_text(MODEL)
        (folder / name / "holdfast.toml").write_text(BASE + more)
    with (
        (folder / "whole" / "events" / "a.jsonl").open("w") as whole,
        (folder / "apart" / "events" / "a.jsonl").open("w") as events,
        (folder / "apart" / "labels" / "a.jsonl").open("w") as labels,
    ):
        for number in range(count):
            x, at = shapes[number % 1000], 1.7e9 + number / 1000
            event = {"id": f"e{number}", "ts": at, "x": x}
            y = int(x["f0"] > 0)
            whole.write(json.dumps({**event, "y": y}) + "\n")
            events.write(json.dumps(event) + "\n")
            labels.write(json.dumps({"id": event["id"], "ts": at + (waiting + 0.5) / 1000, "y": y}) + "\n")


def seconds(folder: Path) -> float:
    """How long a trainer takes to its end."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "stream.cli", "--config", str(folder / "holdfast.toml"), "train", "--until-end"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the ratio, the middle of some rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=150_000)
    parser.add_argument("--waiting", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ratios, rates = [], []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as name:
            written(Path(name), given.events, given.waiting)
            whole = seconds(Path(name) / "whole")
            apart = seconds(Path(name) / "apart")
            start = min(seconds(Path(name) / "whole"), seconds(Path(name) / "apart"))  # nothing is new
        rates.append(given.events / (apart - start))
        ratios.append((whole - start) / (apart - start))
    print(
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of the same events sent whole: "
        f"{statistics.median(rates):,.0f} pairs/s with {given.waiting:,} waiting"
    )


if __name__ == "__main__":
    main()
