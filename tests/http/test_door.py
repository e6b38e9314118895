"""What holds for every answer: names, headers, paths, methods, tokens for looking, faults, and batches that share."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from support.lineages import TOKEN, Folder, wait_for
from support.samples import mixed

from stream.serve.api import application
from stream.serve.current import Server
from stream.serve.http.bearer import tokens_of
from stream.serve.predict import Answers
from stream.serve.prometheus import RequestCounts
from stream.status import status as states

LOOK = {"Authorization": "Bearer may-look"}
CHANGE = {"Authorization": f"Bearer {TOKEN}"}
PATHS = ["/health", "/ready", "/metrics", "/docs", "/openapi.json", "/status", "/snapshots", "/ledger"]
GUARDED = ["/status", "/snapshots", "/ledger"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A service with a token for looking, and one for events."""
    learners = {
        "linear": {"kind": "river", "factory": "model:mixed", "role": "champion"},
        "hashed": {"kind": "vw", "args": "--loss_function logistic"},
    }
    settings = {
        "serve__read_token_file": "read-token",
        "serve__max_instances": 300,
        "serve__hosts": ["predict.example"],
        "holdout__trusted__directory": "checked",
        "predictions__directory": "predictions",
        "labels__directory": "labels",
    }
    here = Folder(tmp_path_factory.mktemp("guarded") / "here", learners, name="guarded", **settings)
    for name, token in (
        ("read-token", "may-look"),
        ("events-token", TOKEN),
        ("trusted-token", TOKEN),
        ("labels-token", TOKEN),
        ("token", TOKEN),
    ):
        (here.path / name).write_text(token)
        (here.path / name).chmod(0o600)
    here.write(mixed(500))
    here.trained()
    here.start("serve")
    here.wait_ready()
    yield here
    here.end()


def test_every_answer_carries_the_headers(guarded: Folder) -> None:
    """Good ones, refused ones, those of the raw route, and those of FastAPI."""
    with guarded.http() as client:
        answers = [client.get(path) for path in [*PATHS, "/nowhere"]]
        answers += [client.post("/predict", content=body) for body in (b'{"x":{}}', b"nope", b" " * 1_100_000)]
        answers += [client.put("/predict"), client.get("/health", headers={"Host": "evil.example"})]
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 404, 405, 413}
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    ["/health/", "//health", "/predict/", "/predict/batch/", "/Health", "/redoc", "/docs/oauth2-redirect",
     "/%68ealth", "/health%0A", "/health%00", "/health%2F", "/health;a", "/./health", "/predict%3F", "/docs/"],
)  # fmt: skip
def test_only_the_exact_paths_are_there(guarded: Folder, path: str) -> None:
    """No redirects, no other spellings."""
    for method in ("GET", "POST"):
        said = _raw(guarded, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert said.startswith("HTTP/1.1 404"), said


def _raw(here: Folder, sent: str) -> str:
    import socket

    with socket.create_connection(("127.0.0.1", here.port), timeout=10) as one:
        one.sendall(sent.encode())
        return one.makefile("rb").read().decode()


def test_a_wrong_method_is_told_the_right_one(guarded: Folder) -> None:
    """405 with Allow, for each path and method."""
    with guarded.http() as client:
        for path in [*PATHS, "/predict", "/predict/batch", "/events", "/labels", "/revert"]:
            right = "GET" if path in PATHS else "POST"
            for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} - {right}:
                if (path, method) in (("/docs", "HEAD"), ("/openapi.json", "HEAD")):
                    continue
                answer = client.request(method, path)
                assert answer.status_code == 405, (path, method, answer.status_code)
                assert right in answer.headers["allow"]


def test_the_manual_needs_no_internet(guarded: Folder) -> None:
    """Whatever the page loads is served here, as what it is; nothing else of the package is."""
    with guarded.http() as client:
        page = client.get("/docs").text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(loaded) == 3
        assert "://" not in page.replace("http://www.w3.org", "")
        for path in loaded:
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["content-type"].split(";")[0] in ("text/javascript", "text/css", "image/png")
        assert client.get("/docs/redoc.standalone.js").status_code == 404


def test_what_is_wrong_with_path_and_method_points_to_the_manual(guarded: Folder) -> None:
    """404 and 405, as JSON."""
    with guarded.http() as client:
        assert "/docs" in client.get("/nowhere").json()["detail"]
        said = client.get("/predict").json()["detail"]
    assert said == "/predict takes POST, and not GET: /docs lists what there is"


