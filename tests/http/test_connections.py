"""What a peer may send and how long it may take: real processes, raw sockets, and callers beside who are answered."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lineages import Folder, wait_for
from support.samples import mixed

from stream.serve.http.connection import MOST_HEADERS, MOST_PIPELINED

LEARNER = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}
HOST = b"Host: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
POST = b"POST /predict HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"x":{"amount":3.0}}'
QUIET, WHOLE = 1.0, 3.0


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A lineage that has learnt, to be copied."""
    here = Folder(tmp_path_factory.mktemp("door") / "here", LEARNER, name="door")
    here.write(mixed(300))
    here.trained()
    return here


@pytest.fixture(scope="module")
def served(learnt: Folder) -> Iterator[Folder]:
    """A process that serves as it is by default."""
    here = learnt.copy(learnt.path.parent / "served")
    here.start("serve")
    here.wait_ready()
    yield here
    here.end()


@pytest.fixture(scope="module")
def impatient(learnt: Folder) -> Iterator[Folder]:
    """One that waits a second, and three for a whole request."""
    here = learnt.copy(learnt.path.parent / "impatient")
    here.start("serve", HOLDFAST_SERVE__QUIET_SECONDS=str(QUIET), HOLDFAST_SERVE__REQUEST_SECONDS=str(WHOLE))
    here.wait_ready()
    yield here
    here.end()


def _connect(here: Folder) -> socket.socket:
    return socket.create_connection(("127.0.0.1", here.port), timeout=10)


