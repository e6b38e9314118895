"""Jumps: of the label, of numbers, of words; not of what always moves, nor by chance."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from support.snapshots_made import write

from snapshots import Lineage, LocalStore
from snapshots.moved import jumps
from snapshots.records import verdict as verdicts
from snapshots.records.cut import Shared
from snapshots.records.held_rows import HeldRow
from snapshots.records.holdout import Holdout, Sizes
from snapshots.records.manifest import Counts
from snapshots.records.verdict import Verdict
from stream.guard.breaker import next_step
from stream.settings import Breaker
from stream.train.writer import encode_shared

Change = Callable[[int, dict[str, Any], bool], tuple[dict[str, Any], bool]]


def held(number: int, change: Change | None) -> HeldRow:
    draw = random.Random(number)
    x: dict[str, Any] = {
        "amount": draw.lognormvariate(3, 1), "country": draw.choice("abcdef"), "user": f"u{number}", "clock": number,
        "night": draw.random() < 0.25,
    }  # fmt: skip
    if draw.random() < 0.3:
        x["rare"] = 1
    y = draw.random() < 0.2
    if change is not None:
        x, y = change(number, x, y)
    return HeldRow("t", "0", number, orjson.dumps(x), y, float(number), [])


def lineage_of(tmp_path: Path, change: Change | None, after: int = 1200, rows: int = 1400) -> Lineage:
    """Snapshots every 100 held-out rows; the reference is that at 1,000; ``change`` begins at ``after``."""
    store = LocalStore(tmp_path)
    holdout = Holdout(Sizes(300), "binary")
    for number in range(1, rows + 1):
        holdout.add(held(number, change if number > after else None))
        if holdout.due(number):
            holdout.seal([], 0.0)
        if number % 100 == 0:
            for name, data in holdout.unwritten().items():
                store.create(name, data)
            shared = encode_shared(Shared(held=holdout.tails()))
            counts = Counts(consumed=number * 50, held_out=number)
            manifest = write(
                store, number // 100, created=float(number), counts=counts, shared=shared, holdout=holdout.state(),
                reference=10 if number > 1000 else None,
            )  # fmt: skip
            verdicts.give(store, Verdict("a", manifest.snapshot, 0, "pass", "", {}, float(number), float(number)))
    return Lineage(store).refresh()


def found(lineage: Lineage, jump: float = 0.4, ignored: tuple[str, ...] = (), since: float = 0.0) -> str | None:
    one = jumps.find(lineage, "a", jump, ignored, since)
    return None if one is None else one[0].what


def test_a_steady_stream_has_no_jump_though_clocks_and_names_always_move(tmp_path: Path) -> None:
    assert found(lineage_of(tmp_path, None)) is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda _, x, _y: (x, True), jumps.LABEL),
        (lambda _, x, y: (x | {"amount": x["amount"] * 100}, y), "amount"),
        (lambda _, x, y: (x | {"amount": x["amount"] - 1e6}, y), "amount"),
        (lambda _, x, y: (x | {"country": "nowhere"}, y), "country"),
        (lambda _, x, y: ({k: v for k, v in x.items() if k != "amount"}, y), "amount"),
        (lambda _, x, y: (x | {"new": 1.0}, y), "new"),
        (lambda _, x, y: (x | {"night": True}, y), "night"),
    ],
)
def test_a_jump_is_found_and_named(tmp_path: Path, change: Change, what: str) -> None:
    """Also a feature that is missing from now on, or new."""
    lineage = lineage_of(tmp_path, change)
    assert found(lineage) == what
    assert found(lineage, jump=1.0) in (None, "country", "amount", "new")
    step = next_step(lineage, "a", Breaker(jump=0.4), 2000.0)
    assert step is not None
    assert (step.action, step.cause) == ("open_breaker", "jump")
    assert what in step.why
    assert "snapshot 10" in step.why
    assert next_step(lineage, "a", Breaker(jump=1.0), 2000.0) is None
    assert next_step(lineage, "a", Breaker(jump_ignore=[what]), 2000.0) is None or what == jumps.LABEL


def test_what_jumped_before_the_breaker_was_tried_is_the_new_normal(tmp_path: Path) -> None:
    """After it was half open only what comes since is compared."""
    lineage = lineage_of(tmp_path, lambda _, x, y: (x | {"country": "nowhere"}, y), rows=1600)
    assert found(lineage) == "country"
    assert found(lineage, since=1400.0) is None


def test_chance_makes_no_jump() -> None:
    """1,800 pairs of windows of the same kind: none beyond what chance makes, for numbers, words and labels."""
    draw = random.Random(1)
    for size in (50, 200):
        for _ in range(300):
            for make in (
                lambda: draw.gauss(0, 1),
                lambda: draw.choice("abcdefghijklmnop"),
                lambda: draw.random() < 0.1,
            ):
                one, other = [make() for _ in range(200)], [make() for _ in range(size)]
                apart, cells = jumps.distance(one, other)
                assert apart < jumps.chance(cells, 200, size)


def test_too_few_rows_say_nothing(tmp_path: Path) -> None:
    """Fewer than 50 since the reference, or no reference."""
    assert found(lineage_of(tmp_path / "a", lambda _, x, _y: (x, True), after=0, rows=1000)) is None
    rows = [held(number, None) for number in range(200)]
    assert jumps.between(rows, [msgspec.structs.replace(row, label=True) for row in rows[:40]]) == {}


def test_recent_rows_that_differ_from_the_holdout_are_told() -> None:
    """In a feature, in the classes whatever their numbers, and not for want of rows or for a clock that goes on."""
    sealed = [held(number, None) for number in range(400)]
    assert jumps.moved_away(sealed, [held(number, None) for number in range(400, 700)]) is None
    said = jumps.moved_away(sealed, [held(n, lambda _, x, y: ({**x, "country": "z"}, y)) for n in range(400, 700)])
    assert said is not None
    assert "country by 1.00" in said
    assert "clock" not in said
    mixed = [msgspec.structs.replace(row, label=2 * (number % 2)) for number, row in enumerate(sealed)]
    said = jumps.moved_away(mixed, [msgspec.structs.replace(row, label=1) for row in sealed])
    assert said is not None
    assert jumps.LABEL in said
    assert jumps.moved_away(sealed, mixed[:40]) is None
