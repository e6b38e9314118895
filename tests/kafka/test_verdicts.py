"""The guard's table, row by row, end to end through Kafka: real producer, trainer, guard and serving, River and VW.

``HOLDFAST_TEST_VERDICTS=1`` (``make soak``) runs all of it at 100, 1,000 and 10,000 events a second; otherwise two
scenarios at 1,000.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import orjson
import pytest
from confluent_kafka import Producer
from support.lineages import Folder, accounted, wait_for
from support.topics import create

from stream.demo.waits import has_level

pytestmark = pytest.mark.kafka
ALL = bool(os.environ.get("HOLDFAST_TEST_VERDICTS"))
RATES = (100, 1000, 10_000) if ALL else (1000,)
LEARNERS = {
    "linear": {"kind": "river", "factory": "model:mixed", "role": "champion"},
    "hashed": {"kind": "vw", "args": "--loss_function logistic"},
}
COUNTRIES = ("de", "fr", "br", "us")
Event = dict[str, Any]
Change = Callable[[Event], Event | None]


def event(number: int) -> Event:
    """A pure function of its number. Each country has features, and so weights, of its own."""
    draw = random.Random(number)
    country = draw.choice(COUNTRIES)
    a, b = draw.gauss(0, 1), draw.gauss(0, 1)
    sign = -1 if country in ("br", "us") else 1
    y = sign * a + 0.3 * b + draw.gauss(0, 0.5) > 0
    x = {"country": country, f"{country}_a": round(a, 4), f"{country}_b": round(b, 4)}
    return {"id": f"v{number}", "ts": time.time(), "x": x, "y": int(y), "w": 1.0}


class Stream(threading.Thread):
    """Produces events at a rate; ``change`` is applied to each, and one that it returns None for is left out."""

    def __init__(self, address: str, topic: str, rate: int) -> None:
        super().__init__(daemon=True)
        self._producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "log_level": 0})
        self._topic, self._rate = topic, rate
        self._over = threading.Event()
        self.change: Change | None = None
        self.number = 0

    def run(self) -> None:
        began, first = time.monotonic(), self.number
        while not self._over.wait(0.02):
            due = min(first + int((time.monotonic() - began) * self._rate), self.number + self._rate)
            for number in range(self.number, due):
                made: Event | None = event(number)
                change = self.change
                if change is not None and made is not None:
                    made = change(made)
                if made is not None:
                    self._producer.produce(self._topic, orjson.dumps(made))
            self.number = due
            self._producer.poll(0)

    def end(self) -> None:
        self._over.set()
        self.join(10)
        self._producer.flush(10)


def of(country: str, change: Change, most: int = 10**9) -> Change:
    """A change of one country's events only, and of so many of them."""
    left = [most]

    def changed(made: Event) -> Event | None:
        if made["x"]["country"] != country or left[0] <= 0:
            return made
        left[0] -= 1
        return change(made)

    return changed


def wild(made: Event) -> Event:
    """Features scrambled, and on another scale, so that what was learnt of theirs is lost."""
    draw = random.Random(made["id"])
    x = {name: value * 1000 * draw.choice((-1, 1)) if name != "country" else value for name, value in made["x"].items()}
    return made | {"x": x}


def shuffled(made: Event) -> Event:
    """Features that look as always and mean nothing."""
    draw = random.Random(made["id"])
    return made | {"x": {name: v if name == "country" else draw.gauss(0, 1) for name, v in made["x"].items()}}


def flipped(made: Event) -> Event:
    return made | {"y": 1 - made["y"]}


def overwritten(made: Event) -> Event | None:
    """Brazil comes no more, and Germany's events carry its features under labels that say the opposite."""
    if made["x"]["country"] == "br":
        return None
    if made["x"]["country"] != "de":
        return made
    a = made["x"]["de_a"]
    return made | {"x": made["x"] | {"br_a": a if made["y"] else -abs(a), "br_b": made["x"]["de_b"]}}


def heavy(made: Event) -> Event:
    """A weight that blows the learning rate up."""
    return made | {"w": 1e9}


def noisy(made: Event) -> Event:
    """The world became harder for every model, the older ones included."""
    draw = random.Random(made["id"])
    return flipped(made) if draw.random() < 0.08 else made


def fewer_germans(made: Event) -> Event | None:
    """Other events than before, under the same rule."""
    return None if made["x"]["country"] in ("de", "br") and random.Random(made["id"]).random() < 0.8 else made


class Row(msgspec.Struct):
    """One row of the table: what is done, the guard's settings, and what has to be in the ledger, or must not."""

    change: Callable[[], Change]
    action: str
    causes: tuple[str, ...] = ()
    slice: str = ""
    settings: dict[str, Any] = {}
    learners: tuple[str, ...] = tuple(LEARNERS)


