"""The console's doors without a browser: what it tells, to whom, who may act, and what hostile requests come to."""

import math
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.lineages import TOKEN, Folder, _free_port, wait_for
from support.samples import numbers

TWO: dict[str, dict[str, Any]] = {
    "linear": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "other": {"kind": "vw", "args": "--loss_function logistic --link logistic", "role": "challenger"},
}
ACT = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


@contextmanager
def console(*paths: Path, **environment: str) -> Iterator[httpx.Client]:
    """A console over these configurations, and a client of it."""
    port = _free_port()
    named = [word for path in paths for word in ("--config", str(path))]
    command = [sys.executable, "-m", "stream.cli", "console", *named]
    env = {"PATH": "/usr/bin:/bin", "HOLDFAST_CONSOLE__PORT": str(port), **environment}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(lambda: _answers(client) or process.poll() is not None)
            assert process.poll() is None, process.communicate()[1]
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A lineage that has learnt and was judged, and of which nothing runs, to be copied."""
    here = Folder(tmp_path_factory.mktemp("console") / "here", TWO, holdout__rate=0.1)
    here.write(numbers(3000))
    here.train()
    here.write(numbers(1000, first=3000))
    here.train()
    here.run("guard", "--once", code=None)
    return here


@pytest.fixture
def learnt(made: Folder, tmp_path: Path) -> Folder:
    return made.copy(tmp_path / "here")


def test_it_shows_what_commands_show_also_when_nothing_runs(learnt: Folder) -> None:
    with console(learnt.config_path) as client:
        assert client.get("/api").json() == [{"name": "test", "task": "binary"}]
        status = client.get("/api/test/status").json()
        assert status["learners"].keys() == TWO.keys()
        assert status["learners"]["linear"]["events"] == learnt.status()["learners"]["linear"]["events"]
        said = " ".join(one["what"] for one in status["findings"])
        assert "no process answers" in said
        assert "no guard runs" in said
        history = client.get("/api/test/history").json()
        numbers_ = [manifest["snapshot"] for manifest in learnt.json("snapshots", "list")]
        assert set(history["snapshots"]) == set(numbers_)
        assert history["learners"]["linear"]["recent"]["accuracy"][-1] == pytest.approx(
            status["learners"]["linear"]["recent"]["accuracy"], abs=1e-5
        )
        listed = client.get("/api/test/snapshots").json()
        assert [one["verdict"] for one in listed] == [one["verdict"] for one in learnt.json("snapshots", "list")]
        one = client.get(f"/api/test/snapshots/{listed[0]['snapshot']}").json()
        assert one["learners"]["linear"]["verdict"]["why"]
        assert client.get("/api/test/snapshots/999").status_code == 404
        assert client.get("/api/nobody/status").status_code == 404
        assert client.get(f"/api/test/at?time={time.time()}").json()["learner"] == "linear"
        lines = client.get("/api/test/history.csv").text.splitlines()
        assert lines[0].startswith("snapshot,created,learner,learnt,accuracy")
        assert len(lines) == 1 + 2 * len(history["times"])


def test_each_action_says_first_what_it_would_do_and_is_an_entry_of_the_ledger(learnt: Folder) -> None:
    """Without the token nothing is said or done; the plan changes nothing; done, it is the command's own entry."""
    with console(learnt.config_path) as client:
        path = "/api/test/actions/revert"
        body: dict[str, Any] = {"learner": "linear", "why": "look <b>here</b>"}
        assert client.post(path, json=body).status_code == 401
        plan = client.post(path, json=body, headers=ACT).json()
        assert "goes back from snapshot" in plan["says"]
        assert plan["command"][:4] == ["holdfast", "snapshots", "revert", "linear"]
        assert learnt.json("ledger") == []
        made = client.post(path, json={**body, "do": True}, headers=ACT).json()
        assert made["done"], made
        (entry,) = made["entries"]
        assert (entry["action"], entry["learner"], entry["why"]) == ("revert", "linear", "look <b>here</b>")
        assert entry["by"].endswith("@console")
        assert learnt.json("ledger")[-1]["seq"] == entry["seq"]
        pinned = client.post("/api/test/actions/pin", json={"snapshot": "1", "do": True}, headers=ACT).json()
        assert pinned["entries"][0]["action"] == "pin"
        refused = client.post("/api/test/actions/pin", json={"snapshot": "999", "do": True}, headers=ACT)
        assert refused.status_code == 409
        assert "999" in refused.json()["detail"]
        for name, given in {
            "revert": {"learner": "nobody"}, "pin": {"snapshot": "--config"}, "pin ": {}, "promote": {},
            "unpin": {"snapshot": "x"}, "stop": {"learner": "linear\n--help"},
        }.items():  # fmt: skip
            answer = client.post(f"/api/test/actions/{name}", json=given, headers=ACT)
            assert answer.status_code == 422, (name, answer.text)


