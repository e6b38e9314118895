"""Looks: what the guard has seen of a learner on the holdout so far. A small blob beside each scored snapshot.

A verdict is a function of the snapshot, its evidence, the ledger, and the looks before it; all of them are in the
store, so that any verdict can be computed again.
"""

import msgspec

from learners.evidence.lane import Lane, after_revert, look
from snapshots.errors import DamagedError
from snapshots.lineage import Lineage
from snapshots.moved.memory import Memory
from snapshots.store.store import Store


class Wait(msgspec.Struct, frozen=True):
    """Since when a slice is worse on the holdout, and since when its fresh events say otherwise (moved).

    Each a pair of events learnt and the snapshot's time (Unix seconds).
    """

    worse: tuple[int, float]
    moved: tuple[int, float] | None = None


class Looks(msgspec.Struct, frozen=True):
    """The state before this look, and what the look saw.

    ``lanes`` and ``losses`` are by holdout version and slice; ``learnt`` was the learner's count at the last look that
    counted; ``passing`` are the last 21 passing looks (snapshot, loss), ``recent`` whether each of the last 21 looks
    passed; ``reference`` is the one wanted so far, ``taken_up`` whether the trainer compared with it then. ``counted``:
    enough was learnt since the last look for this one to count. ``memory`` is that of ``guard.moved = "auto"``, and
    ``passes`` the snapshot that it compared with, with the events it had learnt.
    """

    previous: int | None = None
    learnt: int = -1
    lanes: dict[int, dict[str, Lane]] = {}
    waits: dict[str, Wait] = {}
    passing: list[tuple[int, float]] = []
    reference: int | None = None
    losses: dict[int, dict[str, float]] = {}
    counted: bool = True
    waits_after: dict[str, Wait] = {}
    passing_after: list[tuple[int, float]] = []
    recent: list[bool] = []
    recent_after: list[bool] = []
    reference_after: int | None = None
    taken_up: bool = False
    taken_up_after: bool = False
    memory: Memory = msgspec.field(default_factory=Memory)
    memory_after: Memory = msgspec.field(default_factory=Memory)
    passes: list[tuple[int, int]] = []

    def lanes_after(self, number: int, tolerances: dict[int, float]) -> dict[int, dict[str, Lane]]:
        """The lanes with this look in them."""
        if not self.counted:
            return self.lanes
        return {
            version: {
                name: look(self.lanes.get(version, {}).get(name, Lane()), loss, tolerances[version], number, len(found))
                for name, loss in found.items()
            }
            for version, found in self.losses.items()
        }


def name_of(number: int, learner: str) -> str:
    """The name of a learner's looks in the store: beside the snapshot, and deleted with it."""
    return f"snapshots/{number:012d}/{learner}.looks"


def read(store: Store, number: int, learner: str) -> Looks | None:
    """Return the looks beside a snapshot; None when it was not scored."""
    data = store.get(name_of(number, learner))
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Looks)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
        raise DamagedError(f"{name_of(number, learner)} is damaged: {cause}") from cause


def write(store: Store, number: int, learner: str, looks: Looks) -> bool:
    """Write the looks of a snapshot; the first ones written count."""
    return store.create(name_of(number, learner), msgspec.json.encode(looks))


def before(lineage: Lineage, number: int, learner: str, tolerances: dict[int, float]) -> Looks:
    """The state that a look at ``number`` goes on from: the newest older look of its line, or the revert's target's."""
    part = lineage.part(number, learner)
    line = part.line if part else 0
    latest = None
    for earlier in reversed([one for one in lineage.numbers if one < number]):
        latest = _after(lineage.store, earlier, learner, tolerances)
        if latest is None:
            continue
        older = lineage.part(earlier, learner)
        if older is not None and older.line == line:
            return latest
        break
    if latest is None:
        return Looks()
    # A revert began this line. Levels are kept, since only better looks ever lower them; the rest is the target's, and
    # the target is what the line is compared with: what the target itself was compared with may be gone.
    began = lineage.decided.by_number.get(line)
    target = began.snapshot if began is not None else None
    found = _after(lineage.store, target, learner, tolerances) if target is not None else None
    lanes = {version: {name: after_revert(one) for name, one in of.items()} for version, of in latest.lanes.items()}
    return Looks(
        previous=latest.previous,
        lanes=lanes,
        passing=found.passing if found else [],
        reference=target,
        memory=latest.memory.after_revert(),
    )


def _after(store: Store, number: int, learner: str, tolerances: dict[int, float]) -> Looks | None:
    """The state after the look at a snapshot, when there was one."""
    found = read(store, number, learner)
    if found is None:
        return None
    known = {version: tolerances.get(version, 1.0) for version in found.losses}
    return Looks(
        previous=number,
        learnt=found.learnt,
        lanes=found.lanes_after(number, known),
        waits=found.waits_after,
        passing=found.passing_after,
        recent=found.recent_after,
        reference=found.reference_after,
        taken_up=found.taken_up_after,
        memory=found.memory_after,
    )
