"""Predictions that are answered where they are read: in order among all else, and as uvicorn would (promise 4)."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lineages import Folder
from support.samples import mixed

from stream.serve.http.connection import MOST_PIPELINED

LEARNER = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}
HEAD = b"Host: localhost\r\n"
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    folder = Folder(tmp_path_factory.mktemp("once") / "here", LEARNER, name="once", serve__max_bytes=2000)
    folder.write(mixed(300))
    folder.trained()
    folder.start("serve")
    folder.wait_ready()
    yield folder
    folder.end()


def asked(number: int, more: bytes = b"", path: bytes = b"/predict", version: bytes = b"1.1") -> bytes:
    body = b'{"id":"q%d","x":{"amount":3.0}}' % number
    if path == b"/predict/batch":
        body = b'{"instances":[%b]}' % body
    head = b"POST %b HTTP/%b\r\n%b%bContent-Length: %d\r\n\r\n" % (path, version, HEAD, more, len(body))
    return head + body


def answers(here: Folder, *sent: bytes, count: int) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """What comes back for some bytes, written one piece after another."""
    with socket.create_connection(("127.0.0.1", here.port), timeout=10) as one:
        for piece in sent:
            one.sendall(piece)
        said, found = b"", []
        while len(found) < count:
            part = one.recv(65536)
            if not part:
                break
            said += part
            while (match := ANSWER.match(said)) is not None:
                headers = dict(line.split(b": ", 1) for line in match[2].split(b"\r\n"))
                end = match.end() + int(headers[b"content-length"])
                if len(said) < end:
                    break
                found.append((int(match[1]), headers, said[match.end() : end]))
                said = said[end:]
        assert not said
        return found


def test_answers_keep_their_order_among_others(here: Folder) -> None:
    """Predictions, a look, a batch, and one that is refused, all in one write."""
    look = b"GET /health HTTP/1.1\r\n" + HEAD + b"\r\n"
    bad = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 2\r\n\r\n[]"
    sent = [asked(0), look, asked(1), asked(2), asked(3, path=b"/predict/batch"), bad, asked(4), look, asked(5)]
    found = answers(here, b"".join(sent), count=len(sent))
    codes = [code for code, _, _ in found]
    assert codes == [200, 200, 200, 200, 200, 400, 200, 200, 200]
    bodies = [json.loads(body) for _, _, body in found]
    assert [body.get("id") for body in bodies] == ["q0", None, "q1", "q2", None, None, "q4", None, "q5"]
    assert bodies[4]["predictions"][0]["id"] == "q3"


def test_what_comes_byte_by_byte_is_answered(here: Folder) -> None:
    """However it is cut."""
    whole = asked(1) + asked(2)
    found = answers(here, *(whole[at : at + 1] for at in range(len(whole))), count=2)
    assert [json.loads(body)["id"] for _, _, body in found] == ["q1", "q2"]


@pytest.mark.parametrize(
    "more", [b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"]
)
def test_it_is_answered_as_on_the_other_way(here: Folder, more: bytes) -> None:
    """The same code, headers and body as for a request that is not plain."""
    plain = answers(here, asked(7), count=1)[0]
    with socket.create_connection(("127.0.0.1", here.port), timeout=10) as one:
        one.sendall(asked(7, more))
        said = b""
        while b"}" not in said.rpartition(b"\r\n\r\n")[2]:
            said += one.recv(65536)
    match = ANSWER.search(said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert match is not None
    headers = dict(line.split(b": ", 1) for line in match[2].split(b"\r\n"))
    headers.pop(b"connection", None)
    assert plain[0] == int(match[1])
    assert {name: value for name, value in plain[1].items() if name != b"date"} == {
        name: value for name, value in headers.items() if name != b"date"
    }
    assert plain[2] == said.rpartition(b"\r\n\r\n")[2]


def test_a_body_that_is_too_large_is_refused_and_the_next_is_answered(here: Folder) -> None:
    """413 by length, and in chunks; the connection goes on."""
    large = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 5000\r\n\r\n" + b" " * 5000
    chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
    chunked = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4 + b"0\r\n\r\n"
    found = answers(here, large, asked(1), chunked, asked(2), count=4)
    assert [code for code, _, _ in found] == [413, 200, 413, 200]


def test_another_name_is_refused(here: Folder) -> None:
    """``Host`` is checked here as well."""
    body = b'{"x":{"amount":3.0}}'
    sent = b"POST /predict HTTP/1.1\r\nHost: evil.example\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    code, _, said = answers(here, sent, count=1)[0]
    assert code == 400
    assert b"serve.hosts" in said


def test_many_at_once_are_answered_in_order(here: Folder) -> None:
    """More than one turn of a peer: what is beyond waits, as many as may (MOST_PIPELINED), and the connection ends."""
    found = answers(here, b"".join(asked(number) for number in range(120)), count=120)
    assert len(found) > MOST_PIPELINED
    assert [json.loads(body)["id"] for _, _, body in found] == [f"q{number}" for number in range(len(found))]


def test_a_request_under_way_is_answered_before_it_ends(here: Folder, tmp_path: Path) -> None:
    """SIGTERM while a body comes: it is answered, and the connection is closed."""
    other = here.copy(tmp_path / "other")
    other.start("serve")
    other.wait_ready()
    whole = asked(9)
    with socket.create_connection(("127.0.0.1", other.port), timeout=10) as one:
        one.sendall(whole[:-5])
        time.sleep(0.3)
        other.processes[-1].send_signal(signal.SIGTERM)
        time.sleep(0.5)
        one.sendall(whole[-5:])
        said = b""
        while part := one.recv(65536):
            said += part
    assert said.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in said
    other.end()
