"""Promise 8, word by word: a revert brings back everything of one learner, and never the place."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lineages import Folder, accounted, wait_for
from support.samples import mixed

from snapshots.records import verdict as verdicts
from snapshots.records.verdict import Verdict

LEARNERS = {
    "linear": {"kind": "river", "factory": "model:mixed", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A lineage with passing snapshots after 300, 600 and 900 events."""
    found = Folder(tmp_path_factory.mktemp("first") / "here", LEARNERS)
    for seed in range(3):
        found.write([{**event, "id": f"{seed}-{event['id']}"} for event in mixed(300, seed)])
        found.trained()
    return found


@pytest.fixture
def here(first: Folder, tmp_path: Path) -> Iterator[Folder]:
    """A copy of it, for one test."""
    found = first.copy(tmp_path / "copy")
    yield found
    found.end()


def after(here: Folder, learnt: int) -> int:
    """The number of the snapshot at which the champion had learnt so many."""
    return next(
        row["snapshot"]
        for row in here.json("snapshots", "list")
        if row["learnt"] == learnt and row["learner"] == "linear"
    )


def test_a_revert_puts_back_weights_metrics_and_counts_and_quarantines_the_range(here: Folder) -> None:
    """The other learner is untouched, the place stays, the equation holds."""
    target = after(here, 300)
    before = here.status()
    then = here.lineage.part(target, "linear")
    assert then is not None
    here.run("snapshots", "revert", str(target), "--why", "poisoned")
    here.train()
    status = here.status()
    linear, hashed = status["learners"]["linear"], status["learners"]["hashed"]
    assert status["place"] == before["place"]
    assert linear["metrics"] == then.figures["metrics"]
    assert linear["events"]["learnt"] == 300
    assert linear["events"]["quarantined"] == 600
    assert accounted(linear["events"])
    assert hashed["events"] == before["learners"]["hashed"]["events"]
    assert hashed["metrics"] == before["learners"]["hashed"]["metrics"]
    (row,) = here.json("quarantine", "list")
    place = here.lineage.manifest(target).place  # type: ignore[union-attr]
    begin = place["events"]["a.jsonl"]
    end = before["place"]["events"]["a.jsonl"]
    assert row == {
        "learner": "linear", "id": "1", "cause": "poisoned", "ranges": {"events": {"a.jsonl": [begin, end]}},
        "events": 600, "state": "skipped",
    }  # fmt: skip


def test_after_a_revert_it_learns_on_as_if_the_range_had_never_been(
    here: Folder, folder: Callable[..., Folder]
) -> None:
    """Bit for bit: weights, scaler and metrics of a learner that saw only what came before and after."""
    here.run("snapshots", "revert", str(after(here, 300)))
    fresh = [{**event, "id": f"9-{event['id']}"} for event in mixed(300, 9)]
    here.write(fresh)
    here.train()
    other = folder("other", LEARNERS)
    other.write([{**event, "id": f"0-{event['id']}"} for event in mixed(300, 0)])
    other.train()
    other.write(fresh)
    other.train()
    assert here.state() == other.state()
    assert here.learner()["metrics"] == other.learner()["metrics"]


def test_a_revert_can_itself_be_reverted(here: Folder) -> None:
    """The same rule: learnt of the target, the difference quarantined."""
    last, first = after(here, 900), after(here, 300)
    here.run("snapshots", "revert", str(first))
    here.train()
    here.run("snapshots", "revert", str(last), "--why", "it was fine")
    here.train()
    linear = here.learner()
    assert (linear["line"], linear["events"]["learnt"], linear["events"]["quarantined"]) == (2, 900, 0)
    assert accounted(linear["events"])
    here.write([{**event, "id": f"5-{event['id']}"} for event in mixed(100, 5)])
    here.trained()
    here.run("snapshots", "revert", str(first))
    here.train()
    linear = here.learner()
    assert (linear["events"]["learnt"], linear["events"]["quarantined"]) == (300, 700)
    assert len(here.json("quarantine", "list")) == 1


def test_previous_is_the_passing_one_before_what_serves(here: Folder) -> None:
    """Also after a revert: never a condemned one."""
    order = [after(here, learnt) for learnt in (300, 600, 900)]
    assert here.learner()["serving"] == order[2]
    here.run("snapshots", "revert", "--previous")
    assert here.learner()["serving"] == order[1]
    here.run("snapshots", "revert")
    assert here.learner()["serving"] == order[0]
    refused = here.run("snapshots", "revert", "--previous", code=3)
    assert "nothing was changed" in refused.stderr
    assert len(here.json("ledger")) == 2