def _all(one: socket.socket) -> bytes:
    """What comes until the other side closes."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := one.recv(65536):
            said += part
    return said


def _said(here: Folder, sent: bytes) -> bytes:
    with _connect(here) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(sent)
        return _all(one)


def _resident(here: Folder) -> int:
    pages = Path(f"/proc/{here.processes[-1].pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def _files(here: Folder) -> int:
    return _open_files(here.processes[-1].pid)


def _settled(here: Folder) -> int:
    """How many files it has open when the connections of the tests before are gone."""
    seen: list[int] = []
    wait_for(lambda: seen.append(_files(here)) or (len(seen) > 10 and len(set(seen[-10:])) == 1))
    return seen[-1]


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


ENDLESS = {
    "headers": (POST, b"X-Some: " + b"a" * 1000 + b"\r\n"),
    "one header": (POST + b"X: ", b"a" * 1000),
    "a header's name": (POST, b"a" * 1000),
    "a url": (b"GET /", b"a" * 1000),
    "empty lines": (b"", b"\r\n" * 500),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: " + b"a" * 1000 + b"\r\n"),
    "one trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nX: ", b"a" * 1000),
    "a chunk's extension": (CHUNKED + b"2;x=", b"a" * 1000),
    "requests": (b"", (GET + b"\r\n") * 20),
    "crumbs of a body": (CHUNKED, b"1\r\na\r\n" * 200),
    "a body in chunks": (CHUNKED, b"3e8\r\n" + b"a" * 1000 + b"\r\n"),
    "a body for another door": (CHUNKED.replace(b"/predict", b"/predict/batch"), b"3e8\r\n" + b"a" * 1000 + b"\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end_is_cut_off(served: Folder, what: str) -> None:
    """The connection ends long before 100 MB, without memory that grows with them."""
    beginning, more = ENDLESS[what]
    before, sent = _resident(served), 0
    with _connect(served) as one, contextlib.suppress(ConnectionError, TimeoutError):
        one.settimeout(3)
        one.sendall(beginning)
        while sent < 100_000_000:
            one.sendall(more * 100)
            sent += len(more) * 100
    assert sent < 20_000_000
    assert _resident(served) - before < 50_000_000
    with served.http() as client:
        assert client.post("/predict", content=BODY).status_code == 200


REFUSED: dict[str, tuple[bytes, bytes]] = {
    "a long url": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", b"414"),
    "many headers": (GET + b"A: b\r\n" * MOST_HEADERS + b"\r\n", b"431"),
    "long headers": (GET + b"A: " + b"b" * 40_000 + b"\r\nC: " + b"d" * 40_000 + b"\r\n\r\n", b"431"),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
    "a length and chunks": (
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"400",
    ),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", b"400"),
    "a huge length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", b"400"),
    "another encoding": (POST + b"Transfer-Encoding: gzip\r\n\r\n{}", b"400"),
    "crumbs": (CHUNKED + b"1\r\na\r\n" * 2000, b"400"),
    "a bad chunk": (CHUNKED + b"zz\r\n{}\r\n", b"400"),
    "no host": (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
    "two hosts": (GET + HOST + b"Connection: close\r\n\r\n", b"400"),
    "connect": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", b"400"),
    "http 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "not http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, b"400"),
    "a zero byte": (GET + b"A: \0\r\n\r\n", b"400"),
    "a space before the colon": (GET + b"A : b\r\n\r\n", b"400"),
    "packed": (
        POST + b"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\0",
        b"400",
    ),
    "more than was said": (POST + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}{}", b"422"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_the_peers_to_mend(served: Folder, what: str) -> None:
    """4xx, one answer, never a trace; the connection ends."""
    sent, code = REFUSED[what]
    said = _said(served, sent)
    assert said.startswith(b"HTTP/1.1 " + code), said
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"x-content-type-options: nosniff" in said.lower()


LAST = GET + b"Connection: close\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
ANSWERED: dict[str, tuple[bytes, list[bytes]]] = {
    "one after another": ((GET + b"\r\n") * 9 + LAST, [b"200"] * 10),
    "an upgrade that is not taken": (GET + UPGRADE + b"\r\n" + LAST, [b"200"] * 2),
    "an upgrade with a body": (
        POST + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + LAST,
        [b"200"] * 2,
    ),
    "an upgrade with chunks": (
        POST + UPGRADE + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"x":{}}\r\n0\r\n\r\n' + LAST,
        [b"200"] * 2,
    ),
    "without host, as HTTP/1.0 may": (b"GET /health HTTP/1.0\r\n\r\n", [b"200"]),
    "what makes no sense comes after what does": (GET + b"\r\n" + b"GARBAGE\r\n\r\n", [b"200"]),
    "tiny chunks": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        + b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in BODY) + b"0\r\nTrailer: x\r\n\r\n",
        [b"200"],
    ),
    "far too many": ((GET + b"\r\n") * 5000, [b"200"] * MOST_PIPELINED),
}  # fmt: skip


@pytest.mark.parametrize("what", ANSWERED)
def test_what_was_asked_first_is_answered_first(served: Folder, what: str) -> None:
    """In order, whatever follows; then the connection ends."""
    sent, codes = ANSWERED[what]
    found = [part[:3] for part in _said(served, sent).split(b"HTTP/1.1 ")[1:]]
    assert found[: len(codes)] == codes
    assert len(found) <= len(codes) + 1


def test_a_body_that_waits_for_leave_gets_it(served: Folder) -> None:
    """Expect: 100-continue."""
    with _connect(served) as one:
        one.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert one.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.sendall(BODY)
        assert one.recv(1000).startswith(b"HTTP/1.1 200")


def _took(one: socket.socket, trickle: bytes = b"") -> tuple[float, bytes]:
    """How long until the other side closes (a byte of the trickle every 0.2 s), and what it said."""
    began, said = time.monotonic(), b""
    one.settimeout(0.2)
    while time.monotonic() - began < 10:
        try:
            part = one.recv(1000)
            if not part:
                break
            said += part
        except TimeoutError:
            with contextlib.suppress(ConnectionError):
                one.send(trickle)
        except ConnectionError:
            break
    return time.monotonic() - began, said


@pytest.mark.parametrize(
    ("sent", "trickle", "code", "seconds"),
    [
        (b"", b"", b"", QUIET),
        (b"GET / HT", b"", b"408", QUIET),
        (POST + b"Content-Length: 100\r\n\r\n{", b"", b"408", QUIET),
        (CHUNKED + b"5\r\n", b"", b"408", QUIET),
        (b"POST /revert HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{", b"", b"408", QUIET),
        (GET, b"A", b"408", WHOLE),
        (POST + b"Content-Length: 100\r\n\r\n{", b" ", b"408", WHOLE),
        (b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n", b" ", b"404", WHOLE),
    ],
)
def test_who_does_not_go_on_is_hung_up_on(
    impatient: Folder, sent: bytes, trickle: bytes, code: bytes, seconds: float
) -> None:
    """408 where a request had begun; a trickle has an end as well."""
    with _connect(impatient) as one:
        one.sendall(sent)
        took, said = _took(one, trickle)
    assert said[9:12] == code
    assert seconds * 0.9 < took < seconds + 2.5


def test_a_request_that_comes_slowly_is_answered(impatient: Folder) -> None:
    """As long as it goes on, and is whole in time."""
    with _connect(impatient) as one:
        for part in (POST, b"Content-Length: %d\r\n\r\n" % len(BODY), BODY[:9], BODY[9:]):
            one.sendall(part)
            time.sleep(0.5)
        assert one.recv(1000).startswith(b"HTTP/1.1 200")


def test_an_answer_that_is_not_read_is_given_up(impatient: Folder) -> None:
    """The connection is cut; its buffers and its descriptor are free again."""
    before = _settled(impatient)
    wanted = b'{"instances":[' + b",".join([BODY] * 5000) + b"]}"
    sent = b"POST /predict/batch HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(wanted) + wanted
    lazy = []
    for _ in range(10):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(5)
        one.connect(("127.0.0.1", impatient.port))
        with contextlib.suppress(OSError):
            one.sendall(sent * 4)
        lazy.append(one)
    wait_for(lambda: _files(impatient) > before)
    wait_for(lambda: _files(impatient) <= before, 15)
    for one in lazy:
        one.close()


def test_callers_are_answered_beside_thousands_who_do_not_go_on(impatient: Folder) -> None:
    """Half-open, silent, and bodies that never come; memory and descriptors come back.

    ``HOLDFAST_TEST_CONNECTIONS`` says how many (2,000; ``make soak``: 10,000).
    """
    wanted = int(os.environ.get("HOLDFAST_TEST_CONNECTIONS", "2000"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    beginnings = [b"", b"POST /predict HT", POST + b'Content-Length: 900\r\n\r\n{"x":']
    before, files, slowest, held = _resident(impatient), _files(impatient), 0.0, []
    try:
        with impatient.http() as client:
            for number in range(wanted):
                one = _connect(impatient)
                one.sendall(beginnings[number % 3])
                held.append(one)
                if number % 20 == 0:
                    began = time.monotonic()
                    assert client.post("/predict", content=BODY).status_code == 200
                    slowest = max(slowest, time.monotonic() - began)
        assert slowest < 2
        assert _resident(impatient) - before < 50_000_000 + 40_000 * wanted
        wait_for(lambda: _files(impatient) <= files + 1, 20)
    finally:
        for one in held:
            one.close()


def test_large_bodies_that_stop_are_bounded_together(served: Folder) -> None:
    """Four hundred of almost a megabyte: the oldest have to go, and others are answered."""
    before, held = _resident(served), []
    part = b" " * 1_000_000
    try:
        for _ in range(400):
            one = _connect(served)
            with contextlib.suppress(OSError):
                one.sendall(POST + b"Content-Length: 1048576\r\n\r\n" + part)
            held.append(one)
        with served.http() as client:
            assert client.post("/predict", content=BODY).status_code == 200
        assert _resident(served) - before < 350_000_000
        assert b"503" in held[0].recv(1000)
    finally:
        for one in held:
            one.close()


def test_open_files_do_not_run_out(learnt: Folder, tmp_path: Path) -> None:
    """With 128 of them and 500 connections the longest-waiting go, and whoever asks is answered."""
    here = learnt.copy(tmp_path / "few")
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
    limited += "from stream.cli import main; sys.argv = ['holdfast', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", limited, "--config", str(here.config_path), "serve"]
    held: list[socket.socket] = []
    with (tmp_path / "serve.log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            here.wait_ready()
            for _ in range(500):
                with contextlib.suppress(ConnectionError):
                    held.append(_connect(here))
                    held[-1].sendall(POST + b"Content-Length: 100\r\n\r\n{")
            with here.http() as client:
                codes = [client.post("/predict", content=BODY).status_code for _ in range(20)]
            assert codes == [200] * 20
            assert _open_files(process.pid) < 128
        finally:
            for one in held:
                one.close()
            process.terminate()
            process.wait(15)
    assert "Too many open files" not in (tmp_path / "serve.log").read_text()


def test_idle_connections_end(impatient: Folder) -> None:
    """After their keep-alive, or when they only send empty lines."""
    with _connect(impatient) as one:
        one.sendall(GET + b"\r\n")
        assert one.recv(1000).startswith(b"HTTP/1.1 200")
        took, _ = _took(one, b"\r\n")
    assert took < 8


def test_a_connection_is_kept_for_the_next_request(served: Folder) -> None:
    """A thousand requests on one."""
    with _connect(served) as one, one.makefile("rb") as answers:
        for _ in range(1000):
            one.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := answers.readline().lower()) != b"\r\n":
                length = int(line.split(b":")[1]) if line.startswith(b"content-length") else length
            answers.read(length)


def test_a_caller_who_goes_away_is_no_fault(served: Folder) -> None:
    """Nothing is logged, nothing is answered, nothing is counted as wrong."""
    for sent in (POST, POST + b"Content-Length: 9\r\n\r\n{", CHUNKED + b"5\r\n{", b"POST /events HTTP/1.1\r\n" + HOST):
        with _connect(served) as one:
            one.sendall(sent)
    with served.http() as client:
        assert client.get("/health").status_code == 200
    assert "Traceback" not in served.log("serve")
