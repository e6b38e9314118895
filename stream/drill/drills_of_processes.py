"""Drills that do something to processes, files, the store or a retrain; each fills in the card."""

import os
import platform
import signal
import time

from snapshots.decisions.ledger import Decision, Entry
from snapshots.errors import DamagedError
from snapshots.records import cut as snapshots
from stream.drill.card import AWAY_SECONDS, SETTLE_SECONDS, Card, Drill
from stream.errors import CommandError
from stream.process.presence import present
from stream.status import status as states


def kill(drill: Drill, card: Card) -> None:
    """All processes end at once; ``up`` starts them again, and nothing is lost."""
    here = [word for word in present(drill.lineage.store, time.time()) if word["host"] == platform.node()]
    words = [word for word in here if word["role"] != "up"]  # which starts the others again
    killed = {word["pid"] for word in words}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        fresh = [w["role"] for w in present(drill.lineage.store, time.time()) if w["pid"] not in killed]
        return {"trainer", "guard", "serving"} <= set(fresh)

    drill.until(back, 60.0, "not all came back")
    card.seen_seconds, card.seen_as = 0.0, f"{len(killed)} processes ended"
    card.undone_seconds = round(time.time() - drill.began, 2)
    card.undone_by = "up started them again"
    caught_up(drill, card)


def caught_up(drill: Drill, card: Card) -> None:
    """Everything that was written is in exactly one class."""
    drill.stage.events.paused.set()
    time.sleep(0.2)

    def all_counted() -> bool:
        learners = states.status(drill.lineage, drill.config, time.time())["learners"].values()
        wrong = sum(abs(one["accounting_difference"]) for one in learners)
        counted = {one["events"]["consumed"] for one in learners}
        return not wrong and (drill.stage.supervisor is None or counted == {drill.stage.events.written})

    drill.until(all_counted, 60.0, f"not all of {drill.stage.events.written} events were accounted for")
    card.passed = True


def tear(drill: Drill, card: Card) -> None:
    """The newest snapshot is damaged on disk; a later one serves."""
    newest = drill.lineage.refresh().newest()
    if newest is None:
        raise CommandError("there is no snapshot to tear")
    config = drill.config
    path = config.base / config.store.url / newest.learners[drill.champion].model.name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        snapshots.verify_all(drill.lineage.store, newest)
    except DamagedError as cause:
        card.seen_seconds, card.seen_as = round(time.time() - drill.began, 2), str(cause)
    served = lambda: (drill.caller.answers[-1][1] or 0) > newest.snapshot  # noqa: E731  beside its one use
    drill.until(served, 30.0, "no later snapshot served")
    card.undone_seconds, card.undone_by = round(time.time() - drill.began, 2), "a later snapshot serves"
    card.passed = card.seen_seconds is not None


def away(drill: Drill, card: Card) -> None:
    """The directory of events is gone for a while."""
    drill.stage.events.paused.set()
    time.sleep(0.2)
    folder = drill.config.base / drill.config.source.directory
    folder.rename(folder.with_name("away"))
    time.sleep(AWAY_SECONDS)
    card.seen_as = states.status(drill.lineage, drill.config, time.time())["source"]["why"] or "no events came"
    folder.with_name("away").rename(folder)
    card.seen_seconds, card.undone_by = AWAY_SECONDS, "the source came back"
    drill.stage.events.paused.clear()
    time.sleep(1.0)
    card.undone_seconds = round(time.time() - drill.began, 2)
    caught_up(drill, card)


def train_first(drill: Drill) -> None:
    """Have a first baseline accepted."""
    drill.until(lambda: retrained(drill) == 0, SETTLE_SECONDS, "no baseline was accepted")


def retrained(drill: Drill, **environment: str) -> int:
    """Run ``holdfast retrain`` to its end; return its exit code."""
    return drill.holdfast("retrain", "--now", "--json", **environment).returncode


def _said(drill: Drill, *actions: str) -> Entry | None:
    entries = drill.lineage.refresh().ledger.entries()
    return next((e for e in entries if e.action in actions and e.time >= drill.began), None)


def retrain_fails(drill: Drill, card: Card) -> None:
    """Nothing but the ledger changes, and it is tried again by itself."""
    counts = drill.lineage.refresh().decided.baseline
    work = drill.config.base / drill.config.retrain.work
    work.rename(work.with_name("away"))
    work.write_text("in the way")
    ask = Decision("retrain", "drill", "a drill asks for it", cause="drill")
    drill.lineage.ledger.append(time.time(), lambda _: ask)
    failed = drill.until(lambda: _said(drill, "retrain_failed"), 60.0, "no retrain failed")
    card.seen_seconds = round(failed.time - drill.began, 2)
    card.seen_as = f"entry {failed.seq}: {failed.why}"
    unchanged = drill.lineage.refresh().decided.baseline == counts
    work.unlink()
    done = drill.until(lambda: _said(drill, "accept_baseline", "refuse_baseline"), 90.0, "it was not tried again")
    card.undone_seconds = round(done.time - drill.began, 2)
    card.undone_by = f"entry {done.seq}: {done.action}, tried again by the scheduler"
    card.passed = unchanged


def baseline_worse(drill: Drill, card: Card) -> None:
    """A gate turns it down; the one before counts."""
    counts = drill.lineage.refresh().decided.baseline
    retrained(drill, HOLDFAST_RETRAIN__RATE="30.0", HOLDFAST_RETRAIN__EPOCHS="1", HOLDFAST_GATES__TOLERANCE="0.01")
    entry = drill.until(lambda: _said(drill, "refuse_baseline"), 10.0, "no gate turned it down")
    card.seen_seconds = card.undone_seconds = round(entry.time - drill.began, 2)
    card.seen_as = f"entry {entry.seq}: {entry.why}"
    card.undone_by = f"baseline {counts} counts as before"
    card.passed = drill.lineage.refresh().decided.baseline == counts and not drill.lineage.decided.fallen(
        drill.champion
    )


def store_away(drill: Drill, card: Card) -> None:
    """Answers come from memory, learning goes on, and nothing is lost."""
    if drill.stage.relay is None:
        raise CommandError("there is no object store to cut")
    drill.stage.relay.cut()
    time.sleep(AWAY_SECONDS)
    drill.stage.relay.mend()
    card.seen_seconds, card.seen_as = 0.0, "answers came from memory"
    newest = drill.lineage.refresh().highest
    drill.until(lambda: drill.lineage.refresh().highest > newest + 1, 60.0, "no snapshot was written afterwards")
    card.undone_seconds, card.undone_by = round(time.time() - drill.began, 2), "snapshots are written again"
    caught_up(drill, card)
