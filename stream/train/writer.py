"""Writing snapshots beside learning: one at a time, in a thread, retried while the store is away."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import msgspec

from snapshots import Lineage
from snapshots.decisions import epochs as epochs_
from snapshots.decisions.epochs import Epoch
from snapshots.decisions.head import Present
from snapshots.errors import DamagedError, LineageTakenError, NumberTakenError, SnapshotsError, StoreError
from snapshots.history.levels import Recorder
from snapshots.history.rows import row_of
from snapshots.judging import pruning
from snapshots.records import cut as snapshots
from snapshots.records.cut import Cut, Shared
from snapshots.records.manifest import Durations, LearnerPart, Manifest
from snapshots.records.retention import Keep
from snapshots.store.store import claim
from stream.errors import GaveUpError
from stream.learner.wire import Saved
from stream.process import logs
from stream.process.patience import patiently

log = logging.getLogger("holdfast.trainer")
_BACKOFF_SECONDS = 5.0
_GIVE_UP_SECONDS = 5.0
#: how often a head of the ledger is signed while snapshots are cut
_HEAD_SECONDS = 10.0


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
        self._view = Lineage(lineage.store, looking=True)
        self._now, self._sleep, self._stopping, self._keep = now, sleep, stopping, keep
        self._pool = ThreadPoolExecutor(1, "snapshot-writer")
        self._pending: Future[Manifest] | None = None
        self._then: Callable[[], None] = lambda: None
        self._epoch: Epoch | None = None
        self.written = Durations()
        self.references: dict[str, int] = {}
        self._closing = threading.Event()
        self._signed_at, self._cut, self._covered = 0.0, -1, -1
        self._unjudged = False
        self._history: Recorder | None = None
        self.number = 0

    def begin(self, epoch: Epoch) -> None:
        """Write for an epoch from now on, under numbers that nobody used."""
        self._epoch = epoch
        self._view.ledger.sign_head(-1, self._now())  # there is a head before there is a snapshot
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
        began = self._now()
        parts = [self._parts(draft)]

        def write() -> Manifest:
            self.refuse_superseded()
            for name, data in draft.blobs.items():
                claim(self._view.store, name, data)
            while True:
                try:
                    return snapshots.write(self._view.store, self.number, draft.cut, parts[-1])
                except NumberTakenError:
                    parts.append(self._renumber(parts[-1]))

        def trouble(cause: Exception, seconds: float) -> None:
            if self._ending() and seconds > 1:
                raise cause
            log.error("snapshot %s is not written: %s; learning goes on, trying again", self.number, cause)

        manifest = patiently(write, StoreError, trouble, self._sleep, _BACKOFF_SECONDS)
        seconds = max(0.0, self._now() - began)
        self.written.add(seconds)
        consumed = draft.cut.counts.consumed
        about = logs.facts(snapshot=self.number, consumed=consumed, seconds=round(seconds, 6))
        log.info("snapshot %d: %d consumed, %.3f s", self.number, consumed, seconds, extra=about)
        self.number += 1
        self._sign_head(manifest.snapshot)
        self._remember(manifest)
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
                    figures={**draft.learners[name].figures, **saved.figures},
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
                    raise GaveUpError("a learner has not saved itself yet") from None

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

    def _sign_head(self, snapshot: int, *, last: bool = False) -> None:
        """Sign how far the lineage has come, now and then and at the end."""
        self._cut = snapshot
        if last or self._now() - self._signed_at >= _HEAD_SECONDS:
            self._signed_at, self._covered = self._now(), snapshot
            self._view.ledger.sign_head(snapshot, self._now(), self._present())

    def _present(self) -> Present:
        """What is there to be signed for; nothing more than before while the store cannot be looked at."""
        try:
            found = self._view.refresh().present()
        except SnapshotsError as cause:
            log.error("the head of the ledger is signed for no more snapshots than before: %s", cause)
            return Present()
        self._unjudged = len(found.judged) < len(found.kept)
        return found

    def cover(self) -> None:
        """Sign the head for the newest snapshot, and then for its verdict, when no later one came to do it.

        So an idle stream is covered, too. While a cut is on its way its own thread looks at the lineage and signs.
        """
        if self._pending is not None and not self._pending.done():
            return
        if self._cut > self._covered or (self._unjudged and self._cut >= 0):
            self._sign_head(self._cut)

    def _remember(self, manifest: Manifest) -> None:
        """Keep the snapshot's figures, which outlive it."""
        try:
            if self._history is None:
                history = Recorder(self._view.refresh())
                history.resume()
                self._history = history  # one that could not resume would leave a gap
            else:
                self._history.note(row_of(manifest))
        except (StoreError, DamagedError) as cause:
            log.error("history is not written, and tried again: %s", cause)

    def _forget(self) -> None:
        """Delete what ``snapshots.keep`` no longer asks for; a store that is away keeps it until the next snapshot."""
        if self._view.broken:
            return  # what is pinned stands in the ledger
        try:
            pruning.forget(self._view, self._keep, self.refuse_superseded, self._now())
            self.references = pruning.references(self._view)
        except StoreError as cause:
            log.error("old snapshots were not removed: %s", cause)
        except LineageTakenError:
            log.warning("old snapshots are left to the trainer that took over")

    def _ending(self) -> bool:
        return self._stopping() or self._closing.is_set()

    def close(self) -> None:
        """Finish what is on its way."""
        self._closing.set()
        self._pool.shutdown(wait=True)
        if self._cut >= 0:
            self._sign_head(self._cut, last=True)
