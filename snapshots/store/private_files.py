"""Files that hold secrets or people's data: made for their owner, and said when everybody may read them."""

import errno
import logging
import os
import stat
from functools import cache
from pathlib import Path

from snapshots.store.confined import file_mode

log = logging.getLogger("holdfast.secrets")


class NoFileError(OSError):
    """What is to be written to is a link, a pipe, a device, a socket or a folder."""


def opener(path: str, flags: int) -> int:
    """For ``open`` as :func:`only_file`: a file that is made is its owner's, and its group's as far as the folder is.

    One that is there keeps its mode; the umask may take more away.
    """
    folder = Path(path).parent.stat().st_mode if flags & os.O_CREAT else 0
    return only_file(path, flags, file_mode(folder))


def only_file(path: str, flags: int, mode: int = 0o666) -> int:
    """For ``open``, to write where others write as well: never through a link, and no pipe is waited for.

    Raises :class:`NoFileError` for what is there and is no file; nothing is changed then.
    """
    cut, flags = flags & os.O_TRUNC, flags & ~os.O_TRUNC
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as cause:
        if cause.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise NoFileError(cause.errno, "a link, a pipe or a folder is there, and no file", path) from cause
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoFileError(errno.EINVAL, "a pipe or a device is there, and no file", path)
        if cut:
            os.truncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


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
