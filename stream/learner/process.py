"""One learner as the trainer drives it: its process, and its account."""

import contextlib
import logging
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

import msgspec

from learners.event import Event, Prediction
from learners.labels import LabelValue
from learners.learner import COMPILED
from snapshots.records.manifest import LearnerPart
from snapshots.store.store import Store
from stream.config import packed
from stream.errors import GaveUpError, RaisedAtError, StreamError
from stream.learner import wire
from stream.learner.account import Account
from stream.process import lent_store
from stream.record import COUNTED, Mode, Record
from stream.settings import Config

log = logging.getLogger("holdfast.trainer")
#: batches that are sent and not learnt yet: enough to keep both processes busy, few enough to bound memory
AHEAD = 4
_END_SECONDS = 5.0
_LOOK_SECONDS = 5
#: a learner that takes longer for a batch, or to load, is said to hang
_SILENT_SECONDS = 10


def _names_of(events: Sequence[Event]) -> tuple[str, ...] | None:
    """The names of the numbers that every one of these events comes with as a row; None where some does not."""
    names = events[0].features.names if events else None
    return names if names and all(event.features.names is names for event in events) else None


class Asked(msgspec.Struct, frozen=True, gc=False):
    """Features without a label, to be predicted ``before`` the event of this index in a batch is learnt."""

    sequence: int
    features: bytes
    before: int


