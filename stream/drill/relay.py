"""A relay of TCP connections that can be cut: an object store as it looks while it is away."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit

from stream.errors import CommandError

_BYTES = 1 << 16


class Relay:
    """Listens on loopback, and passes connections on to ``endpoint`` (``http://host:port``) unless it is ``down``."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or parts.hostname is None:
            raise CommandError(
                f"AWS_ENDPOINT_URL is {endpoint!r}: the drill cuts a plain http://host:port, since it cannot stand in "
                "for a server with a certificate"
            )
        self._target = (parts.hostname, parts.port or 80)
        self.down = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, name="relay", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            if self.down.is_set():
                ours.close()
                continue
            try:
                theirs = socket.create_connection(self._target, 5)
            except OSError:
                ours.close()
                continue
            self._open |= {ours, theirs}
            for one, other in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)

    def cut(self) -> None:
        """Take nothing any more, and break what is open."""
        self.down.set()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Pass on again."""
        self.down.clear()

    def close(self) -> None:
        """Listen no more."""
        self.cut()
        self._listener.close()
