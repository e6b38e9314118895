"""The guard's evidence: against the theorem, against an independent implementation, on streams made to fool it."""

import numpy as np
import pytest
import ville

from learners.errors import StateRefusedError
from learners.event import Prediction
from learners.evidence.findings import finding, fresh_finding, holdout_finding
from learners.evidence.lane import MEDIAN_LOOKS, Lane, after_revert, alarm_at, look, looks_in_a_row
from learners.evidence.losses import WHOLE, losses
from learners.evidence.paired import BETS, Paired

TOLERANCE = 0.01


def pairs(rng: np.random.Generator, count: int, mean: float) -> np.ndarray:
    """Differences of losses with this mean: nearly always small, seldom large, as those of real learners are."""
    return np.clip(mean + rng.choice([-1.0, 1.0], count) * rng.exponential(0.1, count), -1, 1)


def fed(differences: np.ndarray, tolerance: float = TOLERANCE) -> Paired:
    """Evidence after one look at these differences."""
    paired = Paired(tolerance, 1)
    paired.update((1 + differences) / 2, (1 - differences) / 2, None)
    paired.close_look()
    return paired


def looked(values: list[float], lane: Lane | None = None) -> Lane:
    found = lane or Lane()
    for number, value in enumerate(values):
        found = look(found, value, TOLERANCE, number)
    return found


# Losses --------------------------------------------------------------------------------------------------------------


def test_losses_are_bounded_and_as_defined() -> None:
    """Squared for a probability, half the squared distance for classes, in units of the spread for numbers."""
    chances = [Prediction(True, 0.8), Prediction(False, 0.2), Prediction(None), Prediction(None, float("nan"))]
    assert losses("binary", [True, True, True, False], chances) == pytest.approx([0.04, 0.64, 0.25, 1.0])
    many = [Prediction(0, None, {0: 0.5, 1: 0.3, 2: 0.2}), Prediction(1), Prediction(1, None, {1: 1.0})]
    assert losses("multiclass", [0, 2, 0], many) == pytest.approx([(0.25 + 0.09 + 0.04) / 2, 1.0, 1.0])
    numbers = [Prediction(3.0), Prediction(100.0), Prediction(None)]
    assert losses("regression", [1.0, 1.0, 1.0], numbers, 4.0) == pytest.approx([0.5, 1.0, 1.0])


# The holdout lane ----------------------------------------------------------------------------------------------------


def test_one_look_above_is_suspect_and_only_many_in_a_row_are_worse() -> None:
    """And one that is not above begins the count again."""
    row = looks_in_a_row(31_536_000, 1, 1.0)
    assert row == 13
    steady = looked([0.2] * 30)
    assert holdout_finding(steady, row) == "same"
    once = looked([0.22], steady)
    assert holdout_finding(once, row) == "above"
    assert holdout_finding(looked([0.22] * 12, steady), row) == "above"
    assert holdout_finding(looked([0.22] * 13, steady), row) == "worse"
    assert holdout_finding(looked([*[0.22] * 12, 0.2, 0.22], steady), row) == "above"


def test_the_level_is_the_lowest_median_and_not_the_best_look() -> None:
    """Luck in one look does not lower it, a stretch of better looks does, and nothing raises it: slow forgetting."""
    lucky = looked([*[0.2] * 25, 0.1, *[0.2] * 25])
    assert lucky.level == 0.2
    assert looked([0.15] * MEDIAN_LOOKS, lucky).level == 0.15
    slow = looked([0.2 + 0.0002 * number for number in range(200)], looked([0.2] * 30))
    assert slow.level == 0.2
    assert holdout_finding(slow, 13) == "worse"


def test_the_margin_is_the_learners_own_fluctuation_and_poison_does_not_widen_it() -> None:
    """Learnt from the steps between looks, so that neither a shift that stays nor a loss that falls widens it."""
    rng = np.random.default_rng(1)
    wild = looked(list(0.2 + rng.normal(0, 0.03, 80)))
    assert 0.02 < wild.margin(TOLERANCE) < 0.12
    for good in (23, 33, 60):
        poisoned = looked([*([0.2, 0.201] * 40)[:good], *[0.5] * 60])
        assert poisoned.margin(TOLERANCE) < 0.05
        assert holdout_finding(poisoned, 13) == "worse"
    assert looked([0.3] * 21 + [0.3 - 0.001 * number for number in range(70)]).margin(TOLERANCE) == TOLERANCE