def test_every_model_is_asked_the_same_and_a_linear_one_says_why(learnt: Folder) -> None:
    """Each answers from its newest passing snapshot; the contributions of a logistic regression add up to its logit."""
    with console(learnt.config_path) as client:
        (example, *_) = client.get("/api/test/example").json()["examples"]
        found = client.post("/api/test/try", json={"x": example}).json()["answers"]
        by_name = {one["learner"]: one for one in found}
        assert by_name.keys() == TWO.keys()
        linear = by_name["linear"]
        logit = sum(value for _, value in linear["contributions"])
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(linear["probability"], abs=1e-9)
        assert by_name["linear"]["role"] == "champion"
        for wrong in (b"{", b"[]", b'{"x": 1}', b'{"x": {"_a": 1}}', b"null"):
            answer = client.post("/api/test/try", content=wrong, headers={"Content-Type": "application/json"})
            assert (answer.status_code, bool(answer.json()["detail"])) == (422, True)
        odd = client.post("/api/test/try", json={"x": {"f0": "text"}}).json()["answers"]
        assert "detail" in next(one for one in odd if one["learner"] == "linear")


def test_every_action_is_a_command_that_there_is(learnt: Folder) -> None:
    """Each one's words are taken by the command line: none is refused for its form."""
    from click.testing import CliRunner

    from stream.cli import main
    from stream.console.actions import ACTIONS, planned
    from stream.console.seen import Seen

    status = Seen(learnt.config, learnt.config_path).status()
    given = {"learner": "linear", "snapshot": "1", "candidate": "other", "share": "5", "baseline": "1",
             "quarantine": "new", "reason": "not_json", "why": "a test"}  # fmt: skip
    for name in ACTIONS:
        says, words = planned(name, given, status)
        assert says.endswith(".")
        done = CliRunner().invoke(main, [*words, "--help"])
        assert done.exit_code == 0, (name, done.output)
        *options, last = [word for word in words if word.startswith("--")] or [""]
        assert all(f" {option}" in done.output for option in (*options, last) if option), (name, words)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 400), ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415), ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({}, 401),
    ],
)  # fmt: skip
def test_no_other_page_acts_here(learnt: Folder, headers: dict[str, str], code: int) -> None:
    with console(learnt.config_path) as client:
        answer = client.post(
            "/api/test/actions/revert", content=b'{"learner":"linear","do":true}',
            headers={"Content-Type": "application/json", **headers},
        )  # fmt: skip
        assert answer.status_code == code
        assert answer.headers["x-frame-options"] == "DENY"
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    assert learnt.json("ledger") == []


def test_guessing_is_slow_and_said(learnt: Folder) -> None:
    with console(learnt.config_path) as client:
        wrong = {**ACT, "Authorization": "Bearer guess"}
        codes = [client.post("/api/test/actions/pin", json={}, headers=wrong).status_code for _ in range(12)]
        assert codes == [401] * 10 + [429] * 2
        assert client.post("/api/test/actions/pin", json={}, headers=ACT).status_code == 429
        assert client.get("/api/test/status").status_code == 200


def test_looking_wants_a_token_where_serving_wants_one(learnt: Folder) -> None:
    with console(learnt.config_path, HOLDFAST_READ_TOKEN="see") as client:  # noqa: S106  a test's own
        for path in (
            "status",
            "history",
            "history.csv",
            "marks",
            "snapshots",
            "snapshots/1",
            "ledger",
            "at?time=1",
            "letters",
        ):
            assert client.get(f"/api/test/{path}").status_code == 401, path
            assert client.get(f"/api/test/{path}", headers={"Authorization": "Bearer see"}).status_code != 401
        assert client.get("/").status_code == 200


