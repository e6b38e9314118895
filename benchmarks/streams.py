"""The guard on real streams: what it reverts, what it costs or saves; with the guard, without, and following.

    python benchmarks/streams.py FOLDER [NAME …]

FOLDER holds ``elec2.csv.gz``, ``bank_full.csv.gz``, ``insects_gradual_balanced.csv.gz``, ``kdd99_10pct.csv.gz`` and
``poker_uci_part.csv.gz``, as described in docs/guard.md. Trainer, guard and store are the real ones, in step: a chunk
is answered by the snapshot that serves, then learnt, cut and judged. The clock is the chunks': ten seconds each.
"""

import argparse
import csv
import gzip
import itertools
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from learners.event import Features
from snapshots.judging.history import all_verdicts
from snapshots.records import cut as snapshots
from stream.compose import trainer_of
from stream.config import check
from stream.guard.watch import Guarding
from stream.parts import labels_of

_CHUNK_SECONDS = 10.0
#: the budget of false reverts: one in 3,154 looks, so that a stream of some hundred looks has a budget that fits it
_FALSE = 1000.0
MODEL = """
from numbers import Number
from river import compose, linear_model, optim, preprocessing

def elec2():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))

def bank():
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(optim.SGD(0.01))
"""


class Stream(msgspec.Struct):
    """One data set: its label, its learner, and the settings of the guard that are stated beside the results."""

    file: str
    label: str
    task: str
    learner: dict[str, Any]
    chunk: int
    rate: float
    rows: int
    positive: Any = 1
    slices: list[str] = []


def vw(args: str) -> dict[str, Any]:
    """A Vowpal Wabbit learner."""
    return {"kind": "vw", "args": args}


STREAMS = {
    "elec2": Stream(
        "elec2", "class", "binary", {"kind": "river", "factory": "model:elec2"}, 100, 0.1, 800, positive="UP"
    ),
    "bank_full": Stream(
        "bank_full", "deposit", "binary", {"kind": "river", "factory": "model:bank"}, 100, 0.1, 800,
        positive="yes", slices=["marital"],
    ),
    "insects": Stream(
        "insects_gradual_balanced", "class", "multiclass", vw("--oaa 6 --loss_function logistic"), 50, 0.15, 700
    ),
    "kdd99": Stream(
        "kdd99_10pct", "label", "multiclass", vw("--oaa 23 --loss_function logistic"), 1000, 0.05, 2000,
        slices=["protocol_type"],
    ),
    "poker": Stream(
        "poker_uci_part", "CLASS", "multiclass", vw("--oaa 10 --loss_function logistic -q ::"), 200, 0.05, 900
    ),
}  # fmt: skip
MODES: dict[str, dict[str, Any]] = {
    "auto": {},
    'moved = "hold"': {"moved": "hold"},
    'moved = "follow"': {"moved": "follow"},
    "act = false": {"act": False},
}


