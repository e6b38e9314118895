"""How the data moved, feature by feature: the newest held-out rows against the last retrain's, or the holdout's.

Held-out rows are a fair sample of what comes, whole rows, and in the store; so nothing has to be collected for this.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from learners.drift import moved
from learners.event import Features
from snapshots import Lineage
from snapshots.moved.jumps import window
from snapshots.records import baselines
from snapshots.records.held_rows import read_version
from snapshots.records.manifest import Manifest

#: rows of each side, and how few tell nothing
_ROWS, _FEWEST = 1000, 50
_FEATURES, _NEW_VALUES = 200, 5


class Sides(msgspec.Struct):
    """Rows of then and of now, when then was (Unix seconds), and what its rows are; ``why`` where rows are lacking."""

    then: list[dict[str, Any]] = []
    now: list[dict[str, Any]] = []
    since: float | None = None
    against: str = ""
    why: str = ""


def sides(lineage: Lineage) -> Sides:
    """Read what is compared: all that wants the store."""
    newest = lineage.newest()
    if newest is None:
        return Sides(why="no snapshot has been written yet")
    now = [row.event().features.flat() for row in window(lineage.store, newest, _ROWS)]
    then, since, what = _before(lineage, newest)
    few = min(len(then), len(now)) < _FEWEST
    why = f"{len(now)} held-out rows of now and {len(then)} of then: {_FEWEST} tell something" if few else ""
    return Sides(then, now, since, what, why)


def data(found: Sides) -> dict[str, Any]:
    """Each feature then and now, what moved furthest first; ``why`` says what is lacking where there is nothing.

    ``psi`` and ``ks`` (with its ``chance``, numbers only), means, missing shares, and values that were never there.
    """
    if found.why:
        return {"features": [], "why": found.why}
    then, now = found.then, found.now
    features = [{**msgspec.to_builtins(one), **_more(one.feature, then, now)} for one in moved(then, now, _FEATURES)]
    rows = [len(then), len(now)]
    return {"features": features, "rows": rows, "since": found.since, "against": found.against, "why": ""}


def _before(lineage: Lineage, newest: Manifest) -> tuple[list[dict[str, Any]], float | None, str]:
    """Rows of then, when that was (Unix seconds), and what they are."""
    number = lineage.decided.baseline
    trained = baselines.read(lineage.store, number) if number is not None else None
    if trained is not None and trained.sample is not None and lineage.store.get(trained.sample.name) is not None:
        kept = msgspec.msgpack.decode(baselines.read_part(lineage.store, trained.sample), type=list[bytes])
        return (
            [Features(raw).flat() for raw in kept[-_ROWS:]],
            trained.last_time,
            f"what baseline {number} was trained on",
        )
    if not newest.holdout.versions:
        return [], None, "no holdout is sealed yet"
    version = newest.holdout.versions[-1]
    rows = read_version(lineage.store, version)[:_ROWS]
    return [row.event().features.flat() for row in rows], version.sealed, f"holdout version {version.number}"


def _more(name: str, then: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Missing shares and means of both sides, and values of now that then had not."""
    sides = [[row[name] for row in rows if name in row] for rows in (then, now)]
    missing = [1 - len(side) / len(rows) for side, rows in zip(sides, (then, now), strict=True)]
    numbers = [[value for value in side if type(value) is float] for side in sides]
    means = [sum(side) / len(side) if side else None for side in numbers]
    words = [[str(value) for value in side if type(value) is not float] for side in sides]
    fresh = Counter(words[1])
    for value in set(words[0]):
        del fresh[value]
    return {
        "missing": missing,
        "means": means,
        "new_values": [value[:60] for value, _ in fresh.most_common(_NEW_VALUES)],
        "new_share": sum(fresh.values()) / max(1, len(words[1])),
    }
