"""``POST /predict`` against a raw ASGI application that does nothing, on the same server, one process each.

16 connections, each with 8 requests on their way, from a client of one process: what is compared is the server's work.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from figures import Row, median_of
from support.lineages import Folder, wait_for
from support.samples import numbers

CONNECTIONS, AHEAD, SECONDS, ROUNDS = 16, 8, 4.0, 5
NOTHING = """
import sys, uvicorn
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
"""
LEARNERS = {
    "river": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "vw": {"kind": "vw", "args": "--loss_function logistic -b 18", "role": "champion"},
}


class Caller(asyncio.Protocol):
    """Keeps some requests on their way on one connection, and counts the answers."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answers = 0
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport
        transport.write(self.request * AHEAD)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count, and ask as often again."""
        count = data.count(b"HTTP/1.1 ")
        self.answers += count
        self.refused += count - data.count(b"HTTP/1.1 200")
        if count:
            self.transport.write(self.request * count)  # type: ignore[attr-defined]


async def _call(port: int, body: bytes) -> float:
    request = b"POST /predict HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    request %= len(body), body
    loop = asyncio.get_running_loop()
    callers = [
        (await loop.create_connection(lambda: Caller(request), "127.0.0.1", port))[1] for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(0.5)
    first, began = sum(one.answers for one in callers), time.perf_counter()
    await asyncio.sleep(SECONDS)
    rate = (sum(one.answers for one in callers) - first) / (time.perf_counter() - began)
    assert not any(one.refused for one in callers)
    for one in callers:
        one.transport.close()
    return rate


def rate(port: int, body: bytes) -> float:
    """Requests a second that a port answers."""
    return uvloop.run(_call(port, body))


@contextlib.contextmanager
def nothing(port: int) -> Iterator[None]:
    """The application that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", NOTHING, str(port)])
    try:
        wait_for(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return rate_once(port)
    return False


def rate_once(port: int) -> bool:
    """Tell whether a port takes connections."""
    import socket  # noqa: PLC0415  beside its one use

    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def rows(folder: Path) -> list[Row]:
    """Measure in turns."""
    body = b'{"id":"q1","x":{"f0":0.31,"f1":-1.2,"f2":0.5,"f3":1.9,"f4":-0.2,"f5":0.7,"f6":0.1,"f7":-2.2}}'
    found = []
    for name, learner in LEARNERS.items():
        here = Folder(folder / f"serving-{name}", {name: learner})
        try:
            here.write(numbers(5000))
            here.trained()
            here.start("serve")
            here.wait_ready()
            with nothing(here.port + 1):
                pairs = [(rate(here.port, body), rate(here.port + 1, body)) for _ in range(ROUNDS)]
        finally:
            here.end()
        ratio, low, high = median_of([ours / theirs for ours, theirs in pairs])
        detail = f"{max(o for o, _ in pairs):,.0f} / {max(t for _, t in pairs):,.0f} requests/s"
        found.append(Row(f"/predict ({name}) / an ASGI no-op", detail, ratio, low, high, 0.6, at_least=True))
    return found
