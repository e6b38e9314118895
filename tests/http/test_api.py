"""The HTTP door, with real processes: serving while snapshots arrive, reverts, and every kind of bad body."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import orjson
import pytest
from support.lineages import TOKEN, Folder, accounted, wait_for
from support.samples import mixed, numbers

CHAMPION = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}
BOTH = CHAMPION | {"hashed": {"kind": "vw", "args": "--loss_function logistic"}}
AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A lineage that has learnt and is served by one process."""
    here = Folder(tmp_path_factory.mktemp("served") / "here", BOTH, name="served")
    here.write(mixed(1500))
    here.trained()
    here.write(mixed(1500, seed=2))
    here.trained()
    here.start("serve")
    here.wait_ready()
    yield here
    here.end()


def test_a_prediction_names_learner_and_snapshot(served: Folder) -> None:
    """With the id that was asked, the decision and its probability."""
    with served.http() as client:
        answer = client.post("/predict", json={"id": "q1", "x": {"amount": 200.0, "country": "de"}}).json()
        assert set(answer) == {"id", "prediction", "probability", "learner", "snapshot", "route", "propensity"}
        assert (answer["id"], answer["learner"]) == ("q1", "linear")
        assert answer["snapshot"] == served.status()["learners"]["linear"]["serving"]
        assert answer["prediction"] is (answer["probability"] > 0.5)
        assert client.post("/predict", json={"x": {}}).json()["id"] is None


def test_a_batch_answers_as_single_requests_do(served: Folder) -> None:
    """In order; all or none."""
    rows = [{"id": i, "x": event["x"]} for i, event in enumerate(mixed(20, seed=9))]
    with served.http() as client:
        together = client.post("/predict/batch", json={"instances": rows}).json()["predictions"]
        assert together == [client.post("/predict", json=row).json() for row in rows]
        refused = client.post("/predict/batch", json={"instances": [rows[0], {"x": {"_a": 1}}]})
        assert (refused.status_code, refused.json()["field"]) == (422, "instances[1].x._a")


BODIES: list[tuple[bytes, int, str, str]] = [
    (b"", 400, "", "not_json"),
    (b"nope", 400, "", "not_json"),
    (b"\xff\xfe", 400, "", "not_json"),
    (b'{"x":{"a":"\xff"}}', 422, "x", "not_json"),
    (b"[]", 400, "", "not_an_object"),
    (b'"text"', 400, "", "not_an_object"),
    (b"{}", 422, "x", "no_features"),
    (b'{"x":null}', 422, "x", "no_features"),
    (b'{"x":[1,2]}', 422, "x", "wrong_type"),
    (b'{"x":{"a":[1]}}', 422, "x.a", "wrong_type"),
    (b'{"id":{},"x":{}}', 422, "id", "wrong_type"),
    (b'{"x":{"a":NaN}}', 422, "x.a", "bad_number"),
    (b'{"x":{"a":1e400}}', 422, "x.a", "bad_number"),
    (b'{"x":{"a":{"b":{"c":1}}}}', 422, "x.a.b", "too_deep"),
    (b'{"x":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, 422, "", "too_deep"),
    (b'{"x":{"_label":1}}', 422, "x._label", "reserved_name"),
    (b'{"x":{"a":1,"a":2}}', 422, "x.a", "duplicate_name"),
    (b'{"x":{"a":"' + b"a" * 1_100_000 + b'"}}', 413, "", "too_large"),
]


@pytest.mark.parametrize(("body", "code", "field", "reason"), BODIES)
def test_bad_bodies_get_a_field_and_a_reason(served: Folder, body: bytes, code: int, field: str, reason: str) -> None:
    """4xx, never 5xx, never a stack trace."""
    with served.http() as client:
        answer = client.post("/predict", content=body)
    if reason == "not_json" and field == "x":
        code = 400
    found = answer.json()
    assert (answer.status_code, found["field"], found["reason"]) == (code, field, reason)
    assert found["detail"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"instances":1}', b'{"instances":[1]}', b'{"instances":[{"x":1}]}']
)
def test_bad_batches_are_refused(served: Folder, body: bytes) -> None:
    """The same way."""
    with served.http() as client:
        assert client.post("/predict/batch", content=body).status_code in (400, 422)


