"""Processes of the command without the second that its imports take: forked from one that has imported all.

``python tests/support/forked.py FD`` imports what the command imports, and then forks a process for each request on
the socket FD; that process runs the command as ``python -m stream.cli`` would. :class:`Forked` is its handle, with what
tests use of :class:`subprocess.Popen`.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_READY = b"ready"
_LONGEST = 1 << 20


class Forked:
    """A process of the command: ``pid``, ``returncode``, and how to wait for it and to end it."""

    def __init__(self, connection: socket.socket, pid: int, arguments: list[str]) -> None:
        self._connection, self.pid, self.args = connection, pid, arguments
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that killed it), or None while it runs."""
        return self._status(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raise :class:`subprocess.TimeoutExpired` when that takes longer, in seconds."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def _status(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            said = self._connection.recv(64)
            self._connection.close()
            self.returncode = int(said) if said else -signal.SIGKILL  # the server of forks is gone
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks, started at the first request."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: list[str], *, cwd: Path, env: Mapping[str, str], out: int, err: int) -> Forked:
        """Run ``holdfast ARGUMENTS`` in a folder, with these open files as its standard output and error."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
        with theirs:
            socket.send_fds(self._running(), [asked], [theirs.fileno(), out, err])
        return Forked(ours, int(ours.recv(64)), ["holdfast", *arguments])

    def _running(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
            with theirs:
                command = [sys.executable, __file__, str(theirs.fileno())]
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            assert self._socket.recv(64) == _READY
        return self._socket


SERVER = Server()


# The other side ------------------------------------------------------------------------------------------------------


#: what the commands and the usual learners import; none of it starts a thread
_IMPORTED = (
    "river.compose", "river.linear_model", "river.naive_bayes", "river.preprocessing", "river.tree",
    "learners.river.learner", "learners.vw.learner", "learners.purity", "learners.river.trial", "learners.vw.trial",
    "stream.cli", "stream.guard.watch", "stream.serve.workers", "stream.train.trainer", "stream.process.supervise",
)  # fmt: skip


#: what they import where numba is
_COMPILED = ("learners.river.compiled.learner", "stream.source.alike.scan")


def _serve(listening: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until nobody is left to ask; return the request in the process that was forked for it."""
    watching, ringing = socket.socketpair()
    for one in (watching, ringing):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ringing.fileno())
    waiting: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listening, watching], [], [])
        if watching in ready:
            watching.recv(4096)
            _tell(waiting)
        if listening not in ready:
            continue
        asked, handed, _, _ = socket.recv_fds(listening, _LONGEST, 3)
        if not asked:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (listening, watching, ringing, *waiting.values()):
                one.close()
            os.close(handed[0])
            for number, descriptor in zip((1, 2), handed[1:], strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
            found: dict[str, Any] = json.loads(asked)
            return found
        for descriptor in handed[1:]:
            os.close(descriptor)
        waiting[pid] = socket.socket(fileno=handed[0])
        waiting[pid].send(str(pid).encode())


def _tell(waiting: dict[int, socket.socket]) -> None:
    """Say how processes that have ended ended."""
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with waiting.pop(pid) as connection, contextlib.suppress(OSError):
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def main() -> None:
    """Import, fork on request, and be the command in what was forked."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    del sys.path[0]  # this folder: the command does not see it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*_IMPORTED, *(_COMPILED if find_spec("numba") is not None else ())):
            importlib.import_module(name)
    listening.send(_READY)
    asked = _serve(listening)
    if asked is None:
        return
    from stream.cli import main as command

    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path.insert(0, asked["cwd"])  # as python -m does
    sys.argv = ["stream.cli", *asked["arguments"]]
    command(prog_name="python -m stream.cli")


if __name__ == "__main__":
    main()
