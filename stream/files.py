"""Events from a directory of ``*.jsonl``: each file a partition, followed as it grows. Offsets are in bytes."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from snapshots.manifest import Place
from stream.errors import SourceAwayError, SourceLostError
from stream.record import Record

log = logging.getLogger("holdfast.files")
_CHUNK = 1 << 18


class FilesSource:
    """Follows the files of a directory. A last line without its end is waited for; blank lines are not records.

    A file that became shorter than the place, or that was rewritten, is noticed: the byte before the place must
    still end a line. ``sleep`` waits when there is nothing new.
    """

    def __init__(
        self,
        directory: Path,
        *,
        start: str,
        poll_seconds: float,
        when_lost: str = "stop",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.losses: list[str] = []
        self._when_lost = when_lost
        self.topic = directory.name
        self._directory = directory
        self._start = start
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._offsets: dict[str, int] = {}
        self._rests: dict[str, bytes] = {}
        self._inodes: dict[str, int] = {}
        self._end: dict[str, int] | None = None
        self._turn = 0

    def resolve(self) -> Place:
        """The start of every file, or with ``latest`` the end of its last whole line."""
        names = self._names()
        ends = {name: self._whole(name) if self._start == "latest" else 0 for name in names}
        return {self.topic: ends}

    def open(self, place: Place, topics: dict[str, str]) -> Place:  # noqa: ARG002  files have no ids
        """Begin at a place; raise :class:`SourceLostError` when a file no longer fits it."""
        self._rests.clear()
        self._inodes.clear()
        self._offsets = dict(place.get(self.topic, {}))
        for name, offset in list(self._offsets.items()):
            self._check(name, offset)
        return {**place, self.topic: dict(self._offsets)}

    def identities(self) -> dict[str, str]:
        """Files have no ids; what was rewritten is told by its bytes."""
        return {}

    def _check(self, name: str, offset: int) -> None:
        """Hold a file against the offset; when it does not fit, it is lost, or read from its beginning."""
        path = self._directory / name
        size = path.stat().st_size if path.exists() else 0
        if size < offset:
            self._lose(name, f"{path} has {size} bytes and the place is at {offset}: bytes {size} to {offset} are gone")
        elif offset:
            with path.open("rb") as file:
                file.seek(offset - 1)
                if file.read(1) != b"\n":
                    self._lose(name, f"{path} was rewritten: no line ends at byte {offset}, where the place is")

    def _lose(self, name: str, what: str) -> None:
        if self._when_lost != "go_on":
            raise SourceLostError(
                f'{what}. Put the file back; or go on regardless with source.when_lost = "go_on" (a file that is there '
                "is read from its beginning, and the ledger keeps what was lost); or holdfast train --new-lineage"
            )
        log.error("%s; going on, as source.when_lost says", what)
        self.losses.append(what)
        self._rests.pop(name, None)
        if (self._directory / name).exists():
            self._offsets[name] = 0
        else:
            self._offsets.pop(name, None)

    def _names(self) -> list[str]:
        if not self._directory.is_dir():
            raise SourceAwayError(f"there is no directory {self._directory}; waiting for it")
        return sorted(path.name for path in self._directory.glob("*.jsonl"))

    def _whole(self, name: str) -> int:
        """The end of the last whole line."""
        data_end = (self._directory / name).stat().st_size
        with (self._directory / name).open("rb") as file:
            while data_end:
                begin = max(0, data_end - _CHUNK)
                file.seek(begin)
                found = file.read(data_end - begin).rfind(b"\n")
                if found >= 0:
                    return begin + found + 1
                data_end = begin
        return 0

    def poll(self, limit: int) -> list[Record]:
        """Whole lines of the next file that has some; files take turns."""
        names = self._names()
        for gone in sorted(self._offsets.keys() - set(names)):
            self._check(gone, self._offsets[gone])
        for _ in names:
            name = names[self._turn % len(names)]
            self._turn += 1
            records = self._read(name, limit)
            if records:
                return records
        self._sleep(self._poll_seconds)
        return []

    def _read(self, name: str, limit: int) -> list[Record]:
        offset = self._offsets.setdefault(name, 0)
        try:
            data = self._data(name, offset)
            offset = self._offsets[name]
        except OSError as cause:
            raise SourceAwayError(f"{self._directory / name} cannot be read: {cause.strerror}") from cause
        records: list[Record] = []
        begin = 0
        while len(records) < limit and (end := data.find(b"\n", begin)) >= 0:
            line = data[begin:end]
            if line.strip():
                records.append(Record(self.topic, name, offset + begin, offset + end + 1, line))
            begin = end + 1
        self._offsets[name] = offset + begin
        self._rests[name] = data[begin:]
        return records

    def _data(self, name: str, offset: int) -> bytes:
        """What lies after the offset: what was read before, and a chunk more when that is little or no whole line."""
        path = self._directory / name
        rest = self._rests.pop(name, b"")
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if self._inodes.setdefault(name, found.st_ino) != found.st_ino or found.st_size < offset + len(rest):
                # Another file under this name, or a shorter one: what was read must still be there.
                self._check(name, offset)
                self._inodes[name], rest = found.st_ino, b""
            file.seek(max(0, offset - 1))
            if offset and file.read(1) != b"\n":
                self._check(name, offset)
            offset = self._offsets[name]
            if len(rest) >= _CHUNK and b"\n" in rest:
                return rest
            file.seek(offset + len(rest))
            return rest + file.read(_CHUNK)

    def mark_end(self) -> None:
        """Remember where the last whole line of every file ends now."""
        self._end = {name: self._whole(name) for name in self._names()}

    def ended(self) -> bool:
        """Tell whether every file was read to its marked end."""
        return self._end is not None and all(self._offsets.get(name, 0) >= end for name, end in self._end.items())

    def commit(self, place: Place) -> None:
        """Nothing to tell: no tool watches a directory's lag."""

    def lag(self) -> int | None:
        """How many bytes are waiting."""
        try:
            sizes = {name: (self._directory / name).stat().st_size for name in self._names()}
        except (OSError, SourceAwayError):
            return None
        return sum(max(0, size - self._offsets.get(name, 0)) for name, size in sizes.items())

    def close(self) -> None:
        """Nothing is held open between polls."""
