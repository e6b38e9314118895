"""Where the microseconds of an event and of a prediction go: each step alone, in one process, the best of five.

``python benchmarks/microseconds.py``; the table stands in docs/performance.md.
"""

import time
from collections.abc import Callable

import learning
import msgspec
import orjson
from learners_for import river_linear, vw_linear

from learners import Event, Features, Metrics, Prediction
from learners.labels import Labels
from learners.river.compiled.faster import faster
from snapshots.records.membership import Membership
from stream.learner import wire
from stream.record import Record
from stream.settings import EventPaths
from stream.source.alike.batches import BatchCodec
from stream.source.codec import Codec
from stream.train.recent import RecentIds

EVENTS = 20_000


def step(name: str, work: Callable[[], object], count: int = EVENTS) -> None:
    """Print the best of five."""
    best = min(_once(work) for _ in range(5))
    print(f"| {name} | {best / count * 1e6:.2f} |")


def _once(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Print both tables."""
    lines = learning.events(EVENTS)
    records = [Record("t", "0", i, i + 1, line, 1.7e9) for i, line in enumerate(lines)]
    codec = Codec(EventPaths(), Labels("binary"))
    events = [event for event in map(codec.decode, records) if isinstance(event, Event)]
    membership = Membership(b"k" * 32, 0.02)
    digests = [membership.digest(event.id) for event in events]
    raws = [event.features.raw for event in events]
    batch = wire.Batch(1, raws[:1000], [True] * 1000, None, None, None)
    packed = wire.encode(batch)
    print("| step of an event (39 numbers) | µs |\n|---|---|")
    step("trainer: decode and check (envelope, features, names, label)", lambda: [codec.decode(one) for one in records])
    batches = BatchCodec(codec, 0)
    thousands = [records[at : at + 1000] for at in range(0, EVENTS, 1000)]
    batches.decode_many(thousands[0])
    step(
        "the same, events that look alike together (extra fast)",
        lambda: [batches.decode_many(one) for one in thousands],
    )
    alike = [event for one in thousands for event in batches.decode_many(one) if isinstance(event, Event)]
    envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
    features = msgspec.json.Decoder(dict[str, float])
    step("of which the envelope alone, as raw fields", lambda: [envelope.decode(line) for line in lines])
    step("of which the features alone, without checks", lambda: [features.decode(raw) for raw in raws])
    step("trainer: keyed hash of the id", lambda: [membership.digest(event.id) for event in events])
    step("trainer: window of recent ids", lambda: list(map(RecentIds(20_000).seen, digests)))
    step("trainer: hand on, packed by the thousand", lambda: [wire.encode(batch) for _ in range(20)])
    step("learner: unpack, and make events", lambda: [
        Event("", Features(raw), True, 1.0) for _ in range(20) for raw in wire.orders.decode(packed).features  # type: ignore[union-attr]
    ])  # fmt: skip
    for name, build in (("VW", vw_linear), ("River", river_linear)):
        learner = build()
        fresh = [Event("", Features(raw), event.label) for raw, event in zip(raws, events, strict=True)]
        step(
            f"learner: {name}, predict and learn", lambda learner=learner, fresh=fresh: [learner.step(e) for e in fresh]
        )
        predictions = [learner.predict(event.features) for event in fresh[:1000]]
        metrics = Metrics("binary")
        step(
            f"learner: metrics of a batch ({name})",
            lambda m=metrics, f=fresh, p=predictions: [m.update(f[:1000], p) for _ in range(20)],
        )
    compiled, said = faster(river_linear())[0], list[Prediction]()
    rows = [alike[at : at + 1000] for at in range(0, len(alike), 1000)]
    compiled.learn_many(rows[0], said)  # type: ignore[attr-defined]
    step(
        "learner: River compiled (extra fast), predict and learn",
        lambda: [compiled.learn_many(one, said) for one in rows],  # type: ignore[attr-defined]
    )
    body = b'{"id":"q1","x":{"f0":0.31,"f1":-1.2,"f2":0.5,"f3":1.9,"f4":-0.2,"f5":0.7,"f6":0.1,"f7":-2.2}}'
    asked = codec.question(body)
    print("\n| step of a prediction (8 numbers) | µs |\n|---|---|")
    step("decode and check", lambda: [codec.question(body) for _ in range(EVENTS)])
    for name, build in (("VW", vw_linear), ("River", river_linear)):
        learner = build()
        for event in events[:500]:
            learner.step(event)
        step(
            f"{name}: predict",
            lambda learner=learner: [learner.predict(Features(asked[1].raw)) for _ in range(EVENTS)],  # type: ignore[index]
        )
    answer = {"id": "q1", "prediction": True, "probability": 0.731, "learner": "linear", "snapshot": 17}
    step("encode the answer", lambda: [orjson.dumps(answer) for _ in range(EVENTS)])


if __name__ == "__main__":
    main()
