"""Roll-outs without processes: what the ledger comes to, who is routed where, and what the tests find."""

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.errors import StateRefusedError
from learners.event import Features, Prediction
from learners.evidence.hedge import Hedge
from learners.evidence.since_entry import OfRollout
from learners.evidence.thompson import Thompson
from snapshots.decisions.decided import decided
from snapshots.decisions.ledger import Entry
from snapshots.decisions.rollout import candidate_of
from stream.rollout import limits
from stream.rollout.routing import key_of, position_of
from stream.rollout.steps import Seen, back, lacks, next_share
from stream.rollout.told import Told, broken, together, told_by
from stream.serve.arms import Shares
from stream.settings import RolloutConfig

QUICK = RolloutConfig(min_events=10, min_seconds=5.0)


def entries(*given_: tuple[str, dict[str, Any]]) -> list[Entry]:
    """A ledger of these actions, a second apart."""
    return [
        Entry(action=action, by="me", seq=number, time=float(number), previous="", **more)  # type: ignore[arg-type]
        for number, (action, more) in enumerate(given_, 1)
    ]


START = ("rollout_start", {"candidate": "vw", "replaces": "river", "salt": "ab", "learner": None})


@pytest.mark.parametrize(
    ("after", "state", "share"),
    [
        ([], "shadow", 0),
        ([("rollout_step", {"share": 5.0})], "canary", 5),
        ([("rollout_step", {"share": 5.0}), ("rollout_pause", {})], "paused", 5),
        ([("rollout_step", {"share": 5.0}), ("rollout_pause", {}), ("rollout_resume", {})], "canary", 5),
        ([("rollout_step", {"share": 5.0}), ("rollout_step", {"share": 0.0})], "shadow", 0),
        ([("rollout_pause", {}), ("rollout_step", {"share": 5.0})], "paused", 5),
        ([("rollout_step", {"share": 5.0}), ("rollout_abort", {"why": "no"})], "aborted", 0),
        ([("rollout_abort", {}), ("rollout_step", {"share": 5.0})], "aborted", 0),
        ([("promote", {"learner": "vw", "replaces": "river"})], "champion", 100),
        ([("promote", {"learner": "third", "replaces": "river"})], "aborted", 0),
        ([("revert", {"learner": "vw", "snapshot": 1})], "aborted", 0),
        ([("revert", {"learner": "river", "snapshot": 1})], "shadow", 0),
        ([("stop_learning", {"learner": "vw"})], "aborted", 0),
        ([("open_breaker", {"learner": "vw"})], "aborted", 0),
        ([("fall_back", {"learner": "river", "baseline": 1})], "shadow", 0),
        ([("fall_back", {"learner": "river", "baseline": 1, "cause": "rollout"})], "champion", 100),
        ([("rollout_await", {}), ("rollout_abort", {})], "aborted", 0),
    ],
)
def test_what_entries_come_to(after: list[tuple[str, dict[str, Any]]], state: str, share: float) -> None:
    """Steps, and every other decision that ends a roll-out."""
    found = decided(entries(START, *after)).rollout
    assert found is not None
    assert (found.state, found.share, found.entry) == (state, share, 1)


@pytest.mark.parametrize("action", ["revert", "stop_learning", "open_breaker"])
@pytest.mark.parametrize("candidate", ["vw", "snapshot:7", "snapshot:7:vw", "baseline:2"])
def test_what_is_undone_or_set_aside_answers_no_longer(action: str, candidate: str) -> None:
    """A snapshot goes with its learner; a baseline has none."""
    start = ("rollout_start", {"candidate": candidate, "replaces": "river", "salt": "ab"})
    learner = "river" if candidate == "snapshot:7" else "vw"
    found = decided(entries(start, ("rollout_step", {"share": 5.0}), (action, {"learner": learner}))).rollout
    assert found is not None
    assert found.state == ("canary" if candidate == "baseline:2" else "aborted")


@pytest.mark.parametrize(
    "wrong",
    [{"cells": {"5": -500}}, {"predicted": -1}, {"errors": 7}, {"predicted": 10**30}, {"milliseconds": {"90000": 3}},
     {"window": {"predicted": 1, "slow": 5}}, {"cells": {"99999999999": 1}}],
)  # fmt: skip
def test_counts_that_cannot_be_are_nobodys(wrong: dict[str, Any]) -> None:
    """Whoever writes the store may write anything into it: no process falls over that."""
    assert told_by([{"rollout": {"entry": 1, "step": 1, "candidate": {"predicted": 5, **wrong}}}]) == []