def test_every_answer_has_a_type(guarded: Folder) -> None:
    """Also those that refuse; nothing in the schema is merely an object of whatever."""
    with guarded.http() as client:
        found = client.get("/openapi.json").json()
    for path, methods in found["paths"].items():
        for method, one in methods.items():
            assert {"400", "408", "500", "503"} <= set(one["responses"]), (method, path)
            for code, answer in one["responses"].items():
                (content,) = answer["content"].values()
                assert set(content["schema"]) & {"$ref", "type", "anyOf"}, (method, path, code)
                assert content["schema"].get("type") != "object" or content["schema"]["properties"], (path, code)


@pytest.mark.parametrize(
    "path", ["/health", "/predict", "/predict/batch", "/status", "/revert", "/events", "/labels", "/metrics"]
)
def test_another_name_is_refused(guarded: Folder, path: str) -> None:
    """Whatever is asked; the answer says which setting names it."""
    with guarded.http() as client:
        for method in ("GET", "POST"):
            answer = client.request(method, path, headers={"Host": "evil.example"}, content=b'{"x":{}}')
            assert answer.status_code == 400
            assert "serve.hosts" in answer.json()["detail"]
        for name in ("localhost:1", "Predict.Example", "[::1]"):
            assert client.post("/predict", headers={"Host": name}, content=b'{"x":{}}').status_code == 200


@pytest.mark.parametrize("path", GUARDED)
def test_looking_needs_a_token_where_there_is_one(guarded: Folder, path: str) -> None:
    """That for looking, or that for changes; health, readiness, metrics and the pages stay open."""
    with guarded.http() as client:
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Bearer"}, {"Authorization": "Basic x"}):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        odd = _raw(
            guarded,
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\r\nConnection: close\r\n\r\n",
        )
        assert odd.startswith("HTTP/1.1 401")
        assert [client.get(path, headers=headers).status_code for headers in (LOOK, CHANGE)] == [200, 200]
        assert all(client.get(other).status_code == 200 for other in PATHS if other not in GUARDED)
        assert client.post("/revert", json={}, headers=LOOK).status_code == 401


def test_tokens_rotate_while_it_serves(guarded: Folder) -> None:
    """The old one opens nothing any more; taken away, the door is shut."""
    path = guarded.path / "read-token"
    with guarded.http() as client:
        path.write_text("may-look-now")
        now = {"Authorization": "Bearer may-look-now"}
        wait_for(lambda: client.get("/ledger", headers=now).status_code == 200, 5)
        assert client.get("/ledger", headers=LOOK).status_code == 401
        path.unlink()
        wait_for(lambda: client.get("/ledger", headers=now).status_code == 403 or None, 5)
        path.write_text("may-look")
        path.chmod(0o644)
        wait_for(lambda: client.get("/ledger", headers=LOOK).status_code == 200, 5)
    assert f"chmod 600 {path}" in guarded.log("serve")
    assert "may-look" not in guarded.log("serve")


def test_a_batch_has_a_largest_size(guarded: Folder) -> None:
    """413 with the setting; one less is answered."""
    with guarded.http() as client:
        large = client.post("/predict/batch", json={"instances": [{"x": {}}] * 301})
        assert (large.status_code, large.json()["field"], large.json()["reason"]) == (413, "instances", "too_large")
        assert "serve.max_instances" in large.json()["detail"]
        assert len(client.post("/predict/batch", json={"instances": [{"x": {}}] * 300}).json()["predictions"]) == 300


def test_a_body_without_end_is_bounded_for_everybody(guarded: Folder) -> None:
    """Also where FastAPI would read it, token or not."""
    with guarded.http() as client:
        for path in ("/revert", "/events", "/labels", "/predict", "/predict/batch"):
            answer = client.post(path, content=b" " * 5_000_000)
            assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")


