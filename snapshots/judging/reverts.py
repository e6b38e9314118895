"""A revert that somebody asks for: to which snapshot, and whether it may be done."""

from snapshots.decisions.ledger import Decision
from snapshots.errors import RefusedError, SnapshotsError
from snapshots.lineage import Lineage
from snapshots.records import cut as snapshots


def ancestry(lineage: Lineage, learner: str) -> list[int]:
    """Passing snapshots that the learner's present state descends from, oldest first."""
    found: list[int] = []
    line, bound = lineage.decided.line(learner), None
    number = line.number
    while True:
        for candidate in lineage.numbers:
            part = lineage.part(candidate, learner)
            if (
                part
                and part.line == number
                and (bound is None or candidate <= bound)
                and lineage.passed(candidate, learner)
            ):
                found.append(candidate)
        revert = next((e for e in lineage.entries if e.seq == number), None)
        target = lineage.part(revert.snapshot, learner) if revert and revert.snapshot is not None else None
        if revert is None or target is None:
            return sorted(found)
        number, bound = target.line, revert.snapshot


def decide_revert(lineage: Lineage, learner: str | None, number: int | None, **details: str | bool) -> Decision:
    """Return the decision to revert, or raise :class:`RefusedError` and change nothing.

    Without ``number``: to the passing snapshot before the one that serves. ``details``: by, why, stay.
    """
    lineage.refresh()
    learner = learner or lineage.champion()
    newest = lineage.newest()
    if newest is None or learner is None:
        raise RefusedError("there is no snapshot yet, so there is nothing to revert")
    if learner not in newest.learners:
        raise RefusedError(f"there is no learner {learner!r}; this lineage has {', '.join(newest.learners)}")
    serving = lineage.serving(learner)
    if number is None:
        earlier = [n for n in ancestry(lineage, learner) if serving is None or n < serving]
        if not earlier:
            which = "no passing snapshot yet" if serving is None else f"no passing snapshot before {serving}"
            raise RefusedError(f"{learner} has {which}; nothing was changed")
        number = earlier[-1]
    _check_target(lineage, learner, number, serving)
    return Decision(action="revert", learner=learner, snapshot=number, **details)  # type: ignore[arg-type]


def _check_target(lineage: Lineage, learner: str, number: int, serving: int | None) -> None:
    manifest = lineage.manifest(number)
    if manifest is None:
        why = lineage.damaged.get(number, "it does not exist")
        raise RefusedError(f"snapshot {number} cannot be reverted to: {why}. See: holdfast snapshots list")
    if learner not in manifest.learners:
        raise RefusedError(f"snapshot {number} holds no {learner}")
    if number == serving:
        raise RefusedError(f"snapshot {number} of {learner} already serves; nothing was changed")
    if not lineage.passed(number, learner):
        found = lineage.verdict(number, learner)
        raise RefusedError(
            f"snapshot {number} of {learner} has not passed the guard "
            f"({found.verdict + ': ' + found.why if found else 'not judged yet'}); nothing was changed"
        )
    try:
        snapshots.verify_all(lineage.store, manifest)
    except SnapshotsError as cause:
        raise RefusedError(f"snapshot {number} is damaged: {cause}; nothing was changed") from cause
