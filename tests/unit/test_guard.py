"""The fast lane of the guard, holdout membership, retention, and the window of recent ids."""

import doctest
import hashlib
import importlib
import math
import pkgutil
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.lineages import Folder
from support.samples import numbers

import learners
import snapshots
import stream
from learners import Features, Prediction
from snapshots.judging.judge import fast_lane
from snapshots.records import cut as cuts
from snapshots.records.membership import Membership
from snapshots.records.retention import Keep, kept
from stream.guard import watch
from stream.guard.watch import Guarding
from stream.train.recent import RecentIds

ROWS = [Features.of({"a": float(i)}) for i in range(64)]


class Made:
    """A learner that answers what it is told."""

    kind = "made"

    def __init__(self, answer: Callable[[float], Prediction]) -> None:
        self.answer = answer

    def predict(self, features: Features) -> Prediction:
        return self.answer(float(features.flat()["a"]))


def judged(
    answer: Callable[[float], Prediction], older: Callable[[float], Prediction] | None = None
) -> tuple[str, str]:
    before = Made(older) if older else None
    finding, why, _ = fast_lane(Made(answer), ROWS, lambda: before)  # type: ignore[arg-type,return-value]
    return finding, why


def test_a_learner_that_predicts_passes() -> None:
    """Finite and not constant."""
    assert judged(lambda a: Prediction(a > 3, a / 100))[0] == "pass"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_fails(broken: float) -> None:
    """At once, in one row of many."""
    finding, why = judged(lambda a: Prediction(None, broken) if a == 7 else Prediction(True, 0.5))
    assert finding == "fail"
    assert "1 of 64" in why


def test_constant_fails_only_where_the_one_before_is_not() -> None:
    """A young model may be constant; one that was not, and became so, has died."""
    constant = lambda _: Prediction(True, 0.7)
    assert judged(constant)[0] == "pass"
    assert judged(constant, constant)[0] == "pass"
    assert judged(constant, lambda a: Prediction(True, a / 100))[0] == "fail"
    assert judged(lambda _: Prediction(4.5), Prediction)[0] == "fail"


def test_a_stretch_of_one_class_is_no_fault() -> None:
    """Without probabilities, the same class for every row is what many streams look like for a while."""
    assert judged(lambda _: Prediction(2), lambda a: Prediction(int(a) % 3))[0] == "pass"
    assert judged(lambda _: Prediction(False), lambda a: Prediction(a > 3))[0] == "pass"


def test_what_raises_fails() -> None:
    """With what it raised."""

    def raising(_: float) -> Prediction:
        raise TypeError("no texts please")

    finding, why = judged(raising)
    assert finding == "fail"
    assert "no texts please" in why


def test_membership_is_a_pure_function_of_id_and_key() -> None:
    """Promise 6: nothing is remembered; the share is the rate; another key chooses others."""
    key = hashlib.sha256(b"k").digest()
    ids = [f"e{i}" for i in range(20_000)]
    first, again = Membership(key, 0.02), Membership(key, 0.02)
    chosen = {i for i in ids if first.claims(first.digest(i))}
    assert chosen == {i for i in ids if again.claims(again.digest(i))}
    assert 0.015 < len(chosen) / len(ids) < 0.025
    other = Membership(hashlib.sha256(b"o").digest(), 0.02)
    assert chosen != {i for i in ids if other.claims(other.digest(i))}
    none = Membership(key, 0.0)
    assert not any(none.claims(none.digest(i)) for i in ids)
    more = Membership(key, 0.1)
    assert chosen < {i for i in ids if more.claims(more.digest(i))}


def test_retention_keeps_the_last_and_thins_the_past() -> None:
    """One a minute, an hour, a day, beyond the last ones."""
    every_second = [(n, float(n)) for n in range(3 * 86400)]
    keeping = kept(every_second, Keep(last=50, minutely=60, hourly=48, daily=30))
    assert len(keeping) <= 50 + 60 + 48 + 30
    assert set(range(3 * 86400 - 50, 3 * 86400)) <= keeping
    assert 86399 in keeping


def test_a_snapshot_that_is_deleted_while_it_is_judged_gets_no_verdict(
    folder: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer found it too old meanwhile: that is no fault of the snapshot, and nothing is reverted."""
    here = folder()
    here.write(numbers(200))
    here.train()
    guarding = Guarding(here.config, now=time.time, sleep=lambda _: None, stopping=lambda: False)
    number = guarding.lineage.refresh().numbers[-1]
    judge = guarding.judging.judge

    def gone(*asked: Any) -> Any:
        cuts.remove(guarding.lineage.store, number)
        return judge(*asked)

    monkeypatch.setattr(guarding.judging, "judge", gone)
    assert guarding.give(number, "linear") is None
    assert here.json("ledger") == []
    assert number not in here.lineage.numbers


def test_recent_ids_find_duplicates_within_the_window() -> None:
    """And travel in the snapshot; size 0 turns them off."""
    digests = [hashlib.sha256(str(i).encode()).digest() for i in range(20)]
    recent = RecentIds(10)
    assert not any(recent.seen(one) for one in digests)
    assert recent.seen(digests[-1])
    assert not recent.seen(digests[0])
    again = RecentIds(10, recent.dump())
    assert again.seen(digests[-1])
    assert again.dump() == recent.dump()
    off = RecentIds(0)
    assert not off.seen(digests[0])
    assert not off.seen(digests[0])
    assert off.dump() == b""


def test_examples_in_docstrings_hold() -> None:
    """Every >>> of the three packages."""
    attempted = 0
    for package in (learners, snapshots, stream):
        for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            result = doctest.testmod(importlib.import_module(found.name))
            assert result.failed == 0
            attempted += result.attempted
    assert attempted >= 4


def test_the_guard_takes_the_newest_and_marks_the_others_skipped(folder: Callable[..., Folder]) -> None:
    """Each learner's newest is judged; what it overtook is not, and says so. ``--once`` skips none."""
    here = folder()
    for i in range(5):
        here.write([{**event, "id": f"{i}-{event['id']}"} for event in numbers(50)])
        here.train()
    twin = here.copy(here.path.with_name("twin"))
    guard = watch.Guarding(here.config, now=time.time, sleep=time.sleep, stopping=lambda: False)
    guard.follow()
    newest = here.lineage.numbers[-1]
    found = {n: here.lineage.verdict(n, "linear") for n in here.lineage.numbers}
    assert found[newest] is not None
    assert found[newest].verdict == "pass"
    older = [one for number, one in found.items() if number != newest]
    assert [(one.verdict, one.why) for one in older if one] == [("skipped", f"overtaken by snapshot {newest}")] * 5
    twin.run("guard", "--once")
    assert [twin.lineage.passed(n, "linear") for n in twin.lineage.numbers] == [False, True, True, True, True, True]
