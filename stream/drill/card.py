"""``holdfast drill``: a catastrophe, and a card: when it was seen, undone, and what served meanwhile.

Against a demo stream: a lineage in a folder of its own, trainer, guard and serving as under ``holdfast up``, payments
that do not drift. Or against a deployment that runs: changed copies of its own newest events are sent into its source.
A caller never stops asking. What is done, and what is waited for, is in ``drills_of_events`` and
``drills_of_processes``.
"""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from snapshots import SnapshotsError
from stream.demo.waits import has_level
from stream.drill.caller import Caller
from stream.drill.stage import Stage
from stream.errors import CommandError
from stream.process import interpreter

SETTLE_SECONDS, AWAY_SECONDS = 120.0, 5.0


class Card(msgspec.Struct):
    """What a drill shows. Times are seconds after it was done; None: not at all."""

    drill: str
    done: str
    seen_seconds: float | None = None
    seen_as: str = ""
    undone_seconds: float | None = None
    undone_by: str = ""
    served: str = ""
    requests: int = 0
    failed_requests: int = 0
    passed: bool = False


#: what is done, in words, and the function that does it and fills in the card
Deed = tuple[str, Callable[["Drill", Card], None]]


class Drill:
    """One catastrophe, from a quiet start to its card. ``seconds``: how long it may take until it is undone."""

    def __init__(self, name: str, stage: Stage, seconds: float, stopping: Callable[[], bool]) -> None:
        self.name, self.stage, self.seconds, self.stopping = name, stage, seconds, stopping
        self.config, self.lineage, self.champion = stage.config, stage.lineage, stage.config.first_champion
        self.caller = Caller(stage.config.serve.port)
        self.began = 0.0

    def run(self, deed: Deed, say: Callable[[str], None], before: Callable[[], None]) -> Card:
        """Run it; ``say`` is told how far it is. ``before``: what is made ready once the guard has a level to hold."""
        what, done = deed
        card = Card(self.name, what)
        with self._playing():
            say("learning, until the guard has a level to hold …")
            self.until(self._settled, SETTLE_SECONDS, "the guard had no level")
            before()
            self.caller.start()
            time.sleep(1.0)
            self.began = time.time()
            say(what)
            done(self, card)
        since = [number for moment, number in self.caller.answers if moment >= self.began]
        card.requests, card.failed_requests = len(since), since.count(None)
        numbers = [number for number in since if number is not None]
        card.served = f"snapshots {min(numbers)} to {max(numbers)}" if numbers else "nothing"
        if self.name not in ("kill", "ramp-serving-killed"):
            card.passed &= card.failed_requests == 0
        return card

    @contextlib.contextmanager
    def _playing(self) -> Iterator[None]:
        """Send events and look after the processes; let go of all in the end."""
        stage, end = self.stage, threading.Event()
        stage.events.start()
        watcher = threading.Thread(target=self._watch, args=(end,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            if self.caller.is_alive():
                self.caller.end()
            stage.events.end()
            end.set()
            watcher.join(2)
            if stage.supervisor is not None:
                stage.supervisor.stop()
            if stage.relay is not None:
                stage.relay.close()

    def _watch(self, end: threading.Event) -> None:
        while self.stage.supervisor is not None and not end.wait(0.1):
            self.stage.supervisor.watch()

    def until(self, what: Callable[[], Any], seconds: float, failure: str) -> Any:
        """Wait until something is so, and return it; :class:`CommandError` when it takes longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.stopping():
                raise CommandError("asked to stop; the drill is not over")
            with contextlib.suppress(SnapshotsError):
                if found := what():
                    return found
            time.sleep(0.1)
        refused = f"; the events sent were refused: {self.stage.events.failed}" if self.stage.events.failed else ""
        where = "see drill.log" if self.stage.supervisor else "see holdfast status"
        raise CommandError(f"{failure} within {seconds:.0f} s; {where}{refused}")

    def holdfast(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as an operator would."""
        command = interpreter.command("stream.cli", "--config", self.config.base / "holdfast.toml", *words)
        env = interpreter.environment(self.stage.environment, **environment)
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603  our own

    def _settled(self) -> bool:
        rows = self.config.holdout.rows if self.stage.supervisor else 1
        return has_level(self.lineage.refresh(), self.champion, rows)
