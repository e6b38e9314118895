"""Labels that somebody checked: rows in blobs of their own, named in the ledger by their digest (``trust``)."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from snapshots.errors import DamagedError
from snapshots.holdout import HeldRow, rows_of
from snapshots.ledger import Entry
from snapshots.store import Store, claim

ACTION = "trust"
_FOLDER = "trusted/"


def write(store: Store, rows: Sequence[HeldRow]) -> str:
    """Keep rows; return their digest, for the ledger."""
    data = msgspec.msgpack.encode(rows)
    digest = hashlib.sha256(data).hexdigest()
    claim(store, _FOLDER + digest, data)
    return digest


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
    """The checked rows that entries of the ledger name; each lot is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lots: dict[str, list[HeldRow]] = {}

    def since(self, entries: Sequence[Entry], moment: float) -> list[HeldRow]:
        """Those that were given from a moment on (Unix seconds), oldest first."""
        found: list[HeldRow] = []
        for entry in entries:
            if entry.action == ACTION and entry.time >= moment:
                if entry.cause not in self._lots:
                    self._lots[entry.cause] = read(self._store, entry.cause)
                found += self._lots[entry.cause]
        return found
