"""``holdfast demo``: payments made up on the spot, learnt, guarded and served, with a live table."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from snapshots import Lineage, SnapshotsError
from stream import status as states
from stream.building import store_of
from stream.config import Config, load
from stream.payments import payment
from stream.printing import console, figure
from stream.starter import write_starter
from stream.supervise import Supervisor

_TICK_SECONDS = 0.05
_PORT = 8000


class Payments(threading.Thread):
    """Appends payments to a file of its own, at a rate, beginning after those of earlier runs."""

    def __init__(self, folder: Path, rate: float) -> None:
        super().__init__(name="payments", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)
        runs = sorted(folder.glob("payments-*.jsonl"))
        self.number = _after_last(runs[-1]) if runs else 0
        self._path = folder / f"payments-{len(runs):05d}.jsonl"
        self._rate = rate
        self._end = threading.Event()
        self.failed: OSError | None = None

    def run(self) -> None:
        """Write until told to end; a tick's payments are written at once."""
        began, first = time.monotonic(), self.number
        try:
            with self._path.open("ab", buffering=0) as file:
                while not self._end.wait(_TICK_SECONDS):
                    due = first + int((time.monotonic() - began) * self._rate)
                    now = time.time()
                    lines = [orjson.dumps(payment(number, now)) for number in range(self.number, due)]
                    file.write(b"".join(line + b"\n" for line in lines))
                    self.number = due
        except OSError as cause:
            self.failed = cause

    def end(self) -> None:
        """Stop writing."""
        self._end.set()
        self.join(2)


def _after_last(path: Path) -> int:
    """The number after the last whole payment in a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().rpartition(b"\n")[0].splitlines()
    for line in reversed(lines):
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, ValueError):
            return int(orjson.loads(line)["id"][1:]) + 1
    return int(path.stem.rsplit("-", 1)[1]) * 10_000_000


class Demo:
    """The whole product on the embedded default: a folder, three child processes, no server to install."""

    def __init__(self, folder: Path, *, rate: float, port: int | None, environment: Mapping[str, str]) -> None:
        self._path = folder / "holdfast.toml"
        if not self._path.exists():
            write_starter(folder, "payments", sample=0)
        self._port = port or free_port()
        inherited = {name: value for name, value in environment.items() if not name.startswith("HOLDFAST_")}
        self._environment = {
            **inherited,
            "HOLDFAST_SERVE__PORT": str(self._port),
            "HOLDFAST_SNAPSHOTS__EVERY_SECONDS": "0.5",
        }
        self._log = folder / "demo.log"
        self._config: Config = load(self._path, self._environment)
        self._payments = Payments(self._config.base / self._config.source.directory, rate)
        self._lineage = Lineage(store_of(self._config))
        self._last = (time.monotonic(), 0)
        self._rate = 0.0

    def run(self, seconds: float | None, stopping: Callable[[], bool]) -> None:
        """Run until asked to stop or the time is over; nothing is left running."""
        deadline = None if seconds is None else time.monotonic() + seconds
        console.print(f"Payments are learnt in [bold]{self._path.parent}[/]; the processes' logs are in {self._log}")
        console.print("The learners are checked and the first snapshot is written: a few seconds …")
        with self._log.open("ab") as log:
            supervisor = Supervisor(self._path, self._environment, output=log)
            self._payments.start()
            try:
                with self._screen() as show:
                    while not stopping() and (deadline is None or time.monotonic() < deadline):
                        supervisor.watch()
                        self._look(show)
                        time.sleep(0.5 if sys.stdout.isatty() else 1.0)
            finally:
                self._payments.end()
                supervisor.stop()
        console.print("\nThe demo ended; nothing is left running. It goes on from here next time.")
        console.print(f"Look at what it kept: holdfast status --config {self._path}")

    @contextlib.contextmanager
    def _screen(self) -> Any:
        if sys.stdout.isatty():
            with Live(console=console, auto_refresh=False) as live:
                yield lambda report: live.update(self._table(report), refresh=True)
        else:
            yield lambda report: console.print(self._line(report))

    def _look(self, show: Callable[[dict[str, Any]], None]) -> None:
        with contextlib.suppress(SnapshotsError):
            report = states.status(self._lineage, self._config, time.time())
            if not report["learners"]:
                return
            self._measure(report)
            show(report)

    def _measure(self, report: dict[str, Any]) -> None:
        moment, consumed = self._last
        now = (report["created"], next(iter(report["learners"].values()))["events"]["consumed"])
        if now != (moment, consumed):
            if consumed and now[0] > moment:
                self._rate = (now[1] - consumed) / (now[0] - moment)
            self._last = now

    def _freshness(self, report: dict[str, Any]) -> float | None:
        """How old the newest event is that the answers know (seconds)."""
        serving = [process["snapshot"] for process in report["serving"] if process["snapshot"] is not None]
        manifest = self._lineage.manifest(serving[0]) if serving else None
        return None if manifest is None else time.time() - manifest.newest_event

    def _curl(self) -> str:
        body = '{"x": {"amount": 950, "country": "br", "device": "web", "merchant": "jewels", "night": true}}'
        return f"curl -s http://127.0.0.1:{self._port}/predict -d '{body}'"

    def _serving(self, report: dict[str, Any]) -> Any:
        return report["serving"][0]["snapshot"] if report["serving"] else None

    def _line(self, report: dict[str, Any]) -> str:
        recent = "  ".join(f"{name} {figure(one['recent']['accuracy'])}" for name, one in report["learners"].items())
        fresh = self._freshness(report)
        return (
            f"{figure(self._last[1])} payments  {self._rate:,.0f}/s  recent accuracy: {recent}  snapshot "
            f"{report['snapshot']}  serving {figure(self._serving(report))}  freshness "
            f"{'-' if fresh is None else f'{fresh:.2f} s'}  try: {self._curl()}"
        )

    def _table(self, report: dict[str, Any]) -> Group:
        table = Table(title="card payments: which are fraud?", title_justify="left")
        for column in ("", *report["learners"]):
            table.add_column(column)
        learners = report["learners"].values()
        table.add_row("role", *(one["role"] for one in learners))
        for metric in ("accuracy", "f1", "log_loss", "roc_auc"):
            table.add_row(f"recent {metric}", *(figure(one["recent"][metric]) for one in learners))
        table.add_row("accuracy, whole life", *(figure(one["metrics"]["accuracy"]) for one in learners))
        table.add_row("verdict", *(figure(one["verdict"]) for one in learners))
        fresh = self._freshness(report)
        facts = Text.assemble(
            (f"{self._last[1]:,}", "bold"), f" payments consumed, {self._rate:,.0f} a second\n",
            f"snapshot {report['snapshot']} written, snapshot ", (figure(self._serving(report)), "bold"), " answers\n",
            "freshness: ", ("-" if fresh is None else f"{fresh:.2f} s", "bold"), " since the newest event it knows\n\n",
            "ask it:    ", (self._curl(), "cyan"), "\n",
            "undo it:   ", (f"holdfast snapshots revert --previous --config {self._path}", "cyan"), "\n",
            "end it:    Ctrl-C",
        )  # fmt: skip
        return Group(table, facts)


def free_port() -> int:
    """8000 when nobody listens there, another free port otherwise."""
    for port in (_PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return _PORT
