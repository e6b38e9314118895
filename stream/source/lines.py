"""Lines appended to a file: a crash or a full disk tears at most the last one, which is ended before the next."""

import contextlib
import fcntl
import itertools
import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from snapshots.store import private_files

log = logging.getLogger("holdfast.files")


class _Lines(Protocol):
    """What is read line by line."""

    def readline(self, size: int = ..., /) -> bytes:
        """The next line, or so much of it."""


#: a line that has no end may still be written; after so long somebody is told
QUIET_SECONDS = 10.0


def ends_torn(path: Path) -> bool:
    """Tell whether a file ends in the middle of a line."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def unended(directory: Path, now: float, most: int = 1000) -> list[Path]:
    """Files of events that nobody has written to for ten seconds, and that end in the middle of a line.

    Of the first so many; what cannot be read, or is gone meanwhile, is none.
    """
    found = []
    for path in itertools.islice(sorted(directory.glob("*.jsonl")), most):
        with contextlib.suppress(OSError):
            if path.is_file() and now - path.stat().st_mtime > QUIET_SECONDS and ends_torn(path):
                found.append(path)
    return found


def unended_in_words(path: Path) -> str:
    """What to say of a file whose last line has no end."""
    return (
        f"{path} ends without a newline, so its last line is not read yet: if it is whole, end it with "
        f"echo >> {shlex.quote(str(path))}"
    )


def bounded(file: _Lines, longest: int) -> Iterator[bytes]:
    """The lines of a file; of one that is longer, the first ``longest`` bytes alone, whatever memory it would take."""
    while line := file.readline(longest):
        yield line
        end = line
        while len(end) == longest and not end.endswith(b"\n"):
            end = file.readline(longest)


def append(file: IO[bytes], data: bytes) -> None:
    """Write all of ``data`` to an unbuffered file and flush it to the disk; raises :class:`OSError` otherwise.

    The system may take only part of it, as when the disk fills up: what is left is written again, and fails then.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def is_there(file: IO[bytes]) -> bool:
    """Tell whether an open file still is what its name leads to: not moved, removed or replaced."""
    ours = os.fstat(file.fileno())
    try:
        named = Path(file.name).stat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)


def taken(path: Path) -> IO[bytes] | None:
    """A file to append to, locked; None where somebody has it, or where it is none."""
    try:
        file = open(path, "ab", buffering=0, opener=private_files.opener)  # noqa: SIM115  kept open
    except private_files.NoFileError as cause:
        log.warning("%s is passed over: %s", path, cause.strerror)
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
