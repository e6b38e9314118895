"""The HTTP door: FastAPI for everything but predictions, which take a raw ASGI route in front of it."""

import asyncio
import getpass
import os
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio.to_thread
import msgspec
import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel, ValidationError

from snapshots.errors import RefusedError, SnapshotsError
from snapshots.judging.reverts import decide_revert
from stream.errors import ConfigError, StreamError, TooLargeError
from stream.parts import intake_of, trusted_intake_of
from stream.refusal import Reason, Refusal
from stream.serve.current import Server
from stream.serve.fast_path import FAULT, FastPath
from stream.serve.http.answers import (
    Alive,
    Predicted,
    PredictedTogether,
    Responses,
    SnapshotRow,
    Status,
    Taken,
    answer_as,
    answer_of,
    decision,
    ready_or_not,
    responses_of,
)
from stream.serve.http.bearer import Token, Tokens
from stream.serve.http.docs_page import add_manual
from stream.serve.http.hosts import Hosts
from stream.serve.http.requests import EventBody, Question, Questions, RevertRequest
from stream.serve.predict import Answer, Answers, detail, not_understood, refused
from stream.serve.prometheus import HoldfastCollector, RequestCounts
from stream.sink.intake import Intake
from stream.status import status as states

#: so many threads read the store for those who look; each more would make predictions wait for the interpreter
_LOOKERS = 2
_WAITING_LOOKERS = 32
_BEARER = {"WWW-Authenticate": "Bearer"}


def application(server: Server, tokens: Tokens, counts: RequestCounts) -> FastPath:
    """Build the whole door over a server."""
    answers, serve = Answers(server, counts), server.config.serve
    app = build_app(server, answers, counts, tokens)
    add_events(app, server, intake_of(server.config, server.now), counts, tokens.events)
    add_labels(app, server, trusted_intake_of(server.config, server.now), counts, tokens.trusted)
    return FastPath(app, answers, Hosts(serve), serve.max_bytes, counts)


def add_events(app: FastAPI, server: Server, intake: Intake, counts: RequestCounts, token: Token) -> None:
    """Add ``POST /events``, the door for producers without Kafka, with a token of its own."""
    missing = "POST /events is off: there is no serve.events_token_file and no HOLDFAST_EVENTS_TOKEN"
    summary = "Take one event; 202 once it is durable in the source"

    @_takes_events(app, "/events", summary, counts, token, missing)
    async def events(request: Request) -> Response:
        return await _taken(server, intake, counts, request)


def add_labels(app: FastAPI, server: Server, intake: Intake | None, counts: RequestCounts, token: Token) -> None:
    """Add ``POST /labels?trusted``, the door for labels that somebody checked, with a token of its own."""
    missing = "POST /labels?trusted is off: there is no holdout.trusted.token_file and no HOLDFAST_TRUSTED_TOKEN"
    summary = "Take one event whose label somebody checked (`?trusted`); 202 once it is durable for the guard"

    @_takes_events(app, "/labels", summary, counts, token, missing)
    async def labels(
        request: Request,
        trusted: Annotated[Literal["", "true", "1"], Query(description="say that it was checked")],  # noqa: ARG001
    ) -> Response:
        if intake is None:
            counts.add(503, 0.0)
            return _response((503, detail("holdout.trusted names no directory and no topic: set one of them")))
        return await _taken(server, intake, counts, request)


