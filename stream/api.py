"""The HTTP door: FastAPI for everything but predictions, which take a raw ASGI route in front of it.

Measured: a FastAPI route with Pydantic models answers a quarter of the requests that a raw route does.
"""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import orjson
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, ConfigDict, Field

from learners.event import Features
from snapshots.errors import RefusedError, SnapshotsError
from stream import schema
from stream import status as states
from stream.bearer import Token, Tokens, bearer
from stream.building import intake_of
from stream.config import Serve
from stream.errors import ConfigError, StreamError, TooLargeError
from stream.intake import Intake
from stream.metrics import HoldfastCollector, RequestCounts
from stream.reasons import Reason, Refusal
from stream.serving import Server, Serving, answer_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_SAFE = [(b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"no-referrer")]
_JSON = [(b"content-type", b"application/json"), *_SAFE]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MEANS = {
    400: "It is not JSON, or this host name is not served", 401: "The bearer token is missing or wrong",
    403: "This is off: there is no token for it", 409: "Refused; nothing was changed", 413: "Too large",
    422: "Refused, with the field and the reason", 503: "Not now: there is no snapshot yet, or the store is away",
}  # fmt: skip
#: instances of a batch that are answered before others have their turn
_TOGETHER = 64
_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_instances = msgspec.json.Decoder(list[msgspec.Raw])


class RevertRequest(BaseModel):
    """Which learner to put back, and to which snapshot; without one, to the passing one before what serves."""

    model_config = ConfigDict(extra="forbid", strict=True)
    learner: str | None = None
    snapshot: int | None = Field(None, ge=0)
    why: str = Field("", max_length=1000)
    stay: bool = False


class Answers:
    """Makes answers out of bodies; no lock, no disk, no call to anyone (promise 4)."""

    def __init__(self, server: Server, counts: RequestCounts) -> None:
        self._server = server
        self._counts = counts

    def one(self, body: bytes) -> tuple[int, bytes]:
        """Answer ``POST /predict``."""
        serving = self._server.current
        if serving is None:
            return 503, _detail(self._server.why_not)
        asked = self._server.codec.question(body)
        if isinstance(asked, Refusal):
            return _refused(asked)
        try:
            return 200, orjson.dumps(_predicted(serving, *asked))
        except Exception as cause:
            return _learner_refused(cause, "")

    async def many(self, body: bytes) -> tuple[int, bytes]:
        """Answer ``POST /predict/batch``, all or none, from one snapshot; others are answered in between."""
        serving = self._server.current
        if serving is None:
            return 503, _detail(self._server.why_not)
        try:
            instances = _instances.decode(_envelope.decode(body)["instances"])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
            return _refused(Refusal(Reason.WRONG_TYPE, "instances", 'the body is {"instances": [{"x": {…}}, …]}'))
        limit = self._server.config.serve.max_instances
        if len(instances) > limit:
            message = f"{len(instances):,} instances are more than serve.max_instances = {limit:,}; ask in parts"
            return 413, _refused(Refusal(Reason.TOO_LARGE, "instances", message))[1]
        predictions = []
        for index, raw in enumerate(instances):
            if index % _TOGETHER == _TOGETHER - 1:
                await asyncio.sleep(0)
            asked = self._server.codec.question(bytes(raw))
            if isinstance(asked, Refusal):
                field = f"instances[{index}]" + (f".{asked.field}" if asked.field else "")
                return _refused(Refusal(asked.reason, field, asked.message))
            try:
                predictions.append(_predicted(serving, *asked))
            except Exception as cause:
                return _learner_refused(cause, f"instances[{index}]")
        return 200, orjson.dumps({"predictions": predictions})

    async def counted(self, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Answer by path and count it; a body of None was larger than ``serve.max_bytes``."""
        began = time.perf_counter()
        if body is None:
            limit = self._server.config.serve.max_bytes
            code, answer = 413, _refused(Refusal(Reason.TOO_LARGE, "", f"more than serve.max_bytes = {limit}"))[1]
        else:
            code, answer = self.one(body) if path == "/predict" else await self.many(body)
        self._counts.add(code, time.perf_counter() - began)
        return code, answer


def _predicted(serving: Serving, identity: str | int | None, features: Features) -> dict[str, object]:
    return answer_of(serving, serving.learner.predict(features), identity)


def _detail(message: str) -> bytes:
    return orjson.dumps({"detail": message})


def _refused(refusal: Refusal) -> tuple[int, bytes]:
    code = 400 if refusal.reason in (Reason.NOT_JSON, Reason.NOT_AN_OBJECT) else 422
    return code, orjson.dumps({"detail": refusal.message, "field": refusal.field, "reason": refusal.reason.value})


def _learner_refused(cause: Exception, field: str) -> tuple[int, bytes]:
    message = f"the learner cannot predict these features: {type(cause).__name__}: {cause}"
    return 422, orjson.dumps({"detail": message, "field": field or "x", "reason": "learner_refused"})


class FastPath:
    """ASGI: answers predictions itself and hands everything else to the FastAPI application.

    ``hosts`` are the names that callers may have asked for; empty: any. A page of somebody else's that has its own name
    point here is refused so.
    """

    def __init__(self, app: FastAPI, answers: Answers, max_bytes: int, hosts: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._answers = answers
        self._max_bytes = max_bytes
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if self._hosts and not self._is_ours(scope):
            message = "this host name is not served here: add it to serve.hosts"
            await _answer(send, 400, _detail(message))
        elif scope["method"] == "POST" and scope["path"] in ("/predict", "/predict/batch"):
            body = await _body(receive, self._max_bytes)
            await _answer(send, *await self._answers.counted(scope["path"], body))
        else:
            await self._app(scope, receive, _safely(send))

    def _is_ours(self, scope: Scope) -> bool:
        found = next((value for name, value in scope["headers"] if name == b"host"), None)
        return found is None or host_of(found.decode("latin-1")) in self._hosts


async def _answer(send: Send, code: int, answer: bytes) -> None:
    headers = [*_JSON, (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _safely(send: Send) -> Send:
    """Add to every answer what tells browsers to take nothing for what it is not."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_SAFE]
        await send(message)

    return sending


def host_of(text: str) -> str:
    """The name in a Host header, without port and brackets, in small letters."""
    name = text.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0] if name.count(":") == 1 else name


