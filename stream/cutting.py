"""Writing snapshots beside learning: one at a time, in a thread, retried while the store is away."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import msgspec

from snapshots import Lineage
from snapshots import epochs as epochs_
from snapshots import snapshot as snapshots
from snapshots.epochs import Epoch
from snapshots.errors import LineageTakenError, NumberTakenError, SnapshotsError, StoreError
from snapshots.manifest import Durations, LearnerPart, Manifest
from snapshots.retention import Keep, kept
from snapshots.snapshot import Cut, Shared
from snapshots.store import claim
from stream.wire import Saved

log = logging.getLogger("holdfast.trainer")
_BACKOFF_SECONDS = 5.0
_GIVE_UP_SECONDS = 5.0


def encode_shared(shared: Shared) -> bytes:
    """The shared part as it is stored."""
    return msgspec.msgpack.encode(shared)


class Draft(msgspec.Struct):
    """A cut on its way: what the trainer knows, and each learner's part, whose bytes are still being written."""

    cut: Cut
    learners: dict[str, LearnerPart]
    saved: dict[str, Future[Saved]]
    blobs: dict[str, bytes] = {}


class Writer:
    """Numbers and writes cuts. ``ready`` is false while one is on its way, so the interval stretches with the disk.

    Every write first looks for a later epoch, and raises :class:`snapshots.errors.LineageTakenError` for one.
    """

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
        self._pending: Future[Manifest] | None = None
        self._then: Callable[[], None] = lambda: None
        self._epoch: Epoch | None = None
        self.written = Durations()
        self.references: dict[str, int] = {}
        self._closing = threading.Event()
        self.number = 0

    def begin(self, epoch: Epoch) -> None:
        """Write for an epoch from now on, under numbers that nobody used."""
        self._epoch = epoch
        self.number = self._view.refresh().highest + 1

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

    def write(self, draft: Draft, then: Callable[[], None]) -> None:
        """Write a cut as ``number``; call ``then`` (in the caller's thread) once it is durable."""
        self.wait()
        self._then = then
        self._pending = self._pool.submit(self._write, draft)

    def _write(self, draft: Draft) -> Manifest:
        began, delay = self._now(), 0.2
        parts = self._parts(draft)
        while True:
            try:
                self.refuse_superseded()
                for name, data in draft.blobs.items():
                    claim(self._view.store, name, data)
                manifest = snapshots.write(self._view.store, self.number, draft.cut, parts)
            except NumberTakenError:
                parts = self._renumber(parts)
            except StoreError as cause:
                if self._ending() and delay > 1:
                    raise
                log.error("snapshot %s is not written: %s; learning goes on, trying again", self.number, cause)
                self._sleep(delay)
                delay = min(delay * 2, _BACKOFF_SECONDS)
            else:
                break
        seconds = max(0.0, self._now() - began)
        self.written.add(seconds)
        log.info("snapshot %d: %d consumed, %.3f s", self.number, draft.cut.counts.consumed, seconds)
        self.number += 1
        self._forget()
        return manifest

    def _parts(self, draft: Draft) -> dict[str, LearnerPart]:
        """Wait for every learner's part, for all of them even when one fails."""
        found: dict[str, LearnerPart] = {}
        wrong: Exception | None = None
        for name, future in draft.saved.items():
            try:
                saved = self._patiently(future)
            except Exception as cause:
                wrong = wrong or cause
            else:
                found[name] = msgspec.structs.replace(
                    draft.learners[name],
                    model=saved.model,
                    metrics=saved.metrics,
                    evidence=saved.evidence,
                    reference=saved.reference,
                    figures=saved.figures,
                )
        if wrong is not None:
            raise wrong
        return found

    def _patiently(self, future: Future[Saved]) -> Saved:
        while True:
            try:
                return future.result(_GIVE_UP_SECONDS)
            except NotYet:
                if self._ending():
                    raise SnapshotsError("asked to end before a learner had saved itself; it learns again") from None

    def _renumber(self, parts: Mapping[str, LearnerPart]) -> dict[str, LearnerPart]:
        """Take the next free number: a trainer of an older epoch, which is not over yet, has used this one."""
        self.refuse_superseded()
        self.number = max(self.number, self._view.refresh().highest) + 1
        store = self._view.store
        return {
            name: msgspec.structs.replace(
                part,
                model=snapshots.rehome(store, self.number, part.model),
                metrics=snapshots.rehome(store, self.number, part.metrics),
                evidence=snapshots.rehome(store, self.number, part.evidence),
            )
            for name, part in parts.items()
        }

    def refuse_superseded(self) -> None:
        """Raise :class:`snapshots.errors.LineageTakenError` when another trainer has taken over."""
        if self._epoch is not None:
            epochs_.refuse_superseded(self._view.store, self._epoch)

    def _forget(self) -> None:
        """Delete passing snapshots that ``snapshots.keep`` no longer asks for. Done by the trainer alone."""
        try:
            self._view.refresh()
            self.references = references(self._view)
            void = late(self._view)
            for number in [*forgettable(self._view, self._keep), *void]:
                self.refuse_superseded()
                if number in void:
                    log.warning("snapshot %d is void: it lies beyond where this epoch began, and is removed", number)
                if number not in needed(self._view):  # somebody may have just decided to go back to it
                    snapshots.remove(self._view.store, number)
            self._forget_rows()
        except StoreError as cause:
            log.error("old snapshots were not removed: %s", cause)
        except LineageTakenError:
            log.warning("old snapshots are left to the trainer that took over")

    def _forget_rows(self) -> None:
        """Delete candidate rows of the holdout that no snapshot names any more; sealed versions are kept."""
        named = {
            part.name
            for number in self._view.numbers
            if (manifest := self._view.manifest(number)) is not None
            for part in manifest.holdout.chunks
        }
        if self._view.damaged or not named:
            return
        for name in self._view.store.names("holdout/"):
            if not name.startswith("holdout/version-") and name not in named:
                self._view.store.delete(name)

    def _ending(self) -> bool:
        return self._stopping() or self._closing.is_set()

    def close(self) -> None:
        """Finish what is on its way."""
        self._closing.set()
        self._pool.shutdown(wait=True)