def test_garbage_never_gets_a_5xx(served: Folder) -> None:
    """Two thousand mutated bodies."""
    import random

    draw = random.Random(4)
    good = b'{"id":"a","x":{"amount":12.5,"country":"de","user":{"age":31}}}'
    with served.http() as client:
        for _ in range(2000):
            body = bytearray(good)
            for _ in range(draw.randint(1, 5)):
                at = draw.randrange(len(body))
                body[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
            assert client.post("/predict", content=bytes(body)).status_code < 500


def test_features_that_the_learner_cannot_take_are_the_callers_fault(folder: Any) -> None:
    """A text where a scaler wants a number: 422 with the reason, and the next request is answered."""
    here: Folder = folder()
    here.write(numbers(300))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        refused = client.post("/predict", json={"x": {"f0": "text"}})
        assert (refused.status_code, refused.json()["reason"]) == (422, "learner_refused")
        assert client.post("/predict", json={"x": {"f0": 1}}).status_code == 200


def test_openapi_and_docs_know_every_endpoint(served: Folder) -> None:
    """With the shape of a question."""
    with served.http() as client:
        assert client.get("/docs").status_code == 200
        paths = client.get("/openapi.json").json()["paths"]
    wanted = {
        "/predict",
        "/predict/batch",
        "/status",
        "/snapshots",
        "/ledger",
        "/health",
        "/ready",
        "/metrics",
        "/revert",
    }
    assert wanted <= set(paths)
    assert "x" in str(paths["/predict"]["post"]["requestBody"])


def test_looking_through_http_is_looking_through_the_command(served: Folder) -> None:
    """Status, snapshots and ledger are the same."""
    with served.http() as client:
        assert client.get("/health").json() == {"status": "alive"}
        assert client.get("/status").json()["learners"] == served.status()["learners"]
        assert client.get("/snapshots").json() == served.json("snapshots", "list")
        assert client.get("/ledger").json() == served.json("ledger")
        assert client.get("/ready").json()["snapshot_age_seconds"] > 0
        process = client.get("/status").json()["serving"][0]
    assert process["port"] == served.port
    assert process["snapshot"] == served.learner()["serving"]


def test_metrics_are_prometheus_text_with_the_equation(served: Folder) -> None:
    """Promise 2 as a metric."""
    from prometheus_client.parser import text_string_to_metric_families

    with served.http() as client:
        client.post("/predict", json={"x": {}})
        families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    differences = families["holdfast_accounting_difference"].samples
    assert {sample.labels["learner"] for sample in differences} == {"linear", "hashed"}
    assert all(sample.value == 0 for sample in differences)
    assert families["holdfast_consumed"].samples[0].value == 3000
    assert families["holdfast_requests"].samples[0].value > 0
    assert families["holdfast_request_duration_seconds"].samples


def test_changes_need_the_token(served: Folder) -> None:
    """Wrong, absent, of another scheme; and nothing was changed."""
    with served.http() as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": ""},
        ):
            assert client.post("/revert", json={}, headers=headers).status_code == 401
        assert client.get("/ledger").json() == []
        bad = client.post("/revert", json={"snapshot": "x"}, headers=AUTH)
        assert bad.status_code == 422
        missing = client.post("/revert", json={"snapshot": 999}, headers=AUTH)
        assert (missing.status_code, client.get("/ledger").json()) == (409, [])


