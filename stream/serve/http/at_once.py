"""``POST /predict`` answered where it is read: no task, no scope, no messages, which cost more than the prediction.

Everything else, and every request that is not plain (another version, an upgrade, ``Expect``, one after another that is
not answered yet, a peer that does not read), takes the way through uvicorn. What a caller sees is the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from stream.serve.http.connection import Connection

Headers = Sequence[tuple[bytes, bytes]]
#: what makes an answer: of headers, and of a body (None: it is too large) a code and JSON
AnswerOf = Callable[[Headers, bytes | None], tuple[int, bytes]]
_PATH, _METHOD, _VERSION = b"/predict", b"POST", "1.1"
#: how long, and how often, one peer is answered before others have their turn
_TURN_SECONDS, _TURN = 0.002, 32


class ConnectionAtOnce(Connection):
    """A connection that answers predictions itself; ``answer_of``: see ``FastPath.at_once``."""

    def __init__(self, *arguments: Any, answer_of: AnswerOf, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._answer_of = answer_of
        self._body: bytearray | None = None
        self._size = self._answered = 0
        self._out: list[bytes] = []
        self._last = self._scoped = False
        self._since = 0.0

    def data_received(self, data: bytes) -> None:
        """Read on, and write what was answered meanwhile."""
        self._answered, self._since = 0, self.loop.time()
        super().data_received(data)
        self._flush()

    def _flush(self) -> None:
        if self._out:
            self.transport.write(b"".join(self._out))
            self._out.clear()

    def on_message_begin(self) -> None:
        """Begin a request; what ASGI wants to know of it is made when ASGI is asked."""
        if self._is_busy() or self._again:
            self._scoped = True
            super().on_message_begin()
            return
        self._scoped = False
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._begin_head()

    def _is_busy(self) -> bool:
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def on_headers_complete(self) -> None:
        """Answer this one at once, or leave it to uvicorn."""
        if self._is_plain():
            self._body, self._size, self._in_head, self._between = bytearray(), 0, False, 0
            return
        if not self._scoped:
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            self._make_scope()
            self.url, self.expect_100_continue = url, expects
            self.headers.extend(headers)
        super().on_headers_complete()

    def _is_plain(self) -> bool:
        parser = self.parser
        return (
            self.url == _PATH
            and not self._scoped
            and not self._again
            and not self._is_too_long()
            and parser.get_method() == _METHOD
            and parser.get_http_version() == _VERSION
            and not self.expect_100_continue
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.flow.write_paused
            and self._answered < _TURN
            and (not self._answered or self.loop.time() - self._since < _TURN_SECONDS)
        )

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._body is None:
            super().on_body(body)
            return
        self._count_part(len(body))
        self._size += len(body)
        if self._size > self.door.limits.body_bytes:
            self._body.clear()
        else:
            self._body += body
        if self.held < self.door.limits.body_bytes:
            self.door.hold(self, len(body))

    def on_message_complete(self) -> None:
        """The request is whole: answer it."""
        if self._body is None:
            super().on_message_complete()
            return
        body = None if self._size > self.door.limits.body_bytes else bytes(self._body)
        self._body = None
        self._coming = False
        self._between = 0
        if self.leaving or self.transport.is_closing():
            return  # it was sent away while its body came
        code, answer = self._answer_of(self.headers, body)
        ending = b"connection: close\r\n" if self._last else b""
        length = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(answer)
        self._out += (STATUS_LINE[code], self._fixed_headers(), length, ending, b"\r\n", answer)
        self._answered += 1
        self.server_state.total_requests += 1
        self.began = self.heard
        self.door.let_go(self)
        if self._last:
            self._flush()
            self.transport.close()

    def _fixed_headers(self) -> bytes:
        """Headers that every answer has; uvicorn makes a new list of them when the date changes."""
        return self.door.fixed_headers(self.server_state.default_headers)

    def shutdown(self) -> None:
        """End; a request that is coming is answered first."""
        if self._body is None:
            super().shutdown()
        else:
            self._last = True

    def dismiss(self, code: int, why: str) -> None:
        """End the connection; answers that are made are written first."""
        self._flush()
        super().dismiss(code, why)

    def _may_speak(self, code: int) -> bool:
        return not self.transport.is_closing() if self._body is not None else super()._may_speak(code)
