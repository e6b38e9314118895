"""What lies beneath a folder, reached so that no name leads out of it.

A store's names come from whoever wrote the store, and its folders may be written by somebody else while they are read.
So each step of a path is opened by itself and never through a symbolic link (``O_NOFOLLOW``), and ``..`` is no name.
The folder itself may be reached through a link: that is the operator's choice.

Nothing here is for everybody: folders are made 0700 and files 0600, whatever the umask, and what the operator lets the
group of the topmost folder do (``chmod 2770``), the group may do with what is made beneath it.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from snapshots.errors import DamagedError, SnapshotsError, StoreError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def steps(name: str, error: type[SnapshotsError] = StoreError) -> list[str]:
    """The steps of a name; raise ``error`` when it could lead out of a store, or to a hidden file."""
    found = name.split("/")
    if not all(found) or any(one.startswith(".") for one in found) or "\0" in name:
        raise error(f"{name!r:.200} is no name in a store: it is empty, absolute, hidden, or leads elsewhere")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise error(f"{name!r:.200} is no name in a store: it is not UTF-8") from None
    return found


@contextlib.contextmanager
def opened(root: Path, inner: Sequence[str], *, make: bool = False, anew: bool = False) -> Iterator[int]:
    """Give a descriptor of a folder beneath ``root``; ``make`` makes and flushes the folders that are missing.

    With ``anew`` it makes ``root`` as well.

    Raises :class:`DamagedError` when a step is a symbolic link, ``OSError`` when it is not there or cannot be opened.
    """
    if anew:
        make_folder(root)
    folder = os.open(root, _FOLDER)
    try:
        wanted = folder_mode(os.fstat(folder).st_mode)
        for depth, step in enumerate(inner, 1):
            if make:
                _make(step, folder, wanted)
            with _refusing_links(step, folder, root.joinpath(*inner[:depth])):
                below = os.open(step, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def read(name: str, folder: int, shown: Path, most: int | None = None, written: int | None = None) -> bytes:
    """The bytes of a file in an open folder; ``shown`` is what an error calls it.

    Raises :class:`DamagedError` when it is no file of its own (a link, a pipe), or is larger than ``most`` bytes, or
    than the ``written`` ones.
    """
    with _refusing_links(name, folder, shown):
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise DamagedError(f"{shown} is no file; a store holds nothing else. Remove it")
        refuse_larger(str(shown), about.st_size, most, written)
        with open(file, "rb", closefd=False) as blob:
            return blob.read(min((one for one in (most, written) if one is not None), default=-1))
    finally:
        os.close(file)


def refuse_larger(shown: str, size: int, most: int | None, written: int | None = None) -> None:
    """Raise :class:`DamagedError` for what is larger than anything of its name can be, or than what was written."""
    if written is not None and size > written:
        raise DamagedError(f"{shown} has {size} bytes instead of {written}: it was changed, and is not read")
    if most is not None and size > most:
        raise DamagedError(f"{shown} has {size:,} bytes, and nothing of this name has more than {most:,}. Remove it")


def write(name: str, folder: int, data: bytes, mode: int) -> None:
    """Write a file that is not there yet, flushed to the disk; what a killed process left of that name is replaced."""

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)

    try:
        file = open(name, "xb", opener=opener)  # noqa: SIM115  closed below
    except FileExistsError:  # it may be a second name of a blob, so that it must not be written into
        os.unlink(name, dir_fd=folder)
        file = open(name, "xb", opener=opener)  # noqa: SIM115  closed below
    with file:
        _exactly(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def names(folder: int, prefix: str) -> Iterator[str]:
    """Names of the files beneath an open folder, ``prefix`` before each; hidden ones, links and pipes are none."""
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except FileNotFoundError:  # deleted since it was opened
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_file(follow_symlinks=False):
            yield prefix + entry.name
        elif entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                below = os.open(entry.name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    yield from names(below, f"{prefix}{entry.name}/")
                finally:
                    os.close(below)


def file_mode(root: int) -> int:
    """The mode of a file beneath a folder of mode ``root``.

    >>> oct(file_mode(0o700)), oct(file_mode(0o2770)), oct(file_mode(0o755))
    ('0o600', '0o660', '0o640')
    """
    return 0o600 | root & 0o060


def folder_mode(root: int) -> int:
    """The mode of a folder beneath one of mode ``root``.

    >>> oct(folder_mode(0o700)), oct(folder_mode(0o2770)), oct(folder_mode(0o755))
    ('0o700', '0o2770', '0o750')
    """
    return 0o700 | root & (0o070 | stat.S_ISGID)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, for the owner alone; each is flushed to the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        flush_directory(folder.parent)


def flush_directory(path: Path) -> None:
    """Flush the entries of a folder to the disk."""
    descriptor = os.open(path, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(step: str, folder: int, mode: int) -> None:
    try:
        os.mkdir(step, mode & 0o777, dir_fd=folder)
    except FileExistsError:
        return
    made = os.open(step, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    try:
        _exactly(made, mode)
    finally:
        os.close(made)
    os.fsync(folder)


def _exactly(descriptor: int, mode: int) -> None:
    """Let the group do what the umask took away; a process behind the wall may not, and leaves it narrower."""
    if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o777 != mode & 0o777:
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, mode)


@contextlib.contextmanager
def _refusing_links(name: str, folder: int, shown: Path) -> Iterator[None]:
    """Turn the refusal to follow a link into a :class:`DamagedError`."""
    try:
        yield
    except OSError as cause:
        link = cause.errno in (errno.ELOOP, errno.ENOTDIR) and stat.S_ISLNK(
            os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        )
        if not link:
            raise
        raise DamagedError(
            f"{shown} is a symbolic link, which a store does not follow. Remove it; to keep the store elsewhere, "
            "set store.url"
        ) from cause
