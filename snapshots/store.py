"""The store: named, immutable blobs, created once. A directory here; an object store keeps the same four methods."""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from snapshots.errors import StoreError

_DAY_SECONDS = 86_400.0


class Store(Protocol):
    """Names are paths with ``/``; blobs are never changed.

    Contract, checked for every store by ``tests/contract/test_stores.py``:

    * ``create`` is atomic and durable: when it returns, the blob survives a loss of power, whole; when two create
      the same name, exactly one is told True.
    * ``get`` returns None for a name that is not there; never part of a blob.
    * ``names`` lists what is below a prefix, sorted; with ``after``, only what sorts after it.
    * Every method raises :class:`StoreError` when the store cannot be reached, and changes nothing then.
    """

    def get(self, name: str) -> bytes | None:
        """Return the blob, or None."""

    def create(self, name: str, data: bytes) -> bool:
        """Create the blob unless the name exists; tell whether it was created."""

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix`` (which ends in ``/``), relative to the store's root, sorted."""

    def delete(self, name: str) -> None:
        """Delete the blob if it is there."""


def claim(store: Store, name: str, data: bytes) -> bool:
    """Create, and when told that the name exists, read it back: one's own bytes mean that one has won.

    An answer that is lost on its way makes a retry find its own blob (DESIGN section 2, promise 7).
    """
    return store.create(name, data) or store.get(name) == data


class LocalStore:
    """A directory. Writes go to a hidden file, are flushed, linked to their name, and the directory flushed.

    ``link`` fails when the name exists, which is the create-if-absent; ``rename`` would overwrite.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen = root.is_dir()

    def _refuse_gone(self) -> None:
        """Raise :class:`StoreError` when the directory was there and is not: a disk that is not mounted, say."""
        if self.root.is_dir():
            self._seen = True
        elif self._seen or self.root.exists():
            raise StoreError(f"{self.root} is gone, or no directory any more. Put it back, or set store.url")

    def get(self, name: str) -> bytes | None:
        """Return the blob, or None."""
        try:
            return self.root.joinpath(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            self._refuse_gone()
            return None
        except OSError as cause:
            raise _trouble("read", self.root / name, cause) from cause

    def create(self, name: str, data: bytes) -> bool:
        """Write, fsync, link, fsync the directory; see the contract of :class:`Store`."""
        if self._seen:
            self._refuse_gone()
        path = self.root / name
        hidden = path.with_name(f".{platform.node()}~{os.getpid()}~{threading.get_ident()}~{path.name}")
        try:
            _make_directories(path.parent)
            with hidden.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(hidden, path)
            except FileExistsError:
                return False
            flush_directory(path.parent)
        except OSError as cause:
            raise _trouble("write", path, cause) from cause
        else:
            return True
        finally:
            with contextlib.suppress(OSError):
                hidden.unlink(missing_ok=True)

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix``, sorted; hidden files (writes under way) are left out."""
        try:
            return sorted(name for name in self._below(self.root / prefix, prefix) if name > after)
        except OSError as cause:
            raise _trouble("list", self.root / prefix, cause) from cause

    def _below(self, directory: Path, prefix: str) -> Iterator[str]:
        try:
            entries = list(os.scandir(directory))
        except (FileNotFoundError, NotADirectoryError):
            self._refuse_gone()
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from self._below(directory / entry.name, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name

    def delete(self, name: str) -> None:
        """Delete the blob, and its directory when that is then empty."""
        path = self.root / name
        try:
            path.unlink(missing_ok=True)
        except OSError as cause:
            raise _trouble("delete", path, cause) from cause
        with contextlib.suppress(OSError):
            if path.parent != self.root:
                path.parent.rmdir()

    def sweep(self) -> None:
        """Remove hidden files that a killed process left behind. Only the trainer does, when it starts."""
        for folder, _, files in os.walk(self.root):
            for name in files:
                hidden = Path(folder, name)
                if name.startswith(".") and not _alive(hidden):
                    hidden.unlink(missing_ok=True)


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


def _make_directories(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        flush_directory(folder.parent)


def flush_directory(path: Path) -> None:
    """Flush the entries of a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _trouble(what: str, path: Path, cause: OSError) -> StoreError:
    return StoreError(
        f"cannot {what} {path}: {cause.strerror or cause}. Free space, mend permissions, or set store.url"
    )


def open_store(url: str, base: Path, options: Mapping[str, Any] | None = None) -> Store:
    """Open the store that ``store.url`` names; a relative path is relative to the configuration file."""
    if "://" in url:
        from snapshots.object_store import ObjectStore  # noqa: PLC0415  only where there is one

        return ObjectStore(url, options)
    return LocalStore((base / url).resolve())
