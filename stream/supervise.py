"""``holdfast up``: trainer, guard and serving as child processes, started again when they die."""

import ctypes
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from stream import interpreter, logs
from stream.errors import StreamError

log = logging.getLogger("holdfast.up")
ROLES = ("train", "guard", "serve")
#: what learns, judges and answers nothing: when one of these cannot run, the others go on
BESIDE = ("archive run", "retrain watch")
DRAIN_SECONDS = 9.0
_GIVE_UP_AFTER = 5
_QUICK_SECONDS = 20.0
_MOST_DEATHS, _LATELY_SECONDS = 20, 600.0
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0
_LAST_WORDS = 5
_PR_SET_PDEATHSIG = 1


class Deaths:
    """How often something died: five times in a row soon after its start, or 20 times in ten minutes, is enough."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._quick = 0
        self._lately: deque[float] = deque(maxlen=_MOST_DEATHS)

    def begin(self) -> None:
        """It was started."""
        self._started = time.monotonic()

    def note(self) -> float | None:
        """It died: return the seconds to wait before it is started again, None when it is not to be."""
        now = time.monotonic()
        self._quick = self._quick + 1 if now - self._started < _QUICK_SECONDS else 1
        self._lately.append(now)
        many = len(self._lately) == _MOST_DEATHS and now - self._lately[0] < _LATELY_SECONDS
        self._started = now
        if self._quick >= _GIVE_UP_AFTER or many:
            return None
        return min(_FIRST_DELAY * 2.0 ** (self._quick - 1), _LONGEST_DELAY)


class Child:
    """One role, its process, its deaths, and the last lines that it wrote."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = Deaths()
        self.again_at: float | None = 0.0
        self.last_words: deque[bytes] = deque(maxlen=_LAST_WORDS)
        self._listener: threading.Thread | None = None

    def listen(self, output: IO[bytes]) -> None:
        """Pass on what the process writes, and keep its last lines."""
        stream = self.process.stderr if self.process else None
        if stream is None:
            return

        def forward() -> None:
            for line in stream:
                self.last_words.append(line)
                output.write(line)
                output.flush()

        self._listener = threading.Thread(target=forward, name=f"listen-{self.role}", daemon=True)
        self._listener.start()

    def words(self) -> str:
        """The last lines that the process wrote."""
        if self._listener is not None:
            self._listener.join(1)
        return b"".join(self.last_words).decode("utf-8", "replace").rstrip() or "(it wrote nothing)"


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent is gone, so that a killed ``up`` leaves nothing running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Starts the roles, watches them, and ends them together. ``first`` are arguments for a role's first start only."""

    def __init__(
        self,
        config: Path,
        environment: Mapping[str, str],
        roles: Sequence[str] = ROLES,
        output: IO[bytes] | None = None,
        first: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._config = config
        self._environment = dict(environment)
        self._output = output or sys.stderr.buffer
        self._first = dict(first or {})
        self.children = [Child(role) for role in roles]

    def _spawn(self, child: Child) -> None:
        arguments = [*child.role.split(), "--config", str(self._config), *self._first.pop(child.role, ())]
        child.process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            interpreter.command("stream.cli", *arguments),
            env=interpreter.environment(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  calls one function of the C library and nothing else
        )
        child.again_at = None
        child.deaths.begin()
        child.listen(self._output)

    def watch(self) -> None:
        """Start dead children again with backoff; raise when one keeps dying, or cannot be mended by a restart."""
        for child in self.children:
            if child.again_at is not None:
                if time.monotonic() >= child.again_at:
                    self._spawn(child)
            elif child.process is not None and (code := child.process.poll()) is not None:
                self._died(child, code)

    def _died(self, child: Child, code: int) -> None:
        delay = child.deaths.note()
        if code == logs.TAKEN:
            child.process = None
            log.error("holdfast %s is not started again, since another took over; the others go on", child.role)
            return
        if child.role in BESIDE and code != logs.WRONG and delay is None:
            child.process = None
            log.error(
                "holdfast %s ended with %s, again and again; it is not started again, the others go on:\n%s",
                child.role, code, child.words(),
            )  # fmt: skip
            return
        if code == logs.WRONG or delay is None:
            often = "" if code == logs.WRONG else ", again and again"
            raise StreamError(
                f"holdfast {child.role} ended with {code}{often}; everything is stopped. "
                f"Try it alone: holdfast {child.role}. Its last words:\n{child.words()}"
            )
        log.error("holdfast %s ended with %s; starting it again in %.1f s", child.role, code, delay)
        child.again_at = time.monotonic() + delay

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until asked to stop."""
        try:
            while not stopping():
                self.watch()
                time.sleep(0.1)
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask every child to end, and end those that do not within the time to drain."""
        alive = [one.process for one in self.children if one.process is not None and one.process.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("process %d did not end within %.0f s and is killed", process.pid, DRAIN_SECONDS)
                process.kill()
                process.wait()
