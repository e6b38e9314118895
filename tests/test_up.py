"""``up``, ``demo`` and ``init`` as a person uses them."""

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest
from support.lineages import Folder, accounted, wait_for
from support.lineages import _free_port as free_port
from support.samples import numbers

from stream.process import supervise


def children_of(pid: int) -> list[int]:
    """The processes whose parent is this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def test_up_learns_guards_and_serves_and_drains_on_sigterm(folder: Callable[..., Folder]) -> None:
    """SIGTERM drains, snapshots and exits 0 within 10 s; nothing is left running."""
    here = folder(snapshots__every_seconds=30.0)
    here.write(numbers(500))
    process = here.start("up")
    wait_for(lambda: len(children_of(process.pid)) == 3)
    pids = children_of(process.pid)
    wait_for(lambda: here.lineage.numbers and here.status()["source"]["state"] == "reading")
    here.write(numbers(100, first=500))
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(12) == 0
    assert time.monotonic() - began < 10
    assert here.learner()["events"]["learnt"] == 600
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_child_that_is_killed_is_started_again(folder: Callable[..., Folder]) -> None:
    """Serving and learning go on."""
    here = folder()
    here.write(numbers(300))
    process = here.start("up")
    here.wait_ready()
    for pid in children_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(children_of(process.pid)) == 3)
    here.write(numbers(300, first=300))
    here.wait_ready()
    wait_for(lambda: here.learner()["events"]["learnt"] == 600)
    assert accounted(here.learner()["events"])


def test_a_child_that_cannot_run_stops_the_whole(folder: Callable[..., Folder]) -> None:
    """With its last words: here a factory that is not there."""
    here = folder(learners={"linear": {"kind": "river", "factory": "model:nothing", "role": "champion"}})
    process = here.start("up")
    assert process.wait(60) != 0
    assert "model:nothing" in here.log("up")
    assert "everything is stopped" in here.log("up")


def test_a_child_that_keeps_dying_is_tried_again_for_ever(
    folder: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With longer and longer waits; the store cannot be read, and once it can, all go on."""
    monkeypatch.setattr(supervise, "_FIRST_DELAY", 0.02)
    here = folder()
    (here.path / "store").write_text("in the way")
    supervisor = supervise.Supervisor(here.config_path, dict(os.environ), roles=["guard", "train"], output=io.BytesIO())
    died: list[int] = []
    monkeypatch.setattr(supervise.log, "error", lambda *said: died.append(said[2]))

    def over() -> bool:
        if len(died) > 7 and (here.path / "store").is_file():
            (here.path / "store").unlink()
        return bool(len(died) > 7 and (here.path / "store" / "snapshots").is_dir())

    supervisor.run(over)
    assert set(died) == {4}


def test_what_dies_soon_is_started_later_each_time_and_no_later_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """What dies once an hour is started again at once."""
    clock = [0.0]
    monkeypatch.setattr(supervise.time, "monotonic", lambda: clock[0])
    deaths = supervise.Deaths()
    found = []
    for seconds in [1.0] * 40 + [3600.0]:
        deaths.begin()
        clock[0] += seconds
        found.append(deaths.note())
    assert found[:4] == [0.5, 1.0, 2.0, 4.0]
    assert set(found[8:40]) == {60.0}
    assert found[40] == 0.5


