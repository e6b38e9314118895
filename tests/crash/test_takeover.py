"""One lineage, one trainer: whoever starts takes the next epoch, and whatever an older one still writes is void."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.killed import LEARNERS
from support.lineages import Folder, accounted, wait_for
from support.samples import numbers

from snapshots import Lineage, LocalStore
from snapshots.decisions import epochs
from snapshots.decisions.epochs import Epoch, is_void
from snapshots.decisions.ledger import Decision
from snapshots.errors import DamagedError, LineageTakenError
from snapshots.records import cut as snapshots
from snapshots.records import manifest as manifests
from stream.compose import trainer_of


def test_each_trainer_takes_the_next_epoch_and_says_where_it_starts(folder: Callable[..., Folder]) -> None:
    """Created if absent, numbered from 1, naming the snapshot resumed from and who took it."""
    here = folder()
    here.write(numbers(100))
    here.train()
    here.train()
    first, second = here.lineage.epochs
    assert (first.number, first.start) == (1, None)
    assert (second.number, second.start) == (2, 1)
    assert "process" in second.by
    assert [here.lineage.manifest(n).epoch for n in here.lineage.numbers] == [1, 1, 2]  # type: ignore[union-attr]


def test_a_trainer_that_is_overtaken_stops_and_says_by_whom(folder: Callable[..., Folder]) -> None:
    """Exit code 5, also when there is nothing to write; the newcomer goes on, and nothing is mixed."""
    here = folder(learners=LEARNERS)
    here.write(numbers(300))
    first = here.start("train")
    wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 300)
    second = here.start("train", "--take-over")
    assert first.wait(20) == 5
    assert "another trainer took over: epoch 2 by" in here.log("train")
    assert f"process {second.pid}" in here.log("train")
    here.write(numbers(300, first=300))
    wait_for(lambda: here.learner()["events"]["learnt"] == 600)
    assert accounted(here.learner()["events"])
    never = folder("never", LEARNERS)
    never.write(numbers(600))
    never.train()
    assert here.state() == never.state()
    assert here.state("hashed") == never.state("hashed")


@pytest.mark.parametrize("moment", ["anywhere", "before its manifest"])
def test_what_a_sleeper_writes_when_it_wakes_is_void(folder: Callable[..., Folder], moment: str) -> None:
    """Stopped with SIGSTOP while learning, another takes over, and it is woken: it ends with 5 and changed nothing."""
    here = folder(learners=LEARNERS, snapshots__every_seconds=0.02, source__batch=20)
    here.write(numbers(30_000))
    sleeper = here.start("train")
    store = here.path / "store" / "snapshots"
    wait_for(lambda: store.exists() and len(list(store.iterdir())) > 2)
    if moment == "before its manifest":
        while (max(store.iterdir()) / "manifest.json").exists():  # no sleep: it is there for a millisecond
            assert sleeper.poll() is None
    sleeper.send_signal(signal.SIGSTOP)
    time.sleep(float(os.environ.get("HOLDFAST_TEST_PAUSE", "0.2")))
    here.run("train", "--until-end", "--take-over")
    served = here.lineage.serving("linear")
    after = here.state()
    numbers_then = here.lineage.numbers
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(20) == 5
    assert here.lineage.numbers == numbers_then
    assert here.lineage.serving("linear") == served
    assert here.state() == after
    assert here.learner()["events"]["learnt"] == 30_000
    here.run("guard", "--once")
    judged = {path.name.split("-")[0] for path in (here.path / "store" / "verdicts").rglob("*.json")}
    assert judged == {f"{number:012d}" for number in numbers_then}


def copy_as(lineage: Lineage, source: int, number: int, epoch: int) -> None:
    """A snapshot as a trainer of another epoch would have written it."""
    manifest = lineage.manifest(source)
    assert manifest is not None
    late = msgspec.structs.replace(manifest, snapshot=number, epoch=epoch)
    assert lineage.store.create(snapshots.manifest_name(number), late.encode())


def test_a_void_snapshot_is_never_judged_served_or_resumed_from(folder: Callable[..., Folder]) -> None:
    """Even one that is newer by number and whole; and its number is not used again."""
    here = folder(snapshots__keep={"last": 50, "minutely": 0, "hourly": 0, "daily": 0})
    here.write(numbers(200))
    here.trained()
    here.write(numbers(200, first=200))
    here.trained()  # epoch 2 began from 1 and wrote 2
    copy_as(here.lineage, 1, 7, epoch=1)
    assert 7 in here.lineage.void
    assert here.learner()["serving"] == here.lineage.numbers[-1] == 2
    assert here.run("guard", "--once").stdout == ""
    assert {row["snapshot"] for row in here.json("snapshots", "list")} == {0, 1, 2}
    here.write(numbers(200, first=400))
    here.train()
    assert here.lineage.numbers[-1] == 8
    assert here.learner()["events"]["learnt"] == 600
    assert here.lineage.void == []  # the trainer removed it


def test_what_an_overtaken_trainer_decides_does_not_count(folder: Callable[..., Folder]) -> None:
    """It looks for a later epoch before it writes into the ledger."""
    here = folder()
    here.write(numbers(100))
    trainer = trainer_of(here.config, stopping=lambda: False)
    try:
        trainer.begin()
        here.lineage.begin_epoch(0, 0.0, "another")
        with pytest.raises(LineageTakenError, match="another"):
            trainer.decide(Decision("stop_learning", "trainer", "too many", "linear"))
        assert here.lineage.entries == []
    finally:
        trainer.close()


def test_the_rule_of_void(tmp_path: Path) -> None:
    """Beyond where any later epoch began, not only the next; a new lineage voids all before it."""
    made = [Epoch(1, None, 0, 0.0, "a", ""), Epoch(2, 10, 0, 0.0, "b", ""), Epoch(3, 50, 0, 0.0, "c", "")]
    assert not is_void(made, 10, 1)
    assert is_void(made, 11, 1)
    assert not is_void(made, 50, 2)
    assert is_void(made, 51, 2)
    assert not is_void(made, 60, 3)
    assert is_void([*made, Epoch(4, None, 3, 0.0, "d", "")], 5, 1)


def test_two_takers_of_one_moment_get_two_epochs(tmp_path: Path) -> None:
    """The loser reads the winner's and takes the next; only the last may write."""
    store = LocalStore(tmp_path)
    known: list[Epoch] = []
    first = epochs.take(store, known, None, ledger=0, now=1.0, by="one")
    second = epochs.take(store, [], None, ledger=0, now=1.0, by="two")
    assert (first.number, second.number) == (1, 2)
    with pytest.raises(LineageTakenError, match="epoch 2 by two"):
        epochs.refuse_superseded(store, first)
    epochs.refuse_superseded(store, second)
    (tmp_path / epochs.name_of(2)).write_bytes(b"{")
    with pytest.raises(DamagedError, match="says which snapshots count"):
        epochs.follow(store, [])