def test_malformed_requests_are_never_a_fault(learnt: Folder) -> None:
    """Random paths, queries, bodies and bytes: no 5xx, and it answers afterwards."""
    draw = random.Random(7)
    with console(learnt.config_path) as client:
        codes = set()
        for _ in range(400):
            path = draw.choice(
                ["/api/test/history", "/api/test/at", "/api/test/snapshots/", "/api/", "/", "/api/test/marks"]
            )
            odd = draw.choice(["nan", "inf", "-1e308", "%00", "'\"<", "9" * 40, "../../etc/passwd", "\u202e", ""])
            query = {draw.choice(["since", "until", "points", "time"]): odd}
            codes.add(client.get(path + draw.choice(["", odd]), params=query).status_code)
            body = draw.choice([b"", b"{", b"[]", b"null", b'{"do":true}', b"\xff", b'{"learner":' + b"[" * 2000])
            name = draw.choice(["revert", "pin", "x", "..%2f"])
            codes.add(client.post(f"/api/test/actions/{name}", content=body, headers=ACT).status_code)
        for raw in (
            b"GET / HTTP/9\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 5) as peer:
                peer.sendall(raw)
                assert re.match(rb"(HTTP/1\.1 4\d\d|$)", peer.recv(100))
        assert max(codes) < 500, codes
        assert client.get("/api/test/status").status_code == 200


def test_several_lineages_on_one_page(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """A folder of configurations, or each by itself; two of one name, or none, are refused with a sentence."""
    from stream.console.run import configurations
    from stream.errors import ConfigError

    one, two = folder(name="one"), folder(name="two")
    for here, name in ((one, "one"), (two, "two")):
        here.config_path.write_text(here.config_path.read_text().replace('name = "test"', f'name = "{name}"'))
    two.write(numbers(300))
    two.train()
    assert configurations([tmp_path]) == [one.config_path, two.config_path]
    with console(one.config_path, two.config_path) as client:
        assert [each["name"] for each in client.get("/api").json()] == ["one", "two"]
        assert client.get("/api/one/status").json()["snapshot"] is None
        assert client.get("/api/two/status").json()["snapshot"] is not None
        assert client.get("/api/one/history").json()["times"] == []
    twin = two.copy(tmp_path / "twin")
    assert (
        "both named 'two'" in two.run("console", *(f"--config={one.config_path}" for one in (two, twin)), code=2).stderr
    )
    with pytest.raises(ConfigError, match="holds no configuration"):
        configurations([one.events])


def test_where_there_is_no_lineage_it_waits_and_makes_no_store(folder: Callable[..., Folder]) -> None:
    here = folder()
    with console(here.config_path) as client:
        said = [one["what"] for one in client.get("/api/test/status").json()["findings"]]
        assert any("no snapshot has been written yet" in one for one in said)
        for path in ("history", "history.csv", "marks", "snapshots", "ledger", "letters", "example"):
            assert client.get(f"/api/test/{path}").status_code == 200, path
        assert client.get("/api/test/at?time=1").status_code == 503
        assert client.post("/api/test/try", json={"x": {}}).json()["answers"][0]["detail"]
        time.sleep(1.5)
        assert not (here.path / "store").exists()


def test_a_taken_port_is_said_and_up_goes_on(folder: Callable[..., Folder]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        here = folder(console__port=taken.getsockname()[1], console__enabled=True)
        said = here.run("console", code=3).stderr
        assert "Set console.port" in said
        here.write(numbers(500))
        here.start("up")
        here.wait_ready()
        assert here.status()["serving"]


def test_serving_leads_to_the_page(folder: Callable[..., Folder]) -> None:
    here = folder(console__port=8099, console__enabled=True)
    here.write(numbers(500))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        assert client.get("/").headers["location"] == "http://127.0.0.1:8099/"


def test_a_report_is_one_file_without_markup_of_others(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """It loads nothing, and a slice's or a reason's markup stays text."""
    here = folder(event__slices=["kind"])
    events = numbers(600)
    for number, event in enumerate(events):
        event["x"]["kind"] = "</script><script>alert(1)</script>" if number % 2 else "ok & <i>"
    here.write(events)
    here.train()
    here.run("snapshots", "pin", "1", "--why", "</script><img src=x onerror=alert(2)>")
    out = tmp_path / "week.html"
    assert here.run("report", "--out", str(out)).stdout.strip() == str(out)
    text = out.read_text()
    assert "alert(1)</script>" not in text
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(2)&gt;" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", text)
    assert "in the future" in here.run("report", "--since", "2099-01-01", code=2).stderr
