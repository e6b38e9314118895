"""Learning from Kafka through Holdfast, as a ratio to its yardstick on the same events in the same run.

The yardsticks: for River, the script that people write (consume, decode, predict, learn; pickle and commit each
second), on the same topic, and the bare test-then-train loop over decoded dicts; for Vowpal Wabbit, its driver reading
the same events from a file (``vw --json``, run by the same library in this process, since the package brings no
program), and its binding called directly, event by event, the label given through its API.
"""

import pickle
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from figures import Row, median_of
from river import linear_model, optim, preprocessing
from vowpalwabbit import Workspace

from stream.compose import trainer_of
from stream.config import check

EVENTS, ROUNDS, FEATURES = {"river": 300_000, "vw": 300_000}, 5, 39
#: of the yardsticks that are slow
FEWER = 100_000
MODEL = """
from river import linear_model, optim, preprocessing
def linear():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
"""
LEARNERS = {
    "river": {"kind": "river", "factory": "bench_model:linear"},
    "vw": {"kind": "vw", "args": "--loss_function logistic"},
}


def events(count: int) -> list[bytes]:
    """Seeded events of 39 numbers, about 590 bytes each."""
    draw = random.Random(1)
    made = []
    for i in range(count):
        x = {f"f{j}": round(draw.gauss(0, 1), 5) for j in range(FEATURES)}
        made.append(orjson.dumps({"id": f"e{i}", "x": x, "y": int(x["f0"] > 0)}))
    return made


def bare_river(lines: list[bytes]) -> float:
    """Events a second of the bare loop on decoded dicts."""
    decoded = [orjson.loads(line) for line in lines]
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
    began = time.perf_counter()
    for event in decoded:
        model.predict_proba_one(event["x"])
        model.learn_one(event["x"], event["y"] == 1)
    return len(lines) / (time.perf_counter() - began)


def plain_script(count: int, address: str, topic: str) -> float:
    """Events a second of the loop that somebody would write, from the first batch on."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"script-{time.time()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
    done, began, saved = 0, 0.0, time.perf_counter()
    while done < count:
        for message in consumer.consume(1000, 1.0):
            began = began or time.perf_counter()
            event = orjson.loads(message.value())
            model.predict_proba_one(event["x"])
            model.learn_one(event["x"], event["y"] == 1)
            done += 1
        if time.perf_counter() - saved > 1 and done:
            pickle.dumps(model)
            consumer.commit(asynchronous=True)
            saved = time.perf_counter()
    consumer.close()
    return done / (time.perf_counter() - began)


def vw_driver(lines: list[bytes]) -> float:
    """Events a second of VW's driver on a file: it reads and parses in one thread and learns in another."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.json")
        rows = map(orjson.loads, lines)
        path.write_bytes(b"".join(orjson.dumps({"_label": 1 if e["y"] else -1, **e["x"]}) + b"\n" for e in rows))
        began = time.perf_counter()
        Workspace(arg_list=["--json", "-d", str(path), "--loss_function", "logistic", "--quiet"]).finish()
        return len(lines) / (time.perf_counter() - began)


def vw_binding(lines: list[bytes]) -> float:
    """Events a second of VW's binding on the features' JSON, label through its API, prediction read."""
    import pylibvw  # noqa: PLC0415  beside its one use

    workspace = Workspace("--loss_function logistic --json --quiet")
    rows = [(orjson.dumps(event["x"]), "1" if event["y"] else "-1") for event in map(orjson.loads, lines)]
    began = time.perf_counter()
    for features, label in rows:
        example = workspace._parse(features)[0]  # noqa: SLF001  the fast way, as Holdfast takes it
        workspace.unsetup_example(example)
        pylibvw.example.set_label_string(example, workspace, label, 0)
        workspace.setup_example(example)
        pylibvw.vw.learn(workspace, example)
        pylibvw.example.get_simplelabel_prediction(example)
        pylibvw.vw._finish_example(workspace, example)  # noqa: SLF001  the same
    return len(lines) / (time.perf_counter() - began)


def produce(address: str, topic: str, lines: list[bytes]) -> None:
    """Put the events into a topic of one partition."""
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.create_topics([NewTopic(topic, 1)]).values():
        future.result()
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for line in lines:
        producer.produce(topic, line)
    producer.flush(120)


def holdfast(kind: str, count: int, address: str, topic: str, every: float = 1.0) -> float:
    """Events a second of a whole trainer from the first batch to the last snapshot; its start is left out."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "bench_model.py").write_text(MODEL)
        sys.path.insert(0, folder)
        table = {
            "name": "bench",
            "task": "binary",
            "source": {"kind": "kafka", "topics": [topic], "kafka": {"bootstrap.servers": address}},
            "learners": {"only": LEARNERS[kind]},
            "snapshots": {"every_seconds": every, "every_events": 10**9},
        }
        moments: list[float] = []
        trainer = trainer_of(
            check(table, base),
            stopping=lambda: False,
            progress=lambda done, _: moments.append(time.perf_counter()) if done else None,
        )
        trainer.run(until_end=True)
        sys.path.remove(folder)
        return (count - 1000) / (time.perf_counter() - moments[0])


def prepare(address: str) -> None:
    """Put the events of every kind into a topic."""
    for kind, count in EVENTS.items():
        produce(address, f"bench-{kind}", events(count))


def rows(address: str) -> list[Row]:
    """Measure in turns."""
    lines = {kind: events(count) for kind, count in EVENTS.items()}
    yardsticks: list[tuple[str, str, Callable[[], float], float | None]] = [
        ("River from Kafka / a plain script", "river", lambda: plain_script(FEWER, address, "bench-river"), 5.0),
        ("River from Kafka / the bare loop", "river", lambda: bare_river(lines["river"][:FEWER]), None),
        ("VW from Kafka / its driver on a file", "vw", lambda: vw_driver(lines["vw"]), None),
        ("VW from Kafka / its binding called directly", "vw", lambda: vw_binding(lines["vw"]), 0.8),
    ]
    found = []
    for name, kind, yardstick, bar in yardsticks:
        pairs = [(holdfast(kind, EVENTS[kind], address, f"bench-{kind}"), yardstick()) for _ in range(ROUNDS)]
        ours, theirs = max(o for o, _ in pairs), max(t for _, t in pairs)
        ratio, low, high = median_of([o / t for o, t in pairs])
        found.append(Row(name, f"{ours:,.0f} / {theirs:,.0f} events/s", ratio, low, high, bar, at_least=True))
    return found
