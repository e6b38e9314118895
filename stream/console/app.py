"""The console's doors: one page, its files, what it shows as JSON, and the actions, which want the token."""

import asyncio
import gzip
import hashlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool

from snapshots.errors import SnapshotsError
from stream.console.actions import done, planned
from stream.console.seen import Seen
from stream.errors import StreamError
from stream.serve.http.bearer import Tokens
from stream.serve.http.hosts import Hosts
from stream.settings import Serve
from stream.status.status import served_at

log = logging.getLogger("holdfast.console")
#: scripts and pictures from here only, nothing inline; plotly.js sets rules in an empty style element of its own, whose
#: hash is that of no text at all
_POLICY = (
    "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(), b"x-content-type-options": b"nosniff", b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer", b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}  # fmt: skip
_MOST_BYTES = 64 * 1024
#: so many wrong tokens within so many seconds, and nobody is listened to for as long
_MOST_GUESSES, _GUESS_SECONDS = 10, 60.0
_DAYS_30 = 30 * 86_400.0
Scope = MutableMapping[str, Any]
Points = Annotated[int, Query(ge=10, le=5000)]


class Guesses:
    """Counts wrong tokens, from whomever: guessing is slow for all together."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._times = now, deque[float](maxlen=_MOST_GUESSES)

    def refuse_many(self) -> None:
        """Raise 429 while there were too many."""
        if len(self._times) == _MOST_GUESSES and self._now() - self._times[0] < _GUESS_SECONDS:
            raise HTTPException(429, f"too many wrong tokens: wait {_GUESS_SECONDS:.0f} s")

    def note(self, client: str) -> None:
        """Count one."""
        self._times.append(self._now())
        log.warning("a wrong token was given to the console by %s", client)


class Door:
    """In front of everything: by which name it is called, from which page, how much, and the headers of answers."""

    def __init__(self, app: Any, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Callable[..., Awaitable[Any]], send: Callable[..., Any]) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() not in _HEADERS]
                message["headers"] = [*kept, *_HEADERS.items()]
            await send(message)

        refused = self._refused(scope)
        answer = _answer(refused[0], {"detail": refused[1]}) if refused is not None else self._app
        await answer(scope, receive, sent)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        if why := self._hosts.refusal(scope["headers"], scope.get("http_version", "1.1")):
            return 400, why
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET, HEAD and POST only"
        if scope["method"] == "POST":
            site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
            own = origin is None or origin.split(b"://")[-1] == headers.get(b"host")
            if (site is not None and site not in (b"same-origin", b"none")) or not own:
                return 403, "another page may not act here"
            if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/json":
                return 415, "the body is JSON: Content-Type: application/json"
            length = headers.get(b"content-length", b"")
            if not length.isdigit() or int(length) > _MOST_BYTES:
                return 413, f"a body of known length, of at most {_MOST_BYTES} bytes"
        return None


def application(seen: dict[str, Seen], tokens: dict[str, Tokens], serve: Serve) -> Door:
    """Build the doors over some lineages, by name."""
    app = FastAPI(title="Holdfast console", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    guesses = Guesses()
    _add_files(app)
    _add_looks(app, seen, tokens, guesses)
    _add_actions(app, seen, tokens, guesses)

    @app.exception_handler(SnapshotsError)
    async def store_away(_: Request, cause: SnapshotsError) -> Response:
        return _answer(503, {"detail": str(cause)})

    @app.exception_handler(StreamError)
    async def not_so(_: Request, cause: StreamError) -> Response:
        return _answer(422, {"detail": str(cause)})

    return Door(app, Hosts(serve))


def _answer(code: int, body: Any) -> Response:
    return Response(
        orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), code, media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )  # fmt: skip


def _add_files(app: FastAPI) -> None:
    """The page and what it loads; each by an exact path."""
    here = Path(str(files("stream.console"))) / "static"
    plotly = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"
    for path, file, kind in (
        ("/", here / "index.html", "text/html"), ("/console.js", here / "console.js", "text/javascript"),
        ("/pictures.js", here / "pictures.js", "text/javascript"), ("/console.css", here / "console.css", "text/css"),
    ):  # fmt: skip
        _add_file(app, path, file, kind)

    @cache
    def library_file() -> tuple[bytes, bytes, str]:
        whole = plotly.read_bytes()
        return whole, gzip.compress(whole, 6), f'"{hashlib.sha256(whole).hexdigest()[:20]}"'

    @app.get("/plotly.js")
    def library(request: Request) -> Response:
        """Five megabytes: packed once somebody asks, and sent once to each browser."""
        whole, packed, tag = library_file()
        headers = {"Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(whole, 200, headers, "text/javascript")
        return Response(packed, 200, {**headers, "Content-Encoding": "gzip"}, "text/javascript")


def _add_file(app: FastAPI, path: str, file: Path, kind: str) -> None:
    @app.get(path)
    async def static() -> FileResponse:
        return FileResponse(file, media_type=kind, headers={"Cache-Control": "no-cache"})


def _add_looks(  # noqa: C901  one way to look after another
    app: FastAPI, seen: dict[str, Seen], tokens: dict[str, Tokens], guesses: Guesses
) -> None:
    """What the page shows. Where ``serve.read_token_file`` is set, looking wants a token here as well."""
    trying = asyncio.Lock()

    def of(name: str, request: Request) -> Seen:
        found = _known(seen, name)
        read = tokens[name].read
        if read is not None and not (read.fits(_bearer(request)) or tokens[name].changes.fits(_bearer(request))):
            if _bearer(request):
                guesses.refuse_many()
                guesses.note(_client(request))
            raise HTTPException(401, "looking wants a token (serve.read_token_file)")
        return found

    @app.get("/api")
    def lineages() -> Response:
        return _answer(200, [{"name": one.name, "task": one.config.task} for one in seen.values()])

    @app.get("/api/{name}/status")
    def status(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).status())

    @app.get("/api/{name}/history")
    def history(name: str, request: Request, since: float = 0.0, until: float = 0.0, points: Points = 400) -> Response:
        begin, end = _span(since, until)
        return _answer(200, of(name, request).history(begin, end, points))

    @app.get("/api/{name}/history.csv")
    def table(name: str, request: Request, since: float = 0.0, until: float = 0.0) -> Response:
        begin, end = _span(since, until)
        return PlainTextResponse(
            of(name, request).table(begin, end), media_type="text/csv",
            headers={"Content-Disposition": 'attachment; filename="holdfast.csv"'},
        )  # fmt: skip

    @app.get("/api/{name}/marks")
    def marks(name: str, request: Request, since: float = 0.0, until: float = 0.0) -> Response:
        return _answer(200, of(name, request).marks(*_span(since, until)))

    @app.get("/api/{name}/snapshots")
    def snapshots(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).snapshots())

    @app.get("/api/{name}/snapshots/{number}")
    def snapshot(name: str, request: Request, number: int) -> Response:
        found = of(name, request).snapshot(number)
        if found is None:
            raise HTTPException(404, f"snapshot {number} is gone, or never was")
        return _answer(200, found)

    @app.get("/api/{name}/ledger")
    def ledger(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).ledger())

    @app.get("/api/{name}/at")
    def at(name: str, request: Request, time: float) -> Response:
        return _answer(200, of(name, request).look(lambda lineage: served_at(lineage, time)))

    @app.get("/api/{name}/example")
    def example(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).example())

    @app.get("/api/{name}/data")
    def data(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).data())

    @app.get("/api/{name}/weights")
    async def weights(name: str, request: Request) -> Response:
        one = of(name, request)
        async with trying:
            return _answer(200, await run_in_threadpool(one.weights))

    @app.get("/api/{name}/summary")
    def summary(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).summary())

    @app.post("/api/{name}/try")
    async def ask(name: str, request: Request) -> Response:
        one = of(name, request)
        body = await request.body() or b"null"
        if trying.locked():
            raise HTTPException(429, "somebody tries something just now: again in a moment")
        async with trying:
            found = await run_in_threadpool(one.answers, body)
        return _answer(200 if "answers" in found else 422, found)

    @app.get("/api/{name}/letters")
    def letters(name: str, request: Request) -> Response:
        return _answer(200, of(name, request).letters())


def _add_actions(app: FastAPI, seen: dict[str, Seen], tokens: dict[str, Tokens], guesses: Guesses) -> None:
    """Add ``POST /api/NAME/actions/ACTION``: what it would do, and with ``"do": true`` and the token, doing it."""

    @app.post("/api/{name}/actions/{action}")
    async def act(name: str, action: str, request: Request) -> Response:
        one = _known(seen, name)
        guesses.refuse_many()
        token = tokens[name].changes
        if token.current() is None:
            raise HTTPException(403, "changes are off: there is no serve.token_file and no HOLDFAST_TOKEN")
        if not token.fits(_bearer(request)):
            guesses.note(_client(request))
            raise HTTPException(401, "that is not the token (serve.token_file)")
        try:
            given = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            given = None
        if not isinstance(given, dict):
            raise HTTPException(422, "the body is an object")
        says, words = planned(action, given, await run_in_threadpool(one.status))
        if given.get("do") is not True:
            return _answer(200, {"says": says, "command": ["holdfast", *words]})
        before = await run_in_threadpool(one.newest_entry)
        ok, said = await run_in_threadpool(done, words, one.path)
        made = [entry for entry in await run_in_threadpool(one.entries) if entry["seq"] > before]
        log.info("console: %s: %s", action, "done" if ok else "refused")
        return _answer(200 if ok else 409, {"says": says, "done": ok, "detail": said, "entries": made})


def _known(seen: dict[str, Seen], name: str) -> Seen:
    if name not in seen:
        raise HTTPException(404, "there is no such lineage here")
    return seen[name]


def _span(since: float, until: float) -> tuple[float, float]:
    """Two times; 0 until: now; 0 since, or what is before it: thirty days before that."""
    end = until if 0 < until < 1e12 else time.time() + 60
    return (since if 0 < since < end else end - _DAYS_30), end


def _bearer(request: Request) -> bytes:
    said = request.headers.get("authorization", "")
    return said[7:].strip().encode("utf-8", "replace") if said[:7].lower() == "bearer " else b""


def _client(request: Request) -> str:
    return request.client.host if request.client is not None else "somebody"
