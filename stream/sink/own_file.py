"""A file of a directory that no other process has, for lines."""

import errno
import logging
from pathlib import Path
from typing import IO

from snapshots.store.store import flush_directory
from stream.source import lines

log = logging.getLogger("holdfast.intake")


class OwnFile:
    """Appends to the first of ``NAME-0.jsonl``, ``NAME-1.jsonl`` and so on that nobody has, and keeps it.

    A last line that a crash tore is ended before the next is written. Not for several threads.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._file: IO[bytes] | None = None
        self._torn = False

    def append(self, data: bytes) -> tuple[str, int]:
        """Write whole lines and flush them to the disk; return the file's name and where they begin.

        Raises :class:`OSError`; what was written then is half a line at most that counts for nothing.
        """
        file = self.open()
        if self._torn:
            lines.append(file, b"\n")
        self._torn = True
        offset = file.tell()
        lines.append(file, data)
        self._torn = False
        if not lines.is_there(file):
            raise FileNotFoundError(errno.ENOENT, "it was moved or removed while it was written")
        return Path(file.name).name, offset

    def open(self) -> IO[bytes]:
        """Take the first file that nobody has, unless there is one; end its last line later if that is torn."""
        if self._file is not None and lines.is_there(self._file):
            return self._file
        if self._file is not None:
            log.warning("%s was moved or removed; another is begun", self._file.name)
            self._file.close()
            self._file = None
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = 0
        while (file := lines.taken(self._directory / f"{self._name}-{number}.jsonl")) is None:
            number += 1
        flush_directory(self._directory)
        self._torn = lines.ends_torn(Path(file.name))
        self._file = file
        return file

    def close(self) -> None:
        """Give the file free."""
        if self._file is not None:
            self._file.close()
