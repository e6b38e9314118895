"""Events from a directory of ``*.jsonl``: each file a partition, followed as it grows. Offsets are in bytes."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from snapshots.records.place import Place
from stream.errors import SourceAwayError, SourceLostError
from stream.record import Record
from stream.source import lines
from stream.source.listing import Listing
from stream.source.tails import Tails

log = logging.getLogger("holdfast.files")
_CHUNK = 1 << 18
#: under this name a snapshot keeps which files were read to their end, so that they may go
_ENDED = "read to the end"


class _Line(msgspec.Struct):
    """What was read of a file beyond its offset, and is no whole line yet: its beginning, and its length in bytes."""

    start: bytes = b""
    length: int = 0


class FilesSource:
    """Follows the files of a directory. A last line without its end is waited for; blank lines are not records.

    A file that ends in such a line is said when nobody has written to it for ten seconds, or the end is marked. A line
    longer than ``max_bytes`` is not kept whole: its record holds the first ``max_bytes`` + 1 of its bytes, and is
    refused as too large. A file that became shorter than the place, or that was rewritten, is noticed: the byte before
    the place must still end a line. One that was read to its end may go.
    ``sleep`` waits when there is nothing new.
    """

    def __init__(
        self,
        directory: Path,
        *,
        start: str,
        poll_seconds: float,
        when_lost: str = "stop",
        max_bytes: int = 1 << 20,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.losses: list[str] = []
        self._when_lost = when_lost
        self.topic = directory.name
        self._directory = directory
        self._start = start
        self._poll_seconds = poll_seconds
        self._max_bytes = max_bytes
        self._sleep = sleep
        self._listing = Listing(directory)
        self._waiting: deque[str] = deque()
        self._offsets: dict[str, int] = {}
        self._lines: dict[str, _Line] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._retired: set[str] = set()
        self._unended: dict[str, int] = {}
        self._tails = Tails()
        self._end: dict[str, int] | None = None
        self._held: set[str] = set()

    def resolve(self) -> Place:
        """The start of every file, or with ``latest`` the end of its last whole line."""
        self._listing.look()
        ends = {name: self._whole(name) if self._start == "latest" else 0 for name in self._listing.sizes}
        return {self.topic: ends}

    def open(self, place: Place, topics: dict[str, str]) -> Place:
        """Begin at a place; raise :class:`SourceLostError` when a file no longer fits it.

        Raises :class:`SourceAwayError` when one that was begun cannot be read just now.
        ``topics`` is what :meth:`identities` gave at that place: files that had been read to their end may be gone.
        """
        self._lines.clear()
        self._stamps.clear()
        self._waiting.clear()
        self._tails.restore(topics)
        self._offsets = dict(place.get(self.topic, {}))
        ended = set(topics.get(_ENDED, "").split("/"))
        for name, offset in list(self._offsets.items()):
            if name in ended and not self._path(name).exists():
                self._retired.add(name)
            else:
                self._check(name, offset)
        return {**place, self.topic: dict(self._offsets)}

    def identities(self) -> dict[str, str]:
        """Which files were read to their end, and the tails by which one that was rewritten is told."""
        sizes = self._listing.sizes
        ended = [name for name, at in self._offsets.items() if sizes.get(name) == at or name in self._retired]
        return {**({_ENDED: "/".join(ended)} if ended else {}), **self._tails.dump()}

    def cut(self) -> dict[str, str]:
        """Nothing is kept beside the place."""
        return self.identities()

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _check(self, name: str, offset: int) -> None:
        """Hold a file against the offset; when it does not fit, it is lost, or read from its beginning."""
        path = self._path(name)
        size = path.stat().st_size if path.is_file() else 0
        if size < offset:
            self._lose(name, f"{path} has {size} bytes and the place is at {offset}: bytes {size} to {offset} are gone")
        elif offset and not self._holds(name, path, offset):
            self._lose(name, f"{path} was rewritten: before byte {offset}, where the place is, lies something else")

    def _holds(self, name: str, path: Path, offset: int) -> bool:
        try:
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                self._stamps[name] = about.st_ino, about.st_mtime_ns
                return self._tails.fits(name, file, offset)
        except OSError as cause:
            raise SourceAwayError(f"{path} cannot be read: {cause.strerror}; waiting for it") from cause

    def _lose(self, name: str, what: str) -> None:
        if self._when_lost != "go_on":
            raise SourceLostError(
                f'{what}. Put the file back; or go on regardless with source.when_lost = "go_on" (a file that is there '
                "is read from its beginning, and the ledger keeps what was lost); or holdfast train --new-lineage"
            )
        log.error("%s; going on, as source.when_lost says", what)
        self.losses.append(what)
        self._lines.pop(name, None)
        self._tails.forget(name)
        if self._path(name).exists():
            self._offsets[name] = 0
        else:
            self._offsets.pop(name, None)

    def _whole(self, name: str) -> int:
        """The end of the last whole line; 0 when the file cannot be read."""
        try:
            with self._path(name).open("rb") as file:
                data_end = os.fstat(file.fileno()).st_size
                while data_end:
                    begin = max(0, data_end - _CHUNK)
                    file.seek(begin)
                    found = file.read(data_end - begin).rfind(b"\n")
                    if found >= 0:
                        return begin + found + 1
                    data_end = begin
        except OSError as cause:
            self._listing.say(name, str(cause.strerror))
        return 0

    def poll(self, limit: int) -> list[Record]:
        """Whole lines of the files that have some, up to a chunk of each; files take turns."""
        if self._held.issuperset(self._waiting):
            self._waiting.clear()  # a look finds again what is held
            before = self._listing.sizes
            self._listing.look(self._sleep)
            self._compare(before)
        records: list[Record] = []
        kept: list[str] = []
        while self._waiting and len(records) < limit:
            name = self._waiting.popleft()
            if name in self._held:
                kept.append(name)
                continue
            try:
                found, more = self._read(name, limit - len(records))
            except FileNotFoundError:
                self._gone(name, self._listing.sizes.get(name))
                continue
            except OSError as cause:
                self._listing.say(name, str(cause.strerror))
                continue
            records += found
            if more:
                self._waiting.append(name)
                if not found:
                    break  # a long line: the trainer has its turn, too
        self._waiting.extend(kept)
        if not records and len(self._waiting) == len(kept):
            self._sleep(self._poll_seconds)
        return records

    def _compare(self, before: dict[str, int]) -> None:
        """Find what a look has found: files with bytes to read, and files that are gone."""
        sizes = self._listing.sizes
        for gone in [name for name in self._offsets if name not in sizes and name not in self._retired]:
            self._gone(gone, before.get(gone))
        for name, size in sizes.items():
            line = self._lines.get(name)
            grown = size != self._offsets.get(name, 0) + (line.length if line else 0)
            if grown or name in self._retired or self._listing.stamps[name] != self._stamps.get(name):
                self._waiting.append(name)
            elif line is not None and time.time() - self._stamps[name][1] / 1e9 > lines.QUIET_SECONDS:
                self._say_unended(name, self._offsets.get(name, 0))

    def _say_unended(self, name: str, offset: int) -> None:
        """Say of a file, once for each offset, that what follows there has no end."""
        if self._unended.get(name) != offset:
            self._unended[name] = offset
            log.warning("%s", lines.unended_in_words(self._path(name)))

    def _gone(self, name: str, size: int | None) -> None:
        """A file that was read to its end may go; of another one, bytes are lost."""
        if size == self._offsets[name] and name not in self._lines:
            self._retired.add(name)
            log.info("%s was read to its end and is gone", self._path(name))
        else:
            self._check(name, self._offsets[name])

    def _read(self, name: str, limit: int) -> tuple[list[Record], bool]:
        """Records of a file, and whether it has more to read now."""
        if name in self._retired:
            self._retired.discard(name)
            if not self._is_back(name):  # another file under the name of one that was retired
                self._offsets[name] = 0
                self._tails.forget(name)
        line = self._lines.pop(name, None) or _Line()
        data, line = self._data(name, line)
        in_pieces = line.length > 0
        offset = self._offsets.setdefault(name, 0)
        records: list[Record] = []
        begin = 0
        while len(records) < limit and (end := data.find(b"\n", begin)) >= 0:
            following = offset + line.length + end - begin + 1
            value = self._joined(line, data[begin:end])
            if value.strip():
                records.append(Record(self.topic, name, offset, following, value))
            offset, begin, line = following, end + 1, _Line()
        if begin and in_pieces:
            self._tails.take_again(name, self._path(name), offset)
        elif begin:
            self._tails.take(name, data[:begin], offset)
        self._offsets[name] = offset
        if data.find(b"\n", begin) >= 0:
            return records, True  # the limit was reached; the rest is read again
        rest = data[begin:]
        line = _Line(self._joined(line, rest), line.length + len(rest))
        if line.length:
            self._lines[name] = line
        return records, len(data) == _CHUNK

    def _is_back(self, name: str) -> bool:
        """Tell whether a file that was gone is there again as it was: a disk that was away for a while."""
        with self._path(name).open("rb") as file:
            offset = self._offsets.get(name, 0)
            return 0 < offset <= os.fstat(file.fileno()).st_size and self._tails.fits(name, file, offset)

    def _joined(self, line: _Line, more: bytes) -> bytes:
        """A line and what comes after it, no longer than what is refused as too large."""
        room = self._max_bytes + 1 - len(line.start)
        return (line.start + more[:room]) if line.start else more[: self._max_bytes + 1]

    def _data(self, name: str, line: _Line) -> tuple[bytes, _Line]:
        """The chunk after what was read, and the line that it goes on with: a new one when the file is another."""
        offset = self._offsets.setdefault(name, 0)
        with self._path(name).open("rb") as file:
            found = os.fstat(file.fileno())
            stamp = found.st_ino, found.st_mtime_ns
            another = self._stamps.get(name, stamp)[0] != stamp[0]
            if another or found.st_size < offset + line.length or (offset and not self._tails.fits(name, file, offset)):
                # Another file under this name, a shorter one, or one that was rewritten: what was read must be there.
                self._check(name, offset)
                line = _Line()
            self._stamps[name] = stamp
            begin = self._offsets[name] + line.length
            if found.st_size <= begin:  # what has no length has nothing: a file of the kernel waits to be read
                return b"", line
            file.seek(begin)
            return file.read(_CHUNK), line

    def whole(self) -> bool:
        """Each record is delivered at once."""
        return True

    def mark_end(self) -> None:
        """Remember where the last whole line of every file ends now."""
        fresh = Listing(self._directory, said=self._listing.said)
        fresh.look()
        self._end = {name: self._whole(name) for name in fresh.sizes}
        for name, end in self._end.items():
            if end < fresh.sizes[name]:
                self._say_unended(name, end)

    def ended(self) -> bool:
        """Tell whether every file was read to its marked end."""
        return self._end is not None and all(
            self._offsets.get(name, 0) >= end or name in self._retired for name, end in self._end.items()
        )

    def commit(self, place: Place) -> None:
        """Nothing to tell: no tool watches a directory's lag."""

    def lag(self) -> int | None:
        """How many bytes were waiting at the last look."""
        sizes = self._listing.sizes
        return sum(max(0, sizes.get(name, 0) - self._offsets.get(name, 0)) for name in self._waiting)

    def behind(self) -> Collection[tuple[str, str]]:
        """Files with bytes that were not read at the last look; all of them before the first."""
        return {(self.topic, name) for name in self._waiting if name not in self._held}

    def hold(self, partitions: Collection[tuple[str, str]]) -> None:
        """Leave these files where they are."""
        self._held = {name for topic, name in partitions if topic == self.topic}

    def close(self) -> None:
        """Nothing is held open between polls."""
