"""One caller's connection: how large a request's head may be, and how long a request and an answer may take.

uvicorn takes any number of header lines, and waits for a body for ever. Here the head is bounded, whoever does not go
on is hung up on, and when connections run out the one that has owed us its request for longest makes room.
"""

import asyncio
import resource
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: bytes of the request line and all headers; what arrives in one piece (256 KiB at most) is looked at whole
HEAD_BYTES = 65_536
#: headers of a request, and requests that are sent before the first of them is answered
MOST_LINES, MOST_AHEAD = 200, 64
#: seconds without a byte of a request that was begun, for a whole request, and without a byte of an answer taken
SILENT_SECONDS, REQUEST_SECONDS, ANSWER_SECONDS = 20.0, 120.0, 60.0
#: descriptors that are left to the store, the source and the logs
_SPARE = 64
_LOOK_SECONDS = 1.0
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\ncontent-length: 67\r\n"
    b'connection: close\r\n\r\n{"detail":"the request line and headers are larger than 64 KiB"}\r\n\r\n'
)


class Patient(HttpToolsProtocol):
    """A connection that is bounded in bytes and in time; all of a process are looked at once a second."""

    _all: ClassVar[dict["Patient", None]] = {}
    _looking: ClassVar[bool] = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request; make room when there are too many connections."""
        super().connection_made(transport)
        self._began = self._heard = self.loop.time()
        self._head, self._in_head, self._waits = 0, True, True
        self._unsent = (0, self._began)
        Patient._all[self] = None
        if len(Patient._all) > most_connections():
            self._make_room()
        if not Patient._looking:
            Patient._looking = True
            self.loop.call_later(_LOOK_SECONDS, _look, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        Patient._all.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request; a head that goes on and on ends the connection."""
        now = self.loop.time()
        if not self._waits:
            self._waits, self._began = True, now
        self._heard = now
        if self._in_head:
            self._head += len(data)
            if self._head > HEAD_BYTES and self._head != len(data):
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._lines = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, before or after the body; too many are answered with 400."""
        self._lines += 1
        if self._lines > MOST_LINES:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; too many requests before the first is answered are answered with 400."""
        self._head, self._in_head = 0, False
        if len(self.pipeline) >= MOST_AHEAD:
            raise ValueError("too many requests at once")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: from here on the caller waits for us."""
        self._in_head, self._waits = True, False
        super().on_message_complete()

    def is_overdue(self, now: float) -> bool:
        """Tell whether the caller takes too long with a request, or to take an answer (``now`` is the loop's time)."""
        if self._waits and (now - self._heard > SILENT_SECONDS or now - self._began > REQUEST_SECONDS):
            return True
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        return now - self._unsent[1] > ANSWER_SECONDS and unsent > 0

    def _make_room(self) -> None:
        """Hang up on the oldest that owes us a request."""
        owing = next((one for one in Patient._all if one._waits and one is not self), self)  # noqa: SLF001  of its own kind
        owing.hang_up()

    def hang_up(self) -> None:
        """End the connection at once."""
        Patient._all.pop(self, None)
        self.transport.abort()


def _look(loop: Any) -> None:
    now = loop.time()
    for one in [one for one in Patient._all if one.is_overdue(now)]:  # noqa: SLF001  of this module
        one.hang_up()
    Patient._looking = bool(Patient._all)  # noqa: SLF001  the same
    if Patient._looking:  # noqa: SLF001  the same
        loop.call_later(_LOOK_SECONDS, _look, loop)


def most_connections() -> int:
    """How many connections there may be before descriptors run out."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, soft - _SPARE) if soft != resource.RLIM_INFINITY else 1 << 30