def test_odd_json_is_the_callers_fault(guarded: Folder) -> None:
    """Half characters, deep nesting and numbers of a million digits, at every door."""
    odd = [b'{"\\ud800":1}', b'{"id":"\\ud800","x":{}}', b"[" * 100_000, b'{"a":' * 100_000, b'{"id":' + b"1" * 900_000]
    odd += [
        b'{"id":' + b"1" * 9000 + b',"x":{}}',
        b'{"snapshot":' + b"1" * 9000 + b"}",
        b'{"x":{"\\ud800":1}}',
        b"\xff",
    ]
    headers = CHANGE | {"Content-Type": "application/json"}
    with guarded.http() as client:
        for path in ("/predict", "/predict/batch", "/events", "/labels?trusted", "/revert"):
            for body in [*odd, *(b'{"instances":[' + one + b"]}" for one in odd)]:
                answer = client.post(path, content=body, headers=headers)
                assert answer.status_code in (200, 400, 409, 413, 422), (path, body[:40], answer.text)
                assert "Traceback" not in answer.text
    assert "Traceback" not in guarded.log("serve")


class Inside:
    """The whole application in this process, over a lineage that others serve too; faults are put into it."""

    def __init__(self, here: Folder) -> None:
        self.server = Server(here.config, now=lambda: 1.8e9)
        self.server.follow()
        self.counts = RequestCounts()
        self.app = application(self.server, tokens_of(here.config, {}, lambda: 0.0), self.counts)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **more)

        return asyncio.run(once())


def test_a_fault_is_logged_and_answered_without_a_trace(
    guarded: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 for the raw route and for FastAPI's; the log has the trace, the count has the code."""
    inside = Inside(guarded)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a secret place")

    monkeypatch.setattr(inside.server.codec, "question", broken)
    monkeypatch.setattr(states, "status", broken)
    for answer in (inside.ask("POST", "/predict", content=b"{}"), inside.ask("GET", "/status", headers=LOOK)):
        assert (answer.status_code, answer.json()["detail"]) == (500, "a fault of this service; its log says which")
    assert caplog.text.count("a secret place") >= 2
    assert {code: count for code, count in inside.counts.by_code().items() if count} == {500: 1}


def test_a_long_batch_lets_others_in_and_keeps_to_its_snapshot(guarded: Folder) -> None:
    """The loop turns many times meanwhile, and a snapshot that comes in the middle changes nothing."""
    inside = Inside(guarded)
    inside.server.config.serve.max_instances = 100_000
    serving = inside.server.current
    assert serving is not None
    body = b'{"instances":[' + b",".join([b'{"x":{"amount":1}}'] * 20_000) + b"]}"

    async def both() -> tuple[list[bytes], int]:
        answers, turns = Answers(inside.server, inside.counts), 0
        batches = [asyncio.create_task(answers.many(body)) for _ in range(2)]
        while not all(batch.done() for batch in batches):
            await asyncio.sleep(0)
            turns += 1
            inside.server.current = msgspec.structs.replace(serving, snapshot=turns + 1000)
        return [batch.result()[1] for batch in batches], turns

    found, turns = asyncio.run(both())
    assert turns > 20
    for one in found:
        assert {answer["snapshot"] for answer in orjson.loads(one)["predictions"]} == {serving.snapshot}


def test_an_answer_to_a_batch_has_a_largest_size(guarded: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities of a thousand labels for ten thousand instances would be 250 MB."""
    monkeypatch.setattr("stream.serve.predict._MOST_ANSWER_BYTES", 1000)
    answer = Inside(guarded).ask("POST", "/predict/batch", json={"instances": [{"x": {}}] * 100})
    assert (answer.status_code, answer.json()["field"]) == (413, "instances")


def test_the_schema_says_what_is_so(guarded: Folder, tmp_path: Path) -> None:
    """schemathesis, with every check, on what is documented at /docs."""
    settings = tmp_path / "schemathesis.toml"
    # whether an event is taken depends on [event] and on the clock, which a schema cannot say
    settings.write_text(
        "".join(
            f'[[operations]]\ninclude-path = "{path}"\n'
            'checks.positive_data_acceptance.expected-statuses = ["2xx", "422", "503"]\n'
            for path in ("/events", "/labels")
        )
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run",
            f"http://127.0.0.1:{guarded.port}/openapi.json", "--checks", "all",
            "--header", f"Authorization: Bearer {TOKEN}", "--no-color",
            "--max-examples", "20", "--seed", "1", "--continue-on-failure", "--suppress-health-check", "all",
        ],
        capture_output=True, text=True, timeout=200, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "12 selected / 12 total" in done.stdout
    assert "Traceback" not in guarded.log("serve")
