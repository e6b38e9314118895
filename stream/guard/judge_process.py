"""Judging in a process of its own, behind the wall: the guard itself never loads a model (promise 9).

The guard asks, the process loads, scores and answers with values; the store is lent to it for reading alone. A model
that ends the process, or lets it hang, is judged once more by a new one, and then has failed.
"""

import contextlib
import logging
import os
import subprocess
from multiprocessing.connection import Connection
from typing import TypeAlias

import msgspec

from learners.errors import LearnersError
from snapshots import Lineage, Store
from snapshots.errors import SnapshotsError, StoreError
from snapshots.judging import baseline_standing
from snapshots.judging.baseline_standing import Standing
from snapshots.judging.judge import Judge
from snapshots.judging.looks import Looks
from snapshots.judging.table import Rules
from snapshots.records.verdict import Verdict
from stream import parts
from stream.config import packed, unpacked
from stream.process import lent_store, logs, wall
from stream.settings import Config

log = logging.getLogger("holdfast.guard")
_TRIES, _PATIENCE_SECONDS, _END_SECONDS = 2, 900.0, 5.0


class _Snapshot(msgspec.Struct, tag=True):
    """Judge a learner of a snapshot; ``known`` are looks that were written before."""

    number: int
    learner: str
    rules: Rules
    now: float
    known: Looks | None


class _Baseline(msgspec.Struct, tag=True):
    """Judge a baseline on the newest holdout."""

    number: int
    now: float


class _Judged(msgspec.Struct):
    verdict: Verdict
    looks: Looks | None


_Question: TypeAlias = _Snapshot | _Baseline
_encode = msgspec.json.Encoder().encode
_questions: msgspec.json.Decoder[_Question] = msgspec.json.Decoder(_Question)


class Judging:
    """Asks the process that judges, and starts it when there is none. ``wall`` says how it is shut in."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config, self._store = config, store
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lending: lent_store.Lending | None = None
        self.wall = ""

    def judge(
        self, number: int, learner: str, rules: Rules, now: float, known: Looks | None = None
    ) -> tuple[Verdict, Looks | None]:
        """The verdict on a learner of a snapshot, and its looks; see :meth:`snapshots.judging.judge.Judge.judge`.

        Raises :class:`StoreError` when the store is away.
        """
        answer = self._ask(_Snapshot(number, learner, rules, now, known))
        if isinstance(answer, bytes):
            found = msgspec.json.decode(answer, type=_Judged)
            return found.verdict, found.looks
        return Verdict(learner, number, -1, "fail", answer, {}, now, now, "damaged"), None

    def judge_baseline(self, number: int, now: float) -> Standing:
        """How a baseline stands on the newest holdout."""
        answer = self._ask(_Baseline(number, now))
        if isinstance(answer, bytes):
            return msgspec.json.decode(answer, type=Standing)
        return Standing(number, 0, 0, None, None, "fail", answer, now)

    def _ask(self, question: _Question) -> bytes | str:
        """The answer, or why there is none: the process ended at it every time."""
        why = ""
        for _ in range(_TRIES):
            connection = self._started()
            try:
                connection.send_bytes(_encode(question))
                answer = connection.recv_bytes() if connection.poll(_PATIENCE_SECONDS) else b""
            except (EOFError, OSError):
                answer = b""
            if not answer:
                why = f"the process that loads it {self._end()}"
                log.error("%s while it judged %s; another is started", why, _about(question))
                continue
            if answer.startswith(b"!"):
                raise StoreError(answer[1:].decode())
            return answer
        return f"{why}, {_TRIES} times"

    def _started(self) -> Connection:
        if self._connection is not None:
            return self._connection
        self._process, ours, self._lending = lent_store.started("stream.guard.judge_process", self._store)
        self._connection = ours
        try:
            ours.send_bytes(packed(self._config))
            self.wall = ours.recv_bytes().decode()
        except (EOFError, OSError):
            raise StoreError(f"the process that judges does not start: it {self._end()}") from None
        return ours

    def _end(self) -> str:
        """End the process; say how it ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._lending is not None:
            self._lending.close()
        if self._process is None:
            return "was not there"
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"did not answer within {_PATIENCE_SECONDS:.0f} s"
        return f"was killed by signal {-code}" if code < 0 else f"ended with {code}"

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._end()


def _about(question: _Question) -> str:
    if isinstance(question, _Snapshot):
        return f"snapshot {question.number} of {question.learner}"
    return f"baseline {question.number}"


class _Bench:
    """The other side: loads and scores."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config, self._lineage = config, Lineage(store)
        self._judge: Judge | None = None

    def answer(self, question: _Question) -> bytes:
        """The answer as bytes; what begins with an exclamation mark is a store that is away."""
        try:
            self._lineage.refresh()
            if isinstance(question, _Baseline):
                return _encode(
                    baseline_standing.judge(
                        self._lineage, question.number, self._config.task, self._config.guard.tolerance, question.now
                    )
                )
            self._judge = self._judge or Judge(self._lineage, question.rules)
            self._judge.rules = question.rules
            labels = parts.labels_of(self._config)
            types = parts.types_of(self._config, question.learner)
            return _encode(
                _Judged(
                    *self._judge.judge(question.number, question.learner, labels, types, question.now, question.known)
                )
            )
        except (SnapshotsError, LearnersError) as cause:
            return b"!" + str(cause).encode()


def main() -> None:
    """Answer on the socket whose descriptor is the first argument, with the store that is lent over the second."""
    connection, store = lent_store.borrowed()
    logs.configure(os.environ.get("HOLDFAST_LOG", "console"))
    with contextlib.suppress(EOFError, OSError):
        config = unpacked(connection.recv_bytes())
        parts.reach_modules(config)
        for kind in {one.kind for one in config.learners.values()}:
            parts.import_kind(kind)
        connection.send_bytes((wall.put_up() if config.wall.enabled else wall.OFF).encode())
        bench = _Bench(config, store)
        while True:
            connection.send_bytes(bench.answer(_questions.decode(connection.recv_bytes())))


if __name__ == "__main__":
    main()
