"""``holdfast demo``: payments made up on the spot, learnt, guarded and served, with a live table."""

import contextlib
import shlex
import socket
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from snapshots import Lineage, SnapshotsError
from stream.config import load
from stream.console.report import write_report
from stream.console.seen import Seen
from stream.demo import screen
from stream.demo.catastrophes import SETTINGS, Changes, Payments
from stream.demo.starter import write_starter
from stream.demo.waits import first_harm, has_level
from stream.errors import CommandError
from stream.parts import store_of
from stream.process.supervise import ROLES, Supervisor
from stream.settings import Config
from stream.status import status as states
from stream.tables.payments import payment
from stream.terminal.printing import figure, say

_PORT, _CONSOLE_PORT = 8000, 8080
#: how often a point is added to what is drawn
_POINT_SECONDS = 2.0


class Poison:
    """Poisons the payments once the guard has a level, watches it being undone, and says each step in a sentence."""

    def __init__(self, config: Config, lineage: Lineage, payments: Payments, after: float) -> None:
        samples = [payment(number, 0.0, drifting=False) for number in range(1000)]
        self._changes = Changes(config, samples)
        self._after = after
        self._champion, self._lineage, self._payments = config.first_champion, lineage, payments
        self._not_before = time.time() + after
        self._began: float | None = None
        self._mended: float | None = None
        self._seen = self._over = False
        self.said: list[str] = []

    def look(self) -> list[str]:
        """Take the next step when it is time; return what there is to say since the last look."""
        before = len(self.said)
        if self._over:
            return []
        if self._began is None:
            self._begin()
        else:
            self._follow(self._began)
        return self.said[before:]

    def _begin(self) -> None:
        if time.time() < self._not_before or not has_level(self._lineage, self._champion):
            return
        self._began = time.time()
        self._payments.change = self._changes.change("slice")
        self._say(f"POISON: {self._changes.words('slice')}, as if a join upstream were broken")

    def _follow(self, began: float) -> None:
        entries = [e for e in self._lineage.entries if e.time >= began and e.learner == self._champion]
        revert = next((e for e in entries if e.action == "revert"), None)
        hold = next((e for e in entries if e.action == "hold"), None)
        harm = None if self._seen else first_harm(self._lineage, self._champion, began)
        if harm is not None:
            self._seen = True
            self._say(
                f"SEEN after {harm[1].judged - began:.1f} s: {self._where(harm[1].slices)} got worse. No new snapshot "
                "is promoted; the last good one answers"
            )
        if revert is not None:
            self._over = True
            self._payments.change = None
            self._say(
                f"UNDONE after {revert.time - began:.1f} s: {revert.learner} is back at snapshot {revert.snapshot}, "
                f"what it learnt since is quarantine {revert.seq}, the payments are right again; nobody was asked"
            )
        elif self._mended is not None:
            self._heal(self._mended)
        elif hold is not None:
            self._mended, self._payments.change = time.time(), None
            serving = self._lineage.serving(self._champion)
            self._say(
                f"HELD after {hold.time - began:.1f} s: the labels are in doubt. Snapshot {serving} from before "
                "answers, learning goes on; the payments are right again, and nobody was asked"
            )

    def _heal(self, mended: float) -> None:
        """Say when one that was cut after the payments were right again answers."""
        serving = self._lineage.serving(self._champion)
        manifest = self._lineage.manifest(serving) if serving is not None else None
        if manifest is not None and manifest.created > mended:
            self._over = True
            self._say(f"OVER after {manifest.created - mended:.1f} s more: the newest snapshot answers again")

    def _where(self, found: list[str]) -> str:
        """What the guard saw, with the part that was poisoned named in any case."""
        names = ", ".join(name or "all payments" for name in found[:3]) or "what is served"
        poisoned = self._changes.where
        return names if poisoned in found else f"{names} (of which {poisoned} is poisoned)"

    @property
    def opening(self) -> str:
        """What is going to happen, as long as it has not."""
        if self.said:
            return "poisoned, and saved by itself" if self._over else "poisoned just now"
        if has_level(self._lineage, self._champion):
            left = max(0.0, self._not_before - time.time())
            return f"all is well; in {left:.0f} s the labels of {self._changes.where} are poisoned: watch the guard"
        return f"the guard gets to know the learners; then, after {self._after:.0f} s, the payments are poisoned"

    def _say(self, text: str) -> None:
        self.said.append(f"{time.strftime('%H:%M:%S')} {text}")


