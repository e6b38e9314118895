"""Killed with -9 in the middle of a retrain, of its gates, of falling back: nothing is lost, nothing half-served.

``HOLDFAST_TEST_RETRAINS`` says how many kills (4; ``make soak``: 200), ``HOLDFAST_TEST_SEED`` which moments.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.archived import RULES, archived, mixed
from support.crash_points import HOOK
from support.guarded import LEARNERS, SETTINGS, Stream, event, flip
from support.lineages import Folder, accounted, wait_for
from support.with_baselines import RETRAIN, blown, compared, switches

from snapshots.records import baselines
from stream.retrain.gating import read_baseline

pytest.importorskip("torch")
KILLS = int(os.environ.get("HOLDFAST_TEST_RETRAINS", "2"))
SEED = int(os.environ.get("HOLDFAST_TEST_SEED", "1"))
#: writes of a retrain: lease, dataset, checkpoints, parts, manifest, ledger
WITHIN = 120


def whole(here: Folder) -> None:
    """Whatever counts can be loaded, and everything that has a manifest is as it was written."""
    lineage = here.lineage
    lineage.ledger.verify()
    for number in baselines.numbers(lineage.store):
        manifest = baselines.read(lineage.store, number)
        assert manifest is not None
        for part in (manifest.model, manifest.state, manifest.sample):
            assert part is not None
            baselines.read_part(lineage.store, part)
    counts = lineage.decided.baseline
    if counts is not None:
        read_baseline(lineage, counts)


@pytest.mark.timeout(3600)
def test_killed_in_a_retrain_the_next_ends_with_the_same_model(folder: Callable[..., Folder]) -> None:
    """At seeded writes and at seeded seconds: training, export, baseline, gates, ledger."""
    draw = random.Random(SEED)
    here = folder("killed", **RULES | {"retrain__kind": "dcn", "retrain__epochs": 6}, holdout__rate=0.2,
                  retrain__lease_seconds=0.5)  # fmt: skip
    archived(here, mixed(3000))
    never = here.copy(here.path.parent / "never")
    never.run("retrain", "--now", code=0)
    wanted = baselines.read(never.lineage.store, 1)
    assert wanted is not None
    killed = rounds = 0
    while killed < KILLS:
        rounds += 1
        by_point = rounds % 2 == 1
        process = here.start(
            "retrain", "--now", PYTHONPATH=HOOK,
            HOLDFAST_TEST_CRASH=f"command:{draw.randrange(1, WITHIN)}" if by_point else "",
        )  # fmt: skip
        if not by_point:
            time.sleep(draw.uniform(0.5, 5.0))
            process.send_signal(signal.SIGKILL)
        killed += process.wait(120) == -signal.SIGKILL
        whole(here)
        assert rounds < 4 * KILLS + 8, here.log("retrain")[-3000:]
        time.sleep(0.6)  # the lease of who was killed runs out
    here.run("retrain", "--now", code=None)
    whole(here)
    found = baselines.read(here.lineage.store, here.lineage.decided.baseline or 0)
    assert found is not None
    assert found.data_version == wanted.data_version
    assert found.model.sha256 == wanted.model.sha256
    here.end()


@pytest.mark.timeout(3600)
def test_killed_while_falling_back_and_returning_it_happens_once(folder: Callable[..., Folder]) -> None:
    """The guard is killed at seeded writes again and again; requests are answered all the while."""
    draw = random.Random(SEED)
    settings = RETRAIN | {"guard__tolerance": 0.9, "guard__moved": "follow", "fallback__return_events": 300}
    here = folder(learners=LEARNERS, **(SETTINGS | settings))
    stream = Stream(here)
    for role in ("train", "guard", "serve"):
        here.start(role)
    stream.until(lambda: here.status()["holdout"]["version"] == 2, None)
    stream.lots(10)
    here.run("archive", "run", "--until-end")
    here.run("retrain", "--now", timeout=240)
    stream.until(lambda: compared(here).get("events", 0) > 800, None)
    good = here.lineage.serving("linear")
    guard = here.processes[1]
    guard.send_signal(signal.SIGKILL)
    guard.wait()
    answers: list[Any] = []
    ended = threading.Event()

    def ask() -> None:
        with here.http() as client:
            while not ended.is_set():
                try:
                    answers.append(client.post("/predict", json={"x": event(1)["x"]}))
                except httpx.TransportError as cause:
                    answers.append(cause)
                time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    died = 0

    def guarded(until: Callable[[], bool], change: Callable[[dict[str, Any]], None] | None) -> None:
        nonlocal died
        for round_ in range(200):
            point = f"guard:{draw.randrange(1, 40)}" if round_ < KILLS // 2 else ""
            process = here.start("guard", HOLDFAST_TEST_CRASH=point, PYTHONPATH=HOOK)
            for _ in range(40):
                stream.lots(1, change)
                if process.poll() is not None or until():
                    break
            died += process.poll() == -signal.SIGKILL
            process.send_signal(signal.SIGKILL)
            process.wait()
            if until():
                return
        raise AssertionError(here.log("guard")[-3000:])

    try:
        stream.lots(3, blown)
        guarded(lambda: bool(switches(here)), None)
        here.run("snapshots", "revert", "linear", str(good))
        guarded(lambda: len(switches(here)) > 1, flip)
    finally:
        ended.set()
        asking.join()
    assert switches(here) == [("fall_back", "guard"), ("return", "guard")]
    assert died >= min(2, KILLS // 2)
    wrong = [one for one in answers if isinstance(one, Exception) or one.status_code != 200]
    assert not wrong, wrong[:3]
    assert {one.json()["learner"] for one in answers} == {"linear", "baseline"}
    here.lineage.ledger.verify()
    with contextlib.suppress(AssertionError):
        wait_for(lambda: accounted(here.learner("linear")["events"]), 5)
    assert accounted(here.learner("linear")["events"])
