"""``holdfast drill``: a catastrophe, and a card: when it was seen, undone, and what served meanwhile.

Against a demo stream: a lineage in a folder of its own, trainer, guard and serving as under ``holdfast up``, payments
that do not drift. Or against a deployment that runs: changed copies of its own newest events are sent into its source.
A caller never stops asking.
"""

import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from snapshots import Lineage, SnapshotsError
from snapshots.errors import DamagedError
from snapshots.records import cut as snapshots
from snapshots.records.ledger import Decision, Entry
from stream.compose import source_of
from stream.config import load
from stream.demo.catastrophes import CATASTROPHES, SETTINGS, Changes, Copies, Paced, Payments
from stream.demo.demo import free_port
from stream.demo.relay import Relay
from stream.demo.starter import write_starter
from stream.demo.waits import first_harm, has_level
from stream.errors import CommandError
from stream.parts import intake_of, store_of
from stream.process import interpreter
from stream.process.presence import present
from stream.process.supervise import ROLES, Supervisor
from stream.settings import Config
from stream.status import status as states
from stream.tables.payments import payment

_ASK_SECONDS = 0.02
_SETTLE_SECONDS, _UNDO_SECONDS, _QUIET_SECONDS = 120.0, 90.0, 15.0
_AWAY_SECONDS = 5.0
_SAMPLES = 2000
#: what is done to something else than the events
_OTHERS = {
    "kill": "trainer, guard and serving are killed with -9",
    "torn-snapshot": "the newest snapshot is cut off in the middle of its model",
    "broker-down": f"the source is away for {_AWAY_SECONDS:.0f} s",
    "retrain-fails": "a full retrain is asked for, and its folder of work cannot be used",
    "baseline-worse": "a full retrain with a recipe that makes a bad model",
    "s3-down": f"the object store is away for {_AWAY_SECONDS:.0f} s",
}
#: what a drill of the retrain wants beside the drills' own settings: a small model, soon
_RETRAIN = {
    "HOLDFAST_ARCHIVE__ENABLED": "true", "HOLDFAST_ARCHIVE__EVERY_SECONDS": "1.0", "HOLDFAST_RETRAIN__ENABLED": "true",
    "HOLDFAST_RETRAIN__KIND": "linear", "HOLDFAST_RETRAIN__EPOCHS": "5", "HOLDFAST_RETRAIN__FEWEST_ROWS": "500",
    "HOLDFAST_RETRAIN__CHECK_SECONDS": "0.5", "HOLDFAST_RETRAIN__COOLDOWN_SECONDS": "0",
    "HOLDFAST_RETRAIN__BACKOFF_SECONDS": "2", "HOLDFAST_RETRAIN__DRIFT_PSI": "0", "HOLDFAST_GATES__TOLERANCE": "0.1",
    "HOLDFAST_GATES__MAX_SLICE_LOSS": "0.2", "HOLDFAST_GATES__MAX_CALIBRATION_LOSS": "0.2",
    "HOLDFAST_GATES__P99_MS": "100",
}  # fmt: skip
_RETRAIN_DRILLS = ("retrain-fails", "baseline-worse")
DRILLS = (*CATASTROPHES, *_OTHERS)
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


class Stage(msgspec.Struct):
    """What a drill is played on. ``supervisor`` is None where somebody else runs the processes."""

    config: Config
    lineage: Lineage
    events: Paced
    changes: Changes | None
    supervisor: Supervisor | None = None
    environment: dict[str, str] = {}
    relay: Relay | None = None


def stage_of_its_own(
    folder: Path, rate: float, environment: Mapping[str, str], name: str = "", store: str = ""
) -> Stage:
    """Make a lineage in a new folder (``store``: its store elsewhere), with payments at ``rate`` a second."""
    path = folder / "holdfast.toml"
    if path.exists():
        raise CommandError(f"{path} is already there; a drill wants a folder of its own: --dir FOLDER")
    write_starter(folder, "drill", sample=0)
    inherited = {key: value for key, value in environment.items() if not key.startswith("HOLDFAST_")}
    inherited |= {**SETTINGS, "HOLDFAST_SERVE__PORT": str(free_port())}
    inherited |= _RETRAIN if name in _RETRAIN_DRILLS else {}
    relay = None
    if name == "s3-down":
        if not store.startswith("s3://") or "AWS_ENDPOINT_URL" not in environment:
            raise CommandError(
                "s3-down wants an object store of its own: --store s3://bucket/prefix, and AWS_ENDPOINT_URL"
            )
        relay = Relay(environment["AWS_ENDPOINT_URL"])
        inherited |= {"AWS_ENDPOINT_URL": relay.address, "HOLDFAST_STORE__URL": store}
        os.environ["AWS_ENDPOINT_URL"] = relay.address
    config = load(path, inherited)
    roles = [*ROLES, *(["archive run", "retrain watch"] if name in _RETRAIN_DRILLS else [])]
    supervisor = Supervisor(path, inherited, roles, output=(folder / "drill.log").open("ab"))
    samples = [payment(number, 0.0, drifting=False) for number in range(_SAMPLES)]
    events = Payments(config.base / config.source.directory, rate)
    return Stage(config, Lineage(store_of(config)), events, Changes(config, samples), supervisor, inherited, relay)