def hosts_of(config: Serve) -> frozenset[str]:
    """The names that are served: ``serve.hosts``, or where only this machine is listened to, its own; else any."""
    if config.hosts:
        return frozenset(host_of(name) for name in config.hosts)
    return frozenset(_LOOPBACK) if host_of(config.host) in _LOOPBACK else frozenset()


async def _body(receive: Receive, limit: int) -> bytes | None:
    """Read the body; None when it is larger than the limit (the rest is drained, not kept)."""
    message = await receive()
    body: bytes = message.get("body", b"")
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        body = body + part if size <= limit else b""
    return body if size <= limit else None


def application(server: Server, tokens: Tokens, counts: RequestCounts) -> FastPath:
    """Build the whole door over a server."""
    answers = Answers(server, counts)
    app = build_app(server, answers, counts, tokens)
    add_events(app, server, intake_of(server.config, server.now), counts, tokens.events)
    return FastPath(app, answers, server.config.serve.max_bytes, hosts_of(server.config.serve))


def add_events(app: FastAPI, server: Server, intake: Intake, counts: RequestCounts, token: Token) -> None:
    """Add ``POST /events``, the door for producers without Kafka, with a token of its own."""
    missing = "POST /events is off: there is no serve.events_token_file and no HOLDFAST_EVENTS_TOKEN"
    allowed = Depends(bearer(token, off=missing, refused=lambda code: counts.add(code, 0.0)))
    limit = server.config.serve.max_bytes

    async def durable(body: bytes | None) -> tuple[int, bytes]:
        if body is None:
            return 413, _refused(Refusal(Reason.TOO_LARGE, "", f"more than serve.max_bytes = {limit}"))[1]
        serving = server.current
        if serving is not None:
            intake.know(serving.labels)
        try:
            taken = intake.take(body)
            if isinstance(taken, Refusal):
                return _refused(taken)
            return 202, orjson.dumps(await asyncio.wait_for(asyncio.wrap_future(taken), intake.seconds))
        except TimeoutError:
            return 503, _detail(f"not durable within {intake.seconds:g} s, but it may be later: send it again as it is")
        except StreamError as cause:
            return _not_stored(cause)

    @app.post(
        "/events",
        openapi_extra=_takes(schema.event(server.config)),
        summary="Take one event; 202 once it is durable in the source",
        status_code=202,
        dependencies=[allowed],
        responses=_said(400, 401, 403, 413, 422, 503),
    )
    async def events(request: Request) -> Response:
        began = time.perf_counter()
        code, answer = await durable(await _limited(request, limit))
        counts.add(code, time.perf_counter() - began)
        return Response(answer, code, media_type="application/json")


def _not_stored(cause: StreamError) -> tuple[int, bytes]:
    if isinstance(cause, TooLargeError):
        return 413, _refused(Refusal(Reason.TOO_LARGE, "", str(cause)))[1]
    if isinstance(cause, ConfigError):
        return 503, _detail(f"{cause}; nothing is stored until that is mended")
    return 503, _detail(f"{cause}; nothing is known to be stored: send it again as it is")


