"""What a drill and the demo wait for: that the guard has a level to hold, and that it sees the first harm."""

from snapshots import Lineage
from snapshots.records.verdict import Verdict

_NEWEST = 3


def has_level(lineage: Lineage, learner: str, rows: int = 1) -> bool:
    """Tell whether a holdout of so many rows is sealed, and the learner has a reference and a level on it."""
    newest = lineage.newest()
    if newest is None or not newest.holdout.versions or newest.holdout.versions[-1].rows < rows:
        return False
    verdicts = [v for n in lineage.numbers[-_NEWEST:] if (v := lineage.verdict(n, learner)) is not None]
    levels = [one.details.get("", {}).get("level") for one in verdicts]
    return newest.learners[learner].reference is not None and any(level is not None for level in levels)


def first_harm(lineage: Lineage, learner: str, since: float) -> tuple[int, Verdict] | None:
    """The first snapshot cut after ``since`` (seconds since 1970) that is not to be served, with its verdict.

    One look in a row may be chance: it takes a fail, doubt of the labels, or two suspect looks one after the other.
    """
    first: tuple[int, Verdict] | None = None
    for number in lineage.numbers:
        verdict = lineage.verdict(number, learner)
        if verdict is None or verdict.created < since or verdict.verdict == "skipped":
            continue
        if verdict.verdict == "pass":
            first = None
        elif first is not None or verdict.verdict == "fail" or verdict.found == "moved":
            return first or (number, verdict)
        else:
            first = (number, verdict)
    return None
