"""What each running process says of itself, for ``status``. Kept in the store, so that nobody has to ask a process."""

import os
import platform
from collections.abc import Callable
from typing import Any

import msgspec

from snapshots.errors import SnapshotsError
from snapshots.store import Store

FRESH_SECONDS = 10.0
_EVERY_SECONDS = 1.0


class Presence:
    """One process's word, renewed about every second; a word older than ten seconds is nobody's."""

    def __init__(self, store: Store, role: str, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._name = f"presence/{role}-{platform.node()}-{os.getpid()}/"
        self._role = role
        self._number = 0
        self._last: str | None = None
        self._due = 0.0
        self._said: dict[str, Any] = {}

    def say(self, **word: Any) -> None:
        """Say it when something changed or a second has passed; a store that cannot be reached is no reason to stop."""
        if self._now() < self._due and word == self._said:
            return
        self._due, self._said = self._now() + _EVERY_SECONDS, word
        self._number += 1
        name = f"{self._name}{self._number:012d}.json"
        full = {"role": self._role, "pid": os.getpid(), "host": platform.node(), "time": self._now(), **word}
        try:
            self._store.create(name, msgspec.json.encode(full))
            if self._last is not None:
                self._store.delete(self._last)
        except SnapshotsError:
            return
        self._last = name

    def close(self) -> None:
        """Take the word back."""
        try:
            if self._last is not None:
                self._store.delete(self._last)
        except SnapshotsError:
            return


def present(store: Store, now: float) -> list[dict[str, Any]]:
    """The newest word of every process that spoke within ten seconds."""
    newest: dict[str, dict[str, Any]] = {}
    for name in store.names("presence/"):
        data = store.get(name)
        try:
            word = msgspec.json.decode(data or b"")
        except msgspec.DecodeError:
            continue
        if now - word["time"] <= FRESH_SECONDS:
            newest[name.split("/")[1]] = word
    return list(newest.values())


def sweep(store: Store, now: float) -> None:
    """Remove words of processes that are long gone."""
    for name in store.names("presence/"):
        word = msgspec.json.decode(store.get(name) or b'{"time": 0}')
        if now - word["time"] > 10 * FRESH_SECONDS:
            store.delete(name)