def stage_of(config: Config, name: str, rate: float, *, really: bool) -> Stage:
    """Take a deployment that runs; refuse one that is in production, and what cannot be done to it."""
    if config.production and not really:
        raise CommandError(
            f"{config.name} is marked production = true: a drill would harm it. --really does it all the same"
        )
    if name in (*_RETRAIN_DRILLS, "s3-down"):
        raise CommandError(f"{name} is played on a stage of its own only; leave out --against")
    if name == "broker-down" and config.source.kind != "files":
        raise CommandError("a broker is not ours to stop: stop yours by hand, and look at holdfast status meanwhile")
    if name == "torn-snapshot" and "://" in config.store.url:
        raise CommandError("torn-snapshot cuts a file of the store's directory, and store.url is none")
    if config.event.decoder is not None and name in CATASTROPHES:
        raise CommandError("event.decoder is set, so that events are not JSON that could be changed")
    lineage = Lineage(store_of(config)).refresh()
    roles = {word["role"] for word in present(lineage.store, time.time())}
    if missing := {"trainer", "guard", "serving"} - roles:
        raise CommandError(f"no {', '.join(sorted(missing))} runs here; start it first: holdfast up")
    samples = newest_events(config, lineage) if name in CATASTROPHES else []
    changes = Changes(config, samples) if samples else None
    if changes is not None:
        changes.change(name)  # says at once what the stream lacks
    return Stage(config, lineage, Copies(config, samples, intake_of(config, time.time), rate), changes)


def newest_events(config: Config, lineage: Lineage) -> list[dict[str, Any]]:
    """The newest labelled events of a source, read again from where an older snapshot was."""
    newest = lineage.newest()
    place = None
    for number in reversed(lineage.numbers):
        older = lineage.manifest(number)
        if newest is not None and older is not None:
            place = older.place
            if newest.counts.consumed - older.counts.consumed >= _SAMPLES:
                break
    source, found = source_of(config, when_lost="stop"), list[dict[str, Any]]()
    try:
        source.open(place or source.resolve(), newest.topics if newest else {})
        deadline = time.monotonic() + 10.0
        while len(found) < _SAMPLES and time.monotonic() < deadline and (records := source.poll(_SAMPLES)):
            for record in records:
                try:
                    event = orjson.loads(record.value or b"")
                except orjson.JSONDecodeError:
                    continue
                found += [event] if isinstance(event, dict) else []
    finally:
        source.close()
    return found[-_SAMPLES:]


