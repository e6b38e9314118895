"""The head of the ledger: a signed, numbered statement of how far the lineage has come; a store put back is seen.

Each signature says who wrote an entry or a snapshot, but not that it is the newest: who may only write the store could
take the last ones away. So whoever decides, and the trainer now and then, signs how many entries there are, which the
last one is, and which snapshot is the newest. A store that holds less than its own head says was cut back; one whose
head has a smaller number than was seen here before was put back; one whose head has expired is frozen, or nobody writes
it. The role of the timestamp in The Update Framework (https://theupdateframework.io) is the model.
"""

import contextlib
import logging
from pathlib import Path

import msgspec

from snapshots.errors import DamagedError, LedgerBrokenError, StoreError
from snapshots.signing import SignedStore

log = logging.getLogger("holdfast.snapshots")
_FOLDER = "ledger/head/"
_KEPT = 3
#: how much of its time a head may have lived before it is signed anew
_RENEW = 0.1


class Head(msgspec.Struct, frozen=True):
    """``entries`` is how many there are, ``last`` the SHA-256 of the last (hex), ``snapshot`` the newest's number.

    ``time`` and ``expires`` are Unix seconds, UTC.
    """

    number: int
    time: float
    expires: float
    entries: int
    last: str
    snapshot: int


class Heads:
    """Reads and writes heads in a signed store; a file beside the configuration remembers the newest that was seen."""

    def __init__(self, store: SignedStore) -> None:
        self._store = store
        self._highest = self._remembered()
        self.newest: Head | None = None

    def read(self) -> Head | None:
        """Return the newest head; raise :class:`LedgerBrokenError` when it is older than one that was seen."""
        names = self._store.names(_FOLDER)
        number = max((int(n) for one in names if (n := one[len(_FOLDER) : -len(".json")]).isdigit()), default=0)
        if self.newest is None or self.newest.number != number:
            self.newest = self._decoded(number) if number else None
        if number < self._highest:
            raise LedgerBrokenError(
                f"the head of the ledger is number {number}, and number {self._highest} was seen here: the store was "
                f"put back to what it was before. Nothing is decided until it holds; if it was you, remove {self._seen}"
            )
        if number > self._highest:
            self._highest = number
            self._remember()
        return self.newest

    def _decoded(self, number: int) -> Head | None:
        try:
            data = self._store.get(_name(number))
            return msgspec.json.decode(data, type=Head) if data is not None else None
        except (DamagedError, msgspec.DecodeError, UnicodeDecodeError) as cause:
            raise LedgerBrokenError(f"{_name(number)} does not hold: {cause}") from cause

    def write(self, entries: int, last: str, snapshot: int, now: float) -> None:
        """Sign a head that says at least so much; nothing is written by who has no key, or when the store is away."""
        if not self._store.signs:
            return
        try:
            while True:
                before = self.read()
                if before is not None:
                    snapshot = max(snapshot, before.snapshot)
                    if before.entries > entries:
                        entries, last = before.entries, before.last
                number = (before.number if before else self._highest) + 1
                mine = Head(number, now, now + self._store.head_seconds, entries, last, snapshot)
                if self._store.create(_name(number), msgspec.json.encode(mine) + b"\n"):
                    break
            self.newest, self._highest = mine, number
            self._remember()
            for name in self._store.names(_FOLDER)[:-_KEPT]:
                self._store.delete(name)
        except (StoreError, LedgerBrokenError) as cause:
            log.error("the head of the ledger is not signed anew: %s", cause)

    def is_old(self, now: float) -> bool:
        """Tell whether the head has lived a tenth of its time, so that it is signed anew."""
        return self.newest is not None and now - self.newest.time > _RENEW * self._store.head_seconds

    @property
    def _seen(self) -> Path | None:
        return self._store.seen

    def _remembered(self) -> int:
        if self._seen is None:
            return 0
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.decode(self._seen.read_bytes(), type=dict[str, int]).get(self._store.lineage(), 0)
        return 0

    def _remember(self) -> None:
        """Note the newest number; who may not write beside the configuration remembers while it lives."""
        if self._seen is not None:
            with contextlib.suppress(OSError):
                self._seen.write_bytes(msgspec.json.encode({self._store.lineage(): self._highest}))


def _name(number: int) -> str:
    return f"{_FOLDER}{number:012d}.json"
