"""Verdicts: what the guard found about one learner in one snapshot. Values, kept beside the snapshots."""

import logging
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from snapshots.errors import DamagedError
from snapshots.store.numbers import number_in
from snapshots.store.store import Store

log = logging.getLogger("holdfast.snapshots")
Finding = Literal["pass", "suspect", "fail", "skipped"]
_SHARD = 1000
_PACKED = "packed-"


class Verdict(msgspec.Struct, frozen=True):
    """``created`` is the snapshot's time, ``judged`` the verdict's, in Unix seconds. ``why`` is one sentence.

    ``found`` says which row of the guard's table it is, and ``slices`` where (empty name: the whole stream).
    ``holdout`` is the version that it was scored on, ``reference`` the snapshot that the learner is compared with from
    here on, ``previous`` the snapshot whose looks this one goes on from, ``details`` the figures per slice, ``rules``
    what the guard was configured with then. ``serves`` is the snapshot that answers from here on although this one did
    not pass; None: whatever answered before goes on.
    """

    learner: str
    snapshot: int
    line: int
    verdict: Finding
    why: str
    figures: dict[str, float]
    created: float
    judged: float
    found: str = ""
    slices: list[str] = []
    holdout: int | None = None
    reference: int | None = None
    previous: int | None = None
    details: dict[str, dict[str, Any]] = {}
    rules: dict[str, Any] = {}
    serves: int | None = None

    @property
    def answers(self) -> int | None:
        """The snapshot that answers from here on: itself when it passed; None when it changes nothing."""
        return self.snapshot if self.verdict == "pass" else self.serves


def shard(number: int) -> str:
    """The folder of verdicts that a snapshot's number falls in."""
    return f"verdicts/{number // _SHARD:09d}/"


def name_of(number: int, learner: str) -> str:
    """The name of a verdict in the store."""
    return f"{shard(number)}{number:012d}-{learner}.json"


def key_of(name: str) -> tuple[int, str] | None:
    """Return the snapshot's number and the learner of a verdict's name; None for a foreign name."""
    digits, _, learner = name.rsplit("/", 1)[1].removesuffix(".json").partition("-")
    number = number_in(digits, "", "", 12)
    return (number, learner) if number is not None and learner else None


def give(store: Store, verdict: Verdict) -> bool:
    """Write a verdict; the first one given counts. Tell whether it was this one."""
    return store.create(name_of(verdict.snapshot, verdict.learner), msgspec.json.encode(verdict) + b"\n")


def read(store: Store, number: int, learner: str) -> Verdict | None:
    """Return the verdict on a learner's part of a snapshot, if there is one; a damaged one is a fail that says so."""
    name = name_of(number, learner)
    try:
        data = store.get(name)
        if data is None:
            return None
        return msgspec.json.decode(data, type=Verdict)
    except (DamagedError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
        log.error("%s is not a verdict: %s; the snapshot counts as failed", name, cause)
        return Verdict(learner, number, -1, "fail", f"its verdict is damaged: {cause}", {}, 0.0, 0.0)


def pack(folder: str, given: Sequence[Verdict]) -> tuple[str, bytes]:
    """Return name and bytes of a blob that holds the verdicts of a folder, without the figures per slice."""
    slim = [msgspec.structs.replace(one, details={}, rules={}) for one in given]
    newest = int(max(one.judged for one in given))
    return f"{folder}{_PACKED}{newest}", zlib.compress(msgspec.json.encode(slim), 9)


def is_pack(name: str) -> bool:
    """Tell whether a name is that of packed verdicts."""
    return name.rsplit("/", 1)[1].startswith(_PACKED)


def packed_at(name: str) -> float:
    """When the newest of a pack was judged, in Unix seconds."""
    return float(name.rsplit(_PACKED, 1)[1])


def unpack(store: Store, name: str) -> list[Verdict]:
    """Return the verdicts of a pack; none when it is gone or damaged, which is said."""
    try:
        data = store.get(name)
        return msgspec.json.decode(zlib.decompress(data), type=list[Verdict]) if data is not None else []
    except (DamagedError, zlib.error, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
        log.error("%s does not decode, so what it says of the past is lost: %s", name, cause)
        return []
