"""The window of recent ids: finds what a producer sent twice."""

from collections import deque

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
