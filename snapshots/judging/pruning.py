"""What of a store may go, so that disk and memory are bounded: decided and deleted by the trainer alone.

Order matters throughout: names are listed first, then it is made sure that no other trainer has taken over, then the
lineage is looked at again. So what is listed was there before any later trainer began, and nothing that it writes is
deleted.
"""

import logging
from collections.abc import Callable, Sequence

from snapshots.decisions.head import Present
from snapshots.decisions.rollout import candidate_of
from snapshots.errors import DamagedError
from snapshots.judging import looks as looks_
from snapshots.lineage import Lineage
from snapshots.records import cut as snapshots
from snapshots.records import verdict as verdicts
from snapshots.records.retention import Keep, kept
from snapshots.store.spans import numbers_of
from snapshots.store.store import claim

log = logging.getLogger("holdfast.trainer")
_DAY_SECONDS = 86_400.0
#: verdicts are looked through once in so many snapshots
_SELDOM = 100
#: how many snapshots back the newest look is searched
_LOOKED_BACK = 20
#: how many snapshots that failed are kept, so that their verdicts can be computed again
_CONDEMNED = 10
#: how many snapshots that a head was signed for go at once
_TOGETHER = 10


def forget(view: Lineage, keep: Keep, refuse_superseded: Callable[[], None], now: float) -> None:
    """Delete what ``keep`` no longer asks for. ``view`` is looked at anew; ``now`` is in Unix seconds."""
    view.refresh()
    void = late(view)
    unjudged = False
    going = [*forgettable(view, keep), *void]
    if not _let_go(view, going, now):
        going = []
    for number in going:
        refuse_superseded()
        if number in void:
            log.warning("snapshot %d is void: it lies beyond where this epoch began, and is removed", number)
        if number not in needed(view):  # somebody may have just decided to go back to it
            unjudged |= number not in void and bool(view.waiting(number))
            snapshots.remove(view.store, number)
    _forget_rows(view, refuse_superseded)
    if view.highest % _SELDOM == 0:
        if unjudged:
            log.warning("old snapshots are removed that no guard has judged: is holdfast guard running?")
        _pack_verdicts(view, refuse_superseded)
        _forget_packs(view, keep, now)


def _let_go(view: Lineage, going: Sequence[int], now: float) -> bool:
    """Sign a head that no longer speaks for them before any is deleted, so that none seems to be taken away.

    Tell whether they may go: a few wait for more, since each head is a blob.
    """
    head = view.ledger.heads.newest if view.ledger.heads is not None else None
    signed = numbers_of(head.kept).intersection(going) if head is not None else set()
    if not signed:
        return True
    if len(signed) < _TOGETHER:
        return False
    view.ledger.sign_head(-1, now, Present(gone=going))
    newest = view.ledger.heads.newest if view.ledger.heads is not None else None
    return newest is not None and not numbers_of(newest.kept).intersection(going)


def late(view: Lineage) -> list[int]:
    """Void snapshots that a superseded trainer wrote; those from before a new lineage began are kept."""
    began = max((epoch.number for epoch in view.epochs if epoch.start is None), default=0)
    return [number for number in view.void if (found := view.manifest(number)) and found.epoch >= began]


def references(view: Lineage) -> dict[str, int]:
    """For each learner, the snapshot that the guard last chose to compare it with, on its present line."""
    found: dict[str, int] = {}
    newest = view.newest()
    for learner in newest.learners if newest else {}:
        line = view.decided.line(learner).number
        for number in reversed(view.numbers):
            verdict = view.verdict(number, learner)
            if verdict is not None and verdict.line != line:
                break
            if verdict is not None and verdict.reference is not None:
                found[learner] = verdict.reference
                break
    return found


def needed(view: Lineage) -> set[int]:
    """Snapshots that a decision names: pinned, a revert's target, or a candidate. Looks into the ledger again."""
    view.refresh_entries()
    reverts = {entry.snapshot for entry in view.decided.reverts if entry.snapshot is not None}
    rollout = view.decided.rollout
    meant = candidate_of(rollout.candidate) if rollout is not None and rollout.active else None
    candidates = {meant.number} if meant is not None and meant.kind == "snapshot" else set()
    return view.decided.pinned | reverts | candidates


