"""``holdfast drill``: a catastrophe against a demo stream, and a card: when it was seen, undone, and what served.

A lineage in a folder of its own, trainer, guard and serving as under ``holdfast up``, payments that do not drift, and a
caller that never stops asking.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from snapshots import Lineage, SnapshotsError
from snapshots import snapshot as snapshots
from snapshots.errors import DamagedError
from snapshots.ledger import Entry
from stream import status as states
from stream.building import store_of
from stream.config import Config, load
from stream.demo import free_port
from stream.errors import CommandError
from stream.payments import payment
from stream.presence import present
from stream.starter import write_starter
from stream.supervise import Supervisor

_TICK_SECONDS, _ASK_SECONDS = 0.05, 0.02
_SETTLE_SECONDS, _UNDO_SECONDS, _QUIET_SECONDS = 120.0, 90.0, 15.0
_AWAY_SECONDS = 5.0
SETTINGS = {
    "HOLDFAST_HOLDOUT__RATE": "0.15",
    "HOLDFAST_HOLDOUT__ROWS": "600",
    "HOLDFAST_HOLDOUT__MIN_SLICE_ROWS": "60",
    "HOLDFAST_SNAPSHOTS__EVERY_SECONDS": "0.2",
    "HOLDFAST_GUARD__LOOK_EVENTS": "50",
    "HOLDFAST_GUARD__REFERENCE_EVENTS": "500",
    "HOLDFAST_GUARD__SAMPLE": "0.5",
    "HOLDFAST_GUARD__WAIT_EVENTS": "1000",
    "HOLDFAST_GUARD__HOLD_EVENTS": "4000",
    "HOLDFAST_GUARD__HOLD_SECONDS": "2.0",
}
Event = dict[str, Any]


def _flip(event: Event) -> Event | None:
    return event | {"y": 1 - event["y"]}


def _slice(event: Event) -> Event | None:
    return _flip(event) if event["x"]["country"] == "fr" else event


def _forget(event: Event) -> Event | None:
    """Only one country is left, and everything in it is fraud."""
    return event | {"y": 1} if event["x"]["country"] == "de" else None


def _shift(event: Event) -> Event | None:
    """Other amounts and other countries than before, and the same rule: nothing was forgotten."""
    return event if event["x"]["country"] in ("gb", "us") or event["x"]["night"] else None


def _diverge(event: Event) -> Event | None:
    """A unit was mistaken: amounts a million times too large, with labels that mean nothing."""
    x = event["x"] | {"amount": event["x"]["amount"] * 1e6}
    return event | {"x": x, "y": random.Random(event["id"]).randrange(2)}


#: name → what it does, and what it does to each event (None: to something else than the events)
DRILLS: dict[str, tuple[str, Callable[[Event], Event | None] | None]] = {
    "poison": ("every label is flipped from now on", _flip),
    "forget": ("only one country is left, and all of it is fraud", _forget),
    "shift": ("other payments than before, under the same rule", _shift),
    "slice": ("the labels of one country are flipped", _slice),
    "diverge": ("amounts a million times too large, labels without meaning", _diverge),
    "kill": ("trainer, guard and serving are killed with -9", None),
    "torn-snapshot": ("the newest snapshot is cut off in the middle of its model", None),
    "broker-down": (f"the source is away for {_AWAY_SECONDS:.0f} s", None),
}
_HARMLESS = ("shift",)


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


class _Stream(threading.Thread):
    """Appends payments at a rate; ``change`` is applied to each, and None leaves it out."""

    def __init__(self, folder: Path, rate: float) -> None:
        super().__init__(name="payments", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "payments.jsonl"
        self.change: Callable[[Event], Event | None] | None = None
        self.paused = threading.Event()
        self.written = 0
        self._rate, self._end = rate, threading.Event()

    def run(self) -> None:
        number = 0
        while not self._end.wait(_TICK_SECONDS):
            if self.paused.is_set():
                continue
            lot = [
                payment(n, time.time(), drifting=False) for n in range(number, number + int(self._rate * _TICK_SECONDS))
            ]
            number += len(lot)
            changed = [self.change(event) if self.change else event for event in lot]
            lines = [orjson.dumps(event) + b"\n" for event in changed if event is not None]
            with self.path.open("ab") as file:
                file.write(b"".join(lines))
            self.written += len(lines)

    def end(self) -> None:
        self._end.set()
        self.join(2)


class _Caller(threading.Thread):
    """Asks for predictions all the time; remembers from which snapshot each came, and which failed."""

    def __init__(self, port: int) -> None:
        super().__init__(name="caller", daemon=True)
        self.answers: list[tuple[float, int | None]] = []
        self._url, self._end = f"http://127.0.0.1:{port}/predict", threading.Event()

    def run(self) -> None:
        from urllib.request import Request, urlopen  # noqa: PLC0415  beside its one use

        body = b'{"x": {"amount": 80, "country": "fr", "device": "web", "merchant": "games", "night": true}}'
        while not self._end.wait(_ASK_SECONDS):
            try:
                with urlopen(Request(self._url, body), timeout=5) as answer:  # noqa: S310  our own address
                    self.answers.append((time.time(), orjson.loads(answer.read())["snapshot"]))
            except OSError:
                self.answers.append((time.time(), None))

    def end(self) -> None:
        self._end.set()
        self.join(2)


class Drill:
    """One catastrophe, from a quiet start to its card."""

    def __init__(self, name: str, folder: Path, *, rate: float, environment: Mapping[str, str]) -> None:
        if name not in DRILLS:
            raise CommandError(f"there is no drill {name!r}; there are {', '.join(DRILLS)}")
        path = folder / "holdfast.toml"
        if path.exists():
            raise CommandError(f"{path} is already there; a drill wants a folder of its own: --dir FOLDER")
        write_starter(folder, "drill", sample=0)
        self.name, self._path, self._port = name, path, free_port()
        inherited = {key: value for key, value in environment.items() if not key.startswith("HOLDFAST_")}
        self._environment = {**inherited, **SETTINGS, "HOLDFAST_SERVE__PORT": str(self._port)}
        self._config: Config = load(path, self._environment)
        self._lineage = Lineage(store_of(self._config))
        self._stream = _Stream(self._config.base / self._config.source.directory, rate)
        self._caller = _Caller(self._port)
        self._began = 0.0

    def run(self, say: Callable[[str], None], stopping: Callable[[], bool]) -> Card:
        """Run it; ``say`` is told how far it is."""
        what, change = DRILLS[self.name]
        card = Card(self.name, what)
        with (self._path.parent / "drill.log").open("ab") as log:
            supervisor = Supervisor(self._path, self._environment, output=log)
            self._stream.start()
            watching = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(supervisor, watching), daemon=True)
            watcher.start()
            try:
                say("learning, until the guard has a level to hold …")
                self._until(self._settled, _SETTLE_SECONDS, stopping, "the guard had no level")
                self._caller.start()
                time.sleep(1.0)
                self._began = time.time()
                say(what)
                if change is not None:
                    self._stream.change = change
                    self._changed(card, stopping)
                else:
                    {"kill": self._kill, "torn-snapshot": self._tear, "broker-down": self._away}[self.name](
                        card, stopping
                    )
            finally:
                self._caller.end()
                self._stream.end()
                watching.set()
                watcher.join(2)
                supervisor.stop()
        since = [number for moment, number in self._caller.answers if moment >= self._began]
        card.requests, card.failed_requests = len(since), since.count(None)
        numbers = [number for number in since if number is not None]
        card.served = f"snapshots {min(numbers)} to {max(numbers)}" if numbers else "nothing"
        if self.name != "kill":
            card.passed &= card.failed_requests == 0
        return card

    @staticmethod
    def _watch(supervisor: Supervisor, end: threading.Event) -> None:
        while not end.wait(0.1):
            supervisor.watch()

    @staticmethod
    def _until(what: Callable[[], Any], seconds: float, stopping: Callable[[], bool], failure: str) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if stopping():
                raise CommandError("asked to stop; the drill is not over")
            try:
                if found := what():
                    return found
            except SnapshotsError:
                pass
            time.sleep(0.1)
        raise CommandError(f"{failure} within {seconds:.0f} s; see drill.log")

    def _settled(self) -> bool:
        newest = self._lineage.refresh().newest()
        if newest is None or newest.holdout.versions[-1:] == [] or newest.holdout.versions[-1].rows < 600:
            return False
        champion = self._config.champion
        levels = [v for n in self._lineage.numbers[-3:] if (v := self._lineage.verdict(n, champion)) is not None]
        known = [one.details.get("", {}).get("level") for one in levels]
        return newest.learners[champion].reference is not None and any(level is not None for level in known)

    # What is done to the events ----------------------------------------------------------------------------------

    def _changed(self, card: Card, stopping: Callable[[], bool]) -> None:
        """Wait for suspicion and for the revert; or, where nothing is to be undone, for neither."""
        if self.name in _HARMLESS:
            deadline = time.monotonic() + _QUIET_SECONDS
            while time.monotonic() < deadline and not stopping():
                time.sleep(0.2)
            reverts = self._reverts()
            card.passed = not reverts
            card.undone_by = f"entry {reverts[0].seq}: {reverts[0].why}" if reverts else "nothing to undo"
            self._note_seen(card)
            return
        try:
            entry = self._until(lambda: next(iter(self._reverts()), None), _UNDO_SECONDS, stopping, "not undone")
        except CommandError:
            self._note_seen(card)
            return
        self._note_seen(card)
        card.undone_seconds = round(entry.time - self._began, 2)
        card.undone_by = f"entry {entry.seq} by {entry.by}: back to snapshot {entry.snapshot}: {entry.why}"
        target = self._lineage.refresh().manifest(entry.snapshot)
        self._until(self._follows(entry), 10.0, stopping, "serving did not follow")
        card.passed = target is not None and target.created <= self._began

    def _follows(self, entry: Entry) -> Callable[[], bool]:
        def check() -> bool:
            newest = self._caller.answers[-1][1]
            part = self._lineage.refresh().part(newest, self._config.champion) if newest is not None else None
            return newest == entry.snapshot or (part is not None and part.line >= entry.seq)

        return check

    def _reverts(self) -> list[Entry]:
        entries = self._lineage.refresh().entries
        champion = self._config.champion
        return [e for e in entries if e.action == "revert" and e.learner == champion and e.time >= self._began]

    def _note_seen(self, card: Card) -> None:
        champion = self._config.champion
        for number in self._lineage.refresh().numbers:
            verdict = self._lineage.verdict(number, champion)
            if verdict is not None and verdict.created >= self._began and verdict.verdict in ("suspect", "fail"):
                card.seen_seconds = round(verdict.judged - self._began, 2)
                card.seen_as = f"snapshot {number}: {verdict.verdict}: {verdict.why}"
                return

    # What is done to processes and files ----------------------------------------------------------------------------

    def _kill(self, card: Card, stopping: Callable[[], bool]) -> None:
        words = present(self._lineage.store, time.time())
        killed = {word["pid"] for word in words}
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            fresh = [w["role"] for w in present(self._lineage.store, time.time()) if w["pid"] not in killed]
            return {"trainer", "guard", "serving"} <= set(fresh)

        self._until(back, 60.0, stopping, "not all came back")
        card.seen_seconds, card.seen_as = 0.0, f"{len(killed)} processes ended"
        card.undone_seconds = round(time.time() - self._began, 2)
        card.undone_by = "up started them again"
        self._caught_up(card, stopping)

    def _caught_up(self, card: Card, stopping: Callable[[], bool]) -> None:
        """Everything that was written is in exactly one class."""
        self._stream.paused.set()
        time.sleep(2 * _TICK_SECONDS)

        def all_counted() -> bool:
            learners = states.status(self._lineage, self._config, time.time())["learners"].values()
            return all(
                one["events"]["consumed"] == self._stream.written and one["accounting_difference"] == 0
                for one in learners
            )

        self._until(all_counted, 60.0, stopping, f"not all of {self._stream.written} events were accounted for")
        card.passed = True

    def _tear(self, card: Card, stopping: Callable[[], bool]) -> None:
        newest = self._lineage.refresh().newest()
        if newest is None:
            raise CommandError("there is no snapshot to tear")
        path = self._config.base / self._config.store.url / newest.learners[self._config.champion].model.name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            snapshots.verify_all(self._lineage.store, newest)
        except DamagedError as cause:
            card.seen_seconds, card.seen_as = round(time.time() - self._began, 2), str(cause)
        served = lambda: (self._caller.answers[-1][1] or 0) > newest.snapshot  # noqa: E731  beside its one use
        self._until(served, 30.0, stopping, "no later snapshot served")
        card.undone_seconds, card.undone_by = round(time.time() - self._began, 2), "a later snapshot serves"
        card.passed = card.seen_seconds is not None

    def _away(self, card: Card, stopping: Callable[[], bool]) -> None:
        self._stream.paused.set()
        time.sleep(2 * _TICK_SECONDS)
        folder = self._stream.path.parent
        folder.rename(folder.with_name("away"))
        time.sleep(_AWAY_SECONDS)
        card.seen_as = states.status(self._lineage, self._config, time.time())["source"]["why"] or "no events came"
        folder.with_name("away").rename(folder)
        card.seen_seconds, card.undone_by = _AWAY_SECONDS, "the source came back"
        self._stream.paused.clear()
        time.sleep(1.0)
        card.undone_seconds = round(time.time() - self._began, 2)
        self._caught_up(card, stopping)
