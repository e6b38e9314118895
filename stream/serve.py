"""``holdfast serve``: one process that answers over HTTP."""

import socket
import time
from collections.abc import Mapping

import uvicorn

from stream.api import application
from stream.config import Config, read_token
from stream.errors import CommandError
from stream.serving import Server


def serve_forever(config: Config, environment: Mapping[str, str]) -> None:
    """Answer until SIGTERM or SIGINT; requests under way are finished first."""
    _refuse_taken_port(config)
    server = Server(config, now=time.time)
    server.start()
    web = uvicorn.Server(
        uvicorn.Config(
            application(server, read_token(config, environment)),
            host=config.serve.host,
            port=config.serve.port,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
        )
    )
    try:
        web.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


def _refuse_taken_port(config: Config) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.serve.host, config.serve.port))
        except OSError as cause:
            raise CommandError(
                f"{config.serve.host}:{config.serve.port} cannot be listened on: {cause.strerror}. "
                "Set serve.port, or HOLDFAST_SERVE__PORT"
            ) from cause
