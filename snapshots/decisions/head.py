"""The head of the ledger: a signed, numbered statement of how far the lineage has come; a store put back is seen.

Each signature says who wrote an entry or a snapshot, but not that it is the newest: who may only write the store could
take some away. So whoever decides, and the trainer now and then, signs how many entries there are, which the last one
is, and which snapshot is the newest; the trainer also which are kept and which are judged, and how many epochs there
are. A store that holds less than its own head says was cut back; one whose head has a smaller number than was seen
here before was put back; one whose head has expired is frozen, or nobody writes it. The role of the timestamp in The
Update Framework (https://theupdateframework.io) is the model.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from snapshots.errors import DamagedError, LedgerBrokenError, StoreError
from snapshots.store import private_files
from snapshots.store.numbers import number_in
from snapshots.store.signed import NO_LINEAGE, SignedStore
from snapshots.store.spans import Spans, numbers_of, spans_of
from snapshots.store.store import Store

log = logging.getLogger("holdfast.snapshots")
FOLDER = "ledger/head/"
_KEPT = 3
#: lineages whose newest head is remembered
_LINEAGES = 100
#: how much of its time a head may have lived before it is signed anew
_RENEW = 0.1
#: how often all heads are listed; in between those after the newest are looked for by their names
_LIST_SECONDS = 60.0


class Head(msgspec.Struct, frozen=True):
    """``entries`` is how many there are, ``last`` the SHA-256 of the last (hex), ``snapshot`` the newest's number.

    ``kept`` are snapshots that no retention has let go, ``judged`` those with a verdict on every learner, ``epochs``
    how many trainers there were. ``time`` and ``expires`` are Unix seconds, UTC.
    """

    number: int
    time: float
    expires: float
    entries: int
    last: str
    snapshot: int
    kept: Spans = []
    judged: Spans = []
    epochs: int = 0


class Present(msgspec.Struct, frozen=True):
    """What somebody who looked at the lineage adds to what was signed before; only ``gone`` takes away from it.

    ``anew``: an operator says that it is well so, and nothing that was signed before is asked for any more.
    """

    kept: Collection[int] = ()
    judged: Collection[int] = ()
    epochs: int = 0
    gone: Collection[int] = ()
    anew: bool = False


_NOTHING = Present()


class Heads:
    """Reads and writes heads in a signed store; a file beside the configuration remembers the newest that was seen."""

    def __init__(self, store: SignedStore) -> None:
        self._store = store
        self._highest = self._remembered().get(store.lineage(), 0)
        self._wrong: set[int] = set()
        self._bytes: bytes | None = None
        self._there: set[int] = set()
        self._list_at = 0.0
        self.newest: Head | None = None

    def read(self, *, required: bool = True) -> Head | None:
        """Return the newest head; raise :class:`LedgerBrokenError` when it is older than one that was seen, or gone.

        It is signed before the first snapshot and the first decision, so that a store that has either has a head.

        What lies among the heads and is not signed counts as if it were not there, and is said once.
        """
        self.newest, before = self._following() or self._listed(), self.newest
        if self.newest is not before:
            self._bytes = self._store.inner.get(_name(self.newest.number)) if self.newest is not None else None
        number = self.newest.number if self.newest is not None else 0
        if number < self._highest:
            raise LedgerBrokenError(
                f"the head of the ledger is number {number}, and number {self._highest} was seen here: the store was "
                f"put back to what it was before. Nothing is decided until it holds; if it was you, remove {self._seen}"
            )
        if number > self._highest:
            self._highest = number
            self._remember()
        if required and self.newest is None and (what := begun(self._store)):
            raise LedgerBrokenError(
                f"the store has {what}, and no signed head of the ledger, which is there before either: it was taken "
                "away, or the store is from before heads were signed. Restore it from a copy of the store; or look at "
                "what is there, and trust it: holdfast verify --adopt"
            )
        return self.newest

    def _following(self) -> Head | None:
        """The newest head by names alone; None when the one that was seen is not as it was, or it is time to list.

        A store lists slowly, and this is asked at every look: the head that was seen is looked for, and those after it.
        """
        newest = self.newest
        if newest is None or time.monotonic() >= self._list_at:
            return None
        if self._bytes is None or self._store.inner.get(_name(newest.number)) != self._bytes:
            return None
        number = newest.number + 1
        while (found := self._held(number)) is not None or number in self._wrong:
            self._there.add(number)
            newest, number = found or newest, number + 1
        return newest

    def _listed(self) -> Head | None:
        """The newest head of all that there are."""
        found = (number_in(name, FOLDER, ".json", 12) for name in self._store.names(FOLDER))
        self._there = {number for number in found if number is not None}  # whose they are is another question
        self._list_at = time.monotonic() + _LIST_SECONDS
        return next(filter(None, map(self._held, sorted(self._there, reverse=True))), None)

    def _held(self, number: int) -> Head | None:
        """A head whose signature holds, None for another."""
        if self.newest is not None and self.newest.number == number:
            return self.newest
        if number in self._wrong:
            return None
        try:
            data = self._store.get(_name(number))
            return msgspec.json.decode(data, type=Head) if data is not None else None
        except (DamagedError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
            self._wrong.add(number)
            log.error("%s does not hold, and does not count: %s", _name(number), cause)
            return None

    def write(self, entries: int, last: str, snapshot: int, now: float, present: Present = _NOTHING) -> None:
        """Sign a head that says at least so much; nothing is written by who has no key, or when the store is away.

        What ``present`` does not name stays signed for, whether it is there or not: only who lets it go takes it out.
        """
        if not self._store.signs:
            return
        try:
            while True:
                before = self.read(required=not present.anew)
                if before is not None:
                    snapshot = max(snapshot, before.snapshot)
                    if before.entries > entries:
                        entries, last = before.entries, before.last
                number = (before.number if before else self._highest) + 1
                while number in self._wrong:  # somebody put a file there that is none of ours
                    number += 1
                mine = _with(
                    Head(number, now, now + self._store.head_seconds, entries, last, snapshot), before, present
                )
                if self._store.create(_name(number), msgspec.json.encode(mine) + b"\n"):
                    break
            self.newest, self._highest = mine, number
            self._bytes = self._store.inner.get(_name(number))
            self._there.add(number)
            self._remember()
            self._prune(number - _KEPT)
        except (StoreError, LedgerBrokenError) as cause:
            log.error("the head of the ledger is not signed anew: %s", cause)

    def _prune(self, oldest: int) -> None:
        """Delete the heads up to a number that are known to be there."""
        for old in sorted(one for one in self._there if one <= oldest):
            self._store.delete(_name(old))
            self._there.discard(old)

    def expired(self, now: float) -> str:
        """Say that nobody has signed for too long, empty when somebody has or there is no head."""
        if self.newest is None or now <= self.newest.expires:
            return ""
        days = (now - self.newest.time) / 86_400
        return (
            f"the newest signed word on the ledger is {days:.1f} days old and has expired: either nobody decided and "
            "no trainer ran since, or this store was frozen or put back. See: holdfast verify"
        )

    def is_old(self, now: float) -> bool:
        """Tell whether the head has lived a tenth of its time, so that it is signed anew."""
        return self.newest is not None and now - self.newest.time > _RENEW * self._store.head_seconds

    @property
    def _seen(self) -> Path | None:
        return self._store.seen

    def _remembered(self) -> dict[str, int]:
        """The newest numbers that were seen here, by lineage: a lineage that comes back is not a new one."""
        return remembered(self._seen)

    def _remember(self) -> None:
        """Note the newest number; who may not write beside the configuration remembers while it lives."""
        if self._seen is None or (lineage := self._store.lineage()) == NO_LINEAGE:
            return
        known = self._remembered()
        known[lineage] = max(self._highest, known.pop(lineage, 0))
        fresh = self._seen.with_name(f"{self._seen.name}.{os.getpid()}-{threading.get_native_id()}")
        with contextlib.suppress(OSError):
            with open(fresh, "wb", opener=private_files.opener) as file:
                file.write(msgspec.json.encode(dict(list(known.items())[-_LINEAGES:])))
            fresh.replace(self._seen)


def begun(store: Store) -> str:
    """What there is of a lineage that has begun, heads and epochs apart; empty where there is nothing."""
    if any(name.endswith("/manifest.json") for name in store.names("snapshots/")):
        return "snapshots"
    return "decisions" if any(not name.startswith(FOLDER) for name in store.names("ledger/")) else ""


def _with(mine: Head, before: Head | None, present: Present) -> Head:
    """A head with what the one before said of snapshots and epochs, and what is present beside it."""
    kept, judged, epochs = (before.kept, before.judged, before.epochs) if before and not present.anew else ([], [], 0)
    gone = set(present.gone)
    return msgspec.structs.replace(
        mine,
        kept=spans_of(numbers_of(kept).union(present.kept) - gone),
        judged=spans_of(numbers_of(judged).union(present.judged) - gone),
        epochs=max(epochs, present.epochs),
    )


def remembered(seen: Path | None) -> dict[str, int]:
    """Which lineages were seen here, and how far; nothing when there is no such file, or it cannot be read."""
    if seen is not None:
        with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return msgspec.json.decode(seen.read_bytes(), type=dict[str, int])
    return {}


def _name(number: int) -> str:
    return f"{FOLDER}{number:012d}.json"
