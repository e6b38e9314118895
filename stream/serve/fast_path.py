"""The raw ASGI route in front of FastAPI: Host, exact paths and bounded bodies for all, predictions answered at once.

Measured: a FastAPI route with Pydantic models answers a quarter of the requests that a raw route does.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.routing import Route

from stream.serve.http.hosts import Hosts
from stream.serve.predict import Answer, Answers, detail, too_large
from stream.serve.prometheus import RequestCounts

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
log = logging.getLogger("holdfast.serving")
_JSON = (b"content-type", b"application/json")
_PREDICTIONS = {b"/predict": "/predict", b"/predict/batch": "/predict/batch"}
_COUNTED = {*_PREDICTIONS, b"/events", b"/labels"}
_WITHOUT_BODY = ("GET", "HEAD")
#: the answer where the program is wrong
FAULT: Answer = (500, orjson.dumps({"detail": "a fault of this service; its log says which"}))
#: a path is what was asked for before anything is decoded: no other spelling reaches the same door
_NO_PATH: Answer = (404, orjson.dumps({"detail": "there is nothing here: /docs lists what there is"}))


class _GoneError(Exception):
    """The peer went away before its request was whole."""


class FastPath:
    """ASGI: answers predictions itself and hands everything else to the FastAPI application."""

    def __init__(self, app: FastAPI, answers: Answers, hosts: Hosts, max_bytes: int, counts: RequestCounts) -> None:
        self._app, self._answers, self._hosts, self._counts = app, answers, hosts, counts
        self._max_bytes = max_bytes
        self._paths = {route.path.encode() for route in app.routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            await self._answer(scope, receive, send)
        except _GoneError:
            return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["raw_path"], scope["method"]
        wrong = self._hosts.refusal(scope["headers"], scope["http_version"])
        if wrong:
            await _say(send, (400, detail(wrong)))
        elif method == "POST" and path in _PREDICTIONS:
            await _say(send, await self._predict(_PREDICTIONS[path], await _body(receive, self._max_bytes)))
        elif path not in self._paths:
            await _say(send, _NO_PATH)
        elif method in _WITHOUT_BODY:
            await self._rest(scope, receive, send)
        else:
            await self._with_body(scope, receive, send)

    def at_once(self, headers: Sequence[tuple[bytes, bytes]], body: bytes | None) -> Answer:
        """Answer ``POST /predict`` of HTTP/1.1 with these headers; a body of None was too large."""
        try:
            if wrong := self._hosts.refusal(headers, "1.1"):
                return 400, detail(wrong)
            return self._answers.counted_one(body)
        except Exception:
            log.exception("POST /predict failed")
            self._counts.add(500, 0.0)
            return FAULT

    async def _predict(self, path: str, body: bytes | None) -> Answer:
        try:
            return await self._answers.counted(path, body)
        except Exception:
            log.exception("POST %s failed", path)
            self._counts.add(500, 0.0)
            return FAULT

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI answer; what its routes raise it has answered with 500 already."""
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body before the application does, which knows no bound."""
        body = await _body(receive, self._max_bytes)
        if body is not None:
            await self._rest(scope, _once(body, receive), send)
            return
        if scope["raw_path"] in _COUNTED:
            self._counts.add(413, 0.0)
        await _say(send, too_large(self._max_bytes))


async def _say(send: Send, answer: Answer) -> None:
    code, body = answer
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive, limit: int) -> bytes | None:
    """Read the body; None when it is larger than the limit (the rest is drained, not kept)."""
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message["body"]
        return body if len(body) <= limit else None
    whole, size = bytearray(), 0
    while True:
        if message["type"] == "http.disconnect":
            raise _GoneError
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            whole += part
        else:
            whole.clear()
        if not message.get("more_body"):
            return bytes(whole) if size <= limit else None
        message = await receive()


def _once(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already; after it, what comes."""
    given: list[Mapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return dict(given.pop()) if given else await receive()

    return read