def test_what_is_approved_counts_for_one_step() -> None:
    """The next step has to be approved again."""
    one = decided(entries(START, ("rollout_await", {}), ("rollout_approve", {}))).rollout
    two = decided(
        entries(START, ("rollout_await", {}), ("rollout_approve", {}), ("rollout_step", {"share": 1.0}))
    ).rollout
    assert one is not None
    assert two is not None
    assert (one.approved, one.awaits, two.approved) == (True, False, False)


def test_a_new_roll_out_and_a_new_lineage_begin_anew() -> None:
    """Only the newest counts, and none of a lineage before."""
    ledger = entries(START, ("rollout_abort", {}), ("rollout_start", {"candidate": "baseline:2", "replaces": "river"}))
    found = decided(ledger).rollout
    assert found is not None
    assert (found.candidate, found.entry, found.state) == ("baseline:2", 3, "shadow")
    assert decided(ledger, began=3).rollout is None


@pytest.mark.parametrize(
    "text", ["baseline:x", "snapshot:", "snapshot:1:a:b", "baseline:1:a", "what:1", "snapshot:-1", ""]
)
def test_what_is_no_candidate(text: str) -> None:
    """Refused with what may be written."""
    with pytest.raises(ValueError, match="is not a learner's name"):
        candidate_of(text)


@given(st.text(min_size=1), st.binary(min_size=1, max_size=32), st.lists(st.floats(0, 100), min_size=2))
def test_routes_are_sticky_and_only_grow(key: str, salt: bytes, shares: list[float]) -> None:
    """Who is in stays in while the share grows, in every process; nobody is in at 0, everybody at 100."""
    inside = [position_of(key, salt) < share for share in sorted(shares)]
    assert inside == sorted(inside)
    assert 0 <= position_of(key, salt) < 100


def test_the_shares_are_those_that_are_logged() -> None:
    """χ² over a million requests, for a canary of 5 % and a split of three."""
    shares = {"a": 0.7, "b": 0.25, "c": 0.05}
    arms, count = Shares({}, shares), 1_000_000
    seen = Counter(arms.chosen(f"user-{number}", b"salt") for number in range(count))
    chi = sum((seen[name] - count * share) ** 2 / (count * share) for name, share in shares.items())
    assert chi < 13.8  # two degrees of freedom, 0.1 %
    inside = sum(position_of(f"u{number}", b"other") < 5 for number in range(100_000))
    assert abs(inside - 5000) < 4 * math.sqrt(100_000 * 0.05 * 0.95)


def test_inverse_propensities_give_the_plain_mean() -> None:
    """The reward of a policy, estimated from another one's log, is what it would have got."""
    draw, shares = random.Random(3), {"a": 0.6, "b": 0.3, "c": 0.1}
    arms, worth = Shares({}, shares), {"a": 0.2, "b": 0.5, "c": 0.8}
    total, count = 0.0, 200_000
    for number in range(count):
        name = arms.chosen(str(number), b"s")
        total += (draw.random() < worth[name]) / shares[name] / 3
    assert abs(total / count - 0.5) < 0.01


def test_a_feature_routes_where_there_is_one() -> None:
    """All requests of one user go the same way; a request without the feature goes by its id."""
    features = Features(b'{"user": {"id": "u1"}, "n": 1}')
    assert key_of("user.id", features, "r1") == key_of("user.id", features, "r2") == "u1"
    assert key_of("gone", features, "r1") == "r1"
    assert key_of("", features, 7) == "7"


def test_limits_hold_at_any_time() -> None:
    """At the edge of each limit, looked at after every event: found broken in fewer runs than alpha says."""
    alpha, draw, wrong = 0.1, np.random.default_rng(1), 0
    for _ in range(300):
        bad = np.cumsum(draw.random(2000) < 0.01)
        wrong += any(limits.too_often(n + 1, int(bad[n]), 0.01, alpha) for n in range(0, 2000, 7))
    assert wrong / 300 <= alpha


