"""What a stranger may do at the HTTP door: bounded in bytes, in time and in number; and who may read and change."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lineages import TOKEN, Folder, wait_for
from samples import numbers

from stream import door
from stream.api import host_of

Serving = Callable[..., Folder]


@pytest.fixture
def serving(folder: Callable[..., Folder]) -> Serving:
    """A lineage that answers."""

    def make(**settings: Any) -> Folder:
        here = folder(**settings)
        here.write(numbers(300))
        here.trained()
        here.process = here.start("serve")  # type: ignore[attr-defined]
        here.wait_ready()
        return here

    return make


def memory(here: Folder) -> float:
    return int(Path(f"/proc/{here.process.pid}/statm").read_text().split()[1]) * 4096 / 1e6  # type: ignore[attr-defined]


def ask(here: Folder) -> int:
    with here.http() as client:
        return client.post("/predict", json={"x": {"f0": 1.0}}).status_code


ENDLESS = {
    "header lines": (
        b"POST /predict HTTP/1.1\r\nHost: a\r\n",
        b"".join(b"X-%d: %s\r\n" % (i, b"a" * 900) for i in range(500)),
    ),
    "one header": (b"GET / HTTP/1.1\r\nX: ", b"a" * 500_000),
    "one address": (b"GET /", b"a" * 500_000),
    "a name of a header": (b"GET / HTTP/1.1\r\n", b"a" * 500_000),
    "lines that are empty": (b"", b"\r\n" * 250_000),
    "extensions of chunks": (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 500_000),
    "chunks of one byte": (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 80_000),
    "a body": (b"POST /predict HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"a" * 500_000),
    "trailers": (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: b\r\n" * 80_000),
    "requests": (b"", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 10_000),
}


def test_what_has_no_end_is_bounded(serving: Serving) -> None:
    """40 MB of each: the memory stays, and others are answered all the while."""
    here = serving()
    before = memory(here)
    for name, (head, piece) in ENDLESS.items():
        with socket.create_connection(("127.0.0.1", here.port), timeout=2) as caller, contextlib.suppress(OSError):
            caller.sendall(head)
            for _ in range(80):
                caller.sendall(piece)
        assert ask(here) == 200, name
        assert memory(here) - before < 100, name


def test_bodies_that_never_come_and_half_open_connections_hold_nobody_up(folder: Callable[..., Folder]) -> None:
    """More of them than there may be open files: who has owed a request for longest makes room.

    ``HOLDFAST_TEST_CONNECTIONS`` says how many of each (300; ``make soak``: 10,000).
    """
    wanted = int(os.environ.get("HOLDFAST_TEST_CONNECTIONS", "300"))
    here = folder()
    here.write(numbers(300))
    here.trained()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    here.process = here.start("serve")  # type: ignore[attr-defined]
    here.wait_ready()
    resource.prlimit(here.process.pid, resource.RLIMIT_NOFILE, (256, 256))  # type: ignore[attr-defined]
    before, held = memory(here), []
    try:
        for number in range(2 * wanted):
            one = socket.create_connection(("127.0.0.1", here.port), timeout=10)
            held.append(one)
            with contextlib.suppress(OSError):
                one.sendall((b"POST /predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b"GET / HT")[number % 2])
            if number % 50 == 0:
                assert ask(here) == 200
        began = time.monotonic()
        assert ask(here) == 200
        assert time.monotonic() - began < 2
        assert len(os.listdir(f"/proc/{here.process.pid}/fd")) < 256  # type: ignore[attr-defined]  # noqa: PTH208
        assert memory(here) - before < 100
    finally:
        for one in held:
            one.close()


def test_a_large_batch_lets_others_have_their_turn(serving: Serving) -> None:
    """More instances than serve.max_instances are refused with the number."""
    here = serving(serve__max_instances=50_000)
    with here.http() as client:
        body = b'{"instances":[' + b",".join([b'{"x":{}}'] * 60_000) + b"]}"
        answer = client.post("/predict/batch", content=body)
        assert (answer.status_code, answer.json()["field"]) == (413, "instances")
        assert "serve.max_instances = 50,000" in answer.json()["detail"]
        large = b'{"instances":[' + b",".join([b'{"x":{"f0":1}}'] * 40_000) + b"]}"
        with socket.create_connection(("127.0.0.1", here.port)) as slow:
            slow.sendall(b"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(large))
            slow.sendall(large)
            time.sleep(0.05)
            began = time.monotonic()
            assert client.post("/predict", json={"x": {"f0": 1.0}}).status_code == 200
            waited = time.monotonic() - began
            whole = time.monotonic()
            slow.settimeout(30)
            assert slow.recv(15) == b"HTTP/1.1 200 OK"
            assert waited < 0.2 + (time.monotonic() - whole)


@pytest.mark.parametrize(
    ("text", "name"),
    [("A.b:80", "a.b"), ("[::1]:80", "::1"), ("::1", "::1"), ("127.0.0.1", "127.0.0.1"), ("x", "x"), (" x:1 ", "x")],
)
def test_the_name_in_a_host_header(text: str, name: str) -> None:
    """Without port, brackets and capitals."""
    assert host_of(text) == name


def test_another_host_is_refused_and_every_answer_is_marked(serving: Serving) -> None:
    """A page that has its own name point here gets nothing; browsers are told to guess and to frame nothing."""
    here = serving()
    with here.http() as client:
        for path, method in [
            ("/predict", "POST"),
            ("/status", "GET"),
            ("/health", "GET"),
            ("/nothing", "GET"),
            ("/", "GET"),
        ]:
            for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000"):
                answer = client.request(method, path, headers={"Host": host})
                assert answer.status_code == 400
                assert "serve.hosts" in answer.json()["detail"]
            answer = client.request(method, path, headers={"Host": "localhost:1"})
            assert answer.status_code in (200, 400, 404)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers
        for path in (
            "/predict/",
            "/status/",
            "/docs/oauth2-redirect",
            "/redoc",
            "/PREDICT",
            "//predict",
            "/predict%00",
        ):
            assert client.get(path).status_code == 404
        assert client.get("/predict").status_code == 405


def test_reading_can_be_put_behind_a_token_and_tokens_rotate(serving: Serving) -> None:
    """Without a restart; a file that others can read is said."""
    here = serving(serve__read_token_file="read-token")  # noqa: S106  a file's name
    (here.path / "token").chmod(0o600)
    paths = ("/status", "/snapshots", "/ledger")
    with here.http() as client:
        assert {client.get(path).status_code for path in paths} == {401}  # the token for changes is there
        (here.path / "read-token").write_text("one")
        wait_for(lambda: client.get("/status", headers={"Authorization": "Bearer one"}).status_code == 200)
        assert {client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code for path in paths} == {200}
        assert {client.get(path).status_code for path in ("/health", "/ready", "/metrics")} == {200}
        assert client.post("/revert", json={}, headers={"Authorization": "Bearer one"}).status_code == 401
        (here.path / "read-token").write_text("another")
        wait_for(lambda: client.get("/status", headers={"Authorization": "Bearer one"}).status_code == 401)
        assert client.get("/status", headers={"Authorization": "Bearer another"}).status_code == 200
        assert "read-token can be read by others on this machine: chmod 600" in here.log("serve")


def test_the_schema_keeps_its_word(folder: Callable[..., Folder]) -> None:
    """Schemathesis with all its checks: no answer that is not documented, none of 5xx for what a caller sent."""
    learners = {"hashed": {"kind": "vw", "args": "--loss_function logistic -b 12", "role": "champion"}}
    here = folder(learners=learners)
    here.write(numbers(300))
    here.trained()
    here.start("serve", HOLDFAST_TOKEN=TOKEN, HOLDFAST_EVENTS_TOKEN=TOKEN, HOLDFAST_READ_TOKEN=TOKEN)
    here.wait_ready()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{here.port}/openapi.json",
         "--checks", "all", "--max-examples", os.environ.get("HOLDFAST_TEST_EXAMPLES", "10"), "--no-color",
         "--header", f"Authorization: Bearer {TOKEN}", "--seed", "1"],
        capture_output=True, text=True, cwd=here.path, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_numbers_of_the_door_are_sensible() -> None:
    """A head is far smaller than a body may be, and there is room for the store's own files."""
    assert door.HEAD_BYTES <= 1 << 16
    assert door.most_connections() > 16
