"""Streams of public tables, and what may go wrong with their labels and features while callers ask about clean rows."""

import csv
import gzip
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Event = dict[str, Any]
#: how long a passing poison lasts, in events
POISONED = 2000


class Stream(NamedTuple):
    """A table as a stream: ``chunk`` events between two looks, a share ``held`` set aside, ``rows`` of a full holdout.

    ``rate`` is the learner's; ``slice`` the feature whose values the guard watches, and the value that is poisoned.
    """

    file: str
    task: str
    target: str
    chunk: int
    held: float
    rows: int
    rate: float
    moves: bool = True
    positive: Callable[[str], Any] = float
    slice: tuple[str, str] | None = None
    dropped: frozenset[str] = frozenset()
    most: int | None = None
    shuffled: bool = False


def _late(minutes: str) -> float | None:
    return None if minutes == "NA" else float(float(minutes) > 15)


def _is(value: str) -> Callable[[str], float]:
    return lambda text: float(text == value)


def _named(text: str) -> str:
    return "c" + text.rstrip(".")


_AFTER = frozenset({"year", "dep_time", "dep_delay", "arr_time", "air_time", "flight", "tailnum", "time_hour"})
STREAMS = {
    "elec2": Stream("elec2", "binary", "class", 100, 0.1, 800, 0.005, positive=_is("UP")),
    "insects": Stream("insects_gradual_balanced", "multiclass", "class", 50, 0.15, 700, 0.02, positive=_named),
    "bank_full": Stream(
        "bank_full", "binary", "deposit", 100, 0.1, 800, 0.01, positive=_is("yes"), slice=("marital", "married")
    ),
    "kdd99": Stream("kdd99_10pct", "multiclass", "label", 150, 0.08, 900, 0.01, positive=_named, most=60_000),
    "nycflights13": Stream(
        "nycflights13", "binary", "arr_delay", 150, 0.08, 900, 0.01, positive=_late, slice=("origin", "EWR"),
        dropped=_AFTER, most=60_000,
    ),
    "chessboard": Stream(
        "syn_transient_chessboard", "multiclass", "class", 150, 0.08, 900, 0.02, positive=_named, most=60_000
    ),
    "sea50k": Stream("syn_sea50k", "binary", "class", 100, 0.1, 800, 0.01),
    "bike_hour": Stream(
        "bike_hour", "regression", "cnt", 50, 0.1, 300, 0.005, dropped=frozenset({"instant", "dteday"})
    ),
    "adult": Stream(
        "adult", "binary", "income >50K", 75, 0.1, 600, 0.01, moves=False, slice=("sex", "Female"), shuffled=True
    ),
    "poker": Stream(
        "poker_uci_part", "multiclass", "CLASS", 125, 0.08, 800, 0.01, moves=False, positive=_named, most=50_000
    ),
    "phishing": Stream("phishing_uci", "binary", "class", 25, 0.15, 250, 0.01, moves=False, shuffled=True),
}  # fmt: skip


