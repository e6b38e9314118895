"""What the log of predictions, a shadow and a canary cost ``POST /predict``: requests a second, and p99 at half load.

    PYTHONPATH=tests python benchmarks/canary.py

One serving process with two learners (River's logistic regression and VW), all settings the defaults but for the steps
of the roll-out. The four ways are measured in turns; the rate is with 128 requests on their way, p99 at half of the
slowest rate, open loop: what waits counts.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from serving import rate
from support.lineages import Folder
from support.samples import numbers

LEARNERS: dict[str, dict[str, Any]] = {
    "river": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "vw": {"kind": "vw", "args": "--loss_function logistic --link logistic -b 18"},
}
SETTINGS: dict[str, Any] = {
    "rollout__max_prediction_shift": 1.0, "rollout__max_p99_ms": 1000.0, "holdout__rate": 0.05,
}  # fmt: skip
LOG = {"predictions__directory": "predictions", "labels__directory": "labels"}
ROUNDS, SECONDS, CONNECTIONS = 5, 3.0, 16
BODY = b'"x":{"f0":0.31,"f1":-1.2,"f2":0.5,"f3":1.9,"f4":-0.2,"f5":0.7,"f6":0.1,"f7":-2.2}}'


class Timed(asyncio.Protocol):
    """Sends requests when they are due, and remembers how late each answer came."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self.took: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self.transport = transport

    def ask(self, number: int) -> None:
        """Send one request."""
        body = b'{"id":"u%d",%s' % (number, BODY)
        head = b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.due.append(time.perf_counter())
        self.transport.write(head % len(body) + body)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count the answers in what came."""
        now = time.perf_counter()
        for _ in range(data.count(b"HTTP/1.1 200")):
            self.took.append(now - self.due[len(self.took)])


async def _paced(port: int, a_second: float) -> list[float]:
    loop = asyncio.get_running_loop()
    there = [(await loop.create_connection(Timed, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < SECONDS:
        while sent < now * a_second:
            there[sent % CONNECTIONS].ask(sent)
            sent += 1
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.5)
    for one in there:
        one.transport.close()
    return [took for one in there for took in one.took]


def p99(port: int, a_second: float) -> float:
    """Milliseconds in which 99 % of the requests are answered."""
    return 1000 * statistics.quantiles(uvloop.run(_paced(port, a_second)), n=100)[98]


def begun(folder: Path, name: str) -> Folder:
    """A service in one of the four ways."""
    log = LOG if name != "plain" else {}
    here = Folder(folder / name, LEARNERS, **SETTINGS, **log)
    here.write(numbers(12_000))
    here.trained()
    here.start("serve")
    here.wait_ready()
    if name in ("shadow", "canary"):
        here.run("rollout", "start", "vw")
        here.run("rollout", "pause")
    if name == "canary":
        here.run("rollout", "step", "50")
    time.sleep(1)
    return here


def main() -> None:
    """Print a line for each way."""
    ways = ("plain", "log", "shadow", "canary")
    with tempfile.TemporaryDirectory() as name:
        services = {way: begun(Path(name), way) for way in ways}
        try:
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(ROUNDS):
                for way, here in services.items():
                    rates[way].append(rate(here.port, b'{"id":"q%d",%s' % (number, BODY)))
            half = min(map(statistics.median, rates.values())) / 2
            slow: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, here in services.items():
                    slow[way].append(p99(here.port, half))
            for way in ways:
                ratio = [one / plain for one, plain in zip(rates[way], rates["plain"], strict=True)]
                waited = [one / plain for one, plain in zip(slow[way], slow["plain"], strict=True)]
                print(
                    f"{way:7} {statistics.median(rates[way]):,.0f} requests/s, {statistics.median(ratio):.2f} of plain "
                    f"({min(ratio):.2f} to {max(ratio):.2f}); p99 at {half:,.0f}/s {statistics.median(slow[way]):.2f} "
                    f"ms, {statistics.median(waited):.2f} of plain ({min(waited):.2f} to {max(waited):.2f})"
                )
            for way in ("shadow", "canary"):
                serving = services[way].json("rollout", "status")["serving"]
                assert serving, "the roll-out was taken back"
                print(f"{way}: {serving['both']:,} predicted by both, {serving['skipped']:,} skipped")
        finally:
            for here in services.values():
                here.end()


if __name__ == "__main__":
    main()
