"""The doors of producers without Kafka: events, labels that come later, labels that somebody checked."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from stream.errors import ConfigError, StreamError, TooLargeError
from stream.parts import intake_of, labels_intake_of, trusted_intake_of
from stream.refusal import Reason, Refusal
from stream.serve.current import Server
from stream.serve.http.answers import Taken, TakenTogether, answer_of, responses_of
from stream.serve.http.bearer import Token, Tokens
from stream.serve.http.requests import EventBody, LabelBody
from stream.serve.predict import Answer, detail, refused
from stream.serve.prometheus import RequestCounts
from stream.sink.intake import Intake

_BEARER = {"WWW-Authenticate": "Bearer"}
_CODES = (400, 401, 403, 408, 413, 422, 500, 503)
_EVENTS_OFF = "POST /events is off: there is no serve.events_token_file and no HOLDFAST_EVENTS_TOKEN"
_LABELS_OFF = "POST /labels is off: there is no serve.labels_token_file and no HOLDFAST_LABELS_TOKEN"
_TRUSTED_OFF = "POST /labels?trusted is off: there is no holdout.trusted.token_file and no HOLDFAST_TRUSTED_TOKEN"
_NO_EVENTS = "events have no place: source.topics is empty"
_NO_LABELS = "labels have no place: set labels.directory or labels.topics"
_NO_TRUSTED = "holdout.trusted names no directory and no topic: set one of them"
_MOST_LABELS = 10_000
_list = msgspec.json.Decoder(list[msgspec.Raw])


def add_events(app: FastAPI, server: Server, counts: RequestCounts, tokens: Tokens) -> None:
    """Add ``POST /events``, with a token of its own."""
    intake = intake_of(server.config, server.now)

    @app.post(
        "/events",
        openapi_extra=body_schema(EventBody),
        summary="Take one event; 202 once it is durable in the source",
        status_code=202,
        dependencies=[Depends(bearer([tokens.events], _EVENTS_OFF, lambda code: counts.add(code, 0.0)))],
        responses=answer_of(Taken, 202) | responses_of(*_CODES),
    )
    async def events(request: Request) -> Response:
        if intake is None:
            counts.add(503, 0.0)
            return response((503, detail(_NO_EVENTS)))
        return await _counted(counts, _durable(server, intake, await request.body()))


def add_labels(app: FastAPI, server: Server, counts: RequestCounts, tokens: Tokens) -> None:
    """Add ``POST /labels``, and with ``?trusted`` the door for labels that somebody checked; each has its token."""
    plain, checked = labels_intake_of(server.config, server.now), trusted_intake_of(server.config, server.now)

    @app.post(
        "/labels",
        openapi_extra=body_schema(LabelBody, EventBody),
        summary="Take the label of an event, or a list of labels; 202 once it is durable. With `?trusted`: an event "
        "whose label somebody checked, or a list of them, for the guard",
        status_code=202,
        responses=answer_of(Taken | TakenTogether, 202) | responses_of(*_CODES),
    )
    async def labels(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
        trusted: Annotated[Literal["", "true", "1"] | None, Query(description="say that it was checked")] = None,
    ) -> Response:
        token, off = (tokens.labels, _LABELS_OFF) if trusted is None else (tokens.trusted, _TRUSTED_OFF)
        _ask_for([token], off, given, lambda code: counts.add(code, 0.0))
        intake, why = (plain, _NO_LABELS) if trusted is None else (checked, _NO_TRUSTED)
        if intake is None:
            counts.add(503, 0.0)
            return response((503, detail(why)))
        body = await request.body()
        if body.lstrip()[:1] == b"[":
            return await _counted(counts, _all_durable(server, intake, body))
        return await _counted(counts, _durable(server, intake, body))


async def _counted(counts: RequestCounts, taken: Any) -> Response:
    """Have something taken, and count the request."""
    began = time.perf_counter()
    code, answer = 500, b""
    try:
        code, answer = await taken
    finally:
        counts.add(code, time.perf_counter() - began)
    return response((code, answer))


async def _durable(server: Server, intake: Intake, body: bytes) -> Answer:
    """Have one taken: 202 once it is durable where it is read."""
    _know(server, intake)
    try:
        taken = intake.take(body)
        if isinstance(taken, Refusal):
            return refused(taken)
        return 202, orjson.dumps(await asyncio.wait_for(asyncio.wrap_future(taken), intake.seconds))
    except TimeoutError:
        return 503, detail(f"not durable within {intake.seconds:g} s, but it may be later: send it again as it is")
    except StreamError as cause:
        return _not_stored(cause)


async def _all_durable(server: Server, intake: Intake, body: bytes) -> Answer:
    """Have several taken: all of them are looked at first, and nothing is stored when one is refused."""
    try:
        found = [bytes(one) for one in _list.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return refused(Refusal(Reason.NOT_JSON, "", "the list of labels is not JSON in UTF-8"))
    if len(found) > _MOST_LABELS:
        return refused(Refusal(Reason.TOO_LARGE, "", f"{len(found)} labels are more than {_MOST_LABELS}"))
    _know(server, intake)
    for index, one in enumerate(found):
        if (wrong := intake.look(one)) is not None:
            field = f"[{index}]" + (f".{wrong.field}" if wrong.field else "")
            return refused(Refusal(wrong.reason, field, wrong.message))
        if index % 500 == 0:
            await asyncio.sleep(0)
    try:
        waiting = [asyncio.wrap_future(one) for one in map(intake.take, found) if not isinstance(one, Refusal)]
        if waiting:
            await asyncio.wait_for(asyncio.gather(*waiting), intake.seconds)
        return 202, orjson.dumps({"taken": len(waiting)})
    except TimeoutError:
        return 503, detail(
            f"not durable within {intake.seconds:g} s, but they may be later: send them again as they are"
        )
    except StreamError as cause:
        return _not_stored(cause)


def _know(server: Server, intake: Intake) -> None:
    """Number classes as the snapshot in service does."""
    if server.current is not None:
        intake.know(server.current.labels)


def _not_stored(cause: StreamError) -> Answer:
    if isinstance(cause, TooLargeError):
        return 413, refused(Refusal(Reason.TOO_LARGE, "", str(cause)))[1]
    if isinstance(cause, ConfigError):
        return 503, detail(f"{cause}; nothing is stored until that is mended")
    return 503, detail(f"{cause}; nothing is known to be stored: send it again as it is")


# What the doors share -----------------------------------------------------------------------------------------------


def response(answer: Answer) -> Response:
    """An answer as FastAPI gives it."""
    code, body = answer
    return Response(body, code, media_type="application/json")


def body_schema(*models: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """The schema of a body, which our own code reads: one of these models."""
    schemas = []
    for model in models:
        schema = model.model_json_schema()
        inner = schema.pop("$defs", {})
        if inner:
            schema = orjson.loads(
                orjson.dumps(schema).replace(b'{"$ref":"#/$defs/Question"}', orjson.dumps(inner["Question"]))
            )
        schemas.append(schema)
    if LabelBody in models:
        schemas.append({"type": "array", "items": {"anyOf": schemas[:]}})
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def bearer(tokens: list[Token], off: str, count: Callable[[int], None] = lambda _code: None) -> Callable[..., Any]:
    """Ask for one of the tokens, of which the first has to be there; ``off`` is said when it is not."""
    scheme = HTTPBearer(auto_error=False)

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        _ask_for(tokens, off, given, count)

    return check


def _ask_for(
    tokens: list[Token], off: str, given: HTTPAuthorizationCredentials | None, count: Callable[[int], None]
) -> None:
    said = given.credentials.encode("latin-1") if given else b""
    fits = [token.fits(said) for token in tokens]
    if any(fits):
        return
    if tokens[0].current() is None:
        count(403)
        raise HTTPException(403, off)
    count(401)
    raise HTTPException(401, "the bearer token is missing or wrong", _BEARER)
