"""Which learner answers: the guard promotes a challenger that is better for certain; an operator may undo it."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from support.guarded import SETTINGS, Stream, event
from support.lineages import Folder, accounted, wait_for

LEARNERS = {
    "lazy": {"kind": "vw", "args": "--loss_function logistic -l 0.001", "role": "champion"},
    "eager": {"kind": "vw", "args": "--loss_function logistic"},
    "twin": {"kind": "vw", "args": "--loss_function logistic -l 0.001"},
}


def promotions(here: Folder) -> list[tuple[str, str]]:
    return [(e["learner"], e["by"].split(":")[0]) for e in here.json("ledger") if e["action"] == "promote"]


def answers(here: Folder) -> str | None:
    """Who answers a question; None while nobody does."""
    with contextlib.suppress(httpx.TransportError), here.http() as client:
        found: str | None = client.post("/predict", json={"x": event(1)["x"]}).json().get("learner")
        return found
    return None


def against(here: Folder, name: str) -> dict[str, Any]:
    """How a challenger compares with the champion."""
    found: dict[str, Any] = here.status()["learners"].get(name, {}).get("against_champion") or {}
    return found


def test_a_better_challenger_is_promoted_and_answers(folder: Callable[..., Folder]) -> None:
    """Once, with the figures in the ledger; its twin of the old champion is not. Restarted, everybody knows it."""
    here = folder(learners=LEARNERS, champion="auto", **SETTINGS)
    stream = Stream(here)
    here.start("up")
    stream.until(lambda: promotions(here), None)
    assert promotions(here) == [("eager", "guard")]
    (entry,) = [e for e in here.json("ledger") if e["action"] == "promote"]
    assert "eager is better than lazy by" in entry["why"]
    assert entry["replaces"] == "lazy"
    wait_for(lambda: answers(here) == "eager")
    roles: dict[str, Any] = wait_for(
        lambda: (r := {n: o["role"] for n, o in here.status()["learners"].items()})["eager"] == "champion" and r
    )
    assert roles == {"lazy": "challenger", "eager": "champion", "twin": "challenger"}
    stream.until(lambda: against(here, "lazy"), None)
    stream.lots(10)
    compared = against(here, "lazy")
    assert compared["champion"] == "eager"
    assert compared["difference"] > 0
    assert "worse by" in here.run("status").stdout
    before = datetime.fromtimestamp(entry["time"] - 0.001, UTC).isoformat()
    assert here.json("ledger", "--at", before)["learner"] == "lazy"
    assert here.json("ledger", "--at", str(entry["time"] + 0.001))["learner"] == "eager"

    here.end()
    here.start("up")
    wait_for(lambda: here.status()["serving"] and here.status()["serving"][0]["learner"] == "eager")
    here.run("promote", "lazy", "--why", "to see it undone")
    wait_for(lambda: answers(here) == "lazy")
    assert "already" in here.run("promote", "lazy", code=3).stderr
    assert "no learner" in here.run("promote", "nobody", code=3).stderr
    stream.until(lambda: len(promotions(here)) == 3, None)  # fresh evidence: the guard promotes it again
    assert promotions(here)[1:] == [("lazy", "operator"), ("eager", "guard")]
    for learner in LEARNERS:
        assert accounted(here.learner(learner)["events"])


def test_without_auto_nobody_is_promoted(folder: Callable[..., Folder]) -> None:
    """The comparison is there all the same."""
    here = folder(learners=LEARNERS, **SETTINGS)
    stream = Stream(here)
    here.start("train")
    here.start("guard")
    stream.until(lambda: against(here, "eager").get("better", 0) > 1e9, None)
    stream.lots(5)
    assert promotions(here) == []
