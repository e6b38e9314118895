"""What each running process says of itself, for ``status``. Kept in the store, so that nobody has to ask a process."""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from snapshots.errors import DamagedError, SnapshotsError
from snapshots.store.store import Store

FRESH_SECONDS = 10.0
#: what is known of a process that has no word: one that ends takes its word back at once
SILENT = f"it has ended, or has said nothing for {FRESH_SECONDS:g} s"
_EVERY_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
_PASSING = {"lag", "waiting", "rollout"}


class Presence:
    """One process's word, renewed about every second; a word older than ten seconds is nobody's.

    ``others`` are processes that belong to this one; their memory is told with its own.
    """

    def __init__(self, store: Store, role: str, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._name = f"presence/{role}-{platform.node()}-{os.getpid()}/"
        self._role = role
        self._number = 0
        self._last: str | None = None
        self._due = self._said_at = 0.0
        self._word: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(1, "presence")
        self._pending: Future[None] | None = None
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self.others: list[int] = []

    def say(self, **word: Any) -> None:
        """Say it when it matters or a second has passed; written beside the caller, who never waits for the disk.

        A store that cannot be reached is no reason to stop. Who says nothing for a while is believed to be busy, with a
        slow learner or a large model: the last word is renewed for five minutes.
        """
        with self._lock:
            matters = _matters(word) != _matters(self._word)
            self._word, self._said_at = word, time.monotonic()
            self._renew(matters=matters)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        while not self._end.wait(_EVERY_SECONDS):
            with self._lock:
                if time.monotonic() - self._said_at < _PATIENCE_SECONDS:
                    self._renew()

    def _renew(self, *, matters: bool = False) -> None:
        busy = self._pending is not None and not self._pending.done()
        if busy or (time.monotonic() < self._due and not matters):
            return
        self._due = time.monotonic() + _EVERY_SECONDS
        about = {"role": self._role, "pid": os.getpid(), "host": platform.node(), "namespace": namespace(),
                 "time": self._now()}  # fmt: skip
        full = {**about, "rss": sum(map(resident_bytes, (os.getpid(), *self.others))), **self._word}
        self._pending = self._pool.submit(self._write, msgspec.json.encode(full))

    def _write(self, data: bytes) -> None:
        self._number += 1
        name = f"{self._name}{self._number:012d}.json"
        with contextlib.suppress(SnapshotsError):
            self._store.create(name, data)
            last, self._last = self._last, name
            if last is not None:
                self._store.delete(last)

    def close(self) -> None:
        """Take the word back."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(wait=True)
        with contextlib.suppress(SnapshotsError):
            if self._last is not None:
                self._store.delete(self._last)


def _matters(word: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in word.items() if name not in _PASSING}


def resident_bytes(process: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        return int(Path("/proc", str(process), "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class Logged(msgspec.Struct):
    """What became of answers that are to be logged: in the log, in the spool, and left out by reason."""

    logged: int = 0
    spooled: int = 0
    left_out: dict[str, int] = {}


class _Word(msgspec.Struct):
    """What any process says of itself; who writes the store may write anything, and only this is read of it."""

    role: str
    host: str
    pid: Annotated[int, Meta(ge=1, le=2**31)]
    time: float
    namespace: str = ""
    rss: int = 0
    state: str = ""
    why: str = ""
    lag: int | None = None
    events: int = 0
    waiting: int = 0
    wall: str = ""
    walls: dict[str, str] = {}
    execution: dict[str, str] = {}
    given_up: dict[str, str] = {}
    learner: str | None = None
    snapshot: int | None = None
    created: float | None = None
    since: float | None = None
    port: int | None = None
    unknown_features: dict[str, int] = {}
    other_types: dict[str, int] = {}
    predictions: Logged | None = None
    rollout: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Word).decode


def _words(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every word in the store that can be read, by its name."""
    for name in store.names("presence/"):
        with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError, DamagedError):
            yield name, msgspec.structs.asdict(_decode(store.get(name) or b""))


def present(store: Store, now: float) -> list[dict[str, Any]]:
    """The newest word of every process that spoke within ten seconds."""
    newest = {name.split("/")[1]: word for name, word in _words(store) if abs(now - word["time"]) <= FRESH_SECONDS}
    return list(newest.values())


def sweep(store: Store, now: float) -> None:
    """Remove words of processes that are long gone."""
    for name, word in list(_words(store)):
        if abs(now - word["time"]) > 10 * FRESH_SECONDS:
            store.delete(name)


def this_process() -> str:
    """How this process names itself to others, with where its number is valid: containers may share a host's name."""
    return f"{platform.node()} process {os.getpid()}{namespace()}"


def namespace() -> str:
    """Where this process's number is valid; empty where the kernel does not tell."""
    try:
        return f" of {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def has_ended(name: str) -> bool:
    """Tell of a process that named itself so whether it was of this host and is no more.

    A number that was given to another process meanwhile makes it seem alive, which only makes somebody wait.
    """
    host, _, rest = name.rpartition(" process ")
    number, _, _ = rest.partition(" of ")
    here = host == platform.node() and bool(namespace()) and rest == f"{number}{namespace()}"
    return here and number.isdigit() and not Path(f"/proc/{number}").exists()
