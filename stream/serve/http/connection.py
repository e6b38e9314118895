"""One HTTP connection: uvicorn's, with bounds on what a peer may send and on how long it may take.

uvicorn with httptools bounds neither the head of a request nor the time that its body takes, answers what it does not
understand before what it was asked earlier, and drops what follows a refused upgrade.
"""

from typing import TYPE_CHECKING, Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from stream.serve.http.connection_limits import Door

if TYPE_CHECKING:
    import asyncio

#: names and values of all headers and the URL together, in bytes
MOST_HEAD = 65_536
#: the URL alone
MOST_URL = 16_384
MOST_HEADERS = 100
#: requests on one connection that wait for an answer; the one after these is not read, and the connection ends
MOST_PIPELINED = 32
#: bytes that may come without a head or a part of a body being complete (white space, trailers, chunk extensions too)
_MOST_BETWEEN = 2 * MOST_HEAD
#: bytes that are read and dropped after the last request that is answered
_MOST_DROPPED = 1 << 20
#: bytes of a body beyond what is taken that are still read, so that the peer gets to read why it is refused
_MOST_BEYOND = 8 << 20
#: parts of a body from which on they have to hold so many bytes on average: each costs as much as a large one
_PARTS, _LEAST_PART = 1000, 32


class _EnoughError(Exception):
    """What comes next is not read."""


