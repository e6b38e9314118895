"""Replay: what a revert took out is learnt after all, each event once; the model is that of a run without a revert."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer
from river import linear_model, optim, preprocessing
from support.lineages import Folder, accounted
from support.samples import numbers

from learners.event import Event
from learners.river.learner import RiverLearner
from snapshots.judging.reverts import ancestry
from snapshots.records.membership import Membership

LEARNERS = {
    "linear": {"kind": "river", "factory": "model:logreg", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}


def events(count: int, first: int = 0) -> list[Any]:
    """Numbered events, some of them twice, some unlabelled, some refused."""
    made: list[Any] = numbers(count, first=first)
    made[10] = dict(made[3])
    made[20] = {key: value for key, value in made[20].items() if key != "y"}
    made[30] = b"nope"
    made[40] = numbers(first)[-1] if first else made[40]  # twice, across the border of the range
    return made


@pytest.fixture
def reverted(folder: Callable[..., Folder]) -> tuple[Folder, Folder]:
    """A lineage put back to before its second half, and one that never was."""
    here, never = folder("here", LEARNERS, holdout__rate=0.1), folder("never", LEARNERS, holdout__rate=0.1)
    here.write(events(600))
    here.trained()
    (never.path / "store").mkdir()
    (never.path / "store" / "lineage.json").write_bytes((here.path / "store" / "lineage.json").read_bytes())
    never.write(events(600))
    never.train()
    good = here.status()["snapshot"]
    for one in (here, never):
        one.write(events(500, first=600))
        one.train()
    here.run("guard", "--once")
    here.run("snapshots", "revert", "linear", str(good), "--why", "looks wrong")
    here.train()
    return here, never


def rows(here: Folder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [r for r in here.json("quarantine", "list") if r["learner"] == "linear"]
    return found


def test_what_is_replayed_is_learnt_as_if_it_had_come_last(reverted: tuple[Folder, Folder]) -> None:
    """Bit-identical, metrics and counts too; and a second replay of the same is refused."""
    here, never = reverted
    (row,) = rows(here)
    assert here.state() != never.state()
    here.run("quarantine", "replay", row["id"], "--why", "it was right")
    here.train()
    assert here.state() == never.state()
    one, other = here.learner(), never.learner()
    assert (one["metrics"], one["events"]) == (other["metrics"], other["events"])
    assert accounted(one["events"])
    assert [r["state"] for r in rows(here)] == ["replayed"]
    assert "could be replayed: it is replayed" in here.run("quarantine", "replay", row["id"], code=3).stderr
    here.train()
    assert here.state() == never.state()
    assert here.state("hashed") == never.state("hashed")


def test_part_of_a_range(reverted: tuple[Folder, Folder]) -> None:
    """What is left out stays in quarantine under names of its own, and can be replayed later."""
    here, _ = reverted
    (row,) = rows(here)
    begin, end = row["ranges"]["events"]["a.jsonl"]
    lines = (here.events / "a.jsonl").read_bytes()[begin:end].splitlines(keepends=True)
    first = begin + sum(map(len, lines[:100]))
    last = begin + sum(map(len, lines[:200]))
    learnt = here.learner()["events"]["learnt"]
    here.run("quarantine", "replay", row["id"], "--except", f"{first}-{last}")
    here.train()
    after = here.learner()["events"]
    assert accounted(after)
    left = [r for r in rows(here) if r["state"] == "skipped"]
    assert [r["id"] for r in left] == [f"{row['id']}.1"]
    assert after["quarantined"] == left[0]["events"]
    assert after["learnt"] == learnt + row["events"] - left[0]["events"]
    assert 80 <= left[0]["events"] <= 100
    here.run("quarantine", "replay", left[0]["id"])
    here.train()
    assert here.learner()["events"]["quarantined"] == 0
    assert accounted(here.learner()["events"])


def test_what_cannot_be_replayed_is_said_before_anything_changes(reverted: tuple[Folder, Folder]) -> None:
    """An unknown range, a wrong range, a file that is gone."""
    here, _ = reverted
    (row,) = rows(here)
    before = len(here.json("ledger"))
    assert "no quarantine 99" in here.run("quarantine", "replay", "99", code=3).stderr
    assert "is no range" in here.run("quarantine", "replay", row["id"], "--only", "7-3", code=None).stderr
    beyond = here.run("quarantine", "replay", row["id"], "--only", "1-2", code=3).stderr
    assert "holds none of it" in beyond
    assert "[a.jsonl]" in beyond
    (here.events / "a.jsonl").rename(here.path / "away.jsonl")
    assert here.run("quarantine", "replay", row["id"], code=None).returncode != 0
    assert len(here.json("ledger")) == before


def test_what_was_dropped_is_not_replayed(reverted: tuple[Folder, Folder]) -> None:
    """A decision of the ledger holds, and what is asked for already is not dropped beside it."""
    here, _ = reverted
    (row,) = rows(here)
    assert f"[{'a.jsonl'}]" in here.run("quarantine", "list").stdout
    here.run("quarantine", "drop", row["id"], "--why", "lies")
    assert "drops quarantine" in here.run("quarantine", "replay", row["id"], code=3).stderr
    here.train()
    assert rows(here)[0]["state"] == "dropped"
    assert here.learner()["events"]["quarantined"] == row["events"]


def test_a_replay_is_undone_by_a_revert_and_not_done_again(reverted: tuple[Folder, Folder]) -> None:
    """The ledger goes forward: a revert after a replay quarantines it all again."""
    here, _ = reverted
    (row,) = rows(here)
    target = next(e["snapshot"] for e in here.json("ledger") if e["action"] == "revert")
    here.run("quarantine", "replay", row["id"])
    here.train()
    here.run("guard", "--once")
    here.run("snapshots", "revert", "linear", str(target))
    here.train()
    counts = here.learner()["events"]
    assert counts["quarantined"] == row["events"]
    assert accounted(counts)


@pytest.mark.kafka
def test_replay_from_kafka(folder: Callable[..., Folder], kafka: str, topic: str) -> None:
    """The same through a topic."""
    settings = {"source__kind": "kafka", "source__topics": [topic], "source__kafka": {"bootstrap.servers": kafka}}
    here = folder("kafka", LEARNERS, **settings)
    producer = Producer({"bootstrap.servers": kafka})
    for lot in (numbers(300), numbers(200, first=300)):
        for event in lot:
            producer.produce(topic, json.dumps(event))
        producer.flush()
        here.trained()
    whole = here.state()
    target = ancestry(here.lineage, "linear")[-2]
    here.run("snapshots", "revert", "linear", str(target))
    here.train()
    (row,) = rows(here)
    here.run("quarantine", "replay", row["id"])
    here.train()
    assert here.state() == whole
    assert accounted(here.learner()["events"])


def test_no_held_out_row_is_ever_learnt(reverted: tuple[Folder, Folder]) -> None:
    """Promise 6: after duplicates, restarts, a revert and a replay the model is one that was taught the others only."""
    here, _ = reverted
    (row,) = rows(here)
    here.write(events(200, first=1100))
    here.write([event for event in events(1300) if isinstance(event, dict)])  # everything once more: duplicates
    here.train()
    here.run("quarantine", "replay", row["id"])
    here.train()
    charter = json.loads((here.path / "store" / "lineage.json").read_text())
    membership = Membership(bytes.fromhex(charter["key"]), 0.1)
    scaler = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    taught, seen, held = RiverLearner.of(scaler), set[str](), 0
    lots = [events(600), events(500, first=600), events(200, first=1100), events(1300)]
    learnt: list[list[Event]] = []
    for lot in lots:
        learnt.append([])
        for one in lot:
            if not isinstance(one, dict) or "y" not in one or one["id"] in seen:
                continue
            seen.add(one["id"])
            if membership.claims(membership.digest(one["id"])):
                held += 1
            else:
                learnt[-1].append(Event.of(one["x"], one["y"] == 1))
    for event in (*learnt[0], *learnt[2], *learnt[3], *learnt[1]):  # what was quarantined comes last
        taught.step(event)
    counts = here.learner()["events"]
    assert counts["held_out"] == held > 50
    assert counts["learnt"] == sum(map(len, learnt))
    assert here.state() == taught.state()
