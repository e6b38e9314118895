"""The store full, gone, read-only, damaged; the clock set back: what is said, and what is served."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from support.lineages import Folder, accounted, wait_for
from support.samples import numbers

from snapshots import LocalStore
from snapshots.errors import StoreError
from stream.dead_letters.writer import FileDeadLetters
from stream.record import Record
from stream.refusal import Reason, Refusal


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    where = tmp_path / "small"
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "holdfast-test", str(where)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=False)


def predicts(here: Folder) -> int:
    with here.http() as client:
        return client.post("/predict", json={"x": {"f0": 1.0}}).status_code


def test_a_full_disk_stops_nothing_and_loses_nothing(folder: Callable[..., Folder], small_disk: Path) -> None:
    """Learning goes on, serving answers; the log says what to free; then a snapshot is written again."""
    here = folder(store__url=str(small_disk / "store"))
    here.write(numbers(300))
    here.start("train")
    here.start("guard")
    here.start("serve")
    here.wait_ready()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    here.write(numbers(300, first=300))
    wait_for(lambda: "No space left on device" in here.log("train"))
    assert "trying again" in here.log("train")
    assert predicts(here) == 200
    filler.unlink()
    wait_for(lambda: _status(here)["events"]["learnt"] == 600)
    assert accounted(_status(here)["events"])
    here.end()
    assert here.run("snapshots", "verify").returncode == 0


def _status(here: Folder) -> dict[str, dict[str, int]]:
    learners: dict[str, dict[str, dict[str, int]]] = here.json("status")["learners"]
    return learners.get("linear", {"events": {"learnt": -1}})


def test_a_store_that_is_taken_away_under_way(folder: Callable[..., Folder]) -> None:
    """Serving answers from memory and says so; when the store is back, all goes on."""
    here = folder()
    here.write(numbers(300))
    trainer = here.start("train")
    here.start("guard")
    here.start("serve")
    here.wait_ready()
    wait_for(lambda: here.learner()["events"]["learnt"] == 300)
    store, away = here.path / "store", here.path / "away"
    store.rename(away)
    store.write_bytes(b"something else")
    here.write(numbers(300, first=300))
    wait_for(lambda: "trying again" in here.log("train"))
    assert predicts(here) == 200
    with here.http() as client:
        wait_for(lambda: "store" in client.get("/ready").json())
    store.unlink()
    away.rename(store)
    wait_for(lambda: here.learner()["events"]["learnt"] == 600)
    assert trainer.poll() is None
    never = folder("never-away")
    never.write(numbers(600))
    never.train()
    assert here.state() == never.state()


def test_a_store_directory_that_is_deleted_is_not_begun_anew_silently(folder: Callable[..., Folder]) -> None:
    """Waited for, as a disk that is not mounted; an empty one in its place is not written into."""
    here = folder()
    here.write(numbers(300))
    trainer = here.start("train")
    here.start("serve")
    wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 300)
    here.run("guard", "--once")
    here.wait_ready()
    store = here.path / "store"
    store.rename(here.path / "gone")
    here.write(numbers(300, first=300))
    wait_for(lambda: f"{store} is gone" in here.log("train"))
    assert trainer.poll() is None
    assert not store.exists()
    assert predicts(here) == 200
    store.mkdir()
    assert trainer.wait(30) == 4
    assert "epochs/000000000001.json is gone from the store" in here.log("train")
    assert predicts(here) == 200
    shutil.rmtree(store)


def test_a_store_that_may_not_be_written_is_said(folder: Callable[..., Folder], small_disk: Path) -> None:
    """Read-only: the path, the reason, what to do; nothing was changed; what serves goes on."""
    here = folder(store__url=str(small_disk / "store"))
    here.write(numbers(100))
    here.trained()
    here.start("serve")
    here.wait_ready()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = here.run("snapshots", "pin", "1", code=4)
    assert "cannot write" in done.stderr
    assert "Read-only file system. Free space, mend permissions" in done.stderr
    assert here.json("ledger") == []
    assert here.json("status")["learners"]["linear"]["events"]["learnt"] == 100
    assert predicts(here) == 200
    here.write(numbers(100, first=100))
    here.start("train")
    wait_for(lambda: (here.path / "train.log").exists() and "Read-only file system" in here.log("train"))


def test_a_clock_set_back_an_hour_changes_nothing_that_is_learnt(folder: Callable[..., Folder]) -> None:
    """Snapshots are ordered by number, decisions by their place in the ledger; the newest still serves."""
    here = folder()
    here.write(numbers(300))
    here.trained()
    here.write(numbers(300, first=300))
    back = (
        "import time; real = time.time; time.time = lambda: real() - 3600\n"
        "import sys; sys.argv = ['holdfast', '--config', sys.argv[1], *sys.argv[2:]]\n"
        "from stream.cli import main; main()"
    )
    for command in (["train", "--until-end"], ["guard", "--once"], ["snapshots", "revert", "linear", "1"]):
        subprocess.run([sys.executable, "-c", back, str(here.config_path), *command], check=True, cwd=here.path,
                       capture_output=True)  # fmt: skip
    assert here.learner()["serving"] == 1
    here.write(numbers(300, first=600))
    subprocess.run([sys.executable, "-c", back, str(here.config_path), "train", "--until-end"], check=True,
                   cwd=here.path, capture_output=True)  # fmt: skip
    here.run("guard", "--once")
    counts = here.learner()["events"]
    assert accounted(counts)
    assert (counts["learnt"], counts["quarantined"]) == (600, 300)
    assert here.learner()["serving"] == here.lineage.numbers[-1]
    assert here.run("ledger", "verify").returncode == 0


def test_a_clock_that_is_set_back_under_way_stops_nothing(folder: Callable[..., Folder]) -> None:
    """Snapshots go on, a revert is followed, and the processes still count as alive."""
    here = folder(snapshots__every_seconds=0.3)
    clock = here.path / "clock"
    clock.write_text("0")
    moved = {"HOLDFAST_TEST_CLOCK": str(clock), "PYTHONPATH": str(Path(__file__).parent / "clock")}
    here.write(numbers(1000))
    for role in ("train", "guard", "serve"):
        here.start(role, **moved)
    here.wait_ready()
    wait_for(lambda: here.learner()["events"]["consumed"] == 1000 and here.learner()["serving"] is not None)
    good = here.learner()["serving"]
    clock.write_text("-3600")
    here.write(numbers(1000, first=1000))
    wait_for(lambda: here.learner()["events"]["consumed"] == 2000, 10)
    wait_for(lambda: here.learner()["serving"] != good, 10)
    here.run("snapshots", "revert", str(good))
    wait_for(lambda: here.learner()["line"] == 1, 10)
    with here.http() as client:
        wait_for(lambda: client.get("/ready").json()["snapshot"] >= good, 10)
        assert client.get("/ready").json()["snapshot_age_seconds"] >= 0


def test_what_was_not_flushed_is_lost_with_the_power_and_nothing_else(tmp_path: Path) -> None:
    """A disk that forgets what was not flushed: what ``create`` said True to is there, whole; the rest whole or not."""
    from support.lossy import Lossy

    for seed in range(300):
        disk = Lossy(tmp_path / f"{seed}", seed)
        store = LocalStore(disk.root)
        promised: dict[str, bytes] = {}
        with disk.crashing():
            for number in range(6):
                name, data = f"a/{number % 3}/b{number}", os.urandom(50 + number)
                if store.create(name, data):
                    promised[name] = data
        disk.lose_power()
        for name, data in promised.items():
            assert store.get(name) == data
        for name in store.names("a/"):
            assert len(store.get(name) or b"") >= 50


def test_dead_letters_survive_the_power_once_they_are_flushed(tmp_path: Path) -> None:
    """A torn last line is ended before the next letter; every letter that was flushed is a line of its own."""
    from support.lossy import Lossy

    refusal = Refusal(Reason.NOT_JSON, "", "not JSON")
    for seed in range(200):
        disk = Lossy(tmp_path / f"{seed}", seed)
        folder = disk.root / "events"
        flushed, sent = 0, 0
        with disk.crashing():
            letters = FileDeadLetters(folder)
            for number in range(8):
                letters.send(Record("t", "a.jsonl", number, number + 1, b"bad"), refusal)
                sent += 1
                letters.flush(lambda _why: False)
                flushed = sent
        disk.lose_power()
        again = FileDeadLetters(folder)
        for number in range(flushed, 10):  # what was not flushed comes again
            again.send(Record("t", "a.jsonl", number, number + 1, b"bad"), refusal)
        again.flush(lambda _why: False)
        found = set()
        for line in (disk.root / "events.dead-letter" / "a.jsonl").read_bytes().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                found.add(orjson.loads(line)["offset"])
        assert found == set(range(10)), seed


def test_a_store_says_what_is_wrong(tmp_path: Path) -> None:
    """With the path."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"file is gone, or no directory"):
        LocalStore(tmp_path / "file").create("a", b"")


def test_a_trainer_that_is_stopped_for_a_while_goes_on(folder: Callable[..., Folder]) -> None:
    """SIGSTOP and SIGCONT without anybody taking over: nothing is lost."""
    here = folder(snapshots__every_seconds=0.05)
    here.write(numbers(300))
    process = here.start("train")
    wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] > 0)
    process.send_signal(signal.SIGSTOP)
    here.write(numbers(300, first=300))
    time.sleep(float(os.environ.get("HOLDFAST_TEST_PAUSE", "2")))
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: here.learner()["events"]["learnt"] == 600)
    assert accounted(here.learner()["events"])
