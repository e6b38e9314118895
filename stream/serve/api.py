"""The HTTP door: FastAPI for everything but predictions, which take a raw ASGI route in front of it."""

import getpass
import os
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import msgspec
import orjson
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import ValidationError

from snapshots.errors import RefusedError, SnapshotsError
from snapshots.judging.reverts import decide_revert
from stream.process.presence import present
from stream.rollout.report import report
from stream.serve import doors
from stream.serve.current import Server
from stream.serve.doors import bearer, body_schema, response
from stream.serve.fast_path import FAULT, FastPath
from stream.serve.http.answers import (
    Alive,
    Predicted,
    PredictedTogether,
    Responses,
    RollOut,
    SnapshotRow,
    Status,
    answer_as,
    answer_of,
    decision,
    ready_or_not,
    responses_of,
)
from stream.serve.http.bearer import Token, Tokens
from stream.serve.http.docs_page import add_manual
from stream.serve.http.hosts import Hosts
from stream.serve.http.requests import Question, Questions, RevertRequest
from stream.serve.predict import Answers, detail, not_understood
from stream.serve.prometheus import HoldfastCollector, RequestCounts
from stream.status import status as states

#: so many threads read the store for those who look; each more would make predictions wait for the interpreter
_LOOKERS = 2
_WAITING_LOOKERS = 32
_BEARER = {"WWW-Authenticate": "Bearer"}


def application(server: Server, tokens: Tokens, counts: RequestCounts) -> FastPath:
    """Build the whole door over a server."""
    answers, serve = Answers(server, counts), server.config.serve
    app = build_app(server, answers, counts, tokens)
    doors.add_events(app, server, counts, tokens)
    doors.add_labels(app, server, counts, tokens)
    return FastPath(app, answers, Hosts(serve), serve.max_bytes, counts)


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
        openapi_extra=body_schema(Question),
        summary="Predict one event",
        responses=answer_of(Predicted) | responses_of(400, 408, 413, 422, 500, 503),
    )
    async def predict(request: Request) -> Response:
        return response(await answers.counted("/predict", await request.body()))

    @app.post(
        "/predict/batch",
        openapi_extra=body_schema(Questions),
        summary="Predict several events, all or none",
        responses=answer_of(PredictedTogether) | responses_of(400, 408, 413, 422, 500, 503),
    )
    async def predict_batch(request: Request) -> Response:
        return response(await answers.counted("/predict/batch", await request.body()))


def _add_looks(  # noqa: C901  one way to look after another
    app: FastAPI, server: Server, counts: RequestCounts, tokens: Tokens
) -> None:
    """Add what can be looked at; some of it asks for a token where there is one for looking."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HoldfastCollector(server, counts))
    threads = anyio.CapacityLimiter(_LOOKERS)

    every = answer_as({"type": "array", "items": decision()})

    async def looked(look: Callable[[], object]) -> Response:
        if threads.statistics().tasks_waiting >= _WAITING_LOOKERS:
            return response((503, detail("too many look at once: try again")))
        return response((200, await anyio.to_thread.run_sync(lambda: orjson.dumps(look()), limiter=threads)))

    guarded: dict[str, Any] = {"responses": responses_of(400, 408, 500, 503)}
    if tokens.read is not None:
        off = "looking over HTTP is off: serve.read_token_file holds no token"
        guarded = {
            "responses": responses_of(400, 401, 403, 408, 500, 503),
            "dependencies": [Depends(bearer([tokens.read, tokens.changes], off))],
        }

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        console = server.config.console
        if not console.enabled:
            return RedirectResponse("/docs")
        host = request.url.hostname if console.host in ("0.0.0.0", "::") else console.host  # noqa: S104  compared
        return RedirectResponse(f"http://{f'[{host}]' if ':' in (host or '') else host}:{console.port}/")

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

    @app.get(
        "/rollout",
        summary="The newest roll-out, as holdfast rollout status --json",
        **_with(guarded, answer_of(RollOut)),
    )
    async def rollout() -> Response:
        return await looked(lambda: _rollout(server))

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


def _rollout(server: Server) -> dict[str, Any]:
    lineage = server.view().refresh()
    return report(lineage, server.config, present(lineage.store, server.now()), server.now())


def _with(guarded: dict[str, Any], answer: Responses) -> dict[str, Any]:
    return {**guarded, "responses": answer | guarded["responses"]}


def _add_revert(app: FastAPI, server: Server, token: Token) -> None:
    """Add the one change that HTTP can make."""
    off = "changes over HTTP are off: there is no serve.token_file and no HOLDFAST_TOKEN"

    @app.post(
        "/revert",
        openapi_extra=body_schema(RevertRequest, required=False),
        summary="Put a learner back to an earlier snapshot; without a body to the passing one before what serves",
        dependencies=[Depends(bearer([token], off))],
        responses=answer_as(decision()) | responses_of(400, 401, 403, 408, 409, 413, 422, 500, 503),
    )
    async def revert(request: Request) -> Response:
        wanted = _wanted(await request.body())
        return response((200, await anyio.to_thread.run_sync(lambda: _revert(server, wanted))))


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
        return response(not_understood(first["msg"], field, "bad_request"))

    @app.exception_handler(405)
    async def not_this_way(request: Request, cause: HTTPException) -> Response:
        ways = (cause.headers or {}).get("Allow", "")
        why = f"{request.url.path} takes {ways}, and not {request.method}: /docs lists what there is"
        return Response(detail(why), 405, cause.headers, "application/json")

    @app.exception_handler(RefusedError)
    async def not_allowed(_: Request, cause: RefusedError) -> Response:
        return response((409, detail(str(cause))))

    @app.exception_handler(SnapshotsError)
    async def store_away(_: Request, cause: SnapshotsError) -> Response:
        return response((503, detail(str(cause))))

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        return response(FAULT)


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
