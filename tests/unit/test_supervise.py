"""What ``up`` does when the system gives it nothing: no process, no room for a log."""

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshots import Lineage, LocalStore
from snapshots.errors import RefusedError
from stream.process import interpreter, logs, supervise
from stream.process.supervise import Child, Supervisor


def test_a_log_that_cannot_be_written_holds_no_child_up() -> None:
    """A full disk takes nothing; the child's lines are read on, or it would wait for ever in the middle of one."""
    child = Child("serve")
    child.process = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfor n in range(20_000): print('line', n, file=sys.stderr)"],
        stderr=subprocess.PIPE,
    )
    with Path("/dev/full").open("wb", buffering=0) as full:
        child.listen(full)
        assert child.process.wait(30) == 0
        assert child.words().endswith("line 19999")


def test_a_child_that_the_system_does_not_start_is_tried_later(tmp_path: Path) -> None:
    """With the arguments of its first start, since it never had one; the others go on."""
    too_long = {"FILLER": "x" * 200_000}
    supervisor = Supervisor(tmp_path / "holdfast.toml", too_long, ["train"], io.BytesIO(), {"train": ["--accept"]})
    (child,) = supervisor.children
    supervisor.watch()
    assert child.process is None
    assert child.again_at is not None
    assert supervisor._first == {"train": ["--accept"]}


def test_a_file_that_is_being_replaced_does_not_end_up(tmp_path: Path) -> None:
    """An editor's lock is a link to nothing; it counts as no file."""
    (tmp_path / ".#model.py").symlink_to("nowhere")
    (tmp_path / "model.py").write_text("")
    supervisor = Supervisor(tmp_path / "holdfast.toml", {}, [])
    assert list(supervisor._files()) == [str(tmp_path / "model.py")]


def test_a_start_that_left_no_snapshot_binds_nothing(tmp_path: Path) -> None:
    """Neither name nor task, also when it took an epoch; the key that decides the holdout stays."""
    lineage = Lineage(LocalStore(tmp_path))
    first = lineage.charter("a", "binary", 0.0)
    lineage.begin_epoch(None, 0.0, "somebody")
    assert lineage.store.create("snapshots/000000000000/linear.model-0", b"of a trainer that was killed")
    second = Lineage(LocalStore(tmp_path)).charter("b", "multiclass", 1.0)
    assert (second.name, second.task, second.key) == ("b", "multiclass", first.key)


@pytest.mark.parametrize(("code", "starts"), [(logs.TAKEN, True), (logs.REFUSED, True), (logs.WRONG, False)])
def test_a_trainer_that_was_refused_is_tried_again_and_one_that_is_wrong_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, starts: bool
) -> None:
    """Another trainer ends some day; a wrong configuration is wrong until somebody changes it."""
    monkeypatch.setattr(supervise, "_LONGEST_DELAY", 0.1)
    script = f"open({str(tmp_path / 'starts')!r}, 'a').write('x'); raise SystemExit({code})"
    monkeypatch.setattr(interpreter, "command", lambda *_args: [sys.executable, "-c", script])
    supervisor = Supervisor(tmp_path / "holdfast.toml", {}, ["train"], io.BytesIO())
    until = time.monotonic() + (30 if starts else 2)
    while time.monotonic() < until and len(_text(tmp_path / "starts")) < 3:
        supervisor.watch()
        time.sleep(0.02)
    assert len(_text(tmp_path / "starts")) == (3 if starts else 1)
    assert supervisor.children[0].given_up