async def _limited(request: Request, limit: int) -> bytes | None:
    """Read the body; None when it is larger than the limit."""
    body = b""
    async for part in request.stream():
        body = body + part if len(body) <= limit else body
    return body if len(body) <= limit else None


def build_app(server: Server, answers: Answers, counts: RequestCounts, tokens: Tokens) -> FastAPI:  # noqa: C901  small routes
    """Build the FastAPI application: every endpoint, documented at ``/docs``."""
    app = FastAPI(
        title="Holdfast", description="Predictions from the newest good snapshot.", version="0.1.0",
        redoc_url=None, swagger_ui_oauth2_redirect_url=None, redirect_slashes=False,
    )  # fmt: skip
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HoldfastCollector(server, counts))
    off = "changes over HTTP are off: there is no serve.token_file and no HOLDFAST_TOKEN"
    allowed = Depends(bearer(tokens.changes, off=off))
    unread = "reading is off: there is neither serve.read_token_file nor HOLDFAST_READ_TOKEN"
    readers = [Depends(bearer(tokens.read, tokens.changes, off=unread))] if tokens.read.wanted else []

    @app.post(
        "/predict",
        openapi_extra=_takes(schema.question()),
        summary="Predict one event",
        responses=_said(400, 413, 422, 503),
    )
    async def predict(request: Request) -> Response:
        code, answer = await answers.counted("/predict", await request.body())
        return Response(answer, code, media_type="application/json")

    @app.post(
        "/predict/batch", openapi_extra=_takes(schema.questions(server.config)),
        summary="Predict several events, all or none", responses=_said(400, 413, 422, 503),
    )  # fmt: skip
    async def predict_batch(request: Request) -> Response:
        code, answer = await answers.counted("/predict/batch", await request.body())
        return Response(answer, code, media_type="application/json")

    @app.get("/health", summary="The process is alive")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", summary="Requests can be answered, and from how old a snapshot", responses={503: {}})
    async def ready() -> JSONResponse:
        able, word = server.readiness()
        return JSONResponse(word, 200 if able else 503)

    @app.get(
        "/status",
        dependencies=readers,
        responses=_said(400, 401, 403, 503),
        summary="The state of the lineage, as holdfast status --json",
    )
    def status() -> dict[str, Any]:
        return states.status(server.view(), server.config, server.now())

    @app.get(
        "/snapshots",
        dependencies=readers,
        responses=_said(400, 401, 403, 503),
        summary="Every snapshot, as holdfast snapshots list --json",
    )
    def snapshots() -> list[dict[str, Any]]:
        return states.listing(server.view())

    @app.get(
        "/ledger",
        dependencies=readers,
        responses=_said(400, 401, 403, 503),
        summary="Every decision, as holdfast ledger --json",
    )
    def ledger() -> list[dict[str, Any]]:
        entries = server.view().ledger.entries()
        return [msgspec.to_builtins(entry) for entry in entries]

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.post(
        "/revert",
        summary="Put a learner back to an earlier snapshot",
        dependencies=[allowed],
        responses=_said(400, 401, 403, 409, 422, 503),
    )
    def revert(wanted: RevertRequest) -> dict[str, Any]:
        if not _is_text(wanted.why) or not _is_text(wanted.learner or ""):
            raise HTTPException(422, "why and learner are text in UTF-8")
        by = f"operator:{getpass.getuser()}@http"
        lineage = server.view()
        entry = lineage.ledger.append(
            server.now(),
            lambda _: lineage.decide_revert(wanted.learner, wanted.snapshot, by=by, why=wanted.why, stay=wanted.stay),
        )
        return msgspec.to_builtins(entry)  # type: ignore[no-any-return]

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, cause: RequestValidationError) -> JSONResponse:
        first = cause.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        hint = "" if "json" in request.headers.get("content-type", "") else "; send Content-Type: application/json"
        return JSONResponse({"detail": f"{first['msg']}{hint}", "field": field, "reason": "bad_request"}, 422)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, cause: RefusedError) -> JSONResponse:
        return JSONResponse({"detail": str(cause)}, 409)

    @app.exception_handler(SnapshotsError)
    async def store_away(_: Request, cause: SnapshotsError) -> JSONResponse:
        return JSONResponse({"detail": str(cause)}, 503)

    return app


def _is_text(text: str) -> bool:
    """Tell whether a text can be written as UTF-8; JSON can smuggle in half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The codes beside the good one, with what they mean."""
    return {code: {"description": _MEANS[code]} for code in codes}


def _takes(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
