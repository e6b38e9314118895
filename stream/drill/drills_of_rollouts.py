"""Drills of a roll-out: a candidate that is worse, fails or is slow is taken back; a ramp outlives who dies."""

import os
import signal
import time

from snapshots.decisions.rollout import Rollout
from stream.drill.candidates import CANARY
from stream.drill.card import Card, Drill
from stream.drill.drills_of_processes import away
from stream.errors import CommandError
from stream.process.presence import present


def taken_back(drill: Drill, card: Card) -> None:
    """Begin the roll-out, give it a share, and wait until somebody takes it back."""
    _begin(drill)
    if _over(drill) is None:
        _holdfast(drill, "rollout", "step", "50", "--why", "a drill")
    if drill.name == "crashing-canary":
        drill.caller.odd = 10
    over = drill.until(lambda: _over(drill), drill.seconds, "the candidate was not taken back")
    card.seen_seconds = card.undone_seconds = round(over.since - drill.began, 2)
    card.seen_as, card.undone_by = over.why, over.by
    time.sleep(0.5)
    before = drill.caller.routed(CANARY)
    time.sleep(1.0)
    after = drill.caller.routed(CANARY)
    card.passed = over.state == "aborted" and after == before


def broker_away(drill: Drill, card: Card) -> None:
    """The source is away in the middle of a ramp: the same share goes on answering, and nobody's route changes."""
    before = _ramp(drill)
    routes = drill.caller.routes_of_ids()
    away(drill, card)
    _same(drill, card, before, routes)


def serving_killed(drill: Drill, card: Card) -> None:
    """Serving is killed in the middle of a ramp: it comes back to the same share and the same routes."""
    before = _ramp(drill)
    routes = drill.caller.routes_of_ids()
    words = [word for word in present(drill.lineage.store, time.time()) if word["role"] == "serving"]
    for word in words:
        os.kill(word["pid"], signal.SIGKILL)
    killed = {word["pid"] for word in words}
    card.seen_seconds, card.seen_as = 0.0, f"{len(killed)} serving process ended"

    def back() -> bool:
        there = [one for one in present(drill.lineage.store, time.time()) if one["role"] == "serving"]
        return any(one["pid"] not in killed for one in there) and drill.caller.answers[-1][1] is not None

    drill.until(back, 60.0, "serving did not come back")
    card.undone_seconds, card.undone_by = round(time.time() - drill.began, 2), "up started it again"
    time.sleep(2.0)
    card.passed = True
    _same(drill, card, before, routes)


def _same(drill: Drill, card: Card, before: Rollout, routes: dict[str, str]) -> None:
    """The step is the one of before, and each id that was asked again goes the way that it went."""
    now = drill.lineage.refresh().decided.rollout
    again = drill.caller.routes_of_ids()
    card.seen_as += f"; the roll-out stays at {before.share:g} %"
    card.passed = bool(card.passed and now == before and routes == again and CANARY in again.values())


def _ramp(drill: Drill) -> Rollout:
    """A roll-out that stands at half of the requests."""
    _begin(drill)
    _holdfast(drill, "rollout", "pause", "--why", "a drill")
    _holdfast(drill, "rollout", "step", "50", "--why", "a drill")
    asked = time.time()
    drill.until(lambda: time.time() > asked + 5 and drill.caller.routed(CANARY), 30.0, "the candidate answers nothing")
    found = drill.lineage.refresh().decided.rollout
    if found is None:
        raise CommandError("the roll-out did not begin")
    return found


def _begin(drill: Drill) -> None:
    drill.until(lambda: drill.lineage.refresh().serving(CANARY) is not None, 60.0, f"no snapshot of {CANARY} passed")
    _holdfast(drill, "rollout", "start", CANARY, "--why", "a drill")


def _over(drill: Drill) -> Rollout | None:
    found = drill.lineage.refresh().decided.rollout
    return found if found is not None and not found.active else None


def _holdfast(drill: Drill, *words: str) -> None:
    """Run a command that has to work."""
    done = drill.holdfast(*words)
    if done.returncode:
        raise CommandError(f"holdfast {' '.join(words)} failed: {done.stderr.strip()}")