def test_far_above_is_told_from_three_looks() -> None:
    """A learning rate blown up; but not where fresh events say the opposite, which is for somebody to decide."""
    blown = looked([0.6] * 3, looked([0.2] * 30))
    assert holdout_finding(blown, 13) == "far"
    assert finding("far", "worse", waited=False, world_changed=False) == "broken"
    assert finding("far", "leans_better", waited=False, world_changed=False) == "suspect"


def test_what_leans_better_when_the_waiting_is_over_has_moved() -> None:
    """Undecided, it is forgetting by then; nobody would say so of what got better on fresh events."""
    assert finding("worse", "leans_better", waited=False, world_changed=False) == "suspect"
    assert finding("worse", "leans_better", waited=True, world_changed=False) == "moved"
    assert finding("worse", "inconclusive", waited=True, world_changed=False) == "forgetting"


def test_a_revert_keeps_the_level_and_forgets_the_count() -> None:
    """So that what comes after is held to what was good before."""
    lane = after_revert(looked([0.5] * 20, looked([0.2] * 30)))
    assert (lane.level, lane.above, lane.far) == (0.2, 0, 0)
    assert holdout_finding(look(lane, 0.5, TOLERANCE, 1), 13) == "above"


# The fresh lane ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [30.0, 100.0])
def test_at_the_edge_of_the_null_false_alarms_are_as_rare_as_the_threshold_says(threshold: float) -> None:
    """The theorem, by simulation: the mean number of looks to an alarm is at least the threshold."""
    rng = np.random.default_rng(7)
    runs = []
    for _ in range(60):
        paired, count = Paired(TOLERANCE, 1), 0
        while count < 20 * threshold:
            d = pairs(rng, 20, TOLERANCE)
            paired.update((1 + d) / 2, (1 - d) / 2, None)
            paired.close_look()
            count += 1
            if paired.worse() >= threshold:
                break
        runs.append(count)
    assert np.mean(runs) >= threshold


@pytest.mark.parametrize(("more", "most"), [(0.05, 4000), (0.2, 800)])
def test_a_true_increase_is_found(more: float, most: int) -> None:
    """Within some thousands of fresh events, at the threshold of a year of looks a second."""
    rng = np.random.default_rng(3)
    threshold, needed = alarm_at(31_536_000, 1, 1, 1.0), []
    for _ in range(20):
        paired = Paired(TOLERANCE, 1)
        while paired.worse() < threshold:
            d = pairs(rng, 20, more)
            paired.update((1 + d) / 2, (1 - d) / 2, None)
            paired.close_look()
        needed.append(paired.events())
        assert paired.better() < threshold
    assert np.median(needed) < most


def test_a_mean_that_swings_and_is_never_worse_on_the_whole_raises_no_alarm() -> None:
    """Better for a while, then worse by as much; what was won before is no licence, and swings are no alarm."""
    swings = np.concatenate([np.full(50, -0.02), np.full(50, 0.02)])
    d = np.tile(swings, 200)
    rng = np.random.default_rng(5)
    paired = Paired(TOLERANCE, 1)
    for part in np.split(d + rng.normal(0, 0.2, len(d)).clip(-0.6, 0.6), 200):
        paired.update((1 + part) / 2, (1 - part) / 2, None)
        paired.close_look()
        assert paired.worse() < alarm_at(31_536_000, 1, 1, 1.0)


def test_the_interval_is_about_that_of_an_independent_implementation() -> None:
    """Event by event, beside the empirical-Bernstein sequence of the package ville, which wants a mean that stays."""
    rng = np.random.default_rng(11)
    d = pairs(rng, 3000, 0.03)
    paired = Paired(TOLERANCE, 1)
    for one in d:
        paired.update(np.array([(1 + one) / 2]), np.array([(1 - one) / 2]), None)
    other = ville.EmpiricalBernsteinCS(bounds=(-1.0, 1.0), alpha=0.05, intersect=False).fit(d)
    mine = paired.interval()
    low, high = other.lower_[-1], other.upper_[-1]
    assert mine.mean == pytest.approx(d.mean())
    assert mine.low < high
    assert low < mine.high
    assert 0.8 < (mine.high - mine.low) / (high - low) < 2.0