def test_a_revert_by_plain_curl(served: Folder) -> None:
    """The body is JSON whatever its header says, and may be left out; what does not belong there is named."""
    target = served.learner()["serving"]
    here = served.copy(served.path.parent / "curl")
    here.start("serve")
    here.wait_ready()
    form = AUTH | {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        with here.http() as client:
            wrong = client.post("/revert", content=b'{"to": 1}', headers=form)
            assert (wrong.status_code, wrong.json()["field"]) == (422, "to")
            assert client.post("/revert", headers=AUTH).json()["snapshot"] < target
            entry = client.post("/revert", content=b'{"snapshot": %d, "why": "a form"}' % target, headers=form)
            assert (entry.status_code, entry.json()["why"]) == (200, "a form")
    finally:
        here.end()


def test_without_a_token_file_changes_are_off(folder: Any) -> None:
    """And it says which setting turns them on."""
    here: Folder = folder()
    (here.path / "token").unlink()
    here.write(numbers(100))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        answer = client.post("/revert", json={}, headers=AUTH)
    assert answer.status_code == 403
    assert "token_file" in answer.json()["detail"]


def test_before_the_first_pass_it_says_why(folder: Any) -> None:
    """Promise 3: 503, with the reason, for each thing that is still missing."""
    here: Folder = folder()
    here.start("serve")

    def answered() -> httpx.Response | None:
        try:
            with here.http() as client:
                return client.post("/predict", json={"x": {}})
        except httpx.TransportError:
            return None

    assert wait_for(answered).status_code == 503
    assert "holdfast train" in wait_for(answered).json()["detail"]
    here.write(numbers(100))
    here.train()
    wait_for(lambda: "not judged yet" in answered().json()["detail"])  # type: ignore[union-attr]
    with here.http() as client:
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
    here.run("guard", "--once")
    wait_for(lambda: answered().status_code == 200)  # type: ignore[union-attr]


def test_requests_are_answered_with_everything_else_gone(folder: Any) -> None:
    """Promise 4: no trainer, no source, no store; readiness says how old the answer is."""
    here: Folder = folder()
    here.write(numbers(200))
    here.trained()
    here.start("serve")
    here.wait_ready()
    for name in ("store", "events"):
        (here.path / name).rename(here.path / f"{name}.gone")
    time.sleep(0.5)
    with here.http() as client:
        assert all(client.post("/predict", json={"x": {"f0": i}}).status_code == 200 for i in range(100))
        wait_for(lambda: "store" in client.get("/ready").json())
        word = client.get("/ready").json()
        assert (word["ready"], word["learning"], word["learning_why"]) == (True, "unknown", "the store cannot be read")
        assert "why" not in word
        assert client.get("/metrics").status_code == 200


def test_predicting_changes_nothing(folder: Any) -> None:
    """Promise 5 end to end: later learning is the same whether or not a thousand predictions were made."""
    states = []
    for name, ask in (("asked", True), ("left", False)):
        here: Folder = folder(name, BOTH)
        here.write(mixed(400))
        here.trained()
        if ask:
            here.start("serve")
            here.wait_ready()
            with here.http() as client:
                for event in mixed(1000, seed=5):
                    client.post("/predict", json={"x": event["x"]})
        here.write(mixed(400, seed=2))
        here.train()
        states.append((here.state("linear"), here.state("hashed"), here.learner()["metrics"]))
    assert states[0] == states[1]


class Callers:
    """Sixteen callers at full speed; remembers every answer's snapshot and every failure."""

    def __init__(self, here: Folder) -> None:
        self.failed: list[str] = []
        self.snapshots: list[int] = []
        self.count = 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(here.port,)) for _ in range(16)]

    def _call(self, port: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            while not self._end.is_set():
                try:
                    answer = client.post("/predict", json={"x": {"f0": 1.0, "f1": -1.0}})
                    self.count += 1
                    if answer.status_code != 200:
                        self.failed.append(answer.text)
                    else:
                        self.snapshots.append(answer.json()["snapshot"])
                except httpx.HTTPError as cause:
                    self.failed.append(repr(cause))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def _feed(here: Folder, end: threading.Event) -> None:
    first = 10_000
    while not end.wait(0.05):
        here.write(numbers(20, first=first), "live.jsonl")
        first += 20


def test_no_request_fails_while_snapshots_arrive_and_a_revert_happens(folder: Any) -> None:
    """Promise 8: sixteen callers at full speed, a snapshot every 0.2 s, a revert by command and one by HTTP."""
    here: Folder = folder()
    here.write(numbers(1000))
    for role in ("train", "guard", "serve"):
        here.start(role)
    here.wait_ready()
    end = threading.Event()
    feeder = threading.Thread(target=_feed, args=(here, end))
    feeder.start()
    try:
        with Callers(here) as callers:
            wait_for(lambda: len(set(callers.snapshots)) >= 5)
            target = sorted(set(callers.snapshots))[1]
            said = here.run("snapshots", "revert", str(target), "--why", "a drill")
            assert "answers from snapshot" in said.stdout
            before = len(callers.snapshots)
            wait_for(lambda: len(set(callers.snapshots[before:])) >= 5)
            with here.http() as client:
                answer = client.post("/revert", json={"why": "once more"}, headers=AUTH)
            assert answer.status_code == 200, answer.text
            wait_for(
                lambda: here.learner()["line"] == 2 and here.lineage.part(here.lineage.numbers[-1], "linear").line == 2
            )  # type: ignore[union-attr]
            time.sleep(0.5)
    finally:
        end.set()
        feeder.join()
    print(f"{callers.count} requests, {len(set(callers.snapshots))} snapshots, {len(callers.failed)} failed")
    assert callers.failed == []
    assert callers.count > 500
    here.end()
    assert accounted(here.learner()["events"])


def test_the_log_holds_no_secret(served: Folder) -> None:
    """Neither the token nor the holdout key."""
    text = "".join(path.read_text() for path in Path(served.path).glob("*.log"))
    assert TOKEN not in text
    key = orjson.loads((served.path / "store" / "lineage.json").read_bytes())["key"]
    assert key not in text


@pytest.mark.parametrize("identity", ["123456789012345678901234567890", "-9223372036854775809", "18446744073709551615"])
def test_any_whole_number_is_an_id(served: Folder, identity: str) -> None:
    """Also one that no 64 bits hold: it comes back, as text."""
    with served.http() as client:
        one = client.post("/predict", content=f'{{"id":{identity},"x":{{}}}}')
        many = client.post(
            "/predict/batch", content=f'{{"instances":[{{"id":{identity},"x":{{}}}}],"parameters":{{}}}}'
        )
    assert one.status_code == many.status_code == 200
    assert str(one.json()["id"]) == identity
    assert many.json()["predictions"] == [one.json()]


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"snapshot":%s}' % one for one in (b"1e400", b"1e308", b"1e12", b"9" * 300, b"9" * 5000, b"-1", b"NaN")),
        b'{"why":%s}' % (b"9" * 5000), b'{"stay":1e308}',
        b'{"why":"\\ud800"}', b'{"learner":"\\ud800"}', b"[]", b"nope", b'{"n":1}', b" ", b"null",
    ],
    ids=lambda body: body[:16],
)  # fmt: skip
def test_odd_reverts_are_refused_and_change_nothing(served: Folder, body: bytes) -> None:
    """4xx with the field and the reason, never 5xx."""
    with served.http() as client:
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
            answer = client.post("/revert", content=body, headers=AUTH | {"Content-Type": kind})
            assert answer.status_code == 422, answer.text
            assert answer.json()["detail"]
            assert "store" not in answer.text
        assert client.get("/ledger").json() == []
