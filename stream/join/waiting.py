"""What waits for its other half: events for labels, labels for events. A cache: all of it is in the topics.

SQLite: it is everywhere, keeps its memory bounded and survives a kill (docs/adr/0027 has it beside others). What
changed since the newest durable snapshot is in memory only, so the file is never ahead of one, and from its place on
the topics are read again (:mod:`stream.join.source`). What is joined at once never touches the disk.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterator
from enum import IntEnum
from heapq import heapify, heappop, heappush
from pathlib import Path

import msgspec

from snapshots.store import private_files
from stream.errors import StreamError
from stream.record import Served
from stream.source import lines

log = logging.getLogger("holdfast.join")

#: how many rows are looked up at once, and how many that are due next are read at once
_LOT = 500
_FORMAT = 2
_SCHEMA = f"""
CREATE TABLE rows(seq INTEGER PRIMARY KEY, key INTEGER, due REAL, phase INTEGER, body BLOB, arrived BLOB);
CREATE INDEX by_key ON rows(key);
CREATE INDEX by_due ON rows(due);
CREATE TABLE state(name TEXT PRIMARY KEY, value BLOB);
PRAGMA user_version = {_FORMAT};
"""
_COLUMNS = "seq, key, due, phase, body, arrived"
#: the key of a row never changes, so its index is left alone
_PUT = """
INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(seq) DO UPDATE
SET due = excluded.due, phase = excluded.phase, body = excluded.body, arrived = excluded.arrived
"""


class Phase(IntEnum):
    """What a row is. The first three wait; the others are kept so that a label of theirs is known again."""

    PENDING = 0
    NEGATIVE = 1
    EARLY = 2
    JOINED = 3
    TIMED_OUT = 4
    WITHDRAWN = 5


class Asked(msgspec.Struct, array_like=True, gc=False):
    """An event as it arrived: its features' bytes, what was answered to it, and whether that had its reward already."""

    id: str
    features: bytes
    time: float
    weight: float
    served: Served | None = None
    rewarded: bool = False


