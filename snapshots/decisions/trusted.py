"""Labels that somebody checked: rows in blobs of their own, named in the ledger by their digest (``trust``)."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from snapshots.decisions.ledger import Decision, Entry, Ledger
from snapshots.errors import DamagedError, RefusedError
from snapshots.records.held_rows import HeldRow, rows_of
from snapshots.records.place import Place
from snapshots.store.store import Store, claim

_FOLDER = "trusted/"
#: so many of the newest are asked
_MOST = 1000


def give(
    store: Store, ledger: Ledger, rows: Sequence[HeldRow], *, by: str, why: str, now: float,
    place: Place | None = None, after: int | None = None,
) -> Entry:  # fmt: skip
    """Keep rows and write their entry; ``place`` is how far their source was read, from where the entry ``after`` says.

    It names what was read for this entry alone, or entries would grow with the files of a directory.

    Raises :class:`RefusedError` when somebody else has read on meanwhile; then nothing counts twice.
    """
    data = msgspec.msgpack.encode(rows)
    digest = hashlib.sha256(data).hexdigest()
    claim(store, _FOLDER + digest, data)

    def decide(entries: list[Entry]) -> Decision:
        if place is not None and read_to(entries)[0] != after:
            raise RefusedError("another process has read on in holdout.trusted")
        return Decision(action="trust", by=by, why=why, cause=digest, place=place or {})

    return ledger.append(now, decide)


def read_to(entries: Sequence[Entry]) -> tuple[int | None, Place]:
    """Which entry last said how far ``holdout.trusted`` was read (None: nothing was), and how far all together say.

    A partition at 0 is gone.
    """
    newest, found = None, Place()
    for entry in entries:
        if entry.action == "trust" and entry.place:
            newest = entry.seq
            for topic, ends in entry.place.items():
                found.setdefault(topic, {}).update(ends)
    return newest, {topic: {name: end for name, end in ends.items() if end} for topic, ends in found.items()}


def read(store: Store, digest: str) -> list[HeldRow]:
    """The rows of an entry, none when they were erased; raise :class:`DamagedError` when they are others."""
    data = store.get(_FOLDER + digest)
    if data is None:
        return []
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedError(f"{_FOLDER}{digest} is not what the ledger names")
    return rows_of(data, _FOLDER + digest)


def erase(store: Store, meant: Callable[[HeldRow], bool]) -> int:
    """Delete lots that hold a row that is meant, whole; return how many."""
    found = 0
    for name in list(store.names(_FOLDER)):
        data = store.get(name)
        if data is not None and any(meant(row) for row in rows_of(data, name)):
            store.delete(name)
            found += 1
    return found


class Trusted:
    """The checked rows that entries of the ledger name; a lot is kept for as long as it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lots: dict[str, list[HeldRow]] = {}

    def since(self, entries: Sequence[Entry], moment: float) -> list[HeldRow]:
        """The newest thousand of those that were given from a moment on (Unix seconds), oldest first."""
        found: list[HeldRow] = []
        asked: dict[str, list[HeldRow]] = {}
        for entry in reversed(entries):
            if len(found) >= _MOST:
                break
            if entry.action == "trust" and entry.time >= moment:
                known = self._lots.get(entry.cause)
                asked[entry.cause] = read(self._store, entry.cause) if known is None else known
                found = asked[entry.cause] + found
        self._lots = asked
        return found[-_MOST:]