def _takes_events(
    app: FastAPI, path: str, summary: str, counts: RequestCounts, token: Token, missing: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate what takes one event at a path; ``missing`` is said while there is no such token."""
    return app.post(
        path,
        openapi_extra=_body_schema(EventBody),
        summary=summary,
        status_code=202,
        dependencies=[Depends(_bearer([token], missing, lambda code: counts.add(code, 0.0)))],
        responses=answer_of(Taken, 202) | responses_of(400, 401, 403, 408, 413, 422, 500, 503),
    )


async def _taken(server: Server, intake: Intake, counts: RequestCounts, request: Request) -> Response:
    """Have an event taken, and count the request."""
    began = time.perf_counter()
    code, answer = 500, b""
    try:
        code, answer = await _durable(server, intake, await request.body())
    finally:
        counts.add(code, time.perf_counter() - began)
    return _response((code, answer))


async def _durable(server: Server, intake: Intake, body: bytes) -> Answer:
    """Have an event taken: 202 once it is durable where it is read."""
    serving = server.current
    if serving is not None:
        intake.know(serving.labels)
    try:
        taken = intake.take(body)
        if isinstance(taken, Refusal):
            return refused(taken)
        return 202, orjson.dumps(await asyncio.wait_for(asyncio.wrap_future(taken), intake.seconds))
    except TimeoutError:
        return 503, detail(f"not durable within {intake.seconds:g} s, but it may be later: send it again as it is")
    except StreamError as cause:
        return _not_stored(cause)


def _not_stored(cause: StreamError) -> Answer:
    if isinstance(cause, TooLargeError):
        return 413, refused(Refusal(Reason.TOO_LARGE, "", str(cause)))[1]
    if isinstance(cause, ConfigError):
        return 503, detail(f"{cause}; nothing is stored until that is mended")
    return 503, detail(f"{cause}; nothing is known to be stored: send it again as it is")


def build_app(server: Server, answers: Answers, counts: RequestCounts, tokens: Tokens) -> FastAPI:
    """Build the FastAPI application: every endpoint, documented at ``/docs``."""
    app = FastAPI(
        title="Holdfast",
        description="Predictions from the newest good snapshot.",
        version="0.1.0",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    add_manual(app)
    _add_predictions(app, answers)
    _add_looks(app, server, counts, tokens)
    _add_revert(app, server, tokens.changes)
    _add_faults(app)
    return app


def _add_predictions(app: FastAPI, answers: Answers) -> None:
    """Document what the raw route answers."""

    @app.post(
        "/predict",
        openapi_extra=_body_schema(Question),
        summary="Predict one event",
        responses=answer_of(Predicted) | responses_of(400, 408, 413, 422, 500, 503),
    )
    async def predict(request: Request) -> Response:
        return _response(await answers.counted("/predict", await request.body()))

    @app.post(
        "/predict/batch",
        openapi_extra=_body_schema(Questions),
        summary="Predict several events, all or none",
        responses=answer_of(PredictedTogether) | responses_of(400, 408, 413, 422, 500, 503),
    )
    async def predict_batch(request: Request) -> Response:
        return _response(await answers.counted("/predict/batch", await request.body()))


def _add_looks(app: FastAPI, server: Server, counts: RequestCounts, tokens: Tokens) -> None:
    """Add what can be looked at; some of it asks for a token where there is one for looking."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HoldfastCollector(server, counts))
    threads = anyio.CapacityLimiter(_LOOKERS)

    every = answer_as({"type": "array", "items": decision()})

    async def looked(look: Callable[[], object]) -> Response:
        if threads.statistics().tasks_waiting >= _WAITING_LOOKERS:
            return _response((503, detail("too many look at once: try again")))
        return _response((200, await anyio.to_thread.run_sync(lambda: orjson.dumps(look()), limiter=threads)))

    guarded: dict[str, Any] = {"responses": responses_of(400, 408, 500, 503)}
    if tokens.read is not None:
        off = "looking over HTTP is off: serve.read_token_file holds no token"
        guarded = {
            "responses": responses_of(400, 401, 403, 408, 500, 503),
            "dependencies": [Depends(_bearer([tokens.read, tokens.changes], off))],
        }

    @app.get("/health", summary="The process is alive", responses=responses_of(400, 408, 500, 503))
    async def health() -> Alive:
        return Alive(status="alive")

    @app.get("/ready", summary="Requests can be answered, and from how old a snapshot", responses=ready_or_not())
    async def ready() -> JSONResponse:
        able, word = server.readiness()
        return JSONResponse(word, 200 if able else 503)

    @app.get(
        "/status", summary="The state of the lineage, as holdfast status --json", **_with(guarded, answer_of(Status))
    )
    async def status() -> Response:
        return await looked(lambda: states.status(server.view(), server.config, server.now()))

    @app.get(
        "/snapshots",
        summary="Every snapshot, as holdfast snapshots list --json",
        **_with(guarded, answer_of(list[SnapshotRow])),
    )
    async def snapshots() -> Response:
        return await looked(lambda: states.listing(server.view()))

    @app.get("/ledger", summary="Every decision, as holdfast ledger --json", **_with(guarded, every))
    async def ledger() -> Response:
        return await looked(lambda: [msgspec.to_builtins(entry) for entry in server.view().ledger.entries()])

    @app.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **responses_of(400, 408, 500, 503),
        },
    )
    async def metrics() -> Response:
        text = await anyio.to_thread.run_sync(generate_latest, registry, limiter=threads)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _with(guarded: dict[str, Any], answer: Responses) -> dict[str, Any]:
    return {**guarded, "responses": answer | guarded["responses"]}