ROWS = {
    "scrambled for a while": Row(lambda: of("br", wild, 200), "revert", ("forgetting", "broken"), "country=br"),
    "scrambled for good": Row(
        lambda: of("br", shuffled), "revert", ("moved",), "country=br",
        {"guard__hold_events": 1500, "guard__hold_seconds": 0.5},
    ),
    "flipped for good, revert": Row(
        lambda: of("br", flipped), "revert", ("moved", "broken"), "country=br", {"guard__moved": "revert"}
    ),
    "absent and overwritten": Row(lambda: overwritten, "revert", ("forgetting", "broken"), "country=br"),
    "learning rate blown up": Row(lambda: heavy, "revert", ("broken", "diverged", "forgetting")),
    "covariate shift": Row(lambda: fewer_germans, ""),
    "harder for both": Row(lambda: noisy, "retrain", ("world_changed",)),
    "changed and followed": Row(lambda: of("br", flipped), "refresh", ("moved",), "", {"guard__moved": "follow"}),
}  # fmt: skip
CHOSEN = [
    (name, rate) for name in ROWS for rate in RATES if ALL or name in ("scrambled for a while", "covariate shift")
]


@pytest.fixture
def streaming(folder: Callable[..., Folder], kafka: str, topic: str) -> Iterator[Callable[..., tuple[Folder, Stream]]]:
    """A lineage that learns from a topic at a rate, with levels to hold."""
    made: list[Stream] = []

    def build(rate: int, **settings: Any) -> tuple[Folder, Stream]:
        create(kafka, topic)
        here = folder(
            learners=LEARNERS, source__kind="kafka", source__topics=[topic],
            source__kafka={"bootstrap.servers": kafka}, event__slices=["country"], event__weight="w",
            holdout__rate=0.15, holdout__rows=600, holdout__min_slice_rows=80, guard__look_events=50,
            guard__reference_events=20_000, guard__sample=0.5, guard__wait_events=1500, breaker__jump=1.0,
            snapshots__every_seconds=0.1, **settings,
        )  # fmt: skip
        made.append(Stream(kafka, topic, rate))
        for role in ("train", "guard", "serve"):
            here.start(role)
        made[-1].start()
        wait_for(lambda: _settled(here), 180)
        return here, made[-1]

    yield build
    for one in made:
        one.end()


def _settled(here: Folder) -> bool:
    """Every learner has a level on the full holdout, a reference, and a snapshot that serves."""
    lineage = here.lineage
    newest = lineage.newest()
    return (
        newest is not None
        and len(newest.holdout.versions) == 2
        and all(has_level(lineage, name) and lineage.serving(name) is not None for name in newest.learners)
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "rate"), CHOSEN, ids=[f"{name}, {rate}" for name, rate in CHOSEN])
def test_a_row_of_the_table(streaming: Callable[..., tuple[Folder, Stream]], name: str, rate: int) -> None:
    """The same verdict at every rate, for River and for VW; what serves afterwards is older than the first of it."""
    row = ROWS[name]
    here, stream = streaming(rate, **row.settings)
    began = time.time()
    stream.change = row.change()

    def found(learner: str) -> Any:
        return next((e for e in here.lineage.entries if (e.action, e.learner) == (row.action, learner)), None)

    if not row.action:
        first = stream.number
        wait_for(lambda: stream.number > first + 8000 or time.time() > began + 60, 120)
        reverts = [entry for entry in here.lineage.entries if entry.action == "revert"]
        assert reverts == []
        wait_for(lambda: here.learner()["serving"] and _created(here, "linear") > began, 60)
        return
    if row.action == "refresh":  # for whom it was sealed first; the others are then held to newer rows as well
        entry = wait_for(lambda: next(filter(None, map(found, row.learners)), None), 400)
        assert entry.cause in row.causes, entry
        wait_for(lambda: here.status()["holdout"]["version"] >= 3, 60)
        for learner in row.learners:
            wait_for(lambda one=learner: _passed(here, one) > began, 120)
        wait_for(lambda: _created(here, "linear") > began, 60)
    for learner in row.learners if row.action != "refresh" else ():
        entry = wait_for(lambda one=learner: found(one), 240)
        assert entry.cause in row.causes, entry
        assert not row.slice or row.slice in entry.slices, entry
        if "guard__hold_events" in row.settings:  # somebody was asked first
            asked = [
                e for e in here.lineage.entries if (e.action, e.learner) == ("hold", learner) and e.seq < entry.seq
            ]
            assert asked, entry
        if row.action == "revert":
            target = here.lineage.manifest(entry.snapshot)
            assert target is None or target.created <= began
    wait_for(lambda: accounted(here.learner()["events"]))


def _created(here: Folder, learner: str) -> float:
    """When the snapshot that serves was cut."""
    lineage = here.lineage
    manifest = lineage.manifest(lineage.serving(learner) or 0)
    return manifest.created if manifest else 0.0


def _passed(here: Folder, learner: str) -> float:
    """When the newest snapshot of a learner that passed was cut."""
    lineage = here.lineage
    numbers = [number for number in lineage.numbers if lineage.passed(number, learner)]
    manifest = lineage.manifest(numbers[-1]) if numbers else None
    return manifest.created if manifest else 0.0
