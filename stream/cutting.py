"""Writing snapshots beside learning: one at a time, in a thread, retried while the store is away."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from snapshots import Lineage
from snapshots import snapshot as snapshots
from snapshots.errors import StoreError
from snapshots.retention import Keep, kept
from snapshots.snapshot import Cut, Shared

log = logging.getLogger("holdfast.trainer")
_BACKOFF_SECONDS = 5.0


def encode_shared(shared: Shared) -> bytes:
    """The shared part as it is stored."""
    return msgspec.msgpack.encode(shared)


class Writer:
    """Numbers and writes cuts. ``ready`` is false while one is on its way, so the interval stretches with the disk."""

    def __init__(
        self,
        lineage: Lineage,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        stopping: Callable[[], bool],
        keep: Keep,
    ) -> None:
        self._view = Lineage(lineage.store)
        self._now, self._sleep, self._stopping, self._keep = now, sleep, stopping, keep
        self._pool = ThreadPoolExecutor(1, "snapshot-writer")
        self._pending: Future[int] | None = None
        self._then: Callable[[], None] = lambda: None
        self._next: int | None = None

    def ready(self) -> bool:
        """Tell whether the last cut is written; raises what went wrong with it."""
        if self._pending is None:
            return True
        if not self._pending.done():
            return False
        self.wait()
        return True

    def wait(self) -> None:
        """Wait until the last cut is written, then let ``then`` follow."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
            self._then()

    def write(self, cut: Cut, then: Callable[[], None]) -> None:
        """Write a cut; call ``then`` (in the caller's thread) once it is durable."""
        self.wait()
        self._then = then
        self._pending = self._pool.submit(self._write, cut)

    def _write(self, cut: Cut) -> int:
        delay = 0.2
        while True:
            try:
                if self._next is None:
                    numbers = self._view.refresh().numbers
                    self._next = numbers[-1] + 1 if numbers else 0
                began = self._now()
                manifest = snapshots.write(self._view.store, self._next, cut)
            except StoreError as cause:
                if self._stopping() and delay > 1:
                    raise
                log.error("snapshot %s is not written: %s; learning goes on, trying again", self._next, cause)
                self._sleep(delay)
                delay = min(delay * 2, _BACKOFF_SECONDS)
                continue
            log.info("snapshot %d: %d consumed, %.3f s", manifest.snapshot, cut.counts.consumed, self._now() - began)
            self._next += 1
            self._forget()
            return manifest.snapshot

    def _forget(self) -> None:
        """Delete passing snapshots that ``snapshots.keep`` no longer asks for. Done by the trainer alone."""
        try:
            self._view.refresh()
            for number in forgettable(self._view, self._keep):
                snapshots.remove(self._view.store, number)
        except StoreError as cause:
            log.error("old snapshots were not removed: %s", cause)

    def close(self) -> None:
        """Finish what is on its way."""
        self._pool.shutdown(wait=True)


def forgettable(view: Lineage, keep: Keep) -> list[int]:
    """The snapshots that may go: judged, and not kept, pinned, served, a revert's target, newest, or 0."""
    judged = [number for number in view.numbers if not view.waiting(number) and view.manifest(number) is not None]
    champion = view.champion()
    passing = [
        (number, manifest.created)
        for number in judged
        if champion is not None and view.passed(number, champion) and (manifest := view.manifest(number)) is not None
    ]
    newest = view.newest()
    always = view.pinned() | {0} | set(view.numbers[-max(1, keep.last) :]) | _first_of_lines(view)
    for learner in newest.learners if newest else {}:
        serving, line = view.serving(learner), view.line(learner)
        always |= {number for number in (serving, line.target) if number is not None}
        always |= {entry.snapshot for entry in view.entries if entry.action == "revert" and entry.snapshot is not None}
    keeping = kept(passing, keep) | always
    return [number for number in judged if number not in keeping]


def _first_of_lines(view: Lineage) -> set[int]:
    """The first snapshot of every line: where a quarantine ends."""
    first: dict[tuple[str, int], int] = {}
    for number in view.numbers:
        manifest = view.manifest(number)
        for name, part in manifest.learners.items() if manifest else ():
            first.setdefault((name, part.line), number)
    return {number for (_, line), number in first.items() if line > 0}