BROKEN = {
    "a syntax error": "def logreg(:\n    pass\n",
    "a factory that raises": "def logreg():\n    return 1 / 0\n",
    "a module that raises": "import nothing_like_it\n",
    "a factory of something else": "def logreg():\n    return 3\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_wrong_module_ends_the_trainer_and_not_the_answers(what: str, folder: Callable[..., Folder]) -> None:
    """Exit code 2 with one line that names it; ``up`` serves what passed, says so, and learns when it is mended."""
    new, here = folder("new"), folder()
    (new.path / "model.py").write_text(BROKEN[what])
    alone = new.run("train", "--until-end", code=2)
    here.write(numbers(300))
    here.trained()
    good = (here.path / "model.py").read_text()
    (here.path / "model.py").write_text(BROKEN[what])
    assert here.run("train", "--until-end", code=None).returncode in (2, 3)
    assert "model" in alone.stderr
    assert "Traceback" not in alone.stderr
    here.start("up")
    here.wait_ready()
    wait_for(lambda: "nothing learns" in here.status()["source"]["why"])
    with here.http() as client:
        assert client.post("/predict", json={"x": {"f0": 1.0}}).status_code == 200
        wait_for(lambda: client.get("/ready").json().get("learning") == "stopped")
    (here.path / "model.py").write_text(good)
    here.write(numbers(100, first=300))
    wait_for(lambda: here.learner()["events"]["learnt"] == 400)


def test_a_second_up_changes_nothing(folder: Callable[..., Folder]) -> None:
    """The port is taken: exit code 2 before the lineage is touched. Another port: it is refused before it starts."""
    here = folder()
    here.write(numbers(300))
    here.start("up")
    here.wait_ready()
    epochs = len(here.lineage.epochs)
    again = here.run("up", code=2)
    assert "serve.port" in again.stderr
    assert "take-over" in here.run("train", code=3).stderr
    other = here.run("up", code=3, HOLDFAST_SERVE__PORT=str(free_port())).stderr
    assert "another holdfast up of this lineage is alive" in other
    assert "serving" not in other
    status = here.status()
    assert (len(status["serving"]), len(status["guard"])) == (1, 1)
    here.write(numbers(100, first=300))
    wait_for(lambda: here.learner()["events"]["learnt"] == 400)
    assert len(here.lineage.epochs) == epochs


def test_a_refusal_before_anything_is_served_ends_up_with_its_own_exit_code(folder: Callable[..., Folder]) -> None:
    """3, as of the command alone; with nothing to answer from, going on would only hide it."""
    here = folder()
    here.write(numbers(100))
    here.train()
    here.config_path.write_text(here.config_path.read_text().replace('"test"', '"another"'))
    assert here.start("up").wait(60) == 3
    assert "the store holds lineage" in here.log("up")


def test_a_port_that_is_held_for_a_while_ends_no_serving_that_ran(folder: Callable[..., Folder]) -> None:
    """Workers of a killed process hold it while they drain; the configuration that served is not wrong."""
    here = folder()
    here.write(numbers(300))
    here.trained()
    up = here.start("up")
    here.wait_ready()
    serving = wait_for(lambda: [one["pid"] for one in here.status()["serving"]])[0]
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(serving, signal.SIGKILL)
        wait_for(lambda: not _bound(holder, here.port), 5)
        holder.listen()
        wait_for(lambda: "cannot be listened on" in here.log("up"))
        assert up.poll() is None
    here.wait_ready(60)


def _bound(holder: socket.socket, port: int) -> bool:
    """Tell whether somebody else has the port; it is taken when not."""
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        return True
    return False


def test_a_start_with_the_wrong_task_binds_nothing(folder: Callable[..., Folder]) -> None:
    """Nor does a learner that learnt nothing insist on its first arguments."""
    here = folder(learners={"hashed": {"kind": "vw", "args": "--loss_function logistic -b 10", "role": "champion"}})
    text = here.config_path.read_text()
    here.config_path.write_text(text.replace('"binary"', '"multiclass"'))
    here.run("train", "--until-end", code=2)
    here.config_path.write_text(text)
    here.train()
    here.config_path.write_text(text.replace("-b 10", "-b 12"))
    here.write(numbers(100))
    here.train()
    assert here.learner("hashed")["events"]["learnt"] == 100


def test_a_json_log_has_fields_and_its_last_words_are_json(folder: Callable[..., Folder]) -> None:
    """A line a fact, with what it is about in fields of their own; also the reason for which a process ends."""
    here = folder()
    here.write(numbers(200))
    json_log = {"HOLDFAST_LOG": "json"}
    assert here.start("train", "--until-end", **json_log).wait(60) == 0
    here.start("guard", "--once", **json_log).wait(60)
    lines = [
        orjson.loads(line) for role in ("train", "guard") for line in here.log(role).splitlines() if line[:1] == "{"
    ]
    written = [line for line in lines if line["logger"] == "holdfast.trainer" and "consumed" in line]
    assert written[-1]["consumed"] == 200
    assert written[-1]["snapshot"] == here.lineage.numbers[-1]
    assert [line["verdict"] for line in lines if line.get("snapshot") == written[-1]["snapshot"] and "verdict" in line]
    (here.path / "store").rename(here.path / "away")
    (here.path / "store").write_text("in the way")
    here.start("train", **json_log).wait(60)
    last = orjson.loads(here.log("train").splitlines()[-1])
    assert (last["level"], last["exit_code"]) == ("error", 4)


def test_counters_go_on_after_a_restart(folder: Callable[..., Folder]) -> None:
    """They come from the newest snapshot, whichever process wrote it; lag, ages and durations have values."""
    here = folder()
    here.write(numbers(100))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:

        def value(name: str) -> float:
            text = client.get("/metrics").text
            return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name)))

        assert value("holdfast_consumed_total") == 100
        writes = value("holdfast_snapshot_write_duration_seconds_count")
        here.write(numbers(100, first=100))
        here.trained()
        wait_for(lambda: value("holdfast_consumed_total") == 200)
        assert value("holdfast_snapshot_write_duration_seconds_count") >= writes
        assert value("holdfast_event_age_seconds") > 0
        assert value("holdfast_process_resident_bytes") > 2**20