def test_the_interval_holds_a_mean_that_swings() -> None:
    """It is about the mean of all events so far, and that lies in its middle, whatever came when."""
    rng, missed = np.random.default_rng(17), 0
    for _ in range(50):
        truth = np.concatenate([np.zeros(4000), np.full(6000, -0.2)])
        seen, paired, wrong = np.clip(truth + rng.normal(0, 0.2, 10_000), -1, 1), Paired(TOLERANCE, 1), False
        for at in range(0, 10_000, 250):
            part = seen[at : at + 250]
            paired.update((1 + part) / 2, (1 - part) / 2, None)
            interval = paired.interval()
            wrong |= not interval.low <= truth[: at + 250].mean() <= interval.high
            assert interval.low < interval.mean < interval.high
        missed += wrong
    assert missed <= 2


def test_the_interval_holds_the_truth_at_all_times() -> None:
    """In at least 95 of 100 streams, looked at after every batch."""
    rng, missed = np.random.default_rng(13), 0
    for _ in range(100):
        paired, wrong = Paired(TOLERANCE, 1), False
        for part in np.split(np.clip(rng.normal(0.04, 0.2, 2000), -1, 1), 40):
            paired.update((1 + part) / 2, (1 - part) / 2, None)
            interval = paired.interval()
            wrong |= not interval.low <= 0.04 <= interval.high
        missed += wrong
    assert missed <= 5


def test_the_detector_is_the_formula() -> None:
    """R ← (R + 1)·∏(1 + λ(d - tol)/(1 + tol)), averaged over the fixed bets."""
    first, second = np.array([0.1, -0.2, 0.4]), np.array([0.3])
    paired, by_hand = Paired(TOLERANCE, 1), np.zeros(len(BETS))
    for d in (first, second):
        paired.update((1 + d) / 2, (1 - d) / 2, None)
        paired.close_look()
        by_hand = (by_hand + 1) * np.prod(1 + BETS * ((d[:, None] - TOLERANCE) / (1 + TOLERANCE)), axis=0)
    assert paired.worse() == pytest.approx(by_hand.mean())
    paired.close_look()
    assert paired.worse() == pytest.approx(by_hand.mean())


def test_slices_have_evidence_of_their_own_and_survive_a_save() -> None:
    """A slice that is worse is named although the whole is not; unknown slices beyond the limit are left out."""
    rng, paired = np.random.default_rng(2), Paired(TOLERANCE, 1, max_slices=2)
    for _ in range(60):
        d = np.concatenate([pairs(rng, 10, 0.5), pairs(rng, 90, -0.06)])
        names = [["c=br"]] * 10 + [["c=de", "c=xx"]] * 90
        paired.update((1 + d) / 2, (1 - d) / 2, names)
        paired.close_look()
    again = Paired.load(paired.dump())
    threshold = alarm_at(31_536_000, 2, 1, 1.0)
    assert fresh_finding(again, WHOLE, threshold) != "worse"
    assert [fresh_finding(again, name, threshold) for name in ("c=br", "c=de", "c=xx")] == [
        "worse", "better", "absent",
    ]  # fmt: skip
    assert again.dump() == paired.dump()
    with pytest.raises(StateRefusedError):
        Paired.load(b"nonsense")


def test_the_world_is_told_from_the_learner() -> None:
    """Both lose more than when the reference became one: that is the world's doing."""
    rng, paired = np.random.default_rng(4), Paired(TOLERANCE)
    for _ in range(20):
        paired.update(np.clip(rng.normal(0.2, 0.1, 100), 0, 1), None, None)
    paired.refer(7)
    for _ in range(30):
        both = np.clip(rng.normal(0.35, 0.1, 100), 0, 1)
        paired.update(both, both, None)
        paired.close_look()
    assert paired.world() > alarm_at(31_536_000, 1, 1, 1.0)
    assert paired.worse() < 100


@pytest.mark.parametrize(
    ("holdout", "fresh", "waited", "world", "found"),
    [
        ("worse", "worse", False, False, "forgetting"),
        ("worse", "inconclusive", False, False, "suspect"),
        ("worse", "inconclusive", True, False, "forgetting"),
        ("worse", "absent", False, False, "forgetting"),
        ("worse", "better", True, True, "moved"),
        ("same", "worse", False, False, "diverged"),
        ("above", "worse", False, False, "forgetting"),
        ("absent", "worse", False, False, "diverged"),
        ("above", "better", False, False, "suspect"),
        ("same", "inconclusive", False, True, "world_changed"),
        ("same", "better", False, False, "pass"),
        ("early", "absent", False, False, "pass"),
        ("absent", "inconclusive", False, False, "pass"),
    ],
)
def test_the_table(holdout: str, fresh: str, waited: bool, world: bool, found: str) -> None:
    """Every row of the design's table."""
    assert finding(holdout, fresh, waited=waited, world_changed=world) == found  # type: ignore[arg-type]
