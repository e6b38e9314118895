"""The last bytes before the place in each file: by them a file that was rewritten is told from one that grew."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_BYTES = 64
#: files whose tails a snapshot keeps; of older ones only that a line ends at the place is known
_MOST = 1000
_PREFIX = "tail of "


class Tails:
    """Remembers tails as bytes while the process lives, and across restarts as ``OFFSET:DIGEST``.

    A digest speaks of its own offset only: whoever opens a file elsewhere, as a replay does, learns nothing from it.
    """

    def __init__(self) -> None:
        self._bytes: dict[str, bytes] = {}
        self._digests: dict[str, str] = {}

    def restore(self, topics: Mapping[str, str]) -> None:
        """Take what :meth:`dump` gave."""
        self._bytes = {}
        self._digests = {key[len(_PREFIX) :]: found for key, found in topics.items() if key.startswith(_PREFIX)}

    def dump(self) -> dict[str, str]:
        """Digests by file, of those that were read last."""
        kept = list(self._digests.items())[-_MOST:]
        return {_PREFIX + name: found for name, found in kept}

    def take(self, name: str, read: bytes, offset: int) -> None:
        """Take bytes that were read, up to the place; they follow those that were taken before."""
        self._keep(name, (self._bytes.get(name, b"") + read[-_BYTES:])[-_BYTES:], offset)

    def take_again(self, name: str, path: Path, offset: int) -> None:
        """Take what lies before the place now, where it was read in pieces."""
        with path.open("rb") as file:
            self._keep(name, _before(file, offset), offset)

    def forget(self, name: str) -> None:
        """Know nothing more of a file: it is read from its beginning."""
        self._bytes.pop(name, None)
        self._digests.pop(name, None)

    def fits(self, name: str, file: IO[bytes], offset: int) -> bool:
        """Tell whether the bytes before the place are those that were read, in an open file; its position moves.

        Of a file that was restored, what lies there is the beginning of the next tail, which may be of a short line.
        """
        there = _before(file, offset)
        if not there.endswith(b"\n"):
            return False
        if (known := self._bytes.get(name)) is not None:
            return there.endswith(known)
        at, _, digest = self._digests.get(name, "").partition(":")
        if at == str(offset) and digest != _digest(there):
            return False
        self._bytes[name] = there
        return True

    def _keep(self, name: str, tail: bytes, offset: int) -> None:
        self._digests.pop(name, None)
        self._bytes[name], self._digests[name] = tail, f"{offset}:{_digest(tail)}"


def _digest(tail: bytes) -> str:
    return hashlib.sha256(tail).hexdigest()[:16]


def _before(file: IO[bytes], offset: int) -> bytes:
    file.seek(max(0, offset - _BYTES))
    return file.read(min(_BYTES, offset))