def _running(supervisor: Supervisor, done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        supervisor.watch()
        time.sleep(0.02)


@pytest.mark.parametrize("what", ["gone", "broken", "of another port"])
def test_serving_goes_on_with_the_configuration_that_it_ran_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Promise 4. The file is gone, or wrong, at the moment when serving dies; once it is right, it counts again."""
    monkeypatch.setattr(supervise, "_FIRST_DELAY", 0.05)
    path, starts = tmp_path / "holdfast.toml", tmp_path / "starts"
    good = 'name = "x"\ntask = "binary"\nsource.kind = "files"\n[learners.a]\nkind = "vw"\n'
    path.write_text(good)
    script = (
        "import sys, time; from stream.config import load, unpacked; from pathlib import Path\n"
        "kept = '--as-kept' in sys.argv\n"
        "try: config = unpacked(sys.stdin.buffer.read()) if kept else load(Path(sys.argv[4]), {})\n"
        "except Exception as cause: print(cause, file=sys.stderr); raise SystemExit(2)\n"
        "if config.serve.port != 8000: raise SystemExit(2)\n"
        f"open({str(starts)!r}, 'a').write('kept ' if kept else 'file '); time.sleep(99)"
    )
    monkeypatch.setattr(interpreter, "command", lambda *given: [sys.executable, "-c", script, *given])
    supervisor = Supervisor(path, {}, ["serve"], io.BytesIO())
    (child,) = supervisor.children
    try:
        for number, words in enumerate(["file", "file kept", "file kept kept", "file kept kept file"], 1):
            _running(supervisor, lambda words=words: _text(starts).split() == words.split())  # type: ignore[misc]
            if number == 3:
                path.write_text(good)
            elif what == "gone":
                path.unlink(missing_ok=True)
            else:
                path.write_text("name = [" if what == "broken" else f"{good}[serve]\nport = 1\n")
            assert child.process is not None
            child.process.kill()
    finally:
        supervisor.stop()
    assert caplog.text.count("goes on with the one that it ran with") == 2


@pytest.mark.parametrize(("code", "again"), [(4, ["--take-over"]), (logs.TAKEN, []), (-9, ["--take-over"])])
def test_a_take_over_that_came_to_nothing_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, again: list[str]
) -> None:
    """Never a new lineage twice; and not from whoever took over in between, or both would take turns without end."""
    monkeypatch.setattr(supervise, "_FIRST_DELAY", 0.05)
    monkeypatch.setattr(supervise, "_LONGEST_DELAY", 0.05)
    starts = tmp_path / "starts"
    end = "os.kill(os.getpid(), 9)" if code < 0 else f"sys.exit({code})"
    script = f"import os, sys\nwith open({str(starts)!r}, 'a') as file: print(*sys.argv[5:], file=file)\n{end}"
    monkeypatch.setattr(interpreter, "command", lambda *given: [sys.executable, "-c", script, *given])
    flags = ["--new-lineage", "--accept", "--take-over"]
    supervisor = Supervisor(tmp_path / "holdfast.toml", {}, ["train"], io.BytesIO(), {"train": flags})
    _running(supervisor, lambda: _text(starts).count("\n") >= 3)
    supervisor.stop()
    assert [line.split() for line in _text(starts).splitlines()[:3]] == [flags, again, again]


def test_a_trainer_that_ran_needs_no_take_over_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lineage, and whoever had it before has ended."""
    monkeypatch.setattr(supervise, "_GIVEN_UP_SECONDS", 0.0)
    monkeypatch.setattr(interpreter, "command", lambda *_args: [sys.executable, "-c", "raise SystemExit(4)"])
    supervisor = Supervisor(tmp_path / "holdfast.toml", {}, ["train"], io.BytesIO(), {"train": ["--take-over"]})
    (child,) = supervisor.children
    _running(supervisor, lambda: child.process is not None and child.process.poll() is not None)
    supervisor.watch()
    assert supervisor._first == {}


def test_the_last_words_are_those_of_the_last_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier one said explains nothing."""
    monkeypatch.setattr(supervise, "_FIRST_DELAY", 0.05)
    starts = tmp_path / "starts"
    script = (
        f"import sys; open({str(starts)!r}, 'a').write('x')\n"
        f"print('said', len(open({str(starts)!r}).read()), file=sys.stderr); sys.exit(4)"
    )
    monkeypatch.setattr(interpreter, "command", lambda *_args: [sys.executable, "-c", script])
    supervisor = Supervisor(tmp_path / "holdfast.toml", {}, ["train"], io.BytesIO())
    _running(supervisor, lambda: len(_text(starts)) == 3)
    (child,) = supervisor.children
    assert child.process is not None
    child.process.wait(20)
    assert child.words() == "said 3"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("role", ["train", "guard"])
def test_a_store_that_is_taken_away_stops_nobody_who_answers(tmp_path: Path, role: str) -> None:
    """Serving had a snapshot and runs: it answers from memory, and the other is tried again."""
    there = [True]
    supervisor = Supervisor(
        tmp_path / "holdfast.toml", {}, [role, "serve"], io.BytesIO(), can_serve=lambda: there[0]
    )  # fmt: skip
    child, serving = supervisor.children
    with subprocess.Popen(["sleep", "60"]) as process:
        serving.process, serving.again_at, child.again_at = process, None, None
        supervisor.watch()  # a look while all is well
        there[0] = False
        supervisor._died(child, logs.REFUSED)
        assert "no restart mends" in child.given_up
        process.kill()
        process.wait()
        with pytest.raises(RefusedError, match="everything is stopped"):
            supervisor._died(child, logs.REFUSED)
