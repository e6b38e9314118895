"""``holdfast up``: trainer, guard and serving as child processes, started again when they die.

Serving never ends because another role cannot live (promise 4): who dies is started again, later and later. What no
restart mends (a wrong configuration) is said and left alone, until a file of the configuration changes; what was
refused for the state of the world (another trainer, a holdout) is said, and tried again each minute. Serving that ran,
and cannot start with the configuration as it is by then (gone, broken, of another port), goes on with what it ran with.
"""

import contextlib
import logging
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from snapshots.errors import RefusedError
from snapshots.store.local import SEEN
from stream.config import load, packed
from stream.errors import CommandError, ConfigError
from stream.process import interpreter, logs
from stream.terminal import safe_text

log = logging.getLogger("holdfast.up")
ROLES = ("train", "guard", "serve")
DRAIN_SECONDS = 9.0
_QUICK_SECONDS = 20.0
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0
_LOOK_SECONDS = 1.0
#: a role that was given up and has lived so long again is not given up; a trainer looks for another for 15 to 25 s
_GIVEN_UP_SECONDS = 30.0
#: how often serving that ran is started again although it says that its configuration is wrong
_DOUBTS = 5
_LAST_WORDS = 5
_TAKE_OVER = "--take-over"


class Deaths:
    """How often something died soon after its start: each time it is started again later, up to a minute."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._quick = 0

    def begin(self) -> None:
        """It was started."""
        self._started = time.monotonic()

    def age(self) -> float:
        """Seconds since it was started, or died."""
        return time.monotonic() - self._started

    def note(self) -> float:
        """It died: return the seconds to wait before it is started again."""
        now = time.monotonic()
        self._quick = self._quick + 1 if now - self._started < _QUICK_SECONDS else 1
        self._started = now
        return min(_FIRST_DELAY * 2.0 ** min(self._quick - 1, 20), _LONGEST_DELAY)


class Child:
    """One role, its process, its deaths, and the last lines that it wrote."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = Deaths()
        self.again_at: float | None = 0.0
        self.given_up = ""
        self.flags: list[str] = []
        self.files: dict[str, int] = {}
        self.ran_with: dict[str, int] | None = None
        self.doubts = 0
        self.config: bytes | None = None
        self.kept: bytes | None = None
        self.goes_on_with_kept = False
        self.last_words: deque[bytes] = deque(maxlen=_LAST_WORDS)
        self._listener: threading.Thread | None = None

    def listen(self, output: IO[bytes]) -> None:
        """Pass on what the process writes, and keep its last lines; those of the process before it are forgotten."""
        stream = self.process.stderr if self.process else None
        words: deque[bytes] = deque(maxlen=_LAST_WORDS)
        self.last_words = words
        if stream is None:
            return

        def forward() -> None:
            for line in stream:
                words.append(line)
                with contextlib.suppress(OSError):  # a log on a full disk; nobody may wait for it to be read
                    output.write(safe_text.forwarded(line))
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
    interpreter.end_with_parent(signal.SIGTERM)