def test_up_does_not_start_an_overtaken_trainer_again(folder: Callable[..., Folder]) -> None:
    """Guard and serving go on; the operator is told."""
    here = folder()
    here.write(numbers(300))
    up = here.start("up")
    here.wait_ready()
    other = here.start("train", "--take-over")
    wait_for(lambda: "is not started again: another process took over" in here.log("up"))
    time.sleep(1.5)
    assert up.poll() is None
    assert len(here.lineage.epochs) == 2
    with here.http() as client:
        assert client.post("/predict", json={"x": {"f0": 1.0}}).status_code == 200
        wait_for(
            lambda: (
                "learns, and not holdfast up: another process took"
                in client.get("/ready").json().get("learning_why", "")
            )
        )
    here.write(numbers(300, first=300))
    wait_for(
        lambda: here.learner()["events"]["learnt"] == 600 and here.learner()["serving"] == here.lineage.numbers[-1]
    )
    assert other.poll() is None
    other.terminate()
    with here.http() as client:
        wait_for(
            lambda: (
                client.get("/ready").json().get("learning_why")
                == "nothing learns: another process took over the lineage"
            )
        )
        assert client.get("/ready").json()["learning"] == "stopped"


def test_a_new_lineage_begins_anew_and_the_old_one_counts_no_more(folder: Callable[..., Folder]) -> None:
    """Train --new-lineage: counts from nothing, reverts of before forgotten, holdout membership kept."""
    here = folder(holdout__rate=0.1)
    here.write(numbers(300))
    here.trained()
    here.write(numbers(300, first=300))
    here.trained()
    here.run("snapshots", "revert", "linear", "1")
    here.train()
    held_out = here.learner()["events"]["held_out"]
    assert here.learner()["line"] == 1
    here.start("serve")
    here.wait_ready()
    here.run("train", "--until-end", "--new-lineage")
    counts = here.learner()["events"]
    assert (counts["consumed"], counts["quarantined"], counts["held_out"]) == (600, 0, held_out)
    assert here.learner()["line"] == 0
    assert min(here.lineage.numbers) > 3
    assert here.json("ledger")[-1]["action"] == "new_lineage"
    with here.http() as client:
        wait_for(lambda: client.get("/ready").status_code == 503)
        here.run("guard", "--once")
        wait_for(lambda: client.get("/ready").status_code == 200)
        assert client.get("/ready").json()["snapshot"] == here.lineage.numbers[-1]
    assert here.learner()["serving"] == here.lineage.numbers[-1]
    moment = here.lineage.epochs[-1].time - 0.001
    assert here.json("ledger", "--at", str(moment))["snapshot"] == 1


def test_a_snapshot_names_epoch_and_topics(folder: Callable[..., Folder]) -> None:
    """As the schema says."""
    here = folder()
    here.write(numbers(10))
    here.train()
    shown = json.loads(here.run("snapshots", "show", "1").stdout)
    assert shown["epoch"] == 1
    assert list(shown["topics"]) == ["read to the end", "tail of a.jsonl"]
    assert shown["format"] == manifests.FORMAT
