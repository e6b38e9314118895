"""How often the guard is wrong, and how soon it is right: simulations with the guard's own functions.

``make trust`` (``benchmarks/trust.py [--years N]``) prints the tables of docs/guard.md. Nothing here measures a
machine: the same seed gives the same figures.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from learners.evidence.against_baseline import AgainstBaseline
from learners.evidence.against_champion import AgainstChampion
from learners.evidence.findings import holdout_finding
from learners.evidence.lane import MEDIAN_LOOKS, SPREAD_LOOKS, Lane, alarm_at, look, looks_in_a_row
from learners.evidence.own_loss import OwnLoss
from learners.evidence.paired import BETS, Paired

TOLERANCE = 0.01
YEAR = 31_536_000.0
#: differences of loss that are small nearly always and large now and then
SHAPE = np.array([-0.4, -0.1, 0.0, 0.1, 0.4])
CHANCE = np.array([0.03, 0.17, 0.6, 0.17, 0.03])
Floats = npt.NDArray[np.float64]


def factors(mean: float) -> Floats:
    """What one event multiplies into each bet, by kind of event; the events' mean difference is ``mean``."""
    stake = (SHAPE + mean - TOLERANCE) / (1 + TOLERANCE)
    return np.asarray(1 + BETS * stake[:, None])


def looks_to_alarm(rng: np.random.Generator, threshold: float, slices: int, runs: int, most: int) -> Floats:
    """Looks until the first alarm in any slice, one event a look and slice; at most ``most``."""
    table = factors(TOLERANCE)
    state = np.zeros((runs, slices, len(BETS)))
    found = np.full(runs, float(most))
    open_ = np.ones(runs, bool)
    for count in range(1, most + 1):
        kinds = rng.choice(len(SHAPE), (runs, slices), p=CHANCE)
        state = (state + 1) * table[kinds]
        alarmed = open_ & (state.mean(axis=2).max(axis=1) >= threshold)
        found[alarmed] = count
        open_ &= ~alarmed
        if not open_.any():
            break
    return found


def false_alarms() -> None:
    """Mean looks to a false alarm over the threshold, at the edge of the null."""
    print("Mean looks to a false alarm / threshold, at the edge of the null (at least 1 is promised):")
    rng = np.random.default_rng(1)
    for slices, runs in ((1, 200), (20, 60), (200, 20)):
        row = []
        for looks in (100.0, 1000.0, 10_000.0):
            threshold, most = looks * slices, int(looks * 12)
            found = looks_to_alarm(rng, threshold, slices, runs if looks < 5000 else max(10, runs // 4), most)
            row.append(f"{found.mean() / looks:.2f}{'+' if (found >= most).any() else ''}")
        print(f"  {slices:3} slices: threshold for 10^2, 10^3, 10^4 looks: {', '.join(row)}")


def years(count: int) -> None:
    """Alarms in so many simulated years of a look a second, one slice, full threshold."""
    rng = np.random.default_rng(2)
    threshold, streams = alarm_at(YEAR, 1, 1, 1.0), 4000
    steps = int(count * YEAR / streams)
    table, state, alarms = factors(TOLERANCE), np.zeros((streams, len(BETS))), 0
    for begin in range(0, steps, 1000):
        for kinds in rng.choice(len(SHAPE), (min(1000, steps - begin), streams), p=CHANCE):
            state += 1
            state *= table[kinds]
            hit = state.mean(axis=1) >= threshold
            if hit.any():
                alarms += int(hit.sum())
                state[hit] = 0
    print(f"False alarms in {count} simulated years at the full threshold, one slice: {alarms} (at most {count})")


def sgd_losses(rate: float, looks: int, runs: int, seed: int) -> Floats:
    """Holdout losses (runs, looks) of real SGD: logistic, 10 features, 50 events between looks, 1,000 rows."""
    rng, size, events = np.random.default_rng(seed), 10, 50
    true = rng.normal(0, 0.8, (runs, size))
    rows = rng.normal(0, 1, (1000, size))
    labels = (rng.random((runs, 1000)) < _chance(true @ rows.T)).astype(float)
    weights, found = np.zeros((runs, size)), np.empty((runs, looks))
    for index in range(looks):
        for _ in range(events):
            x = rng.normal(0, 1, (runs, size))
            y = rng.random(runs) < _chance((x * true).sum(axis=1))
            weights += (rate * (y - _chance((x * weights).sum(axis=1))))[:, None] * x
        found[:, index] = ((_chance(weights @ rows.T) - labels) ** 2).mean(axis=1)
    return found


def _chance(margin: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-margin)))


