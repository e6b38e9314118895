"""A roll-out through a real broker, with four serving processes: they agree, and what dies changes nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import pytest
from confluent_kafka import Producer
from support.lineages import Folder, wait_for
from support.rollouts import FAST, TWO
from support.samples import numbers

from stream.rollout.routing import position_of


@contextmanager
def feeding(kafka: str, topic: str) -> Iterator[None]:
    """Send events without end."""
    producer, stop = Producer({"bootstrap.servers": kafka}), threading.Event()

    def feed() -> None:
        first = 0
        while not stop.is_set():
            for event in numbers(2000 if first == 0 else 50, first=first):
                producer.produce(topic, orjson.dumps({**event, "ts": time.time()}))
                first += 1
            producer.flush(10)
            time.sleep(0.05)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def routes(here: Folder, users: int) -> dict[str, str]:
    """Who answers each user, each asked over a connection of its own, so that any process may answer."""
    x, found = numbers(1)[0]["x"], {}
    for number in range(users):
        answer = httpx.post(f"http://127.0.0.1:{here.port}/predict", json={"id": f"u{number}", "x": x}, timeout=10)
        assert answer.status_code == 200
        found[f"u{number}"] = answer.json()["route"]
    return found


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_four_processes_agree_and_a_ramp_outlives_its_processes(
    folder: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """Soon after a step every process follows it; killed trainer and serving change no step and no route."""
    source = {"source__kind": "kafka", "source__topics": [topic], "source__kafka": {"bootstrap.servers": kafka}}
    here = folder(learners=TWO, **FAST, serve__workers=4, **source)
    with feeding(kafka, topic):
        here.start("up")
        here.wait_ready()
        wait_for(lambda: here.lineage.serving("quick") is not None)
        here.run("rollout", "start", "quick")
        here.run("rollout", "pause")
        salt = bytes.fromhex(here.lineage.decided.of_rollout[0].salt)
        for share in (25, 60):
            here.run("rollout", "step", str(share))
            found = wait_for(lambda share=share: _as_the_hash_says(routes(here, 120), salt, share), 20)
        before = here.lineage.decided.rollout
        words = here.status()["serving"][:2]
        for word in words:
            os.kill(word["pid"], signal.SIGKILL)
        for word in _words(here, "trainer"):
            os.kill(word["pid"], signal.SIGKILL)
        wait_for(lambda: len({one["pid"] for one in here.status()["serving"]} - {one["pid"] for one in words}) == 4, 60)
        consumed = here.status()["learners"]["quick"]["events"]["consumed"]
        assert routes(here, 120) == found
        assert here.lineage.decided.rollout == before
        wait_for(lambda: here.status()["learners"]["quick"]["events"]["consumed"] > consumed, 60)
        here.run("rollout", "resume")
        wait_for(lambda: routes(here, 60) and here.lineage.champion() == "quick", 90)
    state = here.json("rollout", "status")
    assert (state["state"], state["candidate"], state["share"]) == ("champion", "quick", 100)


def _as_the_hash_says(found: dict[str, str], salt: bytes, share: int) -> dict[str, str]:
    """The routes, or nothing while some process has not read of the step yet."""
    inside = {user for user, route in found.items() if route == "quick"}
    return found if inside == {user for user in found if position_of(user, salt) < share} else {}


def _words(here: Folder, role: str) -> list[dict[str, Any]]:
    from stream.process.presence import present

    return [one for one in present(here.lineage.store, time.time()) if one["role"] == role]
