"""Gates: each turns down a candidate that fails only that one, and all of them fail closed."""

import random
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from learners.event import Features, Prediction, Task
from snapshots.judging import gates
from snapshots.judging.gates import Constant, Rows, Rules, all_gates, calibration_error
from snapshots.records.held_rows import HeldRow

RULES = Rules(tolerance=0.02, min_slice_rows=100)


def row(number: int) -> HeldRow:
    """A row whose chance of being positive stands in its features."""
    draw = random.Random(number)
    chance = draw.choice((0.1, 0.3, 0.7, 0.9))
    country = "br" if number % 10 == 0 else "de"
    x = {"chance": chance, "country": country, "number": float(number)}
    label = draw.random() < chance
    return HeldRow("t", "0", number, orjson.dumps(x), label, float(number), [f"country={country}"])


HELD = Rows("holdout 2", [row(number) for number in range(3000)])
OLD = Rows("holdout 1", [row(number) for number in range(5000, 6000)])


class Model:
    """Says what stands in the features, with something wrong with it."""

    def __init__(self, *, noise: float = 0.0, bad: str = "", wrong_old: bool = False, seconds: float = 0.0,
                 squeeze: float = 1.0, constant: bool = False, nan: bool = False) -> None:  # fmt: skip
        self.noise, self.bad, self.wrong_old, self.seconds = noise, bad, wrong_old, seconds
        self.squeeze, self.constant, self.nan = squeeze, constant, nan

    def predict(self, features: Features) -> Prediction:
        time.sleep(self.seconds)
        x = features.flat()
        chance, number = float(x["chance"]), int(x["number"])  # type: ignore[arg-type]
        chance = 0.5 + (chance - 0.5) * self.squeeze
        if x["country"] == self.bad or (self.wrong_old and number >= 5000):
            chance = 1 - chance
        chance += self.noise * (1 if number % 2 else -1)
        if self.constant:
            chance = 0.5
        return Prediction(chance > 0.5, float("nan") if self.nan else min(1.0, max(0.0, chance)))

    def predict_many(self, rows: Sequence[Features]) -> list[Prediction]:
        return [Model.predict(msg_free(self), one) for one in rows]


def msg_free(model: Model) -> Model:
    """The same model, which does not sleep when it is asked about many."""
    found = Model()
    found.__dict__ |= model.__dict__ | {"seconds": 0.0}
    return found


def judged(candidate: Model, current: Model | None, rules: Rules = RULES, **more: Any) -> dict[str, bool]:
    options: dict[str, Any] = {"megabytes": 1.0, "seconds": 1.0, "against": "baseline 1", **more}
    rows = options.pop("rows", HELD)
    found = all_gates(candidate, current, "binary", rows, [OLD], rules, **options)
    assert all(gate.why for gate in found)
    return {gate.name: gate.passed for gate in found}


def failed(found: dict[str, bool]) -> list[str]:
    return [name for name, passed in found.items() if not passed]


def test_a_good_candidate_passes_every_gate() -> None:
    """Against another, and as the first of all."""
    assert failed(judged(Model(), Model(noise=0.05))) == []
    assert failed(judged(Model(), Model())) == []
    assert failed(judged(Model(), None)) == []