class LearnerProcess:
    """One learner, from outside. Orders are carried out in its own process, in the order of the calls made here.

    What goes wrong there (:mod:`stream.learner.worker`) is raised by the next call.
    """

    def __init__(self, name: str, config: Config, store: Store, stopping: Callable[[], bool]) -> None:
        self.name = name
        self._stopping = stopping
        self.role = config.learners[name].role
        self.kind = config.learners[name].kind
        self.built_from: dict[str, Any] = {}
        self.account = Account(name)
        self.reference: int | None = None
        self.compared: tuple[int | None, int, int] | None = None
        self.scored: Callable[[int, str, list[float] | None], None] = lambda _lot, _name, _losses: None
        self.waiting: Callable[[str], None] = lambda _why: None
        self.save_seconds = 0.0
        self._number = 0
        self._labels_sent = 0
        self._ahead: deque[tuple[int, Sequence[Record], int]] = deque()
        self._changed = threading.Condition()
        self._trouble: Exception | None = None
        self._loaded: Future[dict[str, Any]] | None = None
        self._saves: dict[int, Future[wire.Saved]] = {}
        self._asked: dict[int, Sequence[int]] = {}
        self._answers: list[tuple[int, Prediction]] = []
        self.wall = self.execution = ""
        self._scratch = tempfile.mkdtemp(prefix="holdfast-")
        parts = re.compile(rf"snapshots/[0-9]{{12}}/{name}\.(model|metrics|evidence)-[0-9a-f]{{16}}")
        self._process, self._connection, self._lending = lent_store.started(
            "stream.learner.worker", store, parts, TMPDIR=self._scratch, HOLDFAST_SCRATCH=self._scratch
        )
        self.process = self._process.pid
        self._send(wire.Setup(packed(config), name))
        threading.Thread(target=self._listen, name=f"listen-{name}", daemon=True).start()

    # Orders ------------------------------------------------------------------------------------------------------

    def load(
        self, snapshot: int | None, labels: Sequence[LabelValue], *, accept: bool = False, imported: str = ""
    ) -> None:
        """Begin to take the state of a snapshot, or to be new; :meth:`ready` waits for it."""
        with self._changed:
            if isinstance(self._trouble, RaisedAtError):
                self._trouble = None
            self._ahead.clear()
            self._asked.clear()
            self._answers.clear()
            self._labels_sent = len(labels)
            self._loaded = Future()
        self.compared = None
        self._send(wire.Load(snapshot, list(labels), accept, imported))

    def ready(self) -> None:
        """Wait until the state is taken; raise what was wrong with it, as the learner's process raised it."""
        if self._loaded is not None:
            seconds = 0
            while not wait([self._loaded], _LOOK_SECONDS).done:
                seconds = self._silent(seconds, f"{self.name} is not loaded yet")
            self.built_from = self._loaded.result()
            self._loaded = None

    def take(  # noqa: PLR0913  the columns of a batch
        self, events: Sequence[Event], origins: Sequence[Record], slices: list[list[str]] | None,
        labels: list[LabelValue], scale: float | None = None,
        *, sampled: slice = slice(None), lot: int = 0, learn: bool = True, mode: Mode = "learn",
        asked: Sequence[Asked] = (),
    ) -> None:  # fmt: skip
        """Hand on a batch to predict, score and learn; waits while the learner is too far behind.

        ``sampled`` are the events that are scored for comparisons; ``scored`` is told their losses, under ``lot``.
        ``mode``: see :data:`stream.record.Mode`. ``asked`` are predicted as well; :meth:`answers` gives what is said.
        """
        if not events and not asked:
            return
        with self._changed:
            self._wait(AHEAD - 1)
            self._number += 1
            self._ahead.append((self._number, origins, lot))
            if asked:
                self._asked[self._number] = [one.sequence for one in asked]
        weights = [event.weight for event in events]
        names = _names_of(events) if self.execution == COMPILED else None
        fresh = labels if len(labels) != self._labels_sent else None
        self._labels_sent = len(labels)
        self._send(
            wire.Batch(
                self._number,
                [] if names else [event.features.raw for event in events],
                [event.label for event in events if event.label is not None],
                None if weights.count(1.0) == len(weights) else weights,
                slices,
                fresh,
                scale,
                sampled.start or 0,
                learn,
                sampled.step or 1,
                mode,
                [one.features for one in asked],
                [one.before for one in asked],
                list(names or ()),
                b"".join([event.features.row or b"" for event in events]) if names else b"",
            )
        )
        if learn and mode in COUNTED:
            self.account.learnt += len(events)

    def answers(self) -> list[tuple[int, Prediction]]:
        """What was predicted since the last call, under the numbers of the events that were asked about."""
        with self._changed:
            found, self._answers = self._answers, []
        return found

    def refer(self, snapshot: int) -> None:
        """Have the learner compared with this snapshot from here on."""
        if snapshot != self.reference:
            self.reference = snapshot
            self._send(wire.Refer(snapshot))

    def against(self, baseline: int | None, switch: int, since: int) -> None:
        """Have the learner compared with this baseline, and with its own past, from here on."""
        if (baseline, switch, since) != self.compared:
            self.compared = (baseline, switch, since)
            self._send(wire.Against(baseline, switch, since))

    def drain(self) -> None:
        """Wait until everything handed on is learnt; raise what went wrong."""
        with self._changed:
            self._wait(0)

    def _wait(self, ahead: int) -> None:
        """Wait until no more than so many batches are ahead of the learner; an end that is asked for does not wait."""
        seconds = 0
        while not self._changed.wait_for(lambda: len(self._ahead) <= ahead or self._trouble is not None, _LOOK_SECONDS):
            seconds = self._silent(seconds, f"{self.name} has not learnt {len(self._ahead)} batches yet")
        self.check()

    def _silent(self, seconds: int, left: str) -> int:
        """It was waited for once more: say so when that is long; return the seconds so far.

        Raises :class:`GaveUpError` with what is left when the process was asked to end.
        """
        if self._stopping():
            raise GaveUpError(left)
        seconds += _LOOK_SECONDS
        if seconds >= _SILENT_SECONDS:
            self.waiting(f"learner {self.name} has not answered for {seconds} s")
        return seconds

    def save(self, snapshot: int) -> "Future[wire.Saved]":
        """Have the state after everything handed on so far written as parts of a snapshot."""
        self.check()
        self._number += 1
        saved = self._saves[self._number] = Future()
        self._send(wire.Save(snapshot, self._number))
        return saved

    def check(self) -> None:
        """Raise what went wrong in the learner's process."""
        if self._trouble is not None:
            raise self._trouble

    def close(self) -> None:
        """End the learner's process; what it has not saved is learnt again."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as shared, contextlib.suppress(OSError):
            shared.shutdown(socket.SHUT_RDWR)  # a close would wait for the thread that listens
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lending.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _send(self, order: wire.Order) -> None:
        try:
            self._connection.send_bytes(wire.encode(order))
        except OSError:
            with self._changed:
                self._changed.wait_for(lambda: self._trouble is not None, _END_SECONDS)
            self.check()
            raise

    # Replies -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take replies as they come; runs in a thread of its own until the process is gone."""
        while True:
            try:
                reply = wire.replies.decode(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._fail(StreamError(f"the process of learner {self.name} ended: {self._last_words()}"))
                return
            match reply:
                case wire.Learnt():
                    self._learnt(reply)
                case wire.Raised():
                    self._raised(reply)
                case wire.Saved():
                    self.save_seconds = reply.seconds
                    _resolve(self._saves.pop(reply.order, None), reply)
                case wire.Loaded():
                    self.wall, self.execution = reply.wall, reply.execution
                    _resolve(self._loaded, reply.built_from)
                case wire.Failed():
                    self._failed(reply)

    def _learnt(self, reply: wire.Learnt) -> None:
        with self._changed:
            numbers = self._asked.pop(reply.number, ())
            if self._ahead and self._ahead[0][0] == reply.number:
                self.scored(self._ahead.popleft()[2], self.name, reply.losses)
                self._answers += zip(numbers, reply.answers, strict=True)
            self._changed.notify_all()

    def _raised(self, reply: wire.Raised) -> None:
        origins = next((records for number, records, _ in self._ahead if number == reply.number), None)
        if origins is not None:
            self._fail(RaisedAtError(self.name, origins[reply.index], reply.error, for_good=reply.for_good))

    def _failed(self, reply: wire.Failed) -> None:
        message = reply.message if self.name in reply.message else f"learners.{self.name}: {reply.message}"
        cause: Exception = wire.error_of(reply.kind, message)
        waiting: Future[Any] | None = self._loaded
        if reply.order == "Save":
            waiting, cause = self._saves.pop(reply.number, None), self._trouble or cause
        if waiting is None:
            self._fail(cause)
        elif not waiting.done():
            waiting.set_exception(cause)

    def _fail(self, cause: Exception) -> None:
        with self._changed:
            self._trouble = self._trouble or cause
            self._changed.notify_all()
        if isinstance(cause, RaisedAtError):
            return  # the process goes on: what was to be saved before is, what comes after is answered by a failure
        for waiting in (self._loaded, *self._saves.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(cause)

    def _last_words(self) -> str:
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "its socket is closed"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}, its last words stand above"

    # Its account ------------------------------------------------------------------------------------------------

    def restore(self, part: LearnerPart) -> None:
        """Take counts, line and quarantine of a snapshot."""
        self.account.restore(part)
        self.reference = part.reference

    def forget(self) -> None:
        """Be new again."""
        self.account = Account(self.name)
        self.reference = None


def _resolve(waiting: "Future[Any] | None", result: object) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(result)