def events_of(stream: Stream, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file as events, in order."""
    with gzip.open(folder / f"{stream.file}.csv.gz", "rt", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            label = row.pop(stream.label)
            x = {name: _value(text) for name, text in row.items() if text != ""}
            yield {"id": f"r{number}", "x": x, "y": label}


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def run(stream: Stream, folder: Path, mode: dict[str, Any], most: int | None) -> dict[str, Any]:
    """One run; return what was reverted and how often the answers were right."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        (base / "events").mkdir()
        (base / "model.py").write_text(MODEL)
        events = list(itertools.islice(events_of(stream, folder), most))
        with (base / "events" / "a.jsonl").open("wb") as file:
            file.writelines(orjson.dumps(event) + b"\n" for event in events)
        tenth = len(events) // 10
        config = check(
            {
                "name": "streams", "task": stream.task, "source": {"kind": "files", "batch": stream.chunk},
                "event": {"positive": stream.positive, "slices": stream.slices},
                "learners": {"only": {**stream.learner, "role": "champion"}},
                "snapshots": {"every_seconds": _CHUNK_SECONDS, "every_events": 10**9, "keep": {"last": 100}},
                "holdout": {"rate": stream.rate, "rows": stream.rows},
                "guard": {
                    "false_reverts_per_year": _FALSE, "sample": 1.0,
                    "look_events": min(50, stream.chunk // 2), "reference_events": tenth // 2,
                    "wait_events": tenth // 4, "hold_events": tenth, "hold_seconds": 60.0, "wait_seconds": 1e9, **mode,
                },
            },
            base,
        )  # fmt: skip
        clock = itertools.count()
        moment = [1.7e9]
        trainer = trainer_of(config, stopping=lambda: False, now=lambda: moment[0], sleep=lambda _: None)
        guard = Guarding(config, now=lambda: moment[0], sleep=lambda _: None, stopping=lambda: False)
        right = newest_right = asked = 0
        served: tuple[int, Any, list[Any]] | None = None
        newest: tuple[int, Any, list[Any]] | None = None
        try:
            trainer.begin()
            for begin in range(0, len(events), stream.chunk):
                moment[0] = 1.7e9 + next(clock) * _CHUNK_SECONDS
                chunk = events[begin : begin + stream.chunk]
                if served is not None:
                    right += sum(_right(served, event, stream) for event in chunk)
                    asked += len(chunk)
                    newest_right += sum(_right(newest or served, event, stream) for event in chunk)
                trainer.ledger.follow(at_once=True)
                trainer.take(trainer.poll())
                trainer.cutter.cut(wait=True)
                guard.follow()
                number = guard.lineage.refresh().serving("only")
                if number is not None and (served is None or served[0] != number):
                    served = _loaded(guard, number)
                newest = _loaded(guard, guard.lineage.numbers[-1])
            entries = guard.lineage.refresh().entries
            given = all_verdicts(guard.lineage.store, "only")
        finally:
            trainer.close()
            guard.acting.close()
            guard.presence.close()
        return {
            "served": right / max(1, asked), "newest": newest_right / max(1, asked), "looks": len(given),
            "suspect": sum(one.verdict == "suspect" for one in given),
            "entries": [(entry.action, entry.cause, entry.snapshot, entry.why) for entry in entries],
        }  # fmt: skip


def _loaded(guard: Guarding, number: int) -> tuple[int, Any, list[Any]]:
    """A snapshot's learner with the labels of its classes."""
    manifest = guard.lineage.manifest(number)
    assert manifest is not None
    labels = labels_of(guard.config)
    labels.restore(snapshots.read_shared(guard.lineage.store, manifest).labels)
    return number, snapshots.read_learner(guard.lineage.store, manifest, "only", labels)[0], labels.names


def _right(served: tuple[int, Any, list[Any]], event: dict[str, Any], stream: Stream) -> bool:
    _, learner, names = served
    said = learner.predict(Features.of(event["x"])).value
    if said is None:
        return False
    if stream.task == "multiclass":
        return str(names[int(said)]) == str(event["y"])
    return bool(said) == (event["y"] == stream.positive)


def main() -> None:
    """Run the streams that are named, or all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *STREAMS])
    parser.add_argument("--most", type=int, help="only so many events")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    for name in asked.names or STREAMS:
        stream = STREAMS[name]
        print(f"\n{name}: rate {stream.rate}, {stream.rows} rows, a look every {stream.chunk} events")
        for mode, settings in MODES.items():
            found = run(stream, asked.folder, settings, asked.most)
            actions = [action for action, *_ in found["entries"]]
            suspect = f"{found['suspect']} of {found['looks']} looks suspect"
            done = ", ".join(f"{actions.count(one)} {one}" for one in dict.fromkeys(actions)) or "nothing done"
            print(
                f"  {mode:18} served {found['served']:.4f}, the newest would {found['newest']:.4f}; {suspect}; {done}"
            )
            for action, cause, snapshot, why in found["entries"][:6]:
                print(f"      {action} {cause} {snapshot}: {why[:200]}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
