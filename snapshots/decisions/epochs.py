"""Epochs: which trainer writes the lineage. Each trainer that starts takes the next one; the one before has ended.

An epoch's file is created if absent, and names the snapshot that its trainer resumed from. Snapshots of older epochs
beyond that one are void, whenever they were written: they are never judged, served or resumed from. So a trainer that
was asleep for an hour can write what it likes when it wakes up; nothing of it counts.
"""

import secrets
from collections.abc import Iterable

import msgspec

from snapshots.errors import DamagedError, LineageTakenError
from snapshots.store.store import Store, claim


class Epoch(msgspec.Struct, frozen=True):
    """``start`` is the snapshot that the trainer resumed from; None when it began with none (a new lineage).

    ``ledger`` is how many entries the ledger had when a new lineage began; older entries are not about it. ``by`` names
    host and process; ``time`` is Unix seconds, UTC; ``nonce`` tells two takers of one moment apart.
    """

    number: int
    start: int | None
    ledger: int
    time: float
    by: str
    nonce: str


def name_of(number: int) -> str:
    """The name of an epoch's file in the store."""
    return f"epochs/{number:012d}.json"


def read(store: Store, number: int) -> Epoch | None:
    """Return an epoch, or None when nobody took it; raise :class:`DamagedError` when its file does not decode."""
    try:
        data = store.get(name_of(number))
        if data is None:
            return None
        return msgspec.json.decode(data, type=Epoch)
    except (DamagedError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
        raise DamagedError(
            f"{name_of(number)} is damaged: {cause}. Restore it from a copy of the store; it says which snapshots count"
        ) from cause


def follow(store: Store, known: list[Epoch]) -> list[Epoch]:
    """Add the epochs that were taken since; they are numbered from 1 without a gap."""
    while (found := read(store, len(known) + 1)) is not None:
        known.append(found)
    return known


def take(store: Store, known: list[Epoch], start: int | None, *, ledger: int, now: float, by: str) -> Epoch:
    """Take the next epoch for a trainer that resumed from ``start``; a rival's comes before one's own."""
    while True:
        number = len(follow(store, known)) + 1
        mine = Epoch(number, start, ledger if start is None else 0, now, by, secrets.token_hex(8))
        if claim(store, name_of(number), msgspec.json.encode(mine) + b"\n"):
            known.append(mine)
            return mine


def refuse_superseded(store: Store, mine: Epoch) -> None:
    """Raise :class:`LineageTakenError` when a later epoch was taken, and say by whom."""
    if store.get(name_of(mine.number)) is None:
        raise DamagedError(
            f"{name_of(mine.number)} is gone from the store: somebody removed or replaced it while this trainer ran. "
            "Nothing more is written. Put the store back, or start again to begin anew in what is there now"
        )
    later = read(store, mine.number + 1)
    if later is not None:
        start = "the beginning" if later.start is None else f"snapshot {later.start}"
        raise LineageTakenError(
            f"another trainer took over: epoch {later.number} by {later.by} goes on from {start}, and this one was "
            f"epoch {mine.number} by {mine.by}. This one stops; what it learnt beyond that, the other learns. One "
            "lineage has one trainer: stop the other if it was started by mistake, or give one of them a name and a "
            "store of its own"
        )


def is_void(epochs: Iterable[Epoch], number: int, epoch: int) -> bool:
    """Tell whether snapshot ``number``, written in ``epoch``, lies beyond where a later epoch began."""
    return any(later.number > epoch and (later.start is None or number > later.start) for later in epochs)
