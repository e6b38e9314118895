"""The log of predictions over a real broker, also while it is away; and the loop of two topics."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from support.broker import Broker
from support.lineages import Folder, wait_for
from support.samples import numbers
from support.topics import create, put, read_all

pytestmark = pytest.mark.kafka
AWAY = 3000


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that may be stopped."""
    broker = Broker(tmp_path / "broker").start()
    yield broker
    broker.stop(signal.SIGKILL)


def logged(address: str, topic: str) -> list[str]:
    """The ids in the log."""
    return [orjson.loads(message.value())["id"] for message in read_all(address, topic)]


@pytest.mark.timeout(300)
def test_a_broker_that_is_away_costs_no_answer_and_no_record(folder: Callable[..., Folder], own_broker: Broker) -> None:
    """Promise 4: requests are answered, what is logged waits on disk, and each record is in the log once afterwards."""
    address = own_broker.address
    for topic in ("asked", "told", "whole"):
        create(address, topic)
    put(address, "whole", [orjson.dumps(event) for event in numbers(400)])
    here = folder(
        source__kind="kafka", source__topics=["whole"], source__kafka={"bootstrap.servers": address},
        predictions__topic="asked", labels__topics=["told"], join__wait="1h",
    )  # fmt: skip
    (here.path / "labels-token").write_text("say")
    here.start("up")
    here.wait_ready()
    x = numbers(1)[0]["x"]
    with here.http() as client:
        before = [client.post("/predict", json={"id": f"before{n}", "x": x}).json()["id"] for n in range(100)]
        own_broker.stop(signal.SIGKILL)
        answers = [client.post("/predict", json={"id": f"away{n}", "x": x}) for n in range(AWAY)]
        assert {answer.status_code for answer in answers} == {200}
        wait_for(lambda: any(one["predictions"]["spooled"] for one in here.status()["serving"]), 30)
        answers += [client.post("/predict", json={"id": f"more{n}", "x": x}) for n in range(500)]
        own_broker.start()
        expected = {*before, *(answer.json()["id"] for answer in answers)}
        wait_for(lambda: len(logged(address, "asked")) >= len(expected), 90)
        found = logged(address, "asked")
        assert len(found) == len(set(found)), "each once"
        assert set(found) == expected
        token = {"Authorization": "Bearer say"}
        told = [{"id": identity, "y": 1} for identity in sorted(expected)[:50]]
        assert client.post("/labels", json=told, headers=token).status_code == 202
    wait_for(lambda: (here.status()["labels"] or {}).get("joined") == 50, 60)
    [serving] = here.status()["serving"]
    assert serving["predictions"] == {"logged": len(expected), "spooled": 0, "left_out": {}}


@pytest.mark.timeout(300)
def test_what_an_ended_process_left_in_the_spool_is_sent_by_the_next(
    folder: Callable[..., Folder], own_broker: Broker
) -> None:
    """The spool outlives the process; so does what was on its way when it was asked to end."""
    address = own_broker.address
    for topic in ("asked", "told"):
        create(address, topic)
    here = folder(predictions__topic="asked", labels__topics=["told"], source__kafka={"bootstrap.servers": address})
    here.write(numbers(400))
    running = here.start("up")
    here.wait_ready()
    x = numbers(1)[0]["x"]
    with here.http() as client:
        client.post("/predict", json={"id": "first", "x": x})
        wait_for(lambda: "first" in logged(address, "asked"))
        own_broker.stop(signal.SIGKILL)
        for number in range(1500):
            client.post("/predict", json={"id": f"n{number}", "x": x})
        wait_for(lambda: any(one["predictions"]["spooled"] for one in here.status()["serving"]), 30)
    running.terminate()
    running.wait(60)
    own_broker.start()
    here.start("up")
    here.wait_ready()
    expected = {"first", *(f"n{number}" for number in range(1500))}
    with contextlib.suppress(AssertionError):
        wait_for(lambda: set(logged(address, "asked")) == expected, 40)
    assert expected - set(logged(address, "asked")) == set()
