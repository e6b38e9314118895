"""A directory on a disk that forgets what was not flushed, and a process that may end before any system call.

Every write, link, unlink and fsync below ``root`` is followed. ``lose_power`` puts the directory into a state that the
calls allow: file contents and directory entries that were flushed are there; of the others each may be there or not.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


class PowerLostError(BaseException):
    """The process ends here."""


class Lossy:
    """Follows ``os.fsync``, ``os.link`` and ``os.unlink``; ends the process at a seeded call."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        root.mkdir(parents=True)
        self._draw = random.Random(seed)
        self._left = self._draw.randrange(60)
        self._contents: dict[int, bytes] = {}  # inode → what is flushed of it
        self._entries: dict[Path, dict[str, int | None]] = {}  # directory → name → inode, as flushed

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PowerLostError

    @contextlib.contextmanager
    def crashing(self) -> Iterator[None]:
        """Follow the calls made inside, until the power goes."""
        fsync, link, unlink, mkdir = os.fsync, os.link, os.unlink, os.mkdir

        def flush(descriptor: int) -> None:
            self._step()
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self._entries[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self._contents[path.stat().st_ino] = path.read_bytes()
            self._step()

        def stepping(call: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> Any:
                self._step()
                found = call(*args, **kwargs)
                self._step()
                return found

            return run

        with (
            mock.patch("os.fsync", flush),
            mock.patch("os.link", stepping(link)),
            mock.patch("os.unlink", stepping(unlink)),
            mock.patch("os.mkdir", stepping(mkdir)),
            contextlib.suppress(PowerLostError),
        ):
            yield

    def lose_power(self) -> None:
        """Forget, at random, what was not flushed."""
        for folder, _, _ in os.walk(self.root, topdown=True):
            flushed = self._entries.get(Path(folder), {})
            for entry in list(os.scandir(folder)):
                kept = flushed.get(entry.name) == entry.inode()
                if not kept and self._draw.random() < 0.5:
                    _remove(Path(entry.path))
                elif entry.is_file():
                    data, kept_bytes = Path(entry.path).read_bytes(), len(self._contents.get(entry.inode(), b""))
                    Path(entry.path).write_bytes(data[: kept_bytes + self._draw.randrange(50)])


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()
    else:
        path.unlink()