class Drill:
    """One catastrophe, from a quiet start to its card. ``seconds``: how long it may take until it is undone."""

    def __init__(self, name: str, stage: Stage, seconds: float = _UNDO_SECONDS) -> None:
        self.name, self._seconds = name, seconds
        self._config, self._lineage, self._events = stage.config, stage.lineage, stage.events
        self._changes, self._supervisor = stage.changes, stage.supervisor
        self._environment, self._relay = stage.environment, stage.relay
        self._caller = _Caller(stage.config.serve.port)
        self._began = 0.0

    def run(self, say: Callable[[str], None], stopping: Callable[[], bool]) -> Card:
        """Run it; ``say`` is told how far it is."""
        change = self._changes.change(self.name) if self._changes and self.name in CATASTROPHES else None
        what = self._changes.words(self.name) if self._changes and change else _OTHERS[self.name]
        card = Card(self.name, what)
        self._events.start()
        watching = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(watching,), daemon=True)
        watcher.start()
        try:
            say("learning, until the guard has a level to hold …")
            self._until(self._settled, _SETTLE_SECONDS, stopping, "the guard had no level")
            if self.name in _RETRAIN_DRILLS:
                say("training a first baseline …")
                self._until(lambda: self._retrain() == 0, _SETTLE_SECONDS, stopping, "no baseline was accepted")
            self._caller.start()
            time.sleep(1.0)
            self._began = time.time()
            say(what)
            if change is not None:
                self._events.change = change
                self._changed(card, stopping)
            else:
                {
                    "kill": self._kill, "torn-snapshot": self._tear, "broker-down": self._away,
                    "retrain-fails": self._retrain_fails, "baseline-worse": self._baseline_worse,
                    "s3-down": self._store_away,
                }[self.name](card, stopping)  # fmt: skip
        finally:
            if self._caller.is_alive():
                self._caller.end()
            self._events.end()
            watching.set()
            watcher.join(2)
            if self._supervisor is not None:
                self._supervisor.stop()
            if self._relay is not None:
                self._relay.close()
        since = [number for moment, number in self._caller.answers if moment >= self._began]
        card.requests, card.failed_requests = len(since), since.count(None)
        numbers = [number for number in since if number is not None]
        card.served = f"snapshots {min(numbers)} to {max(numbers)}" if numbers else "nothing"
        if self.name != "kill":
            card.passed &= card.failed_requests == 0
        return card

    def _watch(self, end: threading.Event) -> None:
        while self._supervisor is not None and not end.wait(0.1):
            self._supervisor.watch()

    def _until(self, what: Callable[[], Any], seconds: float, stopping: Callable[[], bool], failure: str) -> Any:
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
        refused = f"; the events sent were refused: {self._events.failed}" if self._events.failed else ""
        where = "see drill.log" if self._supervisor else "see holdfast status"
        raise CommandError(f"{failure} within {seconds:.0f} s; {where}{refused}")

    def _settled(self) -> bool:
        rows = self._config.holdout.rows if self._supervisor else 1
        return has_level(self._lineage.refresh(), self._config.first_champion, rows)

    # What is done to the events ----------------------------------------------------------------------------------

    def _changed(self, card: Card, stopping: Callable[[], bool]) -> None:
        """Wait for suspicion and for the revert; or, where nothing is to be undone, for neither."""
        if self.name in _HARMLESS:
            deadline = time.monotonic() + _QUIET_SECONDS
            while time.monotonic() < deadline and not stopping():
                time.sleep(0.2)
            reverts = self._entries("revert")
            card.passed = not reverts
            card.undone_by = f"entry {reverts[0].seq}: {reverts[0].why}" if reverts else "nothing to undo"
            self._note_seen(card)
            return
        try:
            entry = self._until(lambda: next(iter(self._answers()), None), self._seconds, stopping, "not undone")
        except CommandError as cause:
            self._note_seen(card)
            card.undone_by = f"nobody: {cause}"
            held = self._entries("hold")
            if held:
                card.undone_by = f"held by entry {held[0].seq}, for somebody to decide: {held[0].why}"
                card.passed = self._good(self._caller.answers[-1][1])
            return
        self._note_seen(card)
        card.undone_seconds = round(entry.time - self._began, 2)
        done = {"open_breaker": "learning stopped", "hold": "an older snapshot answers"}.get(entry.action)
        if done is not None:
            card.undone_by = f"entry {entry.seq} by {entry.by}: {done}: {entry.why}"
            card.passed = self._good(self._caller.answers[-1][1])
            return
        card.undone_by = f"entry {entry.seq} by {entry.by}: back to snapshot {entry.snapshot}: {entry.why}"
        target = self._lineage.refresh().manifest(entry.snapshot)
        self._until(self._follows(entry), 10.0, stopping, "serving did not follow")
        card.passed = target is not None and target.created <= self._began

    def _good(self, number: int | None) -> bool:
        """The snapshot that answers passed the guard."""
        return number is not None and self._lineage.refresh().passed(number, self._config.first_champion)

    def _answers(self) -> list[Entry]:
        """What the guard did about it: a revert, a jump that stopped learning, or a hold while an older one answers."""
        stopped = [one for one in self._entries("open_breaker") if one.cause == "jump"]
        return self._entries("revert") or stopped or (self._entries("hold") if self._older_answers() else [])

    def _older_answers(self) -> bool:
        """The snapshot that answers is from before."""
        number = self._caller.answers[-1][1]
        manifest = self._lineage.manifest(number) if number is not None else None
        return manifest is not None and manifest.created <= self._began

    def _follows(self, entry: Entry) -> Callable[[], bool]:
        def check() -> bool:
            newest = self._caller.answers[-1][1]
            part = self._lineage.refresh().part(newest, self._config.first_champion) if newest is not None else None
            return newest == entry.snapshot or (part is not None and part.line >= entry.seq)

        return check

    def _entries(self, action: str) -> list[Entry]:
        entries = self._lineage.refresh().entries
        champion = self._config.first_champion
        return [e for e in entries if e.action == action and e.learner == champion and e.time >= self._began]

    def _note_seen(self, card: Card) -> None:
        harm = first_harm(self._lineage.refresh(), self._config.first_champion, self._began)
        if harm is not None:
            number, verdict = harm
            card.seen_seconds = round(verdict.judged - self._began, 2)
            card.seen_as = f"snapshot {number}: {verdict.verdict}: {verdict.why}"

    # What is done to processes and files ----------------------------------------------------------------------------

    def _kill(self, card: Card, stopping: Callable[[], bool]) -> None:
        here = [word for word in present(self._lineage.store, time.time()) if word["host"] == platform.node()]
        words = [word for word in here if word["role"] != "up"]  # which starts the others again
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
        self._events.paused.set()
        time.sleep(0.2)

        def all_counted() -> bool:
            learners = states.status(self._lineage, self._config, time.time())["learners"].values()
            wrong = sum(abs(one["accounting_difference"]) for one in learners)
            counted = {one["events"]["consumed"] for one in learners}
            return not wrong and (self._supervisor is None or counted == {self._events.written})

        self._until(all_counted, 60.0, stopping, f"not all of {self._events.written} events were accounted for")
        card.passed = True

    def _tear(self, card: Card, stopping: Callable[[], bool]) -> None:
        newest = self._lineage.refresh().newest()
        if newest is None:
            raise CommandError("there is no snapshot to tear")
        path = self._config.base / self._config.store.url / newest.learners[self._config.first_champion].model.name
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
        self._events.paused.set()
        time.sleep(0.2)
        folder = self._config.base / self._config.source.directory
        folder.rename(folder.with_name("away"))
        time.sleep(_AWAY_SECONDS)
        card.seen_as = states.status(self._lineage, self._config, time.time())["source"]["why"] or "no events came"
        folder.with_name("away").rename(folder)
        card.seen_seconds, card.undone_by = _AWAY_SECONDS, "the source came back"
        self._events.paused.clear()
        time.sleep(1.0)
        card.undone_seconds = round(time.time() - self._began, 2)
        self._caught_up(card, stopping)

    def _retrain(self, **environment: str) -> int:
        """Run ``holdfast retrain`` to its end; return its exit code."""
        command = [*interpreter.command("stream.cli"), "retrain", "--now", "--json", "--config",
                   str(self._config.base / "holdfast.toml")]  # fmt: skip
        return subprocess.run(  # noqa: S603  our own interpreter and module
            command, env=interpreter.environment(self._environment, **environment), capture_output=True, check=False
        ).returncode

    def _said(self, *actions: str) -> Entry | None:
        entries = self._lineage.refresh().ledger.entries()
        return next((e for e in entries if e.action in actions and e.time >= self._began), None)

    def _retrain_fails(self, card: Card, stopping: Callable[[], bool]) -> None:
        """Nothing but the ledger changes, and it is tried again by itself."""
        counts = self._lineage.refresh().decided.baseline
        work = self._config.base / self._config.retrain.work
        work.rename(work.with_name("away"))
        work.write_text("in the way")
        ask = Decision("retrain", "drill", "a drill asks for it", cause="drill")
        self._lineage.ledger.append(time.time(), lambda _: ask)
        failed = self._until(lambda: self._said("retrain_failed"), 60.0, stopping, "no retrain failed")
        card.seen_seconds = round(failed.time - self._began, 2)
        card.seen_as = f"entry {failed.seq}: {failed.why}"
        unchanged = self._lineage.refresh().decided.baseline == counts
        work.unlink()
        done = self._until(
            lambda: self._said("accept_baseline", "refuse_baseline"), 90.0, stopping, "it was not tried again"
        )
        card.undone_seconds = round(done.time - self._began, 2)
        card.undone_by = f"entry {done.seq}: {done.action}, tried again by the scheduler"
        card.passed = unchanged

    def _baseline_worse(self, card: Card, stopping: Callable[[], bool]) -> None:
        """A gate turns it down; the one before counts."""
        counts = self._lineage.refresh().decided.baseline
        self._retrain(HOLDFAST_RETRAIN__RATE="30.0", HOLDFAST_RETRAIN__EPOCHS="1", HOLDFAST_GATES__TOLERANCE="0.01")
        entry = self._until(lambda: self._said("refuse_baseline"), 10.0, stopping, "no gate turned it down")
        card.seen_seconds = card.undone_seconds = round(entry.time - self._began, 2)
        card.seen_as = f"entry {entry.seq}: {entry.why}"
        card.undone_by = f"baseline {counts} counts as before"
        card.passed = self._lineage.refresh().decided.baseline == counts and not self._lineage.decided.fallen(
            self._config.first_champion
        )

    def _store_away(self, card: Card, stopping: Callable[[], bool]) -> None:
        """Answers come from memory, learning goes on, and nothing is lost."""
        if self._relay is None:
            raise CommandError("there is no object store to cut")
        self._relay.cut()
        time.sleep(_AWAY_SECONDS)
        self._relay.mend()
        card.seen_seconds, card.seen_as = 0.0, "answers came from memory"
        newest = self._lineage.refresh().highest
        self._until(
            lambda: self._lineage.refresh().highest > newest + 1, 60.0, stopping, "no snapshot was written afterwards"
        )
        card.undone_seconds, card.undone_by = round(time.time() - self._began, 2), "snapshots are written again"
        self._caught_up(card, stopping)