@pytest.mark.parametrize(
    ("candidate", "current", "rules", "more", "gate"),
    [
        (Model(noise=0.12), Model(), Rules(max_calibration_loss=1.0), {}, "holdout"),
        (Model(), Model(), Rules(min_gain=0.01), {}, "holdout"),
        (Model(bad="br"), Model(noise=0.25), Rules(max_calibration_loss=1.0), {}, "slices"),
        (Model(wrong_old=True), Model(noise=0.02), RULES, {}, "floor: holdout 1"),
        (Model(seconds=0.008), Model(noise=0.02), RULES, {}, "latency"),
        (Model(), Model(noise=0.02), RULES, {"megabytes": 501.0}, "size"),
        (Model(), Model(noise=0.02), RULES, {"seconds": 90_000.0}, "cost"),
        (Model(squeeze=0.4), Model(), Rules(min_gain=-1.0, tolerance=1.0, max_slice_loss=1.0), {}, "calibration"),
        (Model(constant=True), Model(bad="de", noise=0.4),
         Rules(min_gain=-1.0, tolerance=1.0, max_slice_loss=1.0, floor_tolerance=1.0), {}, "fast lane"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)  # fmt: skip
def test_each_gate_turns_down_what_fails_only_there(
    candidate: Model, current: Model, rules: Rules, more: dict[str, Any], gate: str
) -> None:
    assert failed(judged(candidate, current, rules, **more)) == [gate]


def test_missing_evidence_is_a_fail() -> None:
    """No rows, few rows, no numbers."""
    assert set(failed(judged(Model(), None, rows=None))) >= {"holdout", "fast lane", "latency", "slices", "calibration"}
    few = Rows("holdout 2", HELD.rows[:50])
    assert "holdout" in failed(judged(Model(), Model(noise=0.1), rows=few))
    assert "fast lane" in failed(judged(Model(nan=True), Model()))
    small = Rows("holdout 2", HELD.rows[:150])
    found = all_gates(Model(), Model(noise=0.02), "binary", small, [], Rules(tolerance=0.0001), against="baseline 1",
                      megabytes=1.0, seconds=1.0)  # fmt: skip
    why = next(gate.why for gate in found if gate.name == "holdout" and not gate.passed)
    assert "more rows would tell" in why


def test_what_a_first_baseline_has_to_beat() -> None:
    """The shares of the classes, or the mean."""
    rows = [HeldRow("t", "0", i, b"{}", i % 3, 0.0, []) for i in range(9)]
    said = Constant("multiclass", rows).predict(Features(b"{}"))
    assert said.probabilities == {0: pytest.approx(1 / 3), 1: pytest.approx(1 / 3), 2: pytest.approx(1 / 3)}
    assert Constant("regression", rows).predict(Features(b"{}")).value == pytest.approx(1.0)
    assert Constant("binary", []).predict(Features(b"{}")).probability == 0.5


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_calibration_error_on_known_answers(task: Task) -> None:
    """0.8 said and 60 of 100 right is an error of 0.2."""
    labels = [1 if i % 10 < 6 else 0 for i in range(1000)]
    said = [Prediction(True, 0.8) if task == "binary" else Prediction(1, None, {0: 0.2, 1: 0.8}) for _ in labels]
    assert calibration_error(task, labels, said)[0] == pytest.approx(0.2, abs=0.05)


def test_chance_is_no_miscalibration() -> None:
    """Probabilities that are right, on few rows: hardly anything is left, and less than that in nineteen of twenty."""
    rng = gates.np.random.default_rng(1)
    beyond, seen = 0, []
    for _ in range(300):
        chances = rng.uniform(0.05, 0.95, 120)
        labels = (rng.uniform(size=120) < chances).astype(int).tolist()
        error, margin = calibration_error("binary", labels, [Prediction(p > 0.5, float(p)) for p in chances])
        seen.append(error)
        beyond += error > margin
    assert sum(seen) / len(seen) < 0.02
    assert beyond <= 300 * 0.08


def test_the_interval_is_students() -> None:
    """Known answer: ten values, 95 %."""
    values = gates.np.array([4.1, 4.9, 5.2, 5.0, 4.7, 5.5, 4.4, 5.1, 4.8, 5.3])
    assert gates.half_width(values, 0.05) == pytest.approx(2.262157 * values.std(ddof=1) / 10**0.5, rel=1e-5)
    assert gates.half_width(values[:1], 0.05) == float("inf")


@pytest.mark.parametrize(
    ("count", "rules", "said"),
    [
        (0, RULES, "gate holdout cannot pass: 0 rows"),
        (99, RULES, "gate holdout cannot pass: 99 rows"),
        (200, Rules(min_gain=0.9), "gate holdout cannot pass"),
        (200, Rules(min_gain=0.15), "gate holdout can hardly pass"),
        (3000, RULES, ""),
    ],
)
def test_gates_that_can_hardly_pass_are_foreseen(count: int, rules: Rules, said: str) -> None:
    """From the rows, and from what there is to win; nothing is said of those that may pass."""
    found = gates.doubts(Rows("holdout 2", HELD.rows[:count]), None, "binary", rules, "the shares of the labels")
    assert [one[: len(said)] for one in found] == ([said] if said else [])