def test_the_same_distribution_is_never_a_shift() -> None:
    """Under the null the greatest difference stays within the band; a real one is found."""
    draw, settings = random.Random(5), RolloutConfig(max_prediction_shift=0.05)
    told = Told(1, 1)
    for number in range(4000):
        for route in (told.candidate, told.champion):
            route.note(Prediction(True, draw.random()), 0.0001, 50.0)
        if number % 50 == 0:
            assert broken(told, settings) == ""
    for _ in range(4000):
        told.candidate.note(Prediction(True, 0.9), 0.0001, 50.0)
    assert "distributed otherwise" in broken(told, settings)


def test_one_that_was_fine_for_long_is_seen_to_fail_as_soon() -> None:
    """After a hundred thousand predictions without a fault, a tenth of them failing is found within a hundred."""
    told, draw = Told(1, 1), random.Random(7)
    for _ in range(100_000):
        told.candidate.note(Prediction(True, 0.5), 0.0001, 50.0)
    asked = 0
    while asked < 2000 and not broken(told, RolloutConfig(max_prediction_shift=1.0)):
        asked += 1
        told.candidate.fail() if draw.random() < 0.1 else told.candidate.note(Prediction(True, 0.5), 0.0001, 50.0)
    assert asked < 150


def test_what_processes_say_adds_up_through_the_store() -> None:
    """Words are read as JSON; those of another roll-out, or that are none, do not count."""
    rollout = decided(entries(START, ("rollout_step", {"share": 5.0}))).rollout
    assert rollout is not None
    words: list[dict[str, Any]] = [
        {"rollout": {"entry": 1, "step": 2, "since_step": 3, "candidate": {"predicted": 5, "cells": {"7": 5}}}},
        {"rollout": {"entry": 1, "step": 1, "since_step": 9, "candidate": {"predicted": 2, "cells": {"7": 2}}}},
        {"rollout": {"entry": 9, "step": 9, "since_step": 9}},
        {"rollout": {"entry": "x"}},
        {"rollout": None},
    ]
    whole = together(told_by(words), rollout)
    assert (whole.since_step, whole.candidate.predicted, whole.candidate.cells) == (3, 7, {7: 7})


def test_too_few_events_are_never_a_pass() -> None:
    """It goes on when time, requests and labels are there, and the loss is shown to be within its limit."""
    rollout = decided(entries(START)).rollout
    assert rollout is not None
    good = {"events": 50, "difference": -0.1, "low": -0.2, "high": 0.0, "slices": {}}
    full = Told(1, 1, since_step=10)
    assert lacks(rollout, Seen(full, good), QUICK, 100.0) == []
    for told, loss, now, said in (
        (Told(1, 1, since_step=9), good, 100.0, "9 of 10 shadowed requests"),
        (full, None, 100.0, "labelled events"),
        (full, {**good, "events": 9}, 100.0, "9 of 10 labelled events"),
        (full, {**good, "high": 0.02}, 100.0, "not certain"),
        (full, {**good, "slices": {"c=x": [0.0, -0.1, 0.1, 10]}}, 100.0, "in c=x"),
        (full, good, 2.0, "of 5 s"),
    ):
        found = lacks(rollout, Seen(told, loss), QUICK, now)
        assert len(found) == 1
        assert said in found[0]
    assert lacks(rollout, Seen(full, {**good, "slices": {"c=x": [0.0, -0.1, 0.1, 9]}}), QUICK, 100.0) == []
    assert next_share(rollout, QUICK) == 1


def test_a_worse_slice_takes_it_back() -> None:
    """Although the whole is better."""
    loss = {"events": 500, "difference": -0.1, "low": -0.2, "high": 0.0, "slices": {"c=x": [0.3, 0.2, 0.4, 100]}}
    assert "in c=x" in back(Seen(Told(1, 1), loss), QUICK)
    assert back(Seen(Told(1, 1), {**loss, "slices": {}}), QUICK) == ""


