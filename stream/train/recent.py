"""Windows of what came last: of ids, to find what a producer sent twice, and of rows, for the guard's fast lane."""

from collections import deque
from collections.abc import Iterable

_BYTES = 8


class RecentIds:
    """Remembers the hashes (8 bytes each) of the last ``size`` ids; 0 turns it off. Part of the place."""

    def __init__(self, size: int, data: bytes = b"") -> None:
        known = [data[i : i + _BYTES] for i in range(0, len(data), _BYTES)]
        self._order = deque(known[-size:] if size else [])
        self._known = set(self._order)
        self._size = size

    def seen(self, digest: bytes) -> bool:
        """Tell whether the id with this hash is in the window; remember it when it is not."""
        short = digest[-_BYTES:]
        if short in self._known:
            return True
        if self._size:
            if len(self._order) >= self._size:
                self._known.discard(self._order.popleft())
            self._order.append(short)
            self._known.add(short)
        return False

    def dump(self) -> bytes:
        """The hashes, oldest first."""
        return b"".join(self._order)


class RecentRows:
    """The newest rows, as bytes: at most ``most`` of them, and ``most_bytes`` in all, since every snapshot holds them.

    A row that alone would take a quarter of the room is left out, unless there is no other.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._rows: deque[bytes] = deque()
        self._most, self._most_bytes = most, most_bytes
        self._bytes = 0

    def extend(self, rows: Iterable[bytes]) -> None:
        """Take rows, oldest first."""
        for row in rows:
            if len(row) > self._most_bytes // 4 and self._rows:
                continue
            self._rows.append(row)
            self._bytes += len(row)
            while len(self._rows) > self._most or (self._bytes > self._most_bytes and len(self._rows) > 1):
                self._bytes -= len(self._rows.popleft())

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()
        self._bytes = 0

    def dump(self) -> list[bytes]:
        """The rows, oldest first."""
        return list(self._rows)
