"""``holdfast console``: the page, over one lineage or several."""

import contextlib
import functools
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvicorn

from snapshots import Store
from snapshots.errors import RefusedError, SnapshotsError
from stream.config import load
from stream.console.app import application
from stream.console.seen import Seen
from stream.errors import ConfigError
from stream.parts import store_of
from stream.process import logs
from stream.process.presence import Presence
from stream.serve.http.bearer import tokens_of
from stream.serve.http.connection import Connection
from stream.serve.http.connection_limits import Door, Limits
from stream.settings import ConsoleConfig, Serve

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("holdfast.console")
#: what every lineage has from its first moment on
CHARTER = "lineage.json"
_BACKLOG, _CONNECTIONS, _BODY_BYTES, _HELD_BYTES = 2048, 1000, 64 * 1024, 64 << 20
_QUIET_SECONDS, _REQUEST_SECONDS = 30.0, 150.0


def configurations(paths: Sequence[Path]) -> list[Path]:
    """The files that were named; of a folder each ``*.toml`` in it, and each ``holdfast.toml`` one below."""
    found: list[Path] = []
    for path in paths:
        there = [*sorted(path.glob("*.toml")), *sorted(path.glob("*/holdfast.toml"))] if path.is_dir() else [path]
        if not there:
            raise ConfigError(f"{path} holds no configuration: no *.toml, and no holdfast.toml in a folder of it")
        found += there
    return found


def run(paths: Sequence[Path], environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Answer until SIGTERM or SIGINT. The first configuration says where."""
    configs = {path: load(path, environment) for path in paths}
    seen: dict[str, Seen] = {}
    tokens = {}
    for path, config in configs.items():
        if config.name in seen:
            raise ConfigError(f"{path} and {seen[config.name].path} are both named {config.name!r}: rename one")
        seen[config.name] = Seen(config, path)
        tokens[config.name] = tokens_of(config, environment, time.monotonic)
    first = next(iter(configs.values()))
    settings = first.console
    listening = _listen(settings)
    port = listening.getsockname()[1]
    store = store_of(first)
    presence = Presence(store, "console", time.time)
    ended = threading.Event()
    telling = threading.Thread(target=_tell, args=(store, presence, settings.host, port, ended), daemon=True)
    limits = Limits(
        connections=_CONNECTIONS, held_bytes=_HELD_BYTES, body_bytes=_BODY_BYTES, quiet_seconds=_QUIET_SECONDS,
        request_seconds=_REQUEST_SECONDS,
    )  # fmt: skip
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = uvicorn.Server(
        uvicorn.Config(
            application(seen, tokens, Serve(host=settings.host, hosts=settings.hosts)),
            log_config=None, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1,
            http=cast("type[asyncio.Protocol]", functools.partial(Connection, door=Door(limits))), ws="none",
        )
    )  # fmt: skip
    said = f"console: http://{settings.host}:{port}/"
    say(said)
    log.info("%s", said, extra=logs.facts(port=port))
    telling.start()
    threading.Thread(target=_warm, args=(list(seen.values()),), daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        ended.set()
        telling.join(2)
        presence.close()


def _warm(seen: Sequence[Seen]) -> None:
    """Read all of history once, so that nobody has to wait for it later."""
    for one in seen:
        with contextlib.suppress(SnapshotsError):
            one.history(0.0, time.time(), 10)


def _tell(store: Store, presence: Presence, host: str, port: int, ended: threading.Event) -> None:
    """Tell the others where the page is, until it is gone; where there is no lineage yet no store is made for that."""
    while not ended.is_set():
        with contextlib.suppress(SnapshotsError):
            if store.get(CHARTER) is not None:
                presence.say(host_name=host, port=port)
        ended.wait(1.0)


def _listen(settings: ConsoleConfig) -> socket.socket:
    """Take the port; refused while somebody else has it, so that it is tried again."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
    except OSError as cause:
        listening.close()
        raise RefusedError(
            f"the console cannot listen on {settings.host}:{settings.port}: {os.strerror(cause.errno or 0)}. Set "
            "console.port, or HOLDFAST_CONSOLE__PORT, or console.enabled = false"
        ) from cause
    return listening