def test_the_evidence_is_kept_and_begins_anew() -> None:
    """Through a snapshot to the same figures; another roll-out has its own; strangers are not counted."""
    draw, one = np.random.default_rng(2), OfRollout()
    one.begin(3, "vw")
    for _ in range(20):
        own, champion = draw.random(50) * 0.5, draw.random(50)
        one.note_learnt("vw", own, champion, [["c=x"]] * 50)
        one.note_learnt("other", champion, own, None)
        one.note_logged(3, own, champion, None)
        one.note_logged(2, champion, own, None)
        one.close_look()
    other = OfRollout()
    other.restore(one.dump())
    assert other.figures(0.02) == one.figures(0.02)
    found = one.figures(0.02)
    assert found["learnt"]["events"] == found["logged"]["events"] == 1000
    assert found["learnt"]["high"] < 0
    assert one.figures(0.2)["learnt"]["high"] < found["learnt"]["high"]
    one.begin(3, "vw")
    assert one.figures(0.02) == found
    one.note_logged(8, own, champion, None)
    assert one.figures(0.02)["entry"] == 8
    assert "learnt" not in one.figures(0.02)


def test_hedge_follows_who_is_best_and_sums_to_one() -> None:
    """A learner that becomes the best is believed within some hundred events; one that is gone has no weight."""
    hedge = Hedge()
    hedge.update({"a": [0.1] * 500, "b": [0.4] * 500})
    assert hedge.weights["a"] > 0.9
    hedge.update({"a": [0.4] * 300, "b": [0.1] * 300})
    assert hedge.weights["b"] > 0.9
    assert sum(hedge.weights.values()) == pytest.approx(1)
    twin = Hedge(hedge.weights)
    for one in (hedge, twin):
        one.update({"b": [0.1] * 10, "c": [0.3] * 10})
    assert hedge.weights == twin.weights
    assert hedge.weights["a"] == 0
    hedge.update({"c": [0.0]})
    assert hedge.weights == twin.weights


def test_thompson_gives_the_best_most_and_everybody_something() -> None:
    """Shares sum to 1 and none is below the floor; the interval holds what each arm earns, and nobody wins by luck."""
    draw, thompson = random.Random(1), Thompson(memory=2000, floor=0.05, between=(-1.0, 3.0))
    names = ["a", "b", "c"]
    earns = {"a": 0.2, "b": 0.8, "c": 0.5}  # the chance of 3, else -1
    assert thompson.shares(names) == pytest.approx(dict.fromkeys(names, 1 / 3))
    for number in range(20_000):
        if number % 100 == 0:
            shares = thompson.shares(names)
            assert sum(shares.values()) == pytest.approx(1)
            assert min(shares.values()) >= 0.05 - 1e-12
        name = draw.choices(names, [shares[one] for one in names])[0]
        thompson.update(name, 3.0 if draw.random() < earns[name] else -1.0, shares[name])
    assert shares["b"] == pytest.approx(0.9, abs=0.01)
    found = thompson.figures(names, 0.05)
    assert found["winner"] == "b"
    for name, chance in earns.items():
        arm = found["arms"][name]
        assert arm["low"] <= 4 * chance - 1 <= arm["high"]
        assert arm["reward"] == pytest.approx(4 * chance - 1, abs=0.4)


def test_thompson_finds_a_new_best_and_forgets() -> None:
    """What was earned long ago counts less and less; a new entry begins the search anew and keeps the posteriors."""
    thompson = Thompson(memory=500)
    for better, worse in (("a", "b"), ("b", "a")):
        for _ in range(2000):
            thompson.update(better, 0.9, 0.5)
            thompson.update(worse, 0.3, 0.5)
        assert thompson.shares(["a", "b"])[better] > 0.95
    before = thompson.shares(["a", "b"])
    thompson.begin(7)
    assert thompson.shares(["a", "b"]) == before
    assert thompson.figures(["a", "b"], 0.05)["winner"] == ""
    twin = Thompson(memory=500)
    twin.restore(thompson.dump())
    for one in (thompson, twin):
        one.update("a", 0.5, 0.2)
    assert twin.dump() == thompson.dump()
    with pytest.raises(StateRefusedError):
        twin.restore(b"nothing")


def test_thompson_seldom_declares_a_winner_among_equals() -> None:
    """Ten streams of equal arms, looked at all the time: nobody wins."""
    for seed in range(10):
        draw, thompson = random.Random(seed), Thompson()
        for _ in range(40):
            shares = thompson.shares(["a", "b"])
            for _ in range(100):
                name = "a" if draw.random() < shares["a"] else "b"
                thompson.update(name, float(draw.random() < 0.5), shares[name])
            assert thompson.figures(["a", "b"], 0.05)["winner"] == ""