def events_of(stream: Stream, folder: Path) -> list[Event]:
    """All events in their order: ``id``, features ``x`` (numbers, and texts for what is none), label ``y``."""
    with gzip.open(folder / f"{stream.file}.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        rows = [(row, y) for row in csv.DictReader(lines) if (y := stream.positive(row.pop(stream.target))) is not None]
    rows = rows[: stream.most]
    if stream.shuffled:
        random.Random(7).shuffle(rows)
    return [
        {"id": n, "x": {name: _value(text) for name, text in row.items() if name not in stream.dropped}, "y": y}
        for n, (row, y) in enumerate(rows)
    ]


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


# Poisons -------------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """Chunks of events asked about and of events fed, and the first poisoned look and the first clean one after it."""

    chunks: list[tuple[list[Event], list[Event]]]
    first: int
    end: int


def plan(poison: str, stream: Stream, events: list[Event]) -> Plan:
    """A passing poison begins at two thirds; ``slice`` stays from there, ``slow`` rises from a third on to 40 %."""
    size = stream.chunk
    clean = [events[i : i + size] for i in range(0, len(events), size)]
    if poison == "none":
        return Plan([(one, one) for one in clean], len(clean), len(clean))
    third = len(events) // 3 // size * size
    start, end = {"slice": (2 * third, len(events)), "slow": (third, len(events))}.get(
        poison, (2 * third, min(len(events), 2 * third + POISONED))
    )
    rng = random.Random(11)
    if poison == "repeat":  # 40 events come 50 times each, under new ids, among the clean ones
        again = events[start : start + 40]
        more = (dict(rng.choice(again), id=-1 - n) for n in itertools.count())
        fed = [
            one + (list(itertools.islice(more, size)) if start <= k * size < end else []) for k, one in enumerate(clean)
        ]
    else:
        change = _CHANGES[poison](stream, events, rng, start)
        changed = [change(n, one) if start <= n < end else one for n, one in enumerate(events)]
        fed = [changed[i : i + size] for i in range(0, len(events), size)]
    return Plan(list(zip(clean, fed, strict=True)), start // size, -(-end // size))


Change = Callable[[int, Event], Event]
Maker = Callable[[Stream, list[Event], random.Random, int], Change]


def _other(stream: Stream, labels: list[Any], rng: random.Random) -> Callable[[Any], Any]:
    """Some label that is not the true one."""
    if stream.task == "binary":
        return lambda y: 1.0 - y
    kinds = sorted(set(labels)) if stream.task == "multiclass" else labels
    return lambda y: next(one for one in iter(lambda: rng.choice(kinds), None) if one != y)


def _random(stream: Stream, events: list[Event], rng: random.Random, _: int) -> Change:
    kinds = [0.0, 1.0] if stream.task == "binary" else sorted({one["y"] for one in events})
    kinds = [one["y"] for one in events] if stream.task == "regression" else kinds
    return lambda _, event: {**event, "y": rng.choice(kinds)}


def _flip(stream: Stream, events: list[Event], _: random.Random, __: int) -> Change:
    labels = sorted({one["y"] for one in events})
    if stream.task == "multiclass":
        following = dict(zip(labels, labels[1:] + labels[:1], strict=True))
        return lambda _, event: {**event, "y": following[event["y"]]}
    ends = labels[0] + labels[-1]
    return lambda _, event: {**event, "y": ends - event["y"]}


def _constant(stream: Stream, events: list[Event], _: random.Random, __: int) -> Change:
    labels = [one["y"] for one in events]
    label = {
        "binary": lambda: float(2 * sum(labels) < len(labels)), "multiclass": lambda: min(labels),
        "regression": lambda: sorted(labels)[len(labels) // 20],
    }[stream.task]()  # fmt: skip
    return lambda _, event: {**event, "y": label}


def _permute(_: Stream, events: list[Event], __: random.Random, start: int) -> Change:
    named: dict[str, str] = {}
    for kind in (float, str):
        names = [name for name, value in events[start]["x"].items() if isinstance(value, kind)]
        named |= dict(zip(names, names[1:] + names[:1], strict=True))
    return lambda _, event: {**event, "x": {named.get(name, name): value for name, value in event["x"].items()}}


def _slice(stream: Stream, events: list[Event], rng: random.Random, _: int) -> Change:
    feature, value = stream.slice or ("", "")
    other = _other(stream, [one["y"] for one in events], rng)
    return lambda _, event: {**event, "y": other(event["y"])} if event["x"].get(feature) == value else event


def _slow(stream: Stream, events: list[Event], rng: random.Random, start: int) -> Change:
    other = _other(stream, [one["y"] for one in events], rng)
    step = 500 if len(events) >= 30_000 else max(20, len(events) // 150)

    def change(number: int, event: Event) -> Event:
        wrong = rng.random() < min(0.4, 0.01 * (1 + (number - start) // step))
        return {**event, "y": other(event["y"])} if wrong else event

    return change


_CHANGES: dict[str, Maker] = {
    "random": _random, "flip": _flip, "constant": _constant, "permute": _permute, "slice": _slice, "slow": _slow,
}  # fmt: skip
POISONS = (*_CHANGES, "repeat")


def poisons_of(stream: Stream) -> Iterator[str]:
    """The poisons that a stream can have."""
    return (one for one in POISONS if one != "slice" or stream.slice is not None)
