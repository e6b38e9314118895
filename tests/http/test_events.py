"""POST /events: accepted only when durable; the caller hears what is wrong; several processes on one port."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from support.broker import Broker
from support.lineages import Folder, accounted, wait_for
from support.samples import mixed, numbers

from stream.errors import SourceAwayError
from stream.sink.intake import FilesIntake

BOTH = {
    "linear": {"kind": "river", "factory": "model:mixed", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}
TOKEN = {"Authorization": "Bearer let-me-in"}


@pytest.fixture
def serving(folder: Callable[..., Folder]) -> Callable[..., Folder]:
    """A lineage that has learnt a little, and serves."""

    def build(**settings: Any) -> Folder:
        here = folder(learners=BOTH, **settings)
        (here.path / "events-token").write_text("let-me-in")
        here.write(mixed(500))
        here.trained()
        here.start("serve")
        here.wait_ready()
        return here

    return build


def test_an_event_that_is_taken_is_learnt(serving: Callable[..., Folder]) -> None:
    """202 with where it is; the trainer finds it there, once."""
    here = serving()
    with here.http() as client:
        answers = [client.post("/events", json=event, headers=TOKEN) for event in numbers(50)]
        pretty = orjson.dumps(numbers(1, first=50)[0], option=orjson.OPT_INDENT_2)
        answers.append(client.post("/events", content=pretty, headers=TOKEN))
    assert {answer.status_code for answer in answers} == {202}
    assert answers[0].json() == {"topic": "events", "partition": "http-0.jsonl", "offset": 0}
    lines = (here.events / "http-0.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == [f"e{i}" for i in range(51)]
    here.train()
    counts = here.learner()["events"]
    assert (counts["consumed"], counts["learnt"], counts["dead_lettered"]) == (551, 551, 0)


def test_a_bad_event_is_the_callers_to_mend(serving: Callable[..., Folder]) -> None:
    """4xx with field and reason, nothing written; and the two tokens open two doors."""
    here = serving()
    bad = [
        (b"nope", 400, "not_json"),
        (b"[]", 400, "not_an_object"),
        (b'{"x":{}}', 422, "no_id"),
        (b'{"id":"a","x":{"f":1e39},"y":1}', 422, "bad_number"),
        (b'{"id":"a","x":{},"y":"maybe"}', 422, "unknown_label"),
    ]
    with here.http() as client:
        for body, code, reason in bad:
            answer = client.post("/events", content=body, headers=TOKEN)
            assert (answer.status_code, answer.json()["reason"]) == (code, reason)
        large = client.post("/events", content=b" " * 2_000_000, headers=TOKEN)
        assert large.status_code == 413
        event = numbers(1)[0]
        assert client.post("/events", json=event).status_code == 401
        assert client.post("/events", json=event, headers={"Authorization": "Bearer open-sesame"}).status_code == 401
        assert client.post("/revert", json={}, headers=TOKEN).status_code == 401
    assert not (here.events / "http-0.jsonl").exists()


def test_a_torn_last_line_is_ended_before_the_next(serving: Callable[..., Folder]) -> None:
    """What a crash cut off was never acknowledged: it becomes a dead letter, and the next event is whole."""
    here = serving()
    (here.events / "http-0.jsonl").write_bytes(b'{"id": "torn", "x": {"f0"')
    with here.http() as client:
        assert client.post("/events", json=numbers(1)[0], headers=TOKEN).status_code == 202
    here.train()
    counts = here.learner()["events"]
    assert (counts["learnt"], counts["dead_lettered"]) == (501, 1)


def test_a_disk_that_cannot_be_written_is_503(serving: Callable[..., Folder]) -> None:
    """And when it can be again, the next event is taken."""
    here = serving()
    here.events.rename(here.path / "elsewhere")
    here.events.write_bytes(b"in the way")
    with here.http() as client:
        answer = client.post("/events", json=numbers(1)[0], headers=TOKEN)
        assert answer.status_code == 503
        assert "cannot be written" in answer.json()["detail"]
        here.events.unlink()
        (here.path / "elsewhere").rename(here.events)
        assert client.post("/events", json=numbers(1)[0], headers=TOKEN).status_code == 202


def test_a_disk_that_takes_only_part_of_an_event_is_not_taken_for_durable(tmp_path: Path) -> None:
    """A short write is no error to the system; the caller hears 503, and the torn line is ended before the next."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    intake = FilesIntake(tmp_path)
    try:
        assert intake.append(b'{"id": 1}', "1").result(10)["offset"] == 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
        with pytest.raises(SourceAwayError, match="cannot be written"):
            intake.append(b'{"id": "longer than what is left"}', "2").result(10)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        intake.append(b'{"id": 3}', "3").result(10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        intake.close()
    lines = (tmp_path / "http-0.jsonl").read_bytes().splitlines()
    assert (lines[0], lines[-1]) == (b'{"id": 1}', b'{"id": 3}')
    assert len(lines) == 3


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_file_that_is_taken_away_is_begun_anew(tmp_path: Path, how: str) -> None:
    """What is acknowledged lies where the trainer reads."""
    events = tmp_path / "events"
    intake = FilesIntake(events)
    path = events / "http-0.jsonl"
    try:
        intake.append(b'{"id": 1}', "1").result(10)
        if how == "moved":
            path.rename(tmp_path / "elsewhere")
        elif how == "removed":
            path.unlink()
        else:
            path.rename(tmp_path / "elsewhere")
            path.write_bytes(b'{"id": 2}\n')
        intake.append(b'{"id": 3}', "3").result(10)
        assert path.read_bytes().splitlines()[-1] == b'{"id": 3}'
    finally:
        intake.close()


def test_a_class_too_many_is_refused_as_the_trainer_would(folder: Callable[..., Folder]) -> None:
    """The classes are numbered as the snapshot has them; and a call without a token is counted."""
    here = folder(
        learners={"bayes": {"kind": "river", "factory": "model:bayes", "role": "champion"}},
        task="multiclass", event__max_labels=3,
    )  # fmt: skip
    (here.path / "events-token").write_text("let-me-in")
    here.write([{**event, "y": "abc"[i % 3]} for i, event in enumerate(numbers(300))])
    here.trained()
    here.start("serve")
    here.wait_ready()
    event = numbers(301)[-1]
    with here.http() as client:
        assert client.post("/events", json={**event, "y": "a"}, headers=TOKEN).status_code == 202
        answer = client.post("/events", json={**event, "id": "another", "y": "d"}, headers=TOKEN)
        assert (answer.status_code, answer.json()["reason"]) == (422, "unknown_label")
        assert client.post("/events", json=event).status_code == 401
        assert 'holdfast_requests_total{code="401"} 1.0' in client.get("/metrics").text


def test_a_broker_setting_that_does_not_exist_is_said(folder: Callable[..., Folder]) -> None:
    """By name, with exit code 2 from the trainer and 503 from the door for events."""
    here = folder(
        learners=BOTH, source__kind="kafka", source__topics=["t"],
        source__kafka={"bootstrap.servers": "127.0.0.1:1", "fetch.max.byte": 1},
    )  # fmt: skip
    (here.path / "events-token").write_text("let-me-in")
    done = here.run("train", code=2)
    assert "[source.kafka]" in done.stderr
    assert "fetch.max.byte" in done.stderr
    assert "Traceback" not in done.stderr
    here.start("serve")
    with here.http() as client:
        wait_for(lambda: _alive(client))
        answer = client.post("/events", json=numbers(1)[0], headers=TOKEN)
        assert answer.status_code == 503
        assert "fetch.max.byte" in answer.json()["detail"]


def test_workers_that_cannot_start_end_the_command(folder: Callable[..., Folder]) -> None:
    """With their last words, and without starting them again and again."""
    here = folder(learners=BOTH, serve__workers=2, event__decoder="nowhere:x")
    done = here.run("serve", code=2, timeout=60)
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_caller_who_stops_waiting_holds_up_nobody(tmp_path: Path) -> None:
    """What becomes of his event is found out all the same, and the next one is taken."""
    intake = FilesIntake(tmp_path)
    try:
        assert not intake.append(b"{}", "a").cancel()
        assert intake.append(b"{}", "b").result(10)["offset"] == 3
    finally:
        intake.close()


@pytest.mark.kafka
def test_events_go_to_the_topic_and_a_broker_that_is_away_is_503(
    folder: Callable[..., Folder], tmp_path: Path, topic: str
) -> None:
    """202 only after its acknowledgement."""
    broker = Broker(tmp_path / "own").start()
    try:
        here = folder(
            learners=BOTH, source__kind="kafka", source__topics=[topic], serve__events_seconds=2.0,
            source__kafka={"bootstrap.servers": broker.address},
        )  # fmt: skip
        (here.path / "events-token").write_text("let-me-in")
        here.start("serve")
        with here.http() as client:
            wait_for(lambda: _alive(client))
            answer = client.post("/events", json=numbers(1)[0], headers=TOKEN)
            assert answer.status_code == 202, answer.text
            assert answer.json() == {"topic": topic, "partition": 0, "offset": 0}
            here.train()
            assert here.learner()["events"]["learnt"] == 1
            broker.stop(signal.SIGKILL)
            for _ in range(3):  # each caller stops waiting at about the moment at which the library gives up
                assert client.post("/events", json=numbers(2)[1], headers=TOKEN).status_code == 503
            broker.start()
            wait_for(lambda: client.post("/events", json=numbers(2)[1], headers=TOKEN).status_code == 202, 30)
        here.end()
    finally:
        broker.stop()


def _alive(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/health").status_code == 200
    return False


def test_several_processes_share_a_port_and_their_counts(serving: Callable[..., Folder]) -> None:
    """All answer from the same snapshot; metrics are of all together; one that is killed is replaced; a file each."""
    here = serving(serve__workers=3)
    wait_for(lambda: len(here.status()["serving"]) == 3)
    asked = 120

    def ask(number: int) -> int:
        with here.http() as client:
            return client.post("/predict", json={"id": number, "x": {"amount": 3.0}}).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(asked))) == {200}
    with here.http() as client:
        text = client.get("/metrics").text
    assert f'holdfast_requests_total{{code="200"}} {asked}.0' in text
    process = here.status()["serving"][0]["pid"]
    os.kill(process, signal.SIGKILL)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: _asked(here, n), range(200)))
    assert answers.count(200) >= 200 - 16  # at most those that were being answered there
    wait_for(lambda: process not in (pids := [one["pid"] for one in here.status()["serving"]]) and len(pids) == 3, 30)

    def send(event: dict[str, Any]) -> int:
        with here.http() as client:
            return client.post("/events", json=event, headers=TOKEN).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, numbers(100))) == {202}
    files = sorted(path.name for path in here.events.glob("http-*.jsonl"))
    assert set(files) <= {"http-0.jsonl", "http-1.jsonl", "http-2.jsonl"}
    here.train()
    assert here.learner()["events"]["consumed"] == 600
    assert accounted(here.learner()["events"])


def _asked(here: Folder, number: int) -> int:
    try:
        with here.http() as client:
            return client.post("/predict", json={"id": number, "x": {"amount": 3.0}}).status_code
    except httpx.TransportError:
        return 0


def test_requests_are_answered_while_a_caller_sends_a_byte_a_second(serving: Callable[..., Folder]) -> None:
    """A slow body holds up its own request alone."""
    here = serving()
    done = threading.Event()

    def slowly() -> None:
        with socket.create_connection(("127.0.0.1", here.port)) as one:
            one.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n")
            for byte in b'{"x":{}}':
                one.sendall(bytes([byte]))
                time.sleep(0.2)
            assert one.recv(15) == b"HTTP/1.1 200 OK"
            done.set()

    thread = threading.Thread(target=slowly)
    thread.start()
    assert all(_asked(here, n) == 200 for n in range(50))
    thread.join(10)
    assert done.is_set()
