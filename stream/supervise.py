"""``holdfast up``: trainer, guard and serving as child processes, started again when they die."""

import ctypes
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from stream.errors import StreamError

log = logging.getLogger("holdfast.up")
ROLES = ("train", "guard", "serve")
DRAIN_SECONDS = 9.0
_GIVE_UP_AFTER = 5
_QUICK_SECONDS = 20.0
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0
_NOT_MENDED_BY_RESTART = {2, 5}
_PR_SET_PDEATHSIG = 1


class Child(msgspec.Struct):
    """One role, its process, and how often it died soon after it was started."""

    role: str
    process: subprocess.Popen[bytes]
    started: float
    quick_deaths: int = 0
    again_at: float | None = None


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent is gone, so that a killed ``up`` leaves nothing running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Starts the roles, watches them, and ends them together."""

    def __init__(
        self,
        config: Path,
        environment: Mapping[str, str],
        roles: Sequence[str] = ROLES,
        output: IO[bytes] | None = None,
    ) -> None:
        self._config = config
        self._environment = dict(environment)
        self._roles = roles
        self._output = output
        self.children: list[Child] = []

    def start(self) -> None:
        """Start every role."""
        self.children = [Child(role, self._spawn(role), time.monotonic()) for role in self._roles]

    def _spawn(self, role: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-m", "stream.cli", role, "--config", str(self._config)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  no threads are running in the supervisor
        )

    def watch(self) -> None:
        """Start dead children again with backoff; raise when one keeps dying, or cannot be mended by a restart."""
        for child in self.children:
            if child.again_at is not None:
                if time.monotonic() >= child.again_at:
                    child.process, child.started, child.again_at = self._spawn(child.role), time.monotonic(), None
                continue
            code = child.process.poll()
            if code is not None:
                self._died(child, code)

    def _died(self, child: Child, code: int) -> None:
        quick = time.monotonic() - child.started < _QUICK_SECONDS
        child.quick_deaths = child.quick_deaths + 1 if quick else 1
        if code in _NOT_MENDED_BY_RESTART or child.quick_deaths >= _GIVE_UP_AFTER:
            raise StreamError(
                f"holdfast {child.role} ended with {code}, {child.quick_deaths} times in a row; everything is stopped. "
                f"Its last words stand above; try it alone: holdfast {child.role}"
            )
        delay = min(_FIRST_DELAY * 2 ** (child.quick_deaths - 1), _LONGEST_DELAY)
        log.error("holdfast %s ended with %s; starting it again in %.1f s", child.role, code, delay)
        child.again_at = time.monotonic() + delay

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until asked to stop."""
        self.start()
        try:
            while not stopping():
                self.watch()
                time.sleep(0.1)
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask every child to end, and end those that do not within the time to drain."""
        alive = [child.process for child in self.children if child.process.poll() is None]
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
