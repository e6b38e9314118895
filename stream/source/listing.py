"""A directory of events, looked at as a whole: which files there are and how long each is; a look serves many polls."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from stream.errors import SourceAwayError

log = logging.getLogger("holdfast.files")
_SUFFIX = ".jsonl"
#: a look may take this share of the time
_SHARE = 0.5


class Listing:
    """Names and sizes of the ``*.jsonl`` files of a directory; what cannot be one of them is said once, and left out.

    ``stamps``: inode and time of the last change in nanoseconds, of the last look at each.

    A FIFO, a device, a folder, a link that leads nowhere, or a name that is not UTF-8 is none. ``said`` are the names
    of which that was said before, by another listing of the same directory.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], float] = time.monotonic, said: set[str] | None = None
    ) -> None:
        self.sizes: dict[str, int] = {}
        self.stamps: dict[str, tuple[int, int]] = {}
        self._directory, self._clock = directory, clock
        self.said: set[str] = set() if said is None else said
        self._next = 0.0

    def look(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Look again; where a look takes long, wait a little first, so that looking keeps to its share of the time.

        Raises :class:`SourceAwayError` when there is no such directory.
        """
        if (early := self._next - self._clock()) > 0:
            sleep(early)
        began = self._clock()
        try:
            with os.scandir(self._directory) as entries:
                found = {entry.name: size for entry in entries if (size := self._size(entry)) is not None}
        except (FileNotFoundError, NotADirectoryError):
            raise SourceAwayError(f"there is no directory {self._directory}; waiting for it") from None
        except OSError as cause:
            raise SourceAwayError(f"{self._directory} cannot be read: {cause.strerror}") from cause
        self.sizes = dict(sorted(found.items()))
        for gone in self.stamps.keys() - self.sizes.keys():
            del self.stamps[gone]
        ended = self._clock()
        self._next = ended + (ended - began) / _SHARE

    def _size(self, entry: "os.DirEntry[str]") -> int | None:
        name = entry.name
        if not name.endswith(_SUFFIX):
            return None
        try:
            name.encode()
            if entry.is_file():
                about = entry.stat()
                self.stamps[name] = about.st_ino, about.st_mtime_ns
                return about.st_size
            why = "it is no file, or a link that leads nowhere"
        except UnicodeEncodeError:
            why = "its name is not UTF-8"
        except OSError as cause:
            why = str(cause.strerror)
        self.say(name, why)
        return None

    def say(self, name: str, why: str) -> None:
        """Say of a file, once, that it is left out, and why."""
        if name not in self.said:
            self.said.add(name)
            log.error(
                "%s is left out: %s", os.fsencode(self._directory / name).decode("utf-8", "backslashreplace"), why
            )
