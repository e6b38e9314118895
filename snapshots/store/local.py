"""The store in a directory: each blob a file, linked to its name once it is whole and flushed."""

import contextlib
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from snapshots.errors import DamagedError, StoreError
from snapshots.store import confined
from snapshots.store.size_limits import most_bytes, refuse_unreadable

log = logging.getLogger("holdfast.store")
_DAY_SECONDS = 86_400.0
#: in the environment of a child: the directory of a store that its parent saw
SEEN = "_HOLDFAST_STORE"


class LocalStore:
    """A directory. Writes go to a hidden file, are flushed, linked to their name, and the directory flushed.

    Nothing beneath it is reached through a symbolic link, and what is made is not for everybody: see
    :mod:`snapshots.store.confined`.

    ``link`` fails when the name exists, which is the create-if-absent; ``rename`` would overwrite.

    A directory that was once there is away when it is gone, and never made anew: it comes back to its place. A parent
    that saw it tells its children so (:data:`SEEN`).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen = root.is_dir() or os.environ.get(SEEN) == str(root)

    def there(self) -> bool:
        """Tell whether the directory is there, or was."""
        self._seen = self._seen or self.root.is_dir()
        return self._seen

    def refuse_gone(self) -> None:
        """Raise :class:`StoreError` when the directory was there and is not: a disk that is not mounted, say."""
        if self.root.is_dir():
            self._seen = True
        elif self._seen or self.root.exists():
            raise StoreError(
                f"{self.root} is gone, or no directory any more. Put it back, or set store.url; what runs waits for it"
            )

    def get(self, name: str, most: int | None = None) -> bytes | None:
        """Return the blob, or None; :class:`DamagedError` for a name that would lead out of the store."""
        *inner, last = confined.steps(name, DamagedError)
        try:
            with confined.opened(self.root, inner) as folder:
                self._seen = True
                return confined.read(last, folder, self.root / name, most_bytes(name), most)
        except (FileNotFoundError, NotADirectoryError):
            self.refuse_gone()
            return None
        except OSError as cause:
            raise _trouble("read", self.root / name, cause) from cause

    def create(self, name: str, data: bytes) -> bool:
        """Write, fsync, link, fsync the directory; see the contract of :class:`Store`."""
        *inner, last = confined.steps(name)
        refuse_unreadable(name, len(data))
        self.refuse_gone()
        hidden = f".{platform.node()}~{os.getpid()}~{threading.get_ident()}~{last}"
        with self._doing("write", name), confined.opened(self.root, inner, make=True, anew=not self._seen) as folder:
            self._seen = True
            try:
                confined.write(hidden, folder, data, confined.file_mode(self.root.stat().st_mode))
                os.link(hidden, last, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                return False
            else:
                os.fsync(folder)
                return True
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(hidden, dir_fd=folder)

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix``, sorted; hidden files (writes under way) are left out."""
        inner = confined.steps(prefix.removesuffix("/")) if prefix else []
        with self._doing("list", prefix):
            try:
                with confined.opened(self.root, inner) as folder:
                    return sorted(name for name in confined.names(folder, prefix) if name > after)
            except (FileNotFoundError, NotADirectoryError):
                self.refuse_gone()
                return []

    def delete(self, name: str) -> None:
        """Delete the blob, and its directory when that is then empty."""
        *inner, last = confined.steps(name)
        with self._doing("delete", name):
            try:
                with confined.opened(self.root, inner) as folder:
                    os.unlink(last, dir_fd=folder)
                if inner:
                    with confined.opened(self.root, inner[:-1]) as above, contextlib.suppress(OSError):
                        os.rmdir(inner[-1], dir_fd=above)
            except (FileNotFoundError, NotADirectoryError):
                self.refuse_gone()

    @contextlib.contextmanager
    def _doing(self, what: str, name: str) -> Iterator[None]:
        """Say as a :class:`StoreError` what could not be done."""
        try:
            yield
        except OSError as cause:
            raise _trouble(what, self.root / name, cause) from cause
        except DamagedError as cause:
            raise StoreError(f"cannot {what} {self.root / name}: {cause}") from cause

    def sweep(self) -> None:
        """Remove hidden files that a killed process left behind. Only the trainer does, when it starts."""
        for folder, _, files, descriptor in os.fwalk(self.root):
            for name in files:
                if name.startswith(".") and not _alive(Path(folder, name)):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=descriptor)
        if self.root.is_dir() and self.root.stat().st_mode & 0o007:
            log.warning("everybody on this machine may look into %s: chmod -R o-rwx %s", self.root, self.root)


def _alive(hidden: Path) -> bool:
    """Tell whether the process that writes this hidden file is still there.

    Of another machine or container nobody knows; its files are given a day.
    """
    host, _, rest = hidden.name[1:].partition("~")
    process = rest.split("~", 1)[0]
    if host != platform.node() or not process.isdigit():
        with contextlib.suppress(OSError):
            return time.time() - hidden.stat().st_mtime < _DAY_SECONDS
        return True
    return Path("/proc", process).exists()


def _trouble(what: str, path: Path, cause: OSError) -> StoreError:
    return StoreError(
        f"cannot {what} {path}: {cause.strerror or cause}. Free space, mend permissions, or set store.url"
    )
