"""Cost per event and resident memory from 10^5 to 10^7 events: both stay what they were."""

import resource
import tempfile
import time
from pathlib import Path

import orjson
from figures import Row
from support.samples import numbers

from stream.compose import trainer_of
from stream.config import check
from stream.process.presence import resident_bytes

EVENTS = 10_000_000


def rows(count: int = EVENTS) -> list[Row]:
    """One run over a file; the first million (after 10^5) against the last."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "events").mkdir()
        values = [orjson.dumps(event) for event in numbers(5000)]
        with (base / "events" / "a.jsonl").open("wb") as file:
            for begin in range(0, count, 5000):
                file.write(b"".join(
                    value.replace(b'"id":"e', b'"id":"%d-' % begin, 1) + b"\n" for value in values
                ))  # fmt: skip
        table = {
            "name": "flat", "task": "binary", "source": {"kind": "files"}, "event": {"slices": ["f0"]},
            "learners": {"v": {"kind": "vw", "args": "--loss_function logistic -b 18"}},
        }  # fmt: skip
        marks = {10**5: None, 10**6: None, count - 10**6: None, count - 5000: None}
        seen: dict[int, tuple[float, float, float]] = {}

        def progress(done: int, _: int | None) -> None:
            for mark in marks:
                if mark not in seen and done >= mark:
                    memory = resident_bytes(trainer.kit.learners[0].process)
                    own = resource.getrusage(resource.RUSAGE_SELF)
                    seen[mark] = (time.perf_counter(), memory, own.ru_maxrss * 1024.0)

        trainer = trainer_of(check(table, base), stopping=lambda: False, progress=progress)
        trainer.run(until_end=True)
    first = (seen[10**6][0] - seen[10**5][0]) / (9 * 10**5)
    last = (seen[count - 5000][0] - seen[count - 10**6][0]) / (10**6 - 5000)
    ratio = last / first
    memory = seen[count - 5000][1] / seen[10**5][1]
    own = seen[count - 5000][2] / seen[10**5][2]
    detail = f"{first * 1e6:.1f} and {last * 1e6:.1f} µs an event"
    sizes = [f"{seen[mark][1] / 2**20:.0f} MiB" for mark in (10**5, count - 5000)]
    return [
        Row("cost of an event, at 10^7 / at 10^5", detail, ratio, ratio, ratio, 1.1),
        Row("memory of the learner, at 10^7 / at 10^5", " and ".join(sizes), memory, memory, memory, 1.1),
        Row(
            "memory of the trainer (peak), at 10^7 / at 10^5",
            f"{seen[count - 5000][2] / 2**20:.0f} MiB",
            own,
            own,
            own,
            1.1,
        ),
    ]