class EarlyLabel(msgspec.Struct, array_like=True, gc=False):
    """A label whose event has not come: a class's number or a value, None when it withdraws the event.

    ``reward`` is that of the answer; ``alone`` when it came in a record of its own. Without ``labelled`` there is a
    reward only.
    """

    label: bool | int | float | None
    weight: float
    time: float
    reward: float | None = None
    labelled: bool = True
    alone: bool = False


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event or a label. ``due`` is when something follows if nothing comes; ``body`` is one of the structs above.

    ``key``: 64 bits of the id's keyed hash. ``arrived``: what learners predicted when the event came.
    """

    seq: int
    key: int
    due: float
    phase: Phase
    body: bytes | None
    arrived: bytes | None = None


encode = msgspec.msgpack.Encoder().encode
asked_of = msgspec.msgpack.Decoder(Asked).decode
label_of = msgspec.msgpack.Decoder(EarlyLabel).decode
_Layer = dict[int, Row | None]


class Waiting:
    """Rows by key, one for each, and in the order in which they are due.

    ``path`` is a file of its own, None for one that goes when it is closed; so is one that another process has. A file
    that is damaged or of another format is made anew, and is empty then.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, None
        if path is not None:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as cause:
                raise StreamError(f"join.directory = {path.parent} cannot be made: {cause.strerror}") from cause
            self._lock = lines.taken(path.with_suffix(".lock"))  # one that was taken over must not write here
            if self._lock is None:
                log.warning("%s is another process's: what waits is read from the topics, and kept aside", path)
                self._path = None
        self._wiping = False
        self._base = self._opened()
        self._forget_memory()

    def _forget_memory(self) -> None:
        self._fresh: _Layer = {}  # since the newest cut
        self._sealed: _Layer = {}  # of the newest cut, whose snapshot may not be durable yet
        self._gone: set[int] = set()
        self._sealed_gone: set[int] = set()
        self._memo: tuple[bytes, bytes] | None = None
        self._read: dict[int, Row | None] = {}
        self._heap: list[tuple[float, int, int]] = []
        self._next: list[tuple[float, int, int]] = []
        self._after: tuple[float, int] = (-1.0, -1)
        self._all_read = False
        self._by_age: list[tuple[float, int, int]] | None = None
        self._aged_phase = Phase.PENDING
        self._aged: list[tuple[float, int, int]] = []

    def _opened(self) -> sqlite3.Connection:
        """The database, made anew when it is not there, damaged or of another format."""
        for _ in range(2):
            if self._path is not None:  # SQLite's own files beside it have its mode
                open(self._path, "ab", opener=private_files.opener).close()
            base = sqlite3.connect(self._path or "", isolation_level=None, check_same_thread=False, timeout=5)
            with contextlib.suppress(sqlite3.DatabaseError):
                base.execute("PRAGMA cache_size = -65536")
                if self._path is not None:
                    base.execute("PRAGMA journal_mode = WAL")
                    base.execute("PRAGMA synchronous = NORMAL")
                (form,) = base.execute("PRAGMA user_version").fetchone()
                if form == 0:
                    base.executescript(_SCHEMA)
                if form in (0, _FORMAT):
                    base.execute("SELECT count(*) FROM state").fetchone()
                    return base
            base.close()
            self._remove()
        raise sqlite3.DatabaseError(f"{self._path} cannot be made anew")

    def _remove(self) -> None:
        if self._path is not None:
            for end in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)

    # Cuts --------------------------------------------------------------------------------------------------------

    def memo(self) -> tuple[bytes, bytes] | None:
        """The place of the file and what was noted with it, as :meth:`seal` was given them."""
        try:
            found = dict(self._base.execute("SELECT name, value FROM state").fetchall())
        except sqlite3.DatabaseError:
            self.begin_anew()
            found = {}
        return (found["place"], found["memo"]) if found else None

    def go_back(self) -> None:
        """Go back to what the file holds."""
        self._forget_memory()

    def begin_anew(self) -> None:
        """Forget everything."""
        self._base.close()
        self._remove()
        self._base = self._opened()
        self._forget_memory()

    def seal(self, place: bytes, memo: bytes) -> None:
        """A snapshot is cut at this place. The one before it is durable now, and its changes are written."""
        self.settle()
        self._sealed, self._fresh, self._memo = self._fresh, {}, (place, memo)
        self._sealed_gone, self._gone = self._gone, set()
        self._heap = [(row.due, row.seq, row.key) for row in self._sealed.values() if row is not None]
        heapify(self._heap)

    def settle(self) -> None:
        """The newest snapshot is durable: write its changes."""
        if self._memo is None:
            return
        base, (place, memo) = self._base, self._memo
        base.execute("BEGIN")
        base.executemany("DELETE FROM rows WHERE seq = ?", [(seq,) for seq in self._sealed_gone])
        rows = [_columns(row) for row in self._sealed.values() if row is not None]
        base.executemany(_PUT, rows)
        base.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", [("place", place), ("memo", memo)])
        base.execute("COMMIT")
        self._memo, self._sealed, self._sealed_gone = None, {}, set()
        if self._wiping:  # what was deleted is not to stay in the log of the database either
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._read.clear()
        self._next.clear()
        self._after, self._all_read = (-1.0, -1), False
        self._by_age = None

    def close(self) -> None:
        """What is not written is in the topics."""
        self._base.close()
        if self._lock is not None:
            self._lock.close()

    # Rows --------------------------------------------------------------------------------------------------------

    def look_up(self, keys: Collection[int]) -> None:
        """Read the rows of these keys together, which is quicker than one by one."""
        self._read = {}
        wanted = [key for key in set(keys) if key not in self._fresh and key not in self._sealed]
        for begin in range(0, len(wanted), _LOT):
            lot = wanted[begin : begin + _LOT]
            marks = ",".join("?" * len(lot))
            rows = self._base.execute(f"SELECT {_COLUMNS} FROM rows WHERE key IN ({marks})", lot)  # noqa: S608  names of our own
            self._read.update(dict.fromkeys(lot))
            self._read.update((found[1], _row(found)) for found in rows)

    def find(self, key: int) -> Row | None:
        """The row of a key, if there is one."""
        for layer in (self._fresh, self._sealed, self._read):
            if key in layer:
                return layer[key]
        found = self._base.execute(f"SELECT {_COLUMNS} FROM rows WHERE key = ?", (key,)).fetchone()  # noqa: S608  the same
        return _row(found) if found else None

    def put(self, row: Row) -> None:
        """Keep a row, in the place of any other of its key."""
        self._fresh[row.key] = row
        heappush(self._heap, (row.due, row.seq, row.key))
        if self._by_age is not None and row.phase == self._aged_phase:
            heappush(self._by_age, (row.due, row.seq, row.key))

    def remove(self, row: Row) -> None:
        """Forget a row."""
        self._fresh[row.key] = None
        self._gone.add(row.seq)

    def note_arrival(self, seq: int, key: int, arrived: bytes) -> None:
        """Keep what learners predicted when an event came, if it still waits."""
        row = self.find(key)
        if row is not None and row.seq == seq and row.phase <= Phase.NEGATIVE:
            self._fresh[key] = msgspec.structs.replace(row, arrived=arrived)

    def waiting(self) -> Iterator[Row]:
        """Every event that waits, in no order; nothing may be put meanwhile."""
        layers: _Layer = {**self._sealed, **self._fresh}
        yield from (row for row in layers.values() if row is not None and row.phase <= Phase.NEGATIVE)
        for found in self._base.execute(f"SELECT {_COLUMNS} FROM rows WHERE phase <= 1"):  # noqa: S608  names of our own
            if found[1] not in layers:
                yield _row(found)

    def wipe(self) -> None:
        """From here on what is deleted is overwritten as well."""
        self._base.execute("PRAGMA secure_delete = ON")
        self._wiping = True

    def due(self, now: float) -> Iterator[Row]:
        """Rows that were due before ``now``, in order; each is put anew or removed before the next is asked for."""
        while (first := self._first()) is not None and first[0] < now:
            row = self.find(first[2])
            if self._heap and first == self._heap[0]:
                heappop(self._heap)
            if self._next and first == self._next[-1]:
                self._after = self._next.pop()[:2]
            if row is not None and (row.due, row.seq) == first[:2]:
                yield row

    def oldest(self, phase: Phase) -> Row | None:
        """The row in a phase that is due first; it is put anew or removed before the next is asked for."""
        if self._by_age is None or self._aged_phase != phase:
            self._aged_phase = phase
            rows = [row for layer in (self._sealed, self._fresh) for row in layer.values() if row is not None]
            self._by_age = [(row.due, row.seq, row.key) for row in rows if row.phase == phase]
            heapify(self._by_age)
            self._aged = []
        while True:
            if not self._aged:
                found = self._base.execute(
                    "SELECT due, seq, key FROM rows WHERE phase = ? ORDER BY due, seq LIMIT ?", (int(phase), _LOT)
                )
                rest = [one for one in found if one[2] not in self._fresh and one[2] not in self._sealed]
                self._aged = rest[::-1]
            ahead = [*self._by_age[:1], *self._aged[-1:]]
            if not ahead:
                return None
            first = min(ahead)
            if self._by_age and first == self._by_age[0]:
                heappop(self._by_age)
            else:
                self._aged.pop()
            row = self.find(first[2])
            if row is not None and row.seq == first[1] and row.phase == phase:
                return row

    def _first(self) -> tuple[float, int, int] | None:
        """What is due next, in memory or in the file; it may have been changed since."""
        if not self._next and not self._all_read:
            found = self._base.execute(
                "SELECT due, seq, key FROM rows WHERE (due, seq) > (?, ?) ORDER BY due, seq LIMIT ?",
                (*self._after, _LOT),
            )
            self._next = found.fetchall()[::-1]
            self._all_read = not self._next
        ahead = [*self._heap[:1], *self._next[-1:]]
        return min(ahead) if ahead else None


def _columns(row: Row) -> tuple[int, int, float, int, bytes | None, bytes | None]:
    return row.seq, row.key, row.due, int(row.phase), row.body, row.arrived


def _row(found: tuple[int, int, float, int, bytes | None, bytes | None]) -> Row:
    seq, key, due, phase, body, arrived = found
    return Row(seq, key, due, Phase(phase), body, arrived)
