"""Files that hold secrets or people's data: made for their owner, and said when everybody may read them."""

import logging
import os
import stat
from functools import cache
from pathlib import Path

from snapshots.beneath import file_mode

log = logging.getLogger("holdfast.secrets")


def opener(path: str, flags: int) -> int:
    """For ``open``: a file that is made is its owner's, and its group's as far as the folder is.

    One that is there keeps its mode; the umask may take more away.
    """
    folder = Path(path).parent.stat().st_mode if flags & os.O_CREAT else 0
    return os.open(path, flags | os.O_CLOEXEC, file_mode(folder))


def said_if_readable(path: Path) -> bool:
    """Tell whether everybody on this machine may read a file that holds a secret; once in a process it is logged."""
    readable = readable_by_all(path)
    if readable:
        _say(path)
    return readable


def readable_by_all(path: Path) -> bool:
    """Tell whether everybody on this machine may read a file; one that cannot be looked at nobody else may either."""
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o004)
    except (OSError, ValueError):
        return False


@cache
def _say(path: Path) -> None:
    log.warning("%s holds a secret, and everybody on this machine may read it: chmod 600 %s", path, path)
