"""Jumps of the label or of a feature: the newest held-out rows against those from before the reference.

Rows that are held out are a fair sample of what comes, so nothing else has to be collected. A jump is a distance of at
least ``breaker.jump`` that chance cannot explain, in something that stood still before: what always moves (a clock, a
counter) is nothing new.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import numpy as np

from snapshots.errors import DamagedError
from snapshots.lineage import Lineage
from snapshots.records import cut as snapshots
from snapshots.records import manifest as manifests
from snapshots.records.held_rows import HeldRow, rows_of
from snapshots.records.manifest import Manifest
from snapshots.store.store import Store

#: rows of a window, and how few are compared
WINDOW_ROWS, FEWEST_ROWS = 200, 50
LABEL = "the label"
_CHANCE = 1e-9
_CATEGORIES, _MOST_FEATURES = 20, 100
#: recent events that lie further from the holdout than this, and than chance explains, are warned of
_MOVED = 0.1


class Jump(msgspec.Struct, frozen=True):
    """The ``distance`` (0 to 1) of something between two windows of ``rows`` rows; ``chance`` alone makes less."""

    what: str
    distance: float
    chance: float
    rows: tuple[int, int]

    def words(self, reference: int) -> str:
        """In a sentence."""
        before, now = self.rows
        return (
            f"{self.what} is distributed otherwise than at snapshot {reference}: distance {self.distance:.2f} between "
            f"{before} held-out rows then and {now} now, where chance makes less than {self.chance:.2f}"
        )


def window(store: Store, manifest: Manifest, most: int = WINDOW_ROWS) -> list[HeldRow]:
    """The newest held-out rows at a snapshot, oldest first; fewer when a holdout was sealed just before."""
    rows = list(snapshots.read_shared(store, manifest).held.recent)
    for part in reversed(manifest.holdout.chunks):
        if len(rows) >= most:
            break
        if part.name.startswith("holdout/rows-"):
            rows = [*rows_of(manifests.read(store, part), part.name), *rows]
    return rows[-most:]


def distance(before: Sequence[Any], now: Sequence[Any]) -> tuple[float, int]:
    """How far two samples lie apart, in [0, 1], and over how many cells; None is a value that is missing.

    Numbers: Kolmogorov's distance, the largest difference of the two distribution functions (1 cell). Everything else:
    the total variation between the shares of the 20 most frequent values of ``before`` and of the rest.
    """
    missing = abs(sum(v is None for v in before) / len(before) - sum(v is None for v in now) / len(now))
    before, now = [v for v in before if v is not None], [v for v in now if v is not None]
    if not before or not now:
        return missing, 1
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (*before, *now)):
        one, other = np.sort(np.array(before, float)), np.sort(np.array(now, float))
        points = np.concatenate((one, other))
        below = [np.searchsorted(sample, points, side="right") / len(sample) for sample in (one, other)]
        return max(missing, float(np.abs(below[0] - below[1]).max())), 1
    frequent = {value for value, _ in Counter(map(str, before)).most_common(_CATEGORIES)}
    shares = [Counter(v if v in frequent else None for v in map(str, sample)) for sample in (before, now)]
    cells = {*shares[0], *shares[1]}
    apart = sum(abs(shares[0][v] / len(before) - shares[1][v] / len(now)) for v in cells) / 2
    return max(missing, apart), len(cells)


def chance(cells: int, *sizes: int, probability: float = _CHANCE) -> float:
    """The distance that samples of these sizes show by chance with this probability at most: once in 10⁹ times.

    One cell: Dvoretzky, Kiefer and Wolfowitz, with the constant of Massart (Ann. Probab. 18, 1990). More: Bretagnolle
    and Huber, as in van der Vaart and Wellner, Weak Convergence and Empirical Processes, proposition A.6.6.
    """
    return sum(math.sqrt((cells * math.log(2) - math.log(probability)) / (2 * size)) for size in sizes)


def _columns(rows: Sequence[HeldRow], ignored: Collection[str]) -> dict[str, list[Any]]:
    flat = [row.event().features.flat() for row in rows]
    names = list(dict.fromkeys(name for one in flat for name in one if name not in ignored))[:_MOST_FEATURES]
    return {LABEL: [row.label for row in rows], **{name: [one.get(name) for one in flat] for name in names}}


def between(before: Sequence[HeldRow], now: Sequence[HeldRow], ignored: Collection[str] = ()) -> dict[str, Jump]:
    """How far label and features of two windows lie apart, by name; nothing while there are too few rows."""
    if min(len(before), len(now)) < FEWEST_ROWS:
        return {}
    one, other = _columns(before, ignored), _columns(now, ignored)
    found = {}
    for name in dict.fromkeys((*one, *other)):
        apart, cells = distance(one.get(name, [None] * len(before)), other.get(name, [None] * len(now)))
        found[name] = Jump(name, apart, chance(cells, len(before), len(now)), (len(before), len(now)))
    return found


def find(
    lineage: Lineage, learner: str, jump: float, ignored: Collection[str], since: float
) -> tuple[Jump, int] | None:
    """The widest jump since a learner's reference (or since ``since``, Unix seconds), and the snapshot compared with.

    What lay half as far apart before the reference already is left out.
    """
    newest = lineage.newest()
    reference = newest.learners[learner].reference if newest and learner in newest.learners else None
    numbers = [n for n in lineage.numbers if (m := lineage.manifest(n)) is not None and m.created >= since]
    if newest is None or reference is None or not numbers:
        return None
    base = lineage.manifest(max(reference, numbers[0]))
    if base is None:
        return None
    fresh = newest.counts.held_out - base.counts.held_out
    if fresh < FEWEST_ROWS:
        return None
    try:
        then, now = window(lineage.store, base), window(lineage.store, newest, min(fresh, WINDOW_ROWS))
        jumps = [one for one in between(then, now, ignored).values() if one.distance >= max(jump, one.chance)]
        older = _before(lineage, base) if jumps else None
        if older is None:
            return None
        was = between(window(lineage.store, older), then, ignored)
    except DamagedError:
        return None  # said where the snapshot is judged
    apart = {name: one.distance for name, one in was.items()}
    steady = [one for one in jumps if was and apart.get(one.what, 0.0) < one.distance / 2]
    return (max(steady, key=lambda one: one.distance), base.snapshot) if steady else None


def _before(lineage: Lineage, base: Manifest) -> Manifest | None:
    """The newest snapshot whose window ends before that of ``base`` begins."""
    for number in reversed([one for one in lineage.numbers if one < base.snapshot]):
        held = found.counts.held_out if (found := lineage.manifest(number)) is not None else 0
        if FEWEST_ROWS <= held <= base.counts.held_out - WINDOW_ROWS:
            return found
    return None


def moved_away(sealed: Sequence[HeldRow], fresh: Sequence[HeldRow]) -> str | None:
    """Say when rows collected since are distributed otherwise than the sealed ones, in label or features.

    What moves by nature (a clock, a counter, an id) has moved among the sealed rows already, and is left out.
    """
    half = len(sealed) // 2
    was = {name: one.distance for name, one in between(sealed[:half], sealed[half:]).items()}
    found = [one for one in between(sealed, fresh).values() if one.distance > max(_MOVED, one.chance)]
    far = [one for one in found if was.get(one.what, 0.0) < one.distance / 2]
    if not far:
        return None
    widest = sorted(far, key=lambda one: -one.distance)[:5]
    said = ", ".join(f"{one.what} by {one.distance:.2f}" for one in widest)
    return f"recent events have moved away from the holdout (distance of 1 at most): {said}; see holdout refresh"
