"""The circuit breaker for learning: what opens it, when it is tried again, and when it closes. Pure but for reading.

Its state is in the ledger: ``open_breaker``, ``half_open``, ``close_breaker``. While it is open a learner's events are
predicted and scored, and quarantined (or the trainer waits, ``breaker.when_open``); predictions go on.
"""

import msgspec

from snapshots import Lineage
from snapshots.decisions.ledger import Action, Entry
from snapshots.moved import jumps
from snapshots.records.manifest import Manifest
from stream.refusal import counted
from stream.settings import Breaker


class Step(msgspec.Struct, frozen=True):
    """What to write into the ledger next, and why."""

    action: Action
    why: str
    cause: str = "breaker"


def next_step(lineage: Lineage, learner: str, rules: Breaker, now: float, *, fresh: bool = True) -> Step | None:
    """Return the breaker's next step, or None when it stays as it is. ``fresh``: enough is new to look for a jump."""
    state = lineage.decided.breaker(learner)
    since = lineage.decided.breakers.get(learner)
    reverts = [e for e in lineage.decided.reverts if _by_guard(e, learner) and (since is None or e.seq > since.seq)]
    if state == "open":
        waited = now - (since.time if since else now)
        if waited < rules.half_open_seconds:
            return None
        return Step("half_open", f"open for {waited:,.0f} s; {rules.half_open_events:,} events are tried")
    if state == "half_open":
        return _tried(lineage, learner, rules, reverts, since)
    recent = [entry for entry in reverts if entry.time > now - rules.seconds]
    if len(recent) >= rules.reverts:
        return Step("open_breaker", f"{len(recent)} reverts within {rules.seconds:,.0f} s; the last: {recent[-1].why}")
    return _refused_lately(lineage, rules, since) or (_jumped(lineage, learner, rules, since) if fresh else None)


def _by_guard(entry: Entry, learner: str) -> bool:
    return entry.by == "guard" and entry.learner == learner


def _tried(lineage: Lineage, learner: str, rules: Breaker, reverts: list[Entry], since: Entry | None) -> Step | None:
    """Half open: one revert opens it again; enough events that passed the guard close it."""
    if reverts:
        return Step("open_breaker", f"reverted again while it was half open: {reverts[-1].why}")
    began = since.time if since else 0.0
    tried = [n for n in lineage.numbers if (m := lineage.manifest(n)) is not None and m.created >= began]
    parts = [part for number in tried if (part := lineage.part(number, learner)) is not None]
    passed = [number for number in tried if lineage.passed(number, learner)]
    learnt = parts[-1].learnt - parts[0].learnt if parts else 0
    if learnt >= rules.half_open_events and passed and passed[-1] == tried[-1]:
        return Step("close_breaker", f"{learnt:,} events were learnt, and the guard passed them")
    return None


def _refused_lately(lineage: Lineage, rules: Breaker, since: Entry | None) -> Step | None:
    """Open when too many of the newest records are dead letters, among at least so many."""
    newest = lineage.newest()
    for number in reversed(lineage.numbers):
        older = lineage.manifest(number)
        if newest is None or older is None or (since is not None and older.created < since.time):
            return None
        if newest.counts.consumed - older.counts.consumed >= rules.dead_letter_events:
            share = _share(older, newest)
            before = older.counts.refused
            lately = {name: count - before.get(name, 0) for name, count in newest.counts.refused.items()}
            why = (
                f"{share:.0%} of the last records were refused ({counted(lately)}; holdfast dead-letters list shows "
                "them), and breaker.dead_letter_share is"
            )
            limit = rules.dead_letter_share
            return Step("open_breaker", f"{why} {limit:.0%}") if share > limit else None
    return None


def _jumped(lineage: Lineage, learner: str, rules: Breaker, since: Entry | None) -> Step | None:
    """Open when the label or a feature is no longer distributed as it was at the reference."""
    if rules.jump >= 1:
        return None
    found = jumps.find(lineage, learner, rules.jump, rules.jump_ignore, since.time if since else 0.0)
    return Step("open_breaker", found[0].words(found[1]), cause="jump") if found else None


def _share(older: Manifest, newer: Manifest) -> float:
    refused = newer.counts.dead_lettered - older.counts.dead_lettered
    return refused / (newer.counts.consumed - older.counts.consumed)
