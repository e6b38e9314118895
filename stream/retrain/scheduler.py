"""``holdfast retrain watch``: starts a full retrain when a trigger is due, as a process of its own at low priority."""

import logging
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from snapshots import Lineage
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import RefusedError, SnapshotsError
from snapshots.history.levels import Reader
from snapshots.records import baselines
from snapshots.store.lease import Lease
from stream.archive.files import Archive
from stream.errors import StreamError
from stream.process import interpreter, logs
from stream.process.presence import Presence, has_ended
from stream.retrain import triggers
from stream.retrain.regret import Regret, arm_of, regret_of
from stream.retrain.triggers import Facts, Order, Trigger
from stream.settings import Config
from stream.source.codec import Codec

log = logging.getLogger("holdfast.retrain")
_LAST_LINES = 5
#: so many points of history are added up
_POINTS = 5000


class _CameOf(msgspec.Struct):
    state: str


class Scheduler:
    """Watches the triggers. One retrain at a time on all machines, by the lease that the retrain itself takes."""

    def __init__(  # noqa: PLR0913  the composition root hands in every part
        self,
        config: Config,
        path: Path,
        *,
        lineage: Lineage,
        archive: Archive,
        codec: Codec,
        presence: Presence,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.config, self.path, self.lineage, self.archive, self.codec = config, path, lineage, archive, codec
        self.presence, self.now, self.sleep, self.stopping = presence, now, sleep, stopping
        self.running: subprocess.Popen[str] | None = None
        self.trigger: Trigger | None = None
        self._after, self._began = 0, 0.0
        self._history = Reader(lineage.store)
        self._facts: tuple[tuple[list[str], list[int]], Facts] | None = None

    def run(self) -> None:
        """Watch until asked to stop; a retrain that runs then is ended, and goes on from its last epoch next time."""
        due = 0.0
        try:
            while not self.stopping():
                if self.running is not None:
                    self.look_after()
                elif self.now() >= due:
                    due = self.now() + self.config.retrain.check_seconds
                    try:
                        self.check()
                    except (SnapshotsError, StreamError) as cause:
                        log.error("%s; trying again", cause)
                self.presence.say(state="training" if self.running else "watching")
                self.sleep(0.2)
        finally:
            if self.running is not None:
                self.running.terminate()
                self.running.wait(10)
            self.presence.close()

    def check(self) -> Trigger | None:
        """Start a retrain when one is due and may be done; return what is due."""
        rules = self.config.retrain
        charter = self.lineage.charter(self.config.name, self.config.task, self.now())
        found = self.lineage.refresh().decided
        facts = self.facts()
        trigger = triggers.due(found, rules, facts, charter.created, self.now())
        if trigger is None or self.busy():
            return trigger
        spent = triggers.spent(found, self.now())
        hindrance = triggers.hindrance(found, rules, trigger, facts, spent, self.now())
        if hindrance:
            if not triggers.declined(found, trigger):
                log.warning("no retrain (%s): %s", trigger.kind, hindrance)
                self.decide("retrain_declined", f"{trigger.why}; but {hindrance}", trigger.kind)
            return trigger
        limit = triggers.budget_of(rules)
        left = max(1.0, limit - spent) if limit is not None else 0.0
        self.start(trigger, found.last_outcome, left)
        return trigger

    def facts(self) -> Facts:
        """What the archive says, read again only when it or the newest baseline is another: files are large."""
        seen = ([file.name for file in self.archive.files()],
                [*baselines.numbers(self.lineage.store), len(self.lineage.ledger.entries())])  # fmt: skip
        if self._facts is None or self._facts[0] != seen:
            self._facts = seen, triggers.facts_of(self.archive, self.lineage, self.codec)
        self._facts[1].lost = triggers.lost_of(self.lineage)
        self._facts[1].regret = self.regret() if self.config.retrain.rule == "regret" else None
        return self._facts[1]

    def regret(self) -> Regret | None:
        """What was lost since the last retrain; None while nothing is known of it."""
        found, champion = self.lineage.decided, self.lineage.champion()
        done = [entry for entry in found.outcomes if entry.action != "retrain_failed"]
        if champion is None or not done:
            return None
        rows = self._history.rows(self.lineage, done[-1].time, self.now(), _POINTS)
        took = next((entry.seconds for entry in reversed(done) if entry.seconds), 0.0)
        switches = [entry for entry in self.lineage.decisions if entry.action in ("fall_back", "return")]

        def fell(moment: float) -> bool:
            before = [entry.action for entry in switches if entry.time <= moment]
            return bool(before) and before[-1] == "fall_back"

        return regret_of(rows, champion, self.config.retrain, took, fell)

    def flags(self, trigger: Trigger) -> list[str]:
        """How the retrain is done: what a warm start goes on from has learnt what was erased."""
        if trigger.kind == "forget":
            return ["--full"]
        if self.config.retrain.rule != "regret":
            return []
        store = self.lineage.store
        warm_from = {
            number: made.warm_from for number in baselines.numbers(store) if (made := baselines.read(store, number))
        }
        events = self._facts[1].events if self._facts is not None else 0
        arm = arm_of(self.lineage.decided, warm_from, events, self.config.retrain)
        return {"warm": ["--warm"], "full": ["--full"], "compare": ["--compare-warm"]}[arm]

    def busy(self) -> bool:
        """Tell whether somebody trains already, here or elsewhere."""
        return Lease(self.lineage.store, "retrain", "", 1.0, self.now, has_ended).holder() is not None

    def start(self, trigger: Trigger, after: int, left: float) -> None:
        """Run ``holdfast retrain`` as a process of its own; ``left``: seconds of the budget (0: no limit)."""
        log.info("a full retrain begins (%s): %s", trigger.kind, trigger.why, extra=logs.facts(trigger=trigger.kind))
        order = Order(trigger.kind, trigger.why, after, trigger.since, trigger.expected, left)
        command = [*interpreter.command("stream.cli", "retrain", "--now", "--config", self.path),
                   "--order", msgspec.json.encode(order).decode(), "--json", *self.flags(trigger)]  # fmt: skip
        self._began = self.now()
        self.trigger, self._after = trigger, after
        self.running = subprocess.Popen(  # noqa: S603  our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=interpreter.environment(os.environ, HOLDFAST_LOG="console"),
        )  # fmt: skip

    def look_after(self) -> None:
        """Take note of a retrain that has ended; one that failed changes nothing but the ledger."""
        process, trigger = self.running, self.trigger
        if process is None or trigger is None:
            return
        try:
            came_of, said = process.communicate(timeout=0.5)
        except subprocess.TimeoutExpired:
            return
        self.running = None
        done = [e for e in self.lineage.refresh().decided.outcomes if e.seq > self._after]
        if done and done[-1].action == "retrain_failed":
            log.error("the retrain failed: %s", done[-1].why)
        elif done and done[-1].action == "retrain_skipped":
            log.info("no retrain: %s", done[-1].why)
        elif done:
            log.info("the retrain is done: %s: %s", done[-1].action, done[-1].why)
        elif self.stopping():
            log.info("the retrain was ended; the next goes on from its last epoch")
        elif _state(came_of) == "elsewhere":
            log.info("no retrain: %s", said.strip())
        elif process.returncode == logs.REFUSED:
            log.info("no retrain: %s", said.strip())
            self.failed(_last(said), trigger)
        else:
            log.error("the retrain failed with %s: %s", process.returncode, _last(said))
            self.failed(f"exit code {process.returncode}: {_last(said)}", trigger)

    def failed(self, why: str, trigger: Trigger) -> None:
        """Say that a retrain failed; the time that it took counts as trained."""
        self.decide("retrain_failed", why, trigger.kind, max(0.0, self.now() - self._began))

    def decide(self, action: Action, why: str, cause: str, seconds: float = 0.0) -> Entry:
        """Append to the ledger."""
        decision = Decision(action, f"scheduler on {platform.node()}", why, cause=cause, seconds=round(seconds, 3))
        return self.lineage.ledger.append(self.now(), lambda _: decision)


def _state(came_of: str) -> str:
    """What the retrain's JSON says of itself; empty when it did not get so far."""
    try:
        return msgspec.json.decode(came_of, type=_CameOf).state
    except msgspec.DecodeError:
        return ""


def _last(said: str) -> str:
    return " / ".join(said.strip().splitlines()[-_LAST_LINES:]) or "it said nothing"


def refuse_hindered(lineage: Lineage, config: Config, archive: Archive, codec: Codec, now: float) -> None:
    """For a retrain by hand without ``--now``: raise :class:`RefusedError` while cool-down or budget forbid one."""
    found = lineage.refresh().decided
    facts = triggers.facts_of(archive, lineage, codec)
    hindered = triggers.hindrance(found, config.retrain, None, facts, triggers.spent(found, now), now)
    if hindered:
        raise RefusedError(f"no retrain: {hindered}. With --now it is done all the same")