class Connection(HttpToolsProtocol):
    """Reads requests and writes answers. ``began``: since when the peer is waited for (seconds of the loop's clock).

    ``held``: bytes of the present body; ``unread``: bytes of answers that the peer had not read at the last look.
    """

    def __init__(self, *arguments: Any, door: Door, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.door = door
        self.leaving = False
        self.began = self.heard = self._read = self.loop.time()
        self.held = self.unread = 0
        self._coming = self._in_head = self._deaf = self._paused = self._again = False
        self._head = self._between = self._dropped = self._parts = self._came = 0
        self._refusal: tuple[int, str] | None = None

    def connection_made(self, transport: "asyncio.Transport") -> None:  # type: ignore[override]
        """Enter."""
        super().connection_made(transport)
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave."""
        super().connection_lost(exc)
        self.door.leave(self)

    def data_received(self, data: bytes) -> None:
        """Read on, as far as the bounds allow."""
        self._unset_keepalive_if_required()
        self.heard = self.loop.time()
        if self._deaf or self.transport.is_closing():
            self._drop(len(data))
            return
        self._between += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._not_understood()
                return
        if self._between > _MOST_BETWEEN:
            self._end_here(431 if self._in_head else 400, "the head of the request, or what comes between, is too long")

    def _drop(self, count: int) -> None:
        """Read on for a while: to close with bytes unread would take answers back that are on their way."""
        self._dropped += count
        if self._dropped > _MOST_DROPPED:
            self._stop_reading()

    def _head_without_upgrade(self) -> bytes:
        """Begin again behind the head: no other protocol is spoken here, and httptools takes the body for one.

        Java's client asks for an upgrade to HTTP/2 with every first request.
        """
        self.parser = httptools.HttpRequestParser(self)
        self._again = True
        framing = [header for header in self.headers if header[0] in (b"content-length", b"transfer-encoding")]
        return b"POST / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in framing) + b"\r\n"

    def _not_understood(self) -> None:
        if not self._deaf:
            self._end_here(*(self._refusal or (400, "this is not HTTP as this service understands it")))

    def _end_here(self, code: int, why: str) -> None:
        """Read no more: what was asked before is answered first, and if that is nothing, the peer hears why."""
        self._stop_reading()
        between = self._in_head or not self._coming
        if between and self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.dismiss(code, why)

    def _stop_reading(self) -> None:
        self._deaf = self._paused = True
        self.flow.pause_reading()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._again:
            return
        if len(self.pipeline) >= MOST_PIPELINED:
            self._deaf = True
            self.cycle.keep_alive = False
            raise _EnoughError
        super().on_message_begin()
        self._begin_head()

    def _begin_head(self) -> None:
        self._coming = self._in_head = True
        self._head = self._parts = self._came = 0
        self.began = self.heard

    def _make_scope(self) -> None:
        """What ASGI is told of a request."""
        super().on_message_begin()

    def _is_too_long(self) -> bool:
        return self._head > MOST_HEAD or len(self.url) > MOST_URL or len(self.headers) > MOST_HEADERS

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        if self._again:
            return
        self.url += url
        self._head += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped, nobody here reads them."""
        if not self._in_head:
            return
        self._head += len(name) + len(value)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer, or to refuse."""
        if self._again:
            self._again = False
            return
        app = self.app
        if self._is_too_long():
            self.app = _uri_too_long if len(self.url) > MOST_URL else _head_too_long
        try:
            super().on_headers_complete()
        finally:
            self.app = app
        self._in_head = False
        self._between = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._count_part(len(body))
        if not self.cycle.response_complete:
            super().on_body(body)
            if self.held < self.door.limits.body_bytes:
                self.door.hold(self, len(body))

    def _count_part(self, size: int) -> None:
        """Refuse a body in crumbs, and one that does not end."""
        self._between = 0
        self._parts += 1
        self._came += size
        if self._parts > _PARTS and self._came < self._parts * _LEAST_PART:
            self._refusal = (400, f"the body comes in parts of under {_LEAST_PART} bytes: send it in larger ones")
        elif self._came > self.door.limits.body_bytes + _MOST_BEYOND:
            self._refusal = (413, "the body is far larger than serve.max_bytes, and is not read to its end")
        if self._refusal:
            raise _EnoughError

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self.parser.should_upgrade():
            return
        self._coming = False
        self._between = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written; the peer is waited for again."""
        self.began = self.heard = self.loop.time()
        self.door.let_go(self)
        super().on_response_complete()
        if self._paused:
            self.flow.pause_reading()

    def waits(self) -> bool:
        """Tell whether it is the peer that has to go on, and not this service."""
        if self.transport.get_write_buffer_size():
            return True
        if self.pipeline:
            return False
        answered = self.cycle is None or self.cycle.response_complete
        return answered or (self._coming and not self._in_head)

    def overdue(self, now: float) -> str:
        """Say why this connection has taken too long; empty when it has not."""
        unread = self.transport.get_write_buffer_size()
        if unread != self.unread:
            self.unread, self._read = unread, now
        quiet = self.door.limits.quiet_seconds
        if unread or self.leaving:
            return "the answer was not read" if now - max(self._read, self.began) > quiet else ""
        if not self.waits():
            return ""
        if now - (max(self.heard, self.began) if self._coming else self.began) > quiet:
            return f"nothing came for {quiet:g} s"
        whole = self.door.limits.request_seconds
        return f"the request was not whole within {whole:g} s" if self._coming and now - self.began > whole else ""

    def dismiss(self, code: int, why: str) -> None:
        """End the connection; a peer that asks just now hears the code and why."""
        speak = self._may_speak(code)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        if speak:
            self._speak(code, why)
        self.transport.close()

    def _may_speak(self, code: int) -> bool:
        """Tell whether an answer would be taken for that of the request that is coming (or of none yet: 503)."""
        if self.pipeline or self.transport.is_closing():
            return False
        if self._coming and not self._in_head:
            return not self.cycle.response_started
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        return self._in_head or code == 400 or (code == 503 and self.cycle is None)

    def _speak(self, code: int, why: str) -> None:
        body = orjson.dumps({"detail": why})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        self.transport.write(
            STATUS_LINE[code] + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + body
        )


def _refusing(code: int, why: str) -> Any:
    body = orjson.dumps({"detail": why})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return refuse


_uri_too_long = _refusing(414, f"the URL is longer than {MOST_URL} bytes")
_head_too_long = _refusing(431, f"more than {MOST_HEADERS} headers, or more than {MOST_HEAD} bytes of them")