def holdout_lane(looks: int) -> None:
    """How often real learners' fluctuation is suspect, and how often it is taken for forgetting."""
    print("Holdout lane, real SGD learners that fluctuate and forget nothing:")
    row = looks_in_a_row(YEAR, 1, 1.0)
    for rate in (0.005, 0.05, 0.2):
        suspect = worse = 0
        for values in sgd_losses(rate, looks // 40, 40, 3):
            lane = Lane()
            for number, loss in enumerate(values):
                lane = look(lane, float(loss), TOLERANCE, number)
                found = holdout_finding(lane, row)
                suspect += found == "above"
                worse += found in ("worse", "far")
        print(f"  rate {rate:<5}: suspect {suspect / looks:.2%} of {looks:,} looks, taken for worse {worse}")


def until(
    paired: Paired, threshold: float, draw: Callable[[], Floats], slices: list[list[str]] | None, name: str
) -> int:
    """Fresh events (of all slices) until the e-detector of a slice alarms."""
    count = 0
    while paired.worse(name) < threshold:
        differences = draw()
        paired.update((1 + differences) / 2, (1 - differences) / 2, slices)
        paired.close_look()
        count += len(differences)
    return count


def power() -> None:
    """Fresh events until a true increase is found, overall and in a slice of 5 %."""
    print("Median fresh events until a true increase is found (5 % to 95 %):")
    rng = np.random.default_rng(4)
    for more, spread in ((0.02, 0.13), (0.05, 0.21), (0.2, 0.42)):
        for slices in (1, 20):
            threshold = alarm_at(YEAR, slices, 1, 1.0)
            draw = lambda m=more, s=spread: np.clip(rng.normal(m, s, 50), -1, 1)  # noqa: E731  beside its use
            found = [until(Paired(TOLERANCE, 1), threshold, draw, None, "") for _ in range(100)]
            low, middle, high = np.percentile(found, [5, 50, 95])
            print(f"  +{more:<4} {slices:2} slices: {middle:,.0f} ({low:,.0f} to {high:,.0f})")
    names = [["s=x"] if i < 5 else ["s=y"] for i in range(100)]
    for more in (0.05, 0.2):
        spread = {0.05: 0.21, 0.2: 0.42}[more]

        def draw(more: float = more, spread: float = spread) -> Floats:
            shifts = np.where(np.arange(100) < 5, more, 0.0)
            return np.clip(rng.normal(shifts, spread), -1, 1)

        found = [until(Paired(TOLERANCE, 1), alarm_at(YEAR, 20, 1, 1.0), draw, names, "s=x") for _ in range(30)]
        print(f"  +{more:<4} in a slice of 5 %: {np.median(found):,.0f} events of the stream")


def rules() -> Iterator[tuple[str, Callable[[Floats], int | None]]]:
    """Rules over a row of holdout losses: each returns the look at which it reverts, or None."""

    def ours(values: Floats) -> int | None:
        lane, row = Lane(), looks_in_a_row(YEAR, 1, 1.0)
        for number, loss in enumerate(values):
            lane = look(lane, float(loss), TOLERANCE, number)
            if holdout_finding(lane, row) in ("worse", "far"):
                return number
        return None

    def fixed(margin: float) -> Callable[[Floats], int | None]:
        def rule(values: Floats) -> int | None:
            above = np.flatnonzero(values > values[:60].mean() + margin)
            return int(above[0]) if len(above) else None

        return rule

    def last(margin: float) -> Callable[[Floats], int | None]:
        def rule(values: Floats) -> int | None:
            above = np.flatnonzero(np.diff(values) > margin)
            return int(above[0]) + 1 if len(above) else None

        return rule

    yield "this guard's holdout lane", ours
    calm = sgd_losses(0.05, 2000, 50, 100)[:, 60:]
    for name, make in (("a fixed threshold", fixed), ("worse than the last", last)):
        margins = np.arange(0.002, 0.3, 0.002)
        quiet = next((m for m in margins if not any(make(float(m))(v) is not None for v in calm)), 0.3)
        yield f"{name}, margin {quiet:.3f} (no false revert in 10^5 looks)", make(float(quiet))


def beside_others() -> None:
    """What simpler rules find when they are made as quiet."""
    print("Caught, of 50 runs (rate 0.05), and after how many looks (median); slow: +0.02 every 100 looks:")
    runs = sgd_losses(0.05, 1360, 50, 7)[:, 60:]
    for name, rule in rules():
        shown = []
        for more in (0.02, 0.05, 0.2):
            found = []
            for run in range(50):
                values = runs[run, :900].copy()
                values[300:] += more
                at = rule(values)
                found.append(None if at is None or at < 300 else at - 300)
            caught = [one for one in found if one is not None]
            shown.append(f"+{more}: {len(caught)}" + (f" after {np.median(caught):.0f}" if caught else ""))
        slow = []
        for run in range(50):
            values = runs[run].copy()
            values[300:] += 0.0002 * np.arange(1000)
            at = rule(values)
            slow += [at - 300] if at is not None and at >= 300 else []
        shown.append(f"slow: {len(slow)}" + (f" after {np.median(slow):.0f}" if slow else ""))
        print(f"  {name}: {'; '.join(shown)}")


def spreads() -> None:
    """The margin by the design's rule (90 % point minus median of the first 60 looks) and by ours."""
    print("The learner's own spread, by the design's rule and by ours (steps from look to look):")
    rng = np.random.default_rng(6)
    cases = {
        "steady, rate 0.05": sgd_losses(0.05, 400, 1, 8)[0, 200:],
        "steady, rate 0.2": sgd_losses(0.2, 400, 1, 8)[0, 200:],
        "still improving": 0.25 - 0.1 * (1 - np.exp(-np.arange(200) / 20)) + rng.normal(0, 0.001, 200),
        "poisoned from look 40 on": np.where(np.arange(200) < 40, 0.15, 0.4) + rng.normal(0, 0.001, 200),
    }
    for name, values in cases.items():
        first = values[:SPREAD_LOOKS]
        lane = Lane()
        for number, loss in enumerate(values[: SPREAD_LOOKS + MEDIAN_LOOKS]):
            lane = look(lane, float(loss), TOLERANCE, number)
        print(f"  {name}: {np.quantile(first, 0.9) - np.median(first):.3f} and {lane.spread:.3f}")


def switches(looks: int) -> None:
    """Two equals, hundred fresh events a look: what falls back, returns, is promoted, or asks for a retrain."""
    rng = np.random.default_rng(7)
    limit = alarm_at(YEAR, 1, 1, 1.0)
    versus, rivalry, own = AgainstBaseline(1, TOLERANCE), AgainstChampion("a"), OwnLoss(TOLERANCE)
    false = {"fall back": 0, "return": 0, "promote": 0, "retrain": 0}
    for number in range(looks):
        d = SHAPE[rng.choice(len(SHAPE), 100, p=CHANCE)]
        online, other = (0.5 + d) / 2, (0.5 - d) / 2
        versus.update(online, other, None)
        rivalry.expect(number, {"a", "b"}, None)
        rivalry.note(number, "a", other.tolist())
        rivalry.note(number, "b", online.tolist())
        own.update(online)
        for one in (versus, rivalry, own):
            one.close_look()
        seen = versus.figures()
        false["fall back"] += seen["fall_back"] >= limit
        false["return"] += seen["return"] >= limit
        false["promote"] += rivalry.figures()["b"]["better"] >= limit
        false["retrain"] += float(own.figures()["alarm"] or 0.0) >= limit
    said = ", ".join(f"{count} of {name}" for name, count in false.items())
    print(f"Two equals over {looks:,} looks of hundred fresh events, at the threshold of a look a second: {said}")


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=20, help="simulated years at the full threshold")
    parser.add_argument("--looks", type=int, default=200_000, help="looks of the holdout lane for each rate")
    chosen = parser.parse_args()
    false_alarms()
    power()
    holdout_lane(chosen.looks)
    spreads()
    beside_others()
    switches(chosen.looks * 5)
    years(chosen.years)


if __name__ == "__main__":
    main()