class Demo:
    """The whole product on the embedded default: a folder, three child processes, no server to install."""

    def __init__(
        self,
        folder: Path,
        *,
        rate: float,
        port: int | None,
        environment: Mapping[str, str],
        poison: float | None = None,
    ) -> None:
        self._path = folder / "holdfast.toml"
        if not self._path.exists():
            write_starter(folder, "payments", sample=0)
        self._port = port or free_port()
        self._console = free_port(_CONSOLE_PORT)
        inherited = {name: value for name, value in environment.items() if not name.startswith("HOLDFAST_")}
        self._environment = {
            **inherited,
            **SETTINGS,
            "HOLDFAST_SERVE__PORT": str(self._port),
            "HOLDFAST_CONSOLE__PORT": str(self._console),
        }
        self._log = folder / "demo.log"
        self._config: Config = load(self._path, self._environment)
        self._payments = Payments(self._config.base / self._config.source.directory, rate)
        self._lineage = Lineage(store_of(self._config))
        self._poison = Poison(self._config, self._lineage, self._payments, poison) if poison is not None else None
        self._history: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=screen.POINTS))
        self._point_at = 0.0
        self._last = (time.monotonic(), 0)
        self._rate = 0.0

    def run(self, seconds: float | None, stopping: Callable[[], bool]) -> None:
        """Run until asked to stop or the time is over; nothing is left running."""
        deadline = None if seconds is None else time.monotonic() + seconds
        say(
            "Payments are learnt in ",
            "",
            (self._path.parent, "bold"),
            (f"; the processes' logs are in {self._log}", ""),
        )
        say("They are made up, and do not drift: what makes one a fraud stays as it is, until they are poisoned.")
        say(
            "Look at them: ", "", (self._page, "bold"),
            (f"; what the page may change wants the token in {self._path.parent / 'token'}", ""),
        )  # fmt: skip
        say("The learners are checked and the first snapshot is written: a few seconds …")
        with self._log.open("ab") as log:
            supervisor = Supervisor(self._path, self._environment, (*ROLES, "console"), output=log)
            self._payments.start()
            try:
                with self._screen() as show:
                    while not stopping() and (deadline is None or time.monotonic() < deadline):
                        supervisor.watch()
                        if self._payments.failed:
                            raise CommandError(f"no payments can be written: {self._payments.failed}")
                        self._look(show)
                        time.sleep(0.5 if sys.stdout.isatty() else 1.0)
            finally:
                self._payments.end()
                supervisor.stop()
        say("")
        say("The demo ended; nothing is left running. It goes on from here next time.")
        say("Look at what it kept:")
        say(f"holdfast status --config {shlex.quote(str(self._path))}")
        with contextlib.suppress(SnapshotsError, OSError):
            say("Or at a report, in a browser: ", "", (self._report(), "bold"))

    @contextlib.contextmanager
    def _screen(self) -> Any:
        if sys.stdout.isatty():
            # Lines are folded to the screen; the other console leaves that to the terminal, which a live table cannot.
            with Live(console=Console(highlight=False), auto_refresh=False) as live:
                yield lambda report: live.update(screen.shown(self._scene(report)), refresh=True)
        else:
            yield lambda report: say(self._line(report))

    def _look(self, show: Callable[[dict[str, Any]], None]) -> None:
        with contextlib.suppress(SnapshotsError):
            report = states.status(self._lineage, self._config, time.time())
            if not report["learners"]:
                return
            self._measure(report)
            self._draw(report)
            for said in self._poison.look() if self._poison else ():
                if not sys.stdout.isatty():
                    say(said)
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

    def _draw(self, report: dict[str, Any]) -> None:
        """Add a point to what is drawn, now and then."""
        if time.monotonic() < self._point_at:
            return
        self._point_at = time.monotonic() + _POINT_SECONDS
        for name, one in report["learners"].items():
            if one["recent"]["accuracy"] is not None:
                self._history[name].append(one["recent"]["accuracy"])

    @property
    def _page(self) -> str:
        return f"http://127.0.0.1:{self._console}/"

    def _curl(self) -> str:
        return f"""curl -s http://localhost:{self._port}/predict -d '{{"x":{{"amount":950,"country":"br"}}}}'"""

    def _report(self) -> Path:
        """Write what happened as one file, and return where it is."""
        path = self._path.parent / "report.html"
        write_report(Seen(self._config, self._path), path, 0.0, time.time())
        return path

    def _serving(self, report: dict[str, Any]) -> Any:
        return report["serving"][0]["snapshot"] if report["serving"] else None

    def _line(self, report: dict[str, Any]) -> str:
        low, high = screen.bounds(point for points in self._history.values() for point in points)
        recent = "  ".join(
            f"{name} {screen.sparkline(list(self._history[name])[-10:], low, high)} {figure(one['recent']['accuracy'])}"
            for name, one in report["learners"].items()
        )
        fresh = self._freshness(report)
        return (
            f"{figure(self._last[1])} payments  {self._rate:,.0f}/s  recent accuracy: {recent}  snapshot "
            f"{report['snapshot']}  serving {figure(self._serving(report))}  freshness "
            f"{'-' if fresh is None else f'{fresh:.2f} s'}  try: {self._curl()}"
        )

    def _scene(self, report: dict[str, Any]) -> screen.Scene:
        quoted = shlex.quote(str(self._path))
        opening = self._poison.opening if self._poison else "nothing drifts and nothing is poisoned"
        rows = [
            screen.Row(name, one["role"], list(self._history[name]), one["verdict"])
            for name, one in report["learners"].items()
        ]
        hints = [
            ("ask it, in another terminal:", self._curl()),
            ("undo what it learnt last:", f"holdfast revert --config {quoted}"),
            ("look closer (Ctrl-C here ends the demo):", f"holdfast status --watch --config {quoted}"),
        ]
        said = self._poison.said if self._poison else []
        return screen.Scene(
            [f"card payments, which are fraud? {opening}", f"look at all of it: {self._page}", *said], rows,
            self._last[1], self._rate, report["snapshot"], self._serving(report), self._freshness(report), hints,
        )  # fmt: skip


def free_port(wanted: int = _PORT) -> int:
    """The wanted one when nobody listens there, another free port otherwise."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return wanted