def late(view: Lineage) -> list[int]:
    """Void snapshots that a superseded trainer wrote; those from before a new lineage began are kept."""
    began = max((epoch.number for epoch in view.epochs if epoch.start is None), default=0)
    return [number for number in view.void if (found := view.manifest(number)) and found.epoch >= began]


def references(view: Lineage) -> dict[str, int]:
    """For each learner, the snapshot that the guard last chose to compare it with, on its present line."""
    found: dict[str, int] = {}
    newest = view.newest()
    for learner in newest.learners if newest else {}:
        line = view.line(learner).number
        for number in reversed(view.numbers):
            verdict = view.verdict(number, learner)
            if verdict is not None and verdict.line != line:
                break
            if verdict is not None and verdict.reference is not None:
                found[learner] = verdict.reference
                break
    return found


def needed(view: Lineage) -> set[int]:
    """Snapshots that a decision names: pinned, or a revert's target. Looks into the ledger again."""
    view.refresh_entries()
    reverts = {entry.snapshot for entry in view.entries if entry.action == "revert" and entry.snapshot is not None}
    return view.pinned() | reverts


def forgettable(view: Lineage, keep: Keep) -> list[int]:
    """The snapshots that may go: judged, and not kept, pinned, served, a revert's target, newest, or 0."""
    if not view.numbers:
        return []
    judged = [number for number in view.numbers if not view.waiting(number) and view.manifest(number) is not None]
    champion = view.champion()
    passing = [
        (number, manifest.created)
        for number in judged
        if champion is not None and view.passed(number, champion) and (manifest := view.manifest(number)) is not None
    ]
    newest = view.newest()
    always = needed(view) | {view.numbers[0]} | set(view.numbers[-max(1, keep.last) :]) | _first_of_lines(view)
    for learner in newest.learners if newest else {}:
        serving, line = view.serving(learner), view.line(learner)
        wanted = (serving, line.target, newest.learners[learner].reference if newest else None)
        always |= {number for number in wanted if number is not None}
    always |= set(references(view).values())
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