def test_killing_up_leaves_nothing_running(folder: Callable[..., Folder]) -> None:
    """Its children end with it."""
    here = folder()
    process = here.start("up")
    wait_for(lambda: len(children_of(process.pid)) == 3)
    pids = children_of(process.pid)
    process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)


def _holdfast(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def test_what_init_writes_works_as_it_is(tmp_path: Path) -> None:
    """Configuration, model and sample events; nothing is overwritten."""
    made = _holdfast("init", "shop", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "shop" / "token").stat().st_mode & 0o077 == 0
    here = tmp_path / "shop"
    assert _holdfast("train", "--until-end", cwd=here).returncode == 0
    assert _holdfast("guard", "--once", cwd=here).returncode == 0
    shown = _holdfast("status", cwd=here).stdout
    assert "5,000 consumed =" in shown
    again = _holdfast("init", "shop", cwd=tmp_path)
    assert again.returncode == 2
    assert "nothing was written" in again.stderr


def test_the_demo_learns_serves_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """A line a second without a terminal; the printed curl line works; nothing is left; it goes on where it was."""
    command = [sys.executable, "-m", "stream.cli", "demo", "--seconds", "40", "--rate", "500"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert first.stdout is not None
    answered = False
    for line in first.stdout:
        found = re.search(r"serving (\d+) .*curl -s (\S+) -d '([^']+)'", line)
        if found:
            answer = httpx.post(found[2], content=found[3]).json()
            assert {"prediction", "probability", "snapshot"} <= set(answer)
            answered = True
            first.send_signal(signal.SIGINT)
            break
    rest = first.stdout.read()
    assert first.wait(15) == 0
    assert answered
    assert "nothing is left running" in rest
    config = str(tmp_path / "holdfast-demo" / "holdfast.toml")
    once = _holdfast("status", "--config", config, cwd=tmp_path).stdout
    second = _holdfast("demo", "--seconds", "20", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    again = _holdfast("status", "--config", config, cwd=tmp_path).stdout
    count = [int(re.search(r"linear: ([\d,]+) consumed =", text)[1].replace(",", "")) for text in (once, again)]  # type: ignore[index]
    assert 0 < count[0] < count[1]
    assert "duplicate" not in again


@pytest.mark.parametrize("arguments", [["status"], ["train"], ["serve"], ["snapshots", "list"]])
def test_without_a_configuration_every_command_says_what_to_do(tmp_path: Path, arguments: list[str]) -> None:
    """Exit code 2, no trace."""
    done = _holdfast(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "holdfast init" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_is_right_when_nothing_ever_ran(folder: Callable[..., Folder]) -> None:
    """No store yet is an empty lineage."""
    status = folder().status()
    assert (status["learners"], status["source"]["state"], status["serving"]) == ({}, "stopped", [])


def test_a_store_that_is_moved_away_is_waited_for_and_not_made_anew(folder: Callable[..., Folder]) -> None:
    """By nobody that runs, and by nobody that is started meanwhile; moved back it is where it was, and goes on."""
    here = folder()
    here.write(numbers(300))
    process = here.start("up")
    here.wait_ready()
    store, elsewhere = here.path / "store", here.path / "elsewhere"
    store.rename(elsewhere)
    for child in children_of(process.pid):
        os.kill(child, signal.SIGKILL)
    here.write(numbers(100, first=300))
    wait_for(lambda: here.log("up").count("is gone, or no directory any more") >= 3)
    for _ in range(30):
        assert not store.exists()
        time.sleep(0.1)
    elsewhere.rename(store)
    wait_for(lambda: here.learner()["events"]["learnt"] == 400, 120)
    assert len(here.lineage.epochs) >= 2
    assert not list(store.glob("elsewhere*"))
