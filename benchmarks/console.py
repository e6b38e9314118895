"""What the console costs: a month of history, its memory with many viewers, and what they cost ``POST /predict``.

    PYTHONPATH=tests:. python benchmarks/console.py --seconds 600

Thirty days of history with a row a minute are written and read. Then trainer, guard, serving and console run on events
that come all the time, with the settings of ``up``; ``--viewers`` ask for what the page asks for, once a second each.
``/predict`` is asked ``--rate`` times a second, open loop, in turns with nobody and with all of them watching.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import uvloop
from canary import LEARNERS, _paced
from rich.progress import track
from support.lineages import Folder, _free_port, wait_for
from support.rollouts import flowing
from support.samples import numbers

from snapshots.history.levels import Reader, Recorder
from snapshots.history.rows import LearnerRow, Row
from snapshots.lineage import Lineage
from snapshots.store.local import LocalStore
from stream.process.presence import present, resident_bytes

_DAYS = 30


def month(folder: Path) -> tuple[float, float]:
    """Seconds to read thirty days as 600 points: the first time, and once its blobs are known."""
    store, begin = LocalStore(folder), time.time() - _DAYS * 86_400
    lineage = Lineage(store, looking=True)
    recorder = Recorder(lineage)
    recorder.resume()
    figures = dict.fromkeys(("accuracy", "f1", "brier", "log_loss", "roc_auc"), 0.5)
    for minute in track(range(_DAYS * 1440), "a month is written", transient=True):
        learners = {name: LearnerRow(0, minute, 0, figures, 0.2) for name in ("linear", "hashed")}
        recorder.note(Row(minute, begin + 60 * minute, begin + 60 * minute, {"consumed": minute}, {}, learners))
    reader, took = Reader(store), []
    for _ in range(2):
        began = time.perf_counter()
        reader.rows(lineage, begin, time.time(), 600)
        took.append(time.perf_counter() - began)
    return took[0], took[1]


async def _watch(port: int, viewers: int, seconds: float) -> list[float]:
    """Have so many viewers look once a second; how long their looks took, in seconds."""
    took: list[float] = []

    async def viewer(client: httpx.AsyncClient, number: int) -> None:
        end = time.monotonic() + seconds
        await asyncio.sleep(number / viewers)
        while time.monotonic() < end:
            began, until = time.monotonic(), time.time()
            asked = (
                "status", f"history?since={until - 1800}&until={until}&points=400",
                f"marks?since={until - 1800}&until={until}", "snapshots", "ledger",
            )  # fmt: skip
            await asyncio.gather(*(client.get(f"http://127.0.0.1:{port}/api/test/{one}") for one in asked))
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, 1 - took[-1]))

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        await asyncio.gather(*(viewer(client, number) for number in range(viewers)))
    return took


def resident(here: Folder) -> float:
    """MiB of the console's process."""
    pid = next(one["pid"] for one in present(here.lineage.store, time.time()) if one["role"] == "console")
    return resident_bytes(pid) / 2**20


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--rate", type=float, default=500.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, again = month(Path(folder) / "month")
        print(f"30 days as 600 points: {1000 * first:.0f} ms the first time, {1000 * again:.0f} ms again")
        settings: dict[str, Any] = {"console__enabled": True, "console__port": _free_port(), "holdout__rate": 0.05}
        here = Folder(Path(folder) / "here", LEARNERS, snapshots__every_seconds=1.0, **settings)
        try:
            here.write(numbers(5000))
            here.start("up")
            here.wait_ready()
            port = here.config.console.port
            wait_for(lambda: any(one["role"] == "console" for one in present(here.lineage.store, time.time())))
            with flowing(here, 5000):
                _measured(here, port, given)
        finally:
            here.end()


def _measured(here: Folder, port: int, given: argparse.Namespace) -> None:
    uvloop.run(_watch(port, 1, 5))
    before, alone, watched, looks = resident(here), [], [], []

    async def both(seconds: float) -> tuple[list[float], list[float]]:
        watching = asyncio.create_task(_watch(port, given.viewers, seconds))
        await asyncio.sleep(1)
        answered = [one for _ in range(max(1, int((seconds - 1) / 3.5))) for one in await _paced(here.port, given.rate)]
        return answered, await watching

    rounds = max(1, int(given.seconds / 60))
    for _ in track(range(rounds), "watched", transient=True):
        alone += uvloop.run(_paced(here.port, given.rate))
        answered, took = uvloop.run(both(given.seconds / rounds))
        watched += answered
        looks += took
    p99 = [1000 * statistics.quantiles(one, n=100)[98] for one in (alone, watched)]
    looked = [1000 * one for one in statistics.quantiles(looks, n=100)]
    print(
        f"{given.viewers} viewers for {given.seconds:.0f} s: console {before:.0f} MiB before, {resident(here):.0f} MiB "
        f"after; a look takes {looked[49]:.0f} ms (p99 {looked[98]:.0f} ms); "
        f"/predict p99 at {given.rate:.0f}/s {p99[0]:.2f} ms alone, {p99[1]:.2f} ms watched"
    )


if __name__ == "__main__":
    main()
