"""What ``routing.policy = "thompson"`` costs while it finds the best learner: regret on simulated rewards.

    python benchmarks/thompson.py

Arms earn 0 or 1 with fixed probabilities (stationary), or the best changes every so often (switching). The product's
own posteriors (``learners.evidence.thompson``) with its defaults; shares are as old as a snapshot: ``--every`` rewards.
Regret is what the best arm would have earned more. The floor has its own price, which no rule can avoid; the rest is
put beside Lai & Robbins' bound for a stationary problem, the sum of gap / KL times ln n.
"""

import argparse
import math
import statistics

import numpy as np
from rich.progress import track

from learners.evidence.thompson import Thompson

STATIONARY = {"two, far apart": (0.5, 0.6), "two, close": (0.5, 0.52), "five": (0.40, 0.45, 0.50, 0.52, 0.55)}
SWITCHES = (0.6, 0.5)
_ALPHA = 0.05


def _divergence(one: float, other: float) -> float:
    return one * math.log(one / other) + (1 - one) * math.log((1 - one) / (1 - other))


def run(means: np.ndarray, every: int, seed: int) -> tuple[float, int, str]:
    """Regret, after how many rewards a winner was certain (0: never), and who it was; ``means``: (events, arms)."""
    draw, thompson = np.random.default_rng(seed), Thompson()
    names = [str(number) for number in range(means.shape[1])]
    regret, found, winner = 0.0, 0, ""
    shares = np.array(list(thompson.shares(names).values()))
    for number, row in enumerate(means):
        if number % every == 0 and number:
            figures = thompson.figures(names, _ALPHA)
            shares = np.array([one["share"] for one in figures["arms"].values()])
            if not found and figures["winner"]:
                found, winner = number, figures["winner"]
        arm = int(draw.choice(len(names), p=shares / shares.sum()))
        regret += float(row.max() - row[arm])
        thompson.update(names[arm], float(draw.random() < row[arm]), float(shares[arm]))
    return regret, found, winner


def main() -> None:
    """Print one line for each problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    problems = {name: np.tile(np.array(one), (given.events, 1)) for name, one in STATIONARY.items()}
    there = np.arange(given.events) // (given.events // 5) % 2 == 1
    problems["switching, 4 times"] = np.where(there[:, None], np.array(SWITCHES), np.array(SWITCHES[::-1]))
    floor = Thompson()._floor  # noqa: SLF001  the default is what is measured
    for name, means in problems.items():
        runs = [run(means, given.every, seed) for seed in track(range(given.runs), name, transient=True)]
        gaps = means.max(axis=1, keepdims=True) - means
        equal, least = float(gaps.mean(axis=1).sum()), float(floor * gaps.sum())
        regrets = [one[0] for one in runs]
        theory = ""
        if "switching" not in name:
            best = float(means[0].max())
            bound = sum((best - one) / _divergence(one, best) for one in means[0] if one < best) * math.log(
                given.events
            )
            theory = f", Lai-Robbins {bound:,.0f}"
        certain = sorted(one[1] for one in runs if one[1])
        right = sum(1 for one in runs if one[1] and float(means[0][int(one[2])]) == float(means[0].max()))
        said = (
            f"winner after {statistics.median(certain):,.0f} in {len(certain)} of {len(runs)}"
            if certain
            else "no winner"
        )
        wrong = f", {len(certain) - right} wrong" if "switching" not in name else ""
        print(
            f"{name}: regret {statistics.mean(regrets):,.0f} ({min(regrets):,.0f} to {max(regrets):,.0f}) "
            f"of {given.events:,}; floor alone {least:,.0f}{theory}; equal shares {equal:,.0f}; {said}{wrong}"
        )


if __name__ == "__main__":
    main()
