"""What served at a moment, and why: from the ledger and the verdicts alone, also after snapshots are gone."""

import msgspec

from snapshots.decisions.decided import line_of
from snapshots.decisions.ledger import Entry
from snapshots.records import verdict as verdicts
from snapshots.records.verdict import Verdict
from snapshots.store.store import Store


class Served(msgspec.Struct, frozen=True):
    """The snapshot that answered for ``learner`` at ``time`` (None: nothing had passed), and why it did."""

    time: float
    learner: str
    snapshot: int | None
    why: str


def all_verdicts(store: Store, learner: str) -> list[Verdict]:
    """Every verdict on a learner that is kept, oldest snapshot first."""
    found: dict[int, Verdict] = {}
    for name in store.names("verdicts/"):
        key = verdicts.key_of(name)
        if key is not None and key[1] == learner and (verdict := verdicts.read(store, *key)) is not None:
            found[key[0]] = verdict
    for name in store.names("verdicts/"):  # listed after: what was packed meanwhile is found here
        if verdicts.is_pack(name):
            for verdict in verdicts.unpack(store, name):
                if verdict.learner == learner:
                    found.setdefault(verdict.snapshot, verdict)
    return [found[number] for number in sorted(found)]


def champion_at(entries: list[Entry], champion: str, moment: float) -> str:
    """Who was champion at a moment; ``champion`` is the one of now."""
    promotions = [entry for entry in entries if entry.action == "promote" and entry.learner is not None]
    before = [entry.learner for entry in promotions if entry.time <= moment and entry.learner is not None]
    after = [entry.replaces for entry in promotions if entry.time > moment and entry.replaces]
    return before[-1] if before else after[0] if after else champion


def served_at(entries: list[Entry], given: list[Verdict], learner: str, moment: float) -> Served:
    """Return what served a learner's requests at a moment (Unix seconds): its snapshots, or the baseline."""
    switches = [e for e in entries if e.learner == learner and e.action in ("fall_back", "return") and e.time <= moment]
    if switches and switches[-1].action == "fall_back":
        fell = switches[-1]
        return Served(
            moment, "baseline", fell.baseline, f"entry {fell.seq} by {fell.by}: {fell.why or 'no reason given'}"
        )
    line = line_of([entry for entry in entries if entry.time <= moment], learner)
    revert = next((entry for entry in entries if entry.seq == line.number), None)
    passing = [v for v in given if v.verdict == "pass" and v.judged <= moment and v.line == line.number]
    if passing and not line.stay:
        best = passing[-1]
        return Served(moment, learner, best.snapshot, f"the newest of line {line.number} that had passed: {best.why}")
    if revert is None:
        return Served(moment, learner, None, "no snapshot had passed yet")
    return Served(
        moment,
        learner,
        line.target,
        f"target of the revert in entry {revert.seq} by {revert.by}: {revert.why or 'no reason given'}",
    )
