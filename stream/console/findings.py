"""What an operator should look at first, in sentences."""

from collections.abc import Iterator
from typing import Any

#: how bad, and what; 2 needs somebody, 1 should be looked at
Finding = tuple[int, str]
#: so many snapshots without a verdict are no longer those of the last few seconds
_MANY_WAIT = 30


def findings(status: dict[str, Any]) -> list[dict[str, str]]:
    """The worst first; nothing when all is well. ``status`` is that of :func:`stream.status.status.status`."""
    found = [*_of_processes(status), *_of_source(status), *_of_learners(status), *_of_store(status)]
    return [{"level": ("", "warn", "bad")[bad], "what": what} for bad, what in sorted(found, key=lambda one: -one[0])]


def _of_processes(status: dict[str, Any]) -> Iterator[Finding]:
    if not status["serving"]:
        yield 2, "no process answers: holdfast up, or holdfast serve, starts one"
    elif all(one["snapshot"] is None for one in status["serving"]):
        yield 1, "nothing is answered yet: no snapshot has passed the guard"
    if not status["guard"]:
        yield 2, "no guard runs, so no new snapshot passes: holdfast up, or holdfast guard"
    for one in status["guard"]:
        if one["waiting"] > _MANY_WAIT:
            yield 1, f"{one['waiting']:,} snapshots wait for a verdict"


def _of_source(status: dict[str, Any]) -> Iterator[Finding]:
    source = status["source"]
    if source["state"] == "stopped":
        yield 2, source["why"]
    elif source["state"] == "waiting":
        yield 1, f"the source is waited for: {source['why']}"
    for sentence in status["unmatched"]:
        yield 1, sentence


def _of_learners(status: dict[str, Any]) -> Iterator[Finding]:
    if status["snapshot"] is None:
        yield 1, "no snapshot has been written yet: holdfast up writes the first"
    for name, one in status["learners"].items():
        if one["accounting_difference"]:
            yield 2, f"{name}: {one['accounting_difference']} events are in no class"
        if one["verdict"] in ("suspect", "fail"):
            yield 1, f"{name} is {one['verdict']}: {one['why']}"
        if one["learning"] == "stopped":
            yield 2, f"{name} learns nothing: {one['stopped_why']}"


def _of_store(status: dict[str, Any]) -> Iterator[Finding]:
    if status["store"]["trouble"]:
        yield 2, f"store: {status['store']['trouble']}"
    for number, why in status["damaged"].items():
        yield 1, f"snapshot {number} is refused: {why}"
    rollout = status["rollout"]
    if rollout["state"] == "aborted":
        yield 1, f"the roll-out of {rollout['candidate']} was taken back: {rollout['why']}"
    elif rollout.get("awaits_approval"):
        yield 1, f"the roll-out of {rollout['candidate']} waits for somebody to approve"