def forgettable(view: Lineage, keep: Keep) -> list[int]:
    """The snapshots that may go: not kept, pinned, served, a revert's target or reference, newest, or the first.

    Passing ones are kept as ``keep`` says, and so are, apart from them, those that nobody has judged yet: a guard that
    is away for days does not fill the disk.
    """
    if not view.numbers:
        return []
    whole = [number for number in view.numbers if view.manifest(number) is not None]
    champion, newest = view.champion(), view.newest()
    waiting = {number for number in whole if view.waiting(number)}
    passing = [number for number in whole if champion is not None and view.passed(number, champion)]
    always = needed(view) | {view.numbers[0]} | set(view.numbers[-max(1, keep.last) :]) | _first_of_lines(view)
    for learner in newest.learners if newest else {}:
        serving, line = view.serving(learner), view.decided.line(learner)
        wanted = (serving, line.target, newest.learners[learner].reference if newest else None)
        always |= {number for number in wanted if number is not None}
        always |= _compared(view, learner)
    always |= set(references(view).values()) | condemned(view)
    for group in (passing, sorted(waiting)):
        dated = [(number, found.created) for number in group if (found := view.manifest(number)) is not None]
        always |= kept(dated, keep)
    return [number for number in whole if number not in always]


def _compared(view: Lineage, learner: str) -> set[int]:
    """References, and the passing looks that the next one is chosen from; they may be older than what is kept.

    Those of the newest look, and of the target of the last revert, which a new line begins with.
    """
    numbers = [*reversed(view.numbers[-_LOOKED_BACK:])]
    newest = next((look for number in numbers if (look := _look(view, number, learner)) is not None), None)
    target = view.decided.line(learner).target
    begun = _look(view, target, learner) if target is not None else None
    found: set[int] = set()
    for look in (newest, begun):
        if look is not None:
            found |= {number for number, _ in look.passing_after}
            found |= {look.reference_after} if look.reference_after is not None else set()
    return found


def _look(view: Lineage, number: int, learner: str) -> looks_.Looks | None:
    try:
        return looks_.read(view.store, number, learner)
    except DamagedError:
        return None


def condemned(view: Lineage) -> set[int]:
    """The newest snapshots that failed: a notification names them, and somebody will ask why."""
    given = [(n, view.verdict(n, name)) for n in view.numbers for name in _learners(view)]
    return set(sorted({n for n, one in given if one is not None and one.verdict == "fail"})[-_CONDEMNED:])


def _learners(view: Lineage) -> list[str]:
    newest = view.newest()
    return list(newest.learners) if newest is not None else []


def _first_of_lines(view: Lineage) -> set[int]:
    """The first snapshot of every line: where a quarantine ends."""
    first: dict[tuple[str, int], int] = {}
    for number in view.numbers:
        manifest = view.manifest(number)
        for name, part in manifest.learners.items() if manifest else ():
            first.setdefault((name, part.line), number)
    return {number for (_, line), number in first.items() if line > 0}


def _forget_rows(view: Lineage, refuse_superseded: Callable[[], None]) -> None:
    """Delete holdout rows, sealed ones too, that no snapshot names any more."""
    there = view.store.names("holdout/")
    refuse_superseded()
    view.refresh()
    named: set[str] = set()
    for number in (*view.numbers, *view.void):
        manifest = view.manifest(number)
        if manifest is not None:
            named |= {part.name for part in manifest.holdout.chunks}
            named |= {version.part.name for version in manifest.holdout.versions}
    if view.damaged or not view.numbers:
        return
    for name in there:
        if name not in named:
            view.store.delete(name)


def _pack_verdicts(view: Lineage, refuse_superseded: Callable[[], None]) -> None:
    """Put the verdicts of a thousand old snapshots into one blob, once all are judged or gone.

    The verdicts of snapshots that are still there stay beside it until their snapshot goes.
    """
    there = view.store.names("verdicts/")
    newest = verdicts.shard(view.highest)
    packed = {name for name in there if verdicts.is_pack(name)}
    folders: dict[str, list[str]] = {}
    for name in there:
        if verdicts.key_of(name) is not None:
            folders.setdefault(name.rsplit("/", 1)[0] + "/", []).append(name)
    present = set(view.numbers)
    for folder, names in folders.items():
        numbers = {key[0] for name in names if (key := verdicts.key_of(name))}
        if folder >= newest or any(view.waiting(number) for number in present if verdicts.shard(number) == folder):
            continue
        done = any(name.startswith(folder) for name in packed)
        gone = [name for name in names if (key := verdicts.key_of(name)) and key[0] not in present]
        if not done:
            refuse_superseded()
            given = [v for n in names if (k := verdicts.key_of(n)) and (v := verdicts.read(view.store, *k)) is not None]
            claim(view.store, *verdicts.pack(folder, given))
            log.info("the verdicts on %d snapshots up to %d are packed", len(numbers), max(numbers))
        for name in gone:
            view.store.delete(name)


def _forget_packs(view: Lineage, keep: Keep, now: float) -> None:
    """Delete packed verdicts that are older than ``keep.verdict_days``."""
    for name in view.store.names("verdicts/"):
        if verdicts.is_pack(name) and now - verdicts.packed_at(name) > keep.verdict_days * _DAY_SECONDS:
            view.store.delete(name)