def test_a_late_verdict_on_the_condemned_line_changes_nothing(here: Folder) -> None:
    """Promise 3: serving stays on the target until a snapshot of the new line passes."""
    here.write([{**event, "id": f"7-{event['id']}"} for event in mixed(50, 7)])
    here.train()
    condemned = here.lineage.numbers[-1]
    target = after(here, 300)
    here.run("snapshots", "revert", str(target))
    verdicts.give(here.lineage.store, Verdict("linear", condemned, 0, "pass", "late", {}, time.time(), time.time()))
    assert here.learner()["serving"] == target
    here.train()
    assert here.learner()["serving"] == target
    here.run("guard", "--once")
    assert here.learner()["serving"] == here.lineage.numbers[-1]
    assert here.lineage.part(here.lineage.numbers[-1], "linear").line == 1  # type: ignore[union-attr]


def test_stay_keeps_serving_the_target_until_it_is_lifted(here: Folder) -> None:
    """Learning goes on meanwhile."""
    target = after(here, 300)
    here.run("snapshots", "revert", str(target), "--stay")
    here.write([{**event, "id": f"7-{event['id']}"} for event in mixed(50, 7)])
    here.trained()
    assert here.learner()["serving"] == target
    here.run("snapshots", "lift", "--why", "checked")
    assert here.learner()["serving"] == here.lineage.numbers[-1]
    assert "nothing was changed" in here.run("snapshots", "lift", code=3).stderr


@pytest.mark.parametrize("case", ["missing", "serves", "damaged", "unjudged", "learner", "words"])
def test_reverting_to_what_cannot_serve_says_so_and_changes_nothing(here: Folder, case: str) -> None:
    """Exit code 3 (2 for wrong words), the reason, and an empty ledger."""
    target = str(after(here, 300))
    arguments, word, code = {
        "missing": (["999"], "does not exist", 3),
        "serves": ([str(after(here, 900))], "already serves", 3),
        "damaged": ([target], "damaged", 3),
        "unjudged": (["0"], "has not passed", 3),
        "learner": (["nobody", target], "no learner 'nobody'", 3),
        "words": ([target, "--previous"], "N | --previous", 2),
    }[case]
    if case == "damaged":
        path = here.path / "store" / here.lineage.part(int(target), "linear").model.name  # type: ignore[union-attr]
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = here.run("snapshots", "revert", *arguments, code=code)
    assert word in said.stderr
    assert here.json("ledger") == []


def test_the_past_can_be_asked(here: Folder) -> None:
    """Ledger --at: what served then, and why; ledger verify; and the entry's fields."""
    before = time.time()
    served = here.learner()["serving"]
    time.sleep(0.05)
    here.run("snapshots", "revert", str(after(here, 300)), "--why", "looks wrong")
    (entry,) = here.json("ledger")
    assert (entry["seq"], entry["action"], entry["learner"], entry["why"]) == (1, "revert", "linear", "looks wrong")
    assert entry["by"].startswith("operator:")
    assert entry["previous"] == "0" * 64
    assert here.json("ledger", "--at", str(before))["snapshot"] == served
    assert here.json("ledger", "--at", str(time.time()))["snapshot"] == after(here, 300)
    assert here.json("ledger", "--at", "2001-01-01")["snapshot"] is None
    assert "1 entries" in here.run("ledger", "verify").stdout
    assert here.run("ledger", "--at", "yesterday", code=2)


def test_pinned_snapshots_outlive_retention(folder: Callable[..., Folder]) -> None:
    """And so do what serves, the newest, and a revert's target; others go."""
    here = folder(snapshots__keep={"last": 2, "minutely": 0, "hourly": 0, "daily": 0})
    pinned = -1
    for i in range(6):
        here.write([{**event, "id": f"{i}-{event['id']}"} for event in _simple(20)])
        here.trained()
        if i == 2:
            pinned = here.lineage.numbers[-1]
            here.run("snapshots", "pin", str(pinned), "--why", "reference")
    numbers = here.lineage.numbers
    assert pinned in numbers
    assert len(numbers) <= 5
    rows = {row["snapshot"]: row for row in here.json("snapshots", "list")}
    assert rows[pinned]["pinned"]
    assert "already pinned" in here.run("snapshots", "pin", str(pinned), code=3).stderr
    here.run("snapshots", "unpin", str(pinned))
    here.write([{**event, "id": f"x-{event['id']}"} for event in _simple(20)])
    here.train()
    assert pinned not in here.lineage.numbers
    assert here.run("snapshots", "pin", "999", code=3)


def _simple(count: int) -> list[dict[str, Any]]:
    return [{"id": f"e{i}", "x": {"f0": float(i % 7)}, "y": i % 2} for i in range(count)]


def test_the_trainer_leaves_the_condemned_line_while_running(here: Folder) -> None:
    """Without a restart: the revert is followed, and a cut fixes the end of the range at once."""
    for role in ("train", "guard"):
        here.start(role)
    wait_for(lambda: here.status()["source"]["state"] == "reading")
    here.run("snapshots", "revert", str(after(here, 300)))
    row = wait_for(lambda: next((r for r in here.json("quarantine", "list") if r["state"] == "skipped"), None))
    assert row["events"] == 600
    wait_for(lambda: here.learner()["line"] == 1 and here.learner()["serving"] == here.lineage.numbers[-1])
