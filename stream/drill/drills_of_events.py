"""Drills that change events on their way: seen by the guard, and undone, or nothing to undo."""

import time
from collections.abc import Callable

from snapshots.decisions.ledger import Entry
from stream.demo.waits import first_harm
from stream.drill.card import Card, Drill
from stream.errors import CommandError

_QUIET_SECONDS = 15.0
_HARMLESS = ("shift",)


def changed(drill: Drill, card: Card) -> None:
    """Wait for suspicion and for the revert; or, where nothing is to be undone, for neither."""
    changes = drill.stage.changes
    drill.stage.events.change = changes.change(drill.name) if changes is not None else None
    if drill.name in _HARMLESS:
        deadline = time.monotonic() + _QUIET_SECONDS
        while time.monotonic() < deadline and not drill.stopping():
            time.sleep(0.2)
        reverts = _entries(drill, "revert")
        card.passed = not reverts
        card.undone_by = f"entry {reverts[0].seq}: {reverts[0].why}" if reverts else "nothing to undo"
        _note_seen(drill, card)
        return
    try:
        entry = drill.until(lambda: next(iter(_answers(drill)), None), drill.seconds, "not undone")
    except CommandError as cause:
        _note_seen(drill, card)
        card.undone_by = f"nobody: {cause}"
        held = _entries(drill, "hold")
        if held:
            card.undone_by = f"held by entry {held[0].seq}, for somebody to decide: {held[0].why}"
            card.passed = _good(drill, drill.caller.answers[-1][1])
        return
    _note_seen(drill, card)
    card.undone_seconds = round(entry.time - drill.began, 2)
    done = {"open_breaker": "learning stopped", "hold": "an older snapshot answers"}.get(entry.action)
    if done is not None:
        card.undone_by = f"entry {entry.seq} by {entry.by}: {done}: {entry.why}"
        card.passed = _good(drill, drill.caller.answers[-1][1])
        return
    card.undone_by = f"entry {entry.seq} by {entry.by}: back to snapshot {entry.snapshot}: {entry.why}"
    target = drill.lineage.refresh().manifest(entry.snapshot)
    drill.until(_follows(drill, entry), 10.0, "serving did not follow")
    card.passed = target is not None and target.created <= drill.began


def _good(drill: Drill, number: int | None) -> bool:
    """The snapshot that answers passed the guard."""
    return number is not None and drill.lineage.refresh().passed(number, drill.champion)


def _answers(drill: Drill) -> list[Entry]:
    """What the guard did about it: a revert, a jump that stopped learning, or a hold while an older one answers."""
    stopped = [one for one in _entries(drill, "open_breaker") if one.cause == "jump"]
    return _entries(drill, "revert") or stopped or (_entries(drill, "hold") if _older_answers(drill) else [])


def _older_answers(drill: Drill) -> bool:
    """The snapshot that answers is from before."""
    number = drill.caller.answers[-1][1]
    manifest = drill.lineage.manifest(number) if number is not None else None
    return manifest is not None and manifest.created <= drill.began


def _follows(drill: Drill, entry: Entry) -> Callable[[], bool]:
    def check() -> bool:
        newest = drill.caller.answers[-1][1]
        part = drill.lineage.refresh().part(newest, drill.champion) if newest is not None else None
        return newest == entry.snapshot or (part is not None and part.line >= entry.seq)

    return check


def _entries(drill: Drill, action: str) -> list[Entry]:
    entries = drill.lineage.refresh().entries
    return [e for e in entries if e.action == action and e.learner == drill.champion and e.time >= drill.began]


def _note_seen(drill: Drill, card: Card) -> None:
    harm = first_harm(drill.lineage.refresh(), drill.champion, drill.began)
    if harm is not None:
        number, verdict = harm
        card.seen_seconds = round(verdict.judged - drill.began, 2)
        card.seen_as = f"snapshot {number}: {verdict.verdict}: {verdict.why}"
