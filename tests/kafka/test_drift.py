"""Drift through a real topic: what switches serving to the baseline and back, and what does not."""

from collections.abc import Callable
from typing import Any

import pytest
from support.guarded import LEARNERS, SETTINGS, Stream, event, flip
from support.lineages import Folder, accounted, wait_for
from support.topics import create, put
from support.with_baselines import RETRAIN, blown, compared, switches

from learners.evidence.lane import alarm_at

pytest.importorskip("torch")
pytestmark = pytest.mark.kafka
#: fresh events in which the simulation of docs/guard.md finds an increase of 0.2: 190 in the middle
MOST_EVENTS = 2000


class TopicStream(Stream):
    """Produces its lots to a topic."""

    def __init__(self, here: Folder, address: str, topic: str) -> None:
        super().__init__(here)
        self._address, self._topic = address, topic
        here.write = self._produce  # type: ignore[method-assign]

    def _produce(self, events: Any, _: str = "") -> int:
        made = list(events)
        put(self._address, self._topic, made)
        return len(made)


@pytest.mark.timeout(600)
def test_who_answers_through_poison_and_a_change_of_the_concept(
    folder: Callable[..., Folder], kafka: str, topic: str
) -> None:
    """Steady: nobody switches. Poisoned: the baseline answers. The concept turns round: the online model answers again.

    It falls back within the evidence that the simulation predicts; against the frozen baseline, which then loses, the
    online model stays.
    """
    create(kafka, topic)
    source = {"source__kind": "kafka", "source__topics": [topic], "source__kafka": {"bootstrap.servers": kafka}}
    here = folder(
        learners={"linear": LEARNERS["linear"]},
        **(
            SETTINGS
            | RETRAIN
            | source
            | {
                "fallback__return_events": 300,
                "breaker__jump": 1.0,
                "guard__tolerance": 0.9,
                "holdout__floor_tolerance": 0.95,
            }
        ),
    )
    stream = TopicStream(here, kafka, topic)
    here.start("up")
    stream.until(lambda: here.status()["holdout"]["version"] == 2, None)
    stream.lots(20)
    wait_for(lambda: sum(row["events"] for row in here.json("archive", "show")) > 3000)
    here.run("retrain", "--now", timeout=240)
    stream.until(lambda: compared(here).get("events", 0) > 1500, None)
    assert switches(here) == []
    good = here.lineage.serving("linear")

    before = compared(here)["events"]
    stream.lots(3, blown)
    stream.until(lambda: switches(here), None)
    assert switches(here) == [("fall_back", "guard")]
    assert compared(here)["events"] - before < MOST_EVENTS
    entry = here.json("ledger")[-1]
    with here.http() as client:
        asked = {"x": event(1)["x"]}
        wait_for(lambda: client.post("/predict", json=asked).json()["learner"] == "baseline")
        assert here.json("ledger", "--at", str(entry["time"] + 0.01))["learner"] == "baseline"
        here.run("snapshots", "revert", "linear", str(good))
        stream.until(lambda: switches(here)[1:], flip)
        assert switches(here)[1] == ("return", "guard")
        wait_for(lambda: client.post("/predict", json=asked).json()["learner"] == "linear")

    stream.until(lambda: compared(here).get("events", 0) > 2000 and compared(here)["high"] < -0.1, flip)
    assert compared(here)["fall_back"] < alarm_at(31_536_000 / 0.1, 1, 1, 1.0)
    assert len(switches(here)) == 2
    wait_for(lambda: accounted(here.learner("linear")["events"]))