class Supervisor:
    """Starts the roles, watches them, and ends them together.

    ``first`` are arguments for a role's first start only; but ``--take-over`` counts again for one that dies so soon
    that it may not have taken over yet.

    ``can_serve`` tells whether there is anything to answer from, ``say`` tells ``status`` who was given up, and why,
    and ``seen`` the directory of the store once it was there: none that is started later makes it anew.
    """

    def __init__(
        self,
        config: Path,
        environment: Mapping[str, str],
        roles: Sequence[str] = ROLES,
        output: IO[bytes] | None = None,
        first: Mapping[str, Sequence[str]] | None = None,
        *,
        can_serve: Callable[[], bool] = lambda: True,
        say: Callable[[dict[str, str]], None] = lambda _given_up: None,
        seen: Callable[[], str] = lambda: "",
    ) -> None:
        self._config = config
        self._environment = dict(environment)
        self._output = output or sys.stderr.buffer
        self._first = dict(first or {})
        self._can_serve, self._say, self._seen_store = can_serve, say, seen
        self._served = False
        self._look_at, self._seen = 0.0, self._files()
        self.children = [Child(role) for role in roles]

    def _start(self, child: Child) -> None:
        """Start it; where the system lets nobody start a process just now, later."""
        try:
            self._spawn(child)
        except (OSError, subprocess.SubprocessError) as cause:
            delay = child.deaths.note()
            log.error("holdfast %s cannot be started: %s; trying again in %.1f s", child.role, cause, delay)
            child.again_at = time.monotonic() + delay

    def _spawn(self, child: Child) -> None:
        child.files = self._files()
        child.config = child.kept if child.goes_on_with_kept else self._loaded(child)
        arguments = [*child.role.split(), "--config", str(self._config), *self._first.get(child.role, ())]
        with tempfile.TemporaryFile() as kept:
            if child.goes_on_with_kept:
                arguments.append("--as-kept")
                kept.write(child.kept or b"")
                kept.seek(0)
            child.process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                interpreter.command("stream.cli", *arguments),
                env=interpreter.environment(self._environment, **{SEEN: self._seen_store()}),
                stdin=kept,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  calls one function of the C library and nothing else
            )
        child.flags = [*self._first.pop(child.role, ())]
        child.again_at = None
        child.deaths.begin()
        child.listen(self._output)

    def _loaded(self, child: Child) -> bytes | None:
        """The configuration that serving is about to start with; None for other roles, and when it cannot be read."""
        if child.role != "serve":
            return None
        try:
            return packed(load(self._config, self._environment))
        except ConfigError:
            return None  # the child says so itself

    def watch(self) -> None:
        """Start dead children again with backoff; raise :class:`CommandError` when nothing could ever be served."""
        for child in self.children:
            if child.again_at is not None:
                if time.monotonic() >= child.again_at:
                    self._start(child)
            elif child.process is not None and (code := child.process.poll()) is not None:
                self._died(child, code)
            elif child.given_up and child.deaths.age() > _GIVEN_UP_SECONDS:
                child.given_up = ""  # it lives: what was in its way is gone
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._served = self._served or self._can_serve()
            self._say({child.role: child.given_up for child in self.children if child.given_up})
            self._mended()

    def _died(self, child: Child, code: int) -> None:
        if _TAKE_OVER in child.flags and code != logs.TAKEN and child.deaths.age() < _GIVEN_UP_SECONDS:
            self._first[child.role] = [_TAKE_OVER]  # it may have come to nothing yet
        delay = child.deaths.note()
        if code == logs.TAKEN:
            self._give_up(child, "another process took over the lineage", again=True)
        elif code in (logs.WRONG, logs.REFUSED) and not self._ran(child):
            if self._goes_on(child):
                child.again_at = time.monotonic() + delay
                return
            needed = child.role != "console"  # without the page everything goes on
            if child.role == "serve" or (needed and not (self._goes_on_serving() or self._can_serve())):
                kind = RefusedError if code == logs.REFUSED else CommandError
                raise kind(
                    f"holdfast {child.role} ended with {code}, which no restart mends; everything is stopped. "
                    f"Its last words:\n{child.words()}"
                )
            self._give_up(
                child, f"it ended with {code}, which no restart mends: {child.words()}", again=code == logs.REFUSED
            )
        else:
            if code not in (logs.WRONG, logs.REFUSED):
                child.ran_with = child.ran_with if child.goes_on_with_kept else child.files
                child.doubts = 0
                child.kept, child.goes_on_with_kept = child.config or child.kept, False
            log.error("holdfast %s ended with %s; starting it again in %.1f s", child.role, code, delay)
            child.again_at = time.monotonic() + delay

    def _goes_on_serving(self) -> bool:
        """Tell whether serving runs and had a snapshot: it answers from memory when the store is taken away."""
        return self._served and any(
            one.role == "serve" and one.process is not None and one.process.poll() is None for one in self.children
        )

    def _ran(self, child: Child) -> bool:
        """Tell whether serving ran with these very files, and may run again.

        The workers of one that was killed may hold its port for as long as they drain; what learns and judges takes
        nothing that its predecessor could still hold.
        """
        child.doubts += 1
        same = child.files == child.ran_with or child.goes_on_with_kept
        return child.role == "serve" and same and child.doubts <= _DOUBTS

    def _goes_on(self, child: Child) -> bool:
        """Say that serving goes on with the configuration that it ran with, once; False when there is none."""
        if child.kept is None or child.goes_on_with_kept:
            return False
        child.goes_on_with_kept, child.doubts = True, 0
        log.error(
            "holdfast %s cannot start with the configuration as it is now, and goes on with the one that it ran with; "
            "%s counts again when it is mended and %s starts anew. It said: %s",
            child.role, self._config, child.role, child.words(),
        )  # fmt: skip
        return True

    def _give_up(self, child: Child, why: str, *, again: bool) -> None:
        """Say so once. What was refused for the state of the world, not for a file, is tried ``again`` each minute."""
        if why != child.given_up:
            log.error(
                "holdfast %s is not started again: %s. The others go on; it is tried again %swhen the configuration or "
                "a module beside it changes", child.role, why, "each minute, and " if again else "",
            )  # fmt: skip
        child.process, child.given_up = None, why
        child.again_at = time.monotonic() + _LONGEST_DELAY if again else None

    def _mended(self) -> None:
        """Try again what was given up, when a file of the configuration changed."""
        found = self._files()
        if found != self._seen:
            self._seen = found
            for child in self.children:
                if child.given_up:
                    log.warning("the configuration changed; holdfast %s is started again", child.role)
                    child.again_at, child.given_up = time.monotonic(), ""

    def _files(self) -> dict[str, int]:
        """When the configuration and the modules beside it were last changed."""
        found = {}
        for path in (self._config, *self._config.resolve().parent.glob("*.py")):
            with contextlib.suppress(OSError):  # an editor is putting another in its place
                found[str(path)] = path.stat().st_mtime_ns
        return found

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
