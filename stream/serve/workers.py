"""``holdfast serve``: answers over HTTP, in one process or in several that share a port."""

import contextlib
import functools
import logging
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import uvicorn

from learners.errors import LearnersError
from snapshots.errors import SnapshotsError
from stream.config import packed, unpacked
from stream.errors import CommandError, StreamError
from stream.process import interpreter, logs
from stream.process.supervise import Deaths
from stream.serve.api import application
from stream.serve.current import Server
from stream.serve.http.at_once import ConnectionAtOnce
from stream.serve.http.bearer import tokens_of
from stream.serve.http.connection_limits import Door, Limits
from stream.serve.prometheus import ROW_BYTES, RequestCounts
from stream.settings import Config

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

log = logging.getLogger("holdfast.serving")
_BACKLOG = 4096
_DRAIN_SECONDS = 6.0
#: the others do not wait longer for the one that dies
_LONGEST_DELAY = 5.0
#: descriptors that connections leave to everything else: the store, the source, the libraries, and connections that
#: were just accepted and end others; where few files may be open, at least the smaller number
_SPARE_FILES, _FEWEST_SPARE_FILES = 256, 64
#: connections accepted in one turn of the loop: libuv takes one from each descriptor, and a busy turn is long
_ACCEPTS = 8
_HELD_BYTES = 256 * 1024 * 1024
#: for pages of other origins: what is answered here is no page of theirs, and no script
_HEADERS = [("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer")]


def serve_forever(config: Config, environment: Mapping[str, str], stopping: Callable[[], bool]) -> None:
    """Answer until SIGTERM or SIGINT; requests under way are finished first."""
    with _listen(config) as listening, tempfile.TemporaryFile() as counts:
        counts.truncate(ROW_BYTES * config.serve.workers)
        if config.serve.workers == 1:
            answer(config, environment, listening, RequestCounts(mmap.mmap(counts.fileno(), 0), 0))
        else:
            _Workers(config, environment, listening, counts.fileno()).run(stopping)


def answer(config: Config, environment: Mapping[str, str], listening: socket.socket, counts: RequestCounts) -> None:
    """Answer in this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Server(config, now=time.time)
    server.shut_in()
    server.start()
    app = application(server, tokens_of(config, environment, time.monotonic), counts)
    connection = functools.partial(ConnectionAtOnce, door=Door(limits(config, most)), answer_of=app.at_once)
    web = _Web(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
            http=cast("type[asyncio.Protocol]", connection),
            ws="none",
            headers=_HEADERS,
            server_header=False,
            proxy_headers=False,
        )
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again once it has ended
    try:
        web.run([listening, *(listening.dup() for _ in range(_ACCEPTS - 1))])
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


class _Web(uvicorn.Server):
    """Says what it waits for when it is asked to end."""

    def handle_exit(self, sig: int, frame: "FrameType | None") -> None:
        """SIGTERM or SIGINT has arrived."""
        logs.say_ending("requests under way are answered, for up to 3 s")
        super().handle_exit(sig, frame)


def refuse_taken_port(config: Config) -> None:
    """Raise :class:`CommandError` when somebody else listens where this configuration would."""
    _listen(config).close()


def limits(config: Config, files: int) -> Limits:
    """What the connections of a process may take, when it may open so many files."""
    serve = config.serve
    spare = min(_SPARE_FILES, max(_FEWEST_SPARE_FILES, files // 4))
    return Limits(
        connections=max(1, min(serve.max_connections, files - spare)),
        held_bytes=max(_HELD_BYTES, 16 * serve.max_bytes),
        body_bytes=serve.max_bytes,
        quiet_seconds=serve.quiet_seconds,
        request_seconds=serve.request_seconds,
    )


def _listen(config: Config) -> socket.socket:
    """Take the port, or say what to do when somebody else has it."""
    family = socket.AF_INET6 if ":" in config.serve.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.serve.host, config.serve.port))
        listening.listen(_BACKLOG)
    except OSError as cause:
        listening.close()
        raise CommandError(
            f"{config.serve.host}:{config.serve.port} cannot be listened on: {cause.strerror}. "
            "Set serve.port, or HOLDFAST_SERVE__PORT"
        ) from cause
    return listening


class _Workers:
    """Processes that accept from one socket; one that dies is started again, the others go on answering."""

    def __init__(self, config: Config, environment: Mapping[str, str], listening: socket.socket, counts: int) -> None:
        self._config, self._environment = config, dict(environment)
        self._pass = (listening.fileno(), counts)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._deaths = Deaths()

    def run(self, stopping: Callable[[], bool]) -> None:
        """Keep them running until asked to stop; raises :class:`CommandError` when the configuration is wrong."""
        try:
            for index in range(self._config.serve.workers):
                self._start(index)
            while not stopping():
                time.sleep(0.1)
                for index, process in self._processes.items():
                    if (code := process.poll()) is not None:
                        self._died(process.pid, code)
                        self._start(index)
        finally:
            self._end()

    def _died(self, pid: int, code: int) -> None:
        """Wait a little before the next; a wrong configuration ends all."""
        delay = self._deaths.note()
        if code == logs.WRONG:
            raise CommandError(f"serving process {pid} ended with {code}; its last words stand above")
        delay = min(delay, _LONGEST_DELAY)
        log.error("serving process %d ended with %d; another takes its place in %.1f s", pid, code, delay)
        time.sleep(delay)

    def _end(self) -> None:
        """Ask all to end, requests under way first."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _DRAIN_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, index: int) -> None:
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            interpreter.command("stream.serve.workers", *self._pass, index),
            stdin=subprocess.PIPE,
            pass_fds=self._pass,
            env=interpreter.environment(self._environment),
        )
        with contextlib.suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.write(packed(self._config))
                process.stdin.close()
        self._processes[index] = process


def main() -> None:
    """One of several serving processes: its socket, the counts that they share, and its row of them."""
    interpreter.end_with_parent(signal.SIGTERM)
    logs.configure(os.environ.get("HOLDFAST_LOG", "console"))
    listening, counts, index = map(int, sys.argv[1:])
    config = unpacked(sys.stdin.buffer.read())
    try:
        answer(config, os.environ, socket.socket(fileno=listening), RequestCounts(mmap.mmap(counts, 0), index))
    except (StreamError, SnapshotsError, LearnersError) as cause:
        sys.exit(logs.last_words(cause))


if __name__ == "__main__":
    main()