def _add_revert(app: FastAPI, server: Server, token: Token) -> None:
    """Add the one change that HTTP can make."""
    off = "changes over HTTP are off: there is no serve.token_file and no HOLDFAST_TOKEN"

    @app.post(
        "/revert",
        openapi_extra=_body_schema(RevertRequest, required=False),
        summary="Put a learner back to an earlier snapshot; without a body to the passing one before what serves",
        dependencies=[Depends(_bearer([token], off))],
        responses=answer_as(decision()) | responses_of(400, 401, 403, 408, 409, 413, 422, 500, 503),
    )
    async def revert(request: Request) -> Response:
        wanted = _wanted(await request.body())
        return _response((200, await anyio.to_thread.run_sync(lambda: _revert(server, wanted))))


def _wanted(body: bytes) -> RevertRequest:
    """Read what to revert to. The body is JSON whatever its header says: plain ``curl -d`` calls it a form."""
    try:
        wanted = RevertRequest.model_validate_json(body or b"{}")
    except ValidationError as cause:
        raise RequestValidationError(
            [{**error, "loc": ("body", *error["loc"])} for error in cause.errors(include_url=False)]
        ) from None
    if not _is_text(wanted.why) or not _is_text(wanted.learner or ""):
        raise HTTPException(422, "why and learner are text in UTF-8")
    return wanted


def _revert(server: Server, wanted: RevertRequest) -> bytes:
    """Decide it; the entry of the ledger, as JSON."""
    by = f"operator:{_user()}@http"
    lineage = server.view()
    entry = lineage.ledger.append(
        server.now(),
        lambda _: decide_revert(lineage, wanted.learner, wanted.snapshot, by=by, why=wanted.why, stay=wanted.stay),
    )
    return msgspec.json.encode(entry)


def _add_faults(app: FastAPI) -> None:
    """Say what is wrong, in JSON, never with a trace."""

    @app.exception_handler(RequestValidationError)
    async def not_valid(_: Request, cause: RequestValidationError) -> Response:
        first = cause.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return _response(not_understood(first["msg"], field, "bad_request"))

    @app.exception_handler(405)
    async def not_this_way(request: Request, cause: HTTPException) -> Response:
        ways = (cause.headers or {}).get("Allow", "")
        why = f"{request.url.path} takes {ways}, and not {request.method}: /docs lists what there is"
        return Response(detail(why), 405, cause.headers, "application/json")

    @app.exception_handler(RefusedError)
    async def not_allowed(_: Request, cause: RefusedError) -> Response:
        return _response((409, detail(str(cause))))

    @app.exception_handler(SnapshotsError)
    async def store_away(_: Request, cause: SnapshotsError) -> Response:
        return _response((503, detail(str(cause))))

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        return _response(FAULT)


def _response(answer: Answer) -> Response:
    code, body = answer
    return Response(body, code, media_type="application/json")


def _user() -> str:
    """Who runs this process; in a container often somebody without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _is_text(text: str) -> bool:
    """Tell whether a text can be written as UTF-8; JSON can smuggle in half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _body_schema(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})
    if inner:
        schema = orjson.loads(
            orjson.dumps(schema).replace(b'{"$ref":"#/$defs/Question"}', orjson.dumps(inner["Question"]))
        )
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _bearer(tokens: list[Token], off: str, count: Callable[[int], None] = lambda _code: None) -> Callable[..., Any]:
    """Ask for one of the tokens, of which the first has to be there; ``off`` is said when it is not."""
    scheme = HTTPBearer(auto_error=False)

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        said = given.credentials.encode("latin-1") if given else b""
        fits = [token.fits(said) for token in tokens]
        if any(fits):
            return
        if tokens[0].current() is None:
            count(403)
            raise HTTPException(403, off)
        count(401)
        raise HTTPException(401, "the bearer token is missing or wrong", _BEARER)

    return check
