"""How much room a store takes, and how much is left; of an object store nobody can tell."""

import contextlib
import os
import shutil
from pathlib import Path

from snapshots.store.local import LocalStore
from snapshots.store.signed import bare
from snapshots.store.store import Store


def free_bytes(store: Store) -> int | None:
    """What is free where the store lies, or will lie; None when it is no directory, or nobody can tell."""
    root = _root(store)
    for folder in (root, *root.absolute().parents) if root is not None else ():
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def used_bytes(store: Store) -> int | None:
    """What its files take together; looks at each of them. None when it is no directory."""
    root = _root(store)
    return None if root is None else sum(_sizes(root))


def _root(store: Store) -> Path | None:
    inner = bare(store)
    return inner.root if isinstance(inner, LocalStore) else None


def _sizes(root: Path) -> "list[int]":
    found, folders = [], [str(root)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:  # removed while it is looked at
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        found.append(entry.stat(follow_symlinks=False).st_size)
    return found
