"""A flood of what is malformed: nothing crashes, nothing is answered 5xx, memory stays flat.

``HOLDFAST_TEST_FLOOD`` says how much (100,000 events, a tenth as many requests; ``make soak``: 10^6 of each).
"""

import os
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson
import pytest
from support.killed import LEARNERS
from support.lineages import TOKEN, Folder, accounted, wait_for
from support.samples import mixed, numbers

from stream.process.presence import resident_bytes

EVENTS = int(os.environ.get("HOLDFAST_TEST_FLOOD", "40000"))
REQUESTS = EVENTS if EVENTS >= 10**6 else EVENTS // 10


def mangled(draw: random.Random, rows: list[bytes]) -> bytes:
    """A good event with something wrong: bytes flipped, cut, doubled, nested, or nothing of it left."""
    row = bytearray(draw.choice(rows))
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(row) or 1)
        kind = draw.randrange(6)
        if kind == 0 and row:
            row[at] = draw.randrange(256)
        elif kind == 1:
            del row[at:]
        elif kind == 2:
            row[at:at] = draw.choice([b'"_label":1,', b"{", b"NaN", b"[", b'\\ud800"', b"1e999", b'"x":', b"\xff"])
        elif kind == 3:
            row += row[:at]
        elif kind == 4:
            row[at:at] = b'{"a":' * draw.randrange(1, 60)
        else:
            row = bytearray(draw.randbytes(draw.randrange(40)))
    return bytes(row).replace(b"\n", b" ") or b"?"


@pytest.mark.timeout(7200)
def test_malformed_events_stop_nothing(folder: Callable[..., Folder]) -> None:
    """Each is a dead letter, or by chance a good event; the equation holds and memory does not grow with them."""
    draw = random.Random(6)
    rows = [orjson.dumps(event) for event in mixed(200)]
    here = folder(learners=LEARNERS | {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}},
                  event__max_refused_share=1.0)  # fmt: skip
    here.write(numbers(500))
    process = here.start("train")
    sizes = []
    written = 500
    for _ in range(10):
        written += here.write([line for _ in range(EVENTS // 10) if (line := mangled(draw, rows)).strip()])
        wait_for(lambda n=written: here.lineage.numbers and here.learner()["events"]["consumed"] >= n - 200, 600)
        sizes.append(resident_bytes(process.pid))
    process.terminate()
    assert process.wait(30) == 0
    counts = here.learner()["events"]
    assert accounted(counts)
    assert counts["dead_lettered"] > EVENTS * 0.8
    assert here.lineage.epochs[-1].number == 1  # it never died
    assert sizes[-1] < sizes[1] * 1.1 + 10_000_000, sizes


@pytest.mark.timeout(7200)
def test_malformed_requests_get_4xx(folder: Callable[..., Folder]) -> None:
    """Every one of them, from 8 callers at once; then a good one is answered, and memory is as it was."""
    rows = [orjson.dumps({"id": event["id"], "x": event["x"]}) for event in mixed(200)]
    here = folder(learners={"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}})
    here.write(mixed(500))
    here.trained()
    (here.path / "events-token").write_text(TOKEN)
    process = here.start("serve")
    here.wait_ready()

    def flood(seed: int) -> set[int]:
        draw = random.Random(seed)
        codes = set()
        with here.http() as client:
            for _ in range(REQUESTS // 80):
                body = mangled(draw, rows)
                path = draw.choice(["/predict", "/predict", "/predict/batch", "/events", "/revert"])
                body = b'{"instances":[' + body + b"]}" if path == "/predict/batch" else body
                headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
                codes.add(client.post(path, content=body, headers=headers).status_code)
        return codes

    sizes = []
    for part in range(10):
        with ThreadPoolExecutor(8) as pool:
            codes = set().union(*pool.map(flood, range(part * 8, part * 8 + 8)))
        assert codes <= {200, 202, 400, 409, 413, 422}
        sizes.append(resident_bytes(process.pid))
    assert sizes[-1] < sizes[1] * 1.1 + 10_000_000, sizes
    with here.http() as client:
        assert client.post("/predict", json={"x": {"amount": 1.0}}).status_code == 200
    assert process.poll() is None


def test_garbage_on_the_port_is_not_a_crash(folder: Callable[..., Folder]) -> None:
    """What is not HTTP at all."""
    here = folder()
    here.write(numbers(200))
    here.trained()
    here.start("serve")
    here.wait_ready()
    draw = random.Random(2)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", here.port)) as one:
            one.sendall(draw.randbytes(draw.randrange(1, 4000)))
    with httpx.Client() as client:
        assert client.get(f"http://127.0.0.1:{here.port}/health").status_code == 200
