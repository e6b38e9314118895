"""Lines appended to a file: a crash or a full disk tears at most the last one, which is ended before the next."""

import os
from pathlib import Path
from typing import IO


def ends_torn(path: Path) -> bool:
    """Tell whether a file ends in the middle of a line."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


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
