"""Many events that wait for their labels: the trainer's memory, and how soon it learns again after kill -9.

    python benchmarks/pending.py --pending 10000000

Events on files, none with a label; the trainer is killed when all wait, and begun again with one more pair. All
settings are the defaults but for ``join.wait`` and ``join.max_pending``: all wait that do.
"""

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from labels_later import BASE, MODEL
from rich.progress import Progress, track

MORE = '[labels]\ndirectory = "labels"\n[join]\nwait = "300d"\nmax_pending = 1000000000\n'


def written(folder: Path, count: int) -> None:
    """A folder with so many events, a thousand in a second of their time."""
    draw = random.Random(1)
    shapes = [json.dumps({f"f{j}": draw.gauss(0, 1) for j in range(9)}) for _ in range(1000)]
    for one in ("events", "labels"):
        (folder / one).mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "holdfast.toml").write_text(BASE + MORE)
    with (folder / "events" / "a.jsonl").open("w") as events:
        for number in track(range(count), "events are written", update_period=2):
            events.write(f'{{"id":"e{number}","ts":{1.7e9 + number / 1000},"x":{shapes[number % 1000]}}}\n')
    (folder / "labels" / "a.jsonl").write_text(json.dumps({"id": "none", "ts": 1.7e9 + count / 1000, "y": 1}) + "\n")


def begun(folder: Path) -> subprocess.Popen[bytes]:
    """A trainer that goes on until it is ended."""
    command = [sys.executable, "-m", "stream.cli", "--config", str(folder / "holdfast.toml"), "train"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("ab"))


def counts(folder: Path) -> dict[str, Any]:
    """What the newest snapshot says of events and labels."""
    newest = max((folder / "store" / "snapshots").glob("*/manifest.json"), default=None)
    found: dict[str, Any] = json.loads(newest.read_bytes())["counts"] if newest is not None else {}
    return found


def megabytes(process: int) -> float:
    """What a process has in memory (MiB)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Print memory at each tenth, and the time from kill -9 to the first event learnt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=10_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, given.pending)
        trainer, began, tenth = begun(folder), time.perf_counter(), 1
        with Progress() as bar:
            task = bar.add_task("events wait", total=given.pending)
            while (waiting := counts(folder).get("pending", 0)) < given.pending:
                bar.update(task, completed=waiting)
                if waiting >= tenth * given.pending / 10:
                    bar.print(f"{waiting:,} wait: {megabytes(trainer.pid):.0f} MiB in the trainer")
                    tenth = 1 + 10 * waiting // given.pending
                if trainer.poll() is not None:
                    sys.exit(f"the trainer ended: {(folder / 'log').read_text()[-500:]}")
                time.sleep(0.5)
        rate, memory = given.pending / (time.perf_counter() - began), megabytes(trainer.pid)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        size = sum(one.stat().st_size for one in (folder / "waiting").iterdir()) / 1e9
        with (folder / "labels" / "a.jsonl").open("a") as labels:
            labels.write(json.dumps({"id": "e5", "ts": 1.7e9 + given.pending / 1000 + 1, "y": 1}) + "\n")
        with (folder / "events" / "a.jsonl").open("a") as events:
            more = {"id": "more", "ts": 1.7e9 + given.pending / 1000 + 1, "x": {"f0": 1.0}}
            events.write(json.dumps(more) + "\n")
        trainer, began = begun(folder), time.perf_counter()
        while counts(folder).get("labels", {}).get("joined", 0) < 1:
            time.sleep(0.05)
        again = time.perf_counter() - began
        print(
            f"{given.pending:,} wait: {memory:.0f} MiB in the trainer, {size:.1f} GB on disk, {rate:,.0f} events/s "
            f"until then; {again:.1f} s from kill -9 to the first pair in a snapshot, "
            f"{megabytes(trainer.pid):.0f} MiB after it"
        )
        trainer.terminate()
        trainer.wait()


if __name__ == "__main__":
    main()
