"""The baseline end to end: archive, retrain, gates, comparison with the online model, falling back and returning."""

from collections.abc import Callable
from typing import Any

import pytest
from support.guarded import LEARNERS, SETTINGS, Stream, event, flip
from support.lineages import Folder, accounted, wait_for
from support.with_baselines import RETRAIN, blown, compared, switches


@pytest.fixture
def based(folder: Callable[..., Folder]) -> Callable[..., Stream]:
    """A lineage that learns, is guarded and serves, with a baseline trained on what came so far."""

    def build(**settings: Any) -> Stream:
        here = folder(learners=LEARNERS, **(SETTINGS | RETRAIN | settings))
        stream = Stream(here)
        here.start("up")
        stream.until(lambda: here.status()["holdout"]["version"] == 2, None)
        stream.lots(20)
        wait_for(lambda: sum(row["events"] for row in here.json("archive", "show")) > 3000)
        here.run("retrain", "--now", timeout=240)
        return stream

    return build


@pytest.mark.timeout(400)
def test_a_baseline_is_trained_compared_fallen_back_to_and_returned_from(based: Callable[..., Stream]) -> None:
    """A poisoned online model loses, and the baseline answers; the world changes, and the online model answers again.

    The guard is told to tolerate everything, so that nothing is reverted in between.
    """
    stream = based(guard__tolerance=0.9, guard__moved="follow", fallback__return_events=300)
    here = stream.here
    (made,) = here.json("retrain", "list")
    assert (made["state"], made["counts"]) == ("accepted", True)
    assert {gate["name"] for gate in here.json("retrain", "show", "1")["gates"]} >= {"holdout", "latency", "slices"}
    stream.until(lambda: compared(here).get("events", 0) > 1500, None)
    report = here.status()["baseline"]
    assert (report["number"], report["answers"]) == (1, False)
    assert report["compared"]["low"] <= report["compared"]["difference"] <= report["compared"]["high"]
    assert "baseline 1 (fm" in here.run("status").stdout
    assert report["compared"]["since"] == here.json("ledger")[0]["time"]
    assert (report["verdict"], report["holdout"]["holdout"]) == ("pass", 2)
    assert report["holdout"]["loss"] < report["holdout"]["plain"]
    here.run("holdout", "refresh", "--approve", "to see the baseline judged again")
    stream.until(lambda: here.status()["baseline"]["holdout"]["holdout"] == 3, None)
    assert switches(here) == []
    good = here.lineage.serving("linear")

    stream.lots(3, blown)
    stream.until(lambda: switches(here), None)
    assert switches(here) == [("fall_back", "guard")]
    entry = here.json("ledger")[-1]
    assert entry["baseline"] == 1
    assert "worse than baseline 1" in entry["why"]
    with here.http() as client:
        question = {"x": event(1)["x"]}
        answer = wait_for(lambda: (a := client.post("/predict", json=question).json())["learner"] == "baseline" and a)
        assert answer["snapshot"] == 1
        assert 0 < answer["probability"] < 1
        assert here.status()["baseline"]["answers"]

        here.run("snapshots", "revert", "linear", str(good))
        stream.until(lambda: switches(here)[1:], flip)
        assert switches(here)[1] == ("return", "guard")
        wait_for(lambda: client.post("/predict", json=question).json()["learner"] == "linear")
        here.run("retrain", "fall-back", "--why", "to see it")
        wait_for(lambda: client.post("/predict", json=question).json()["learner"] == "baseline")
        assert "answers already" in here.run("retrain", "fall-back", code=3).stderr
        here.run("retrain", "return", "--why", "seen")
        wait_for(lambda: client.post("/predict", json=question).json()["learner"] == "linear")
    wait_for(lambda: accounted(here.learner("linear")["events"]))


@pytest.mark.timeout(400)
def test_a_baseline_is_rolled_out(based: Callable[..., Stream]) -> None:
    """It answers beside the champion, and in the end in its place, as after a fall-back."""
    stream = based(
        guard__tolerance=0.9, rollout__steps=[50, 100], rollout__min_events=30, rollout__min_seconds=0.2,
        rollout__max_loss=0.5, rollout__max_prediction_shift=1.0, rollout__max_p99_ms=5000.0,
    )  # fmt: skip
    here = stream.here
    here.run("rollout", "start", "baseline:1")
    routes = set()
    with here.http() as client:

        def led() -> bool:
            for number in range(60):
                answer = client.post("/predict", json={"id": f"u{number}", "x": event(1)["x"]})
                assert answer.status_code == 200
                routes.add((answer.json()["route"], answer.json()["learner"]))
            return here.json("rollout", "status")["state"] == "champion"

        stream.until(led, None, 200)
        wait_for(lambda: client.post("/predict", json={"x": event(1)["x"]}).json()["learner"] == "baseline")
    assert routes >= {("champion", "linear"), ("baseline:1", "baseline")}
    last = [entry for entry in here.json("ledger") if entry["action"] == "fall_back"][-1]
    assert (last["cause"], last["baseline"], last["by"]) == ("rollout", 1, "guard")
