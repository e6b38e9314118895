"""How soon a roll-out finds a worse candidate, and how often it takes back one that is just good enough; simulated.

    python benchmarks/rollout.py --runs 200

Losses of candidate and champion on the same events (standard deviation of the difference 0.21), judged by the product's
own evidence at the defaults after every hundred events. "Edge": the candidate loses exactly ``rollout.max_loss`` more,
on the whole and in each slice, over as many labelled events as come in a month, one in ten seconds.
"""

import argparse
import statistics

import numpy as np
from rich.progress import track

from learners.evidence.since_entry import OfRollout
from stream.rollout.limits import alpha_of
from stream.rollout.steps import Seen, back
from stream.rollout.told import Told
from stream.settings import RolloutConfig

LOOK, SPREAD, MONTH = 100, 0.21, 259_200
SETTINGS = RolloutConfig()


def run(draw: np.random.Generator, worse: float, slices: int, most: int) -> int | None:
    """Labelled events until the candidate is taken back; None: it is not."""
    evidence, told = OfRollout(), Told(1, 1)
    evidence.begin(1, "candidate")
    for number in range(0, most, LOOK):
        champion = draw.uniform(0.3, 0.7, LOOK)
        own = np.clip(champion + draw.normal(worse, SPREAD, LOOK), 0, 1)
        names = [[f"s={one}"] for one in draw.integers(0, slices, LOOK)] if slices > 1 else None
        evidence.note_learnt("candidate", own, champion, names)
        if back(Seen(told, evidence.figures(alpha_of(SETTINGS))["learnt"]), SETTINGS):
            return number + LOOK
    return None


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    draw = np.random.default_rng(1)
    for worse in (0.02, 0.05, 0.2):
        found = [run(draw, worse, 1, 200_000) for _ in track(range(given.runs), f"worse by {worse}")]
        seen = [one for one in found if one is not None]
        print(f"worse by {worse}: after a median of {statistics.median(seen):,.0f} labelled events "
              f"(90 % within {np.quantile(seen, 0.9):,.0f}); {len(found) - len(seen)} of {len(found)} not")  # fmt: skip
    for slices in (1, 5, 20):
        found = [run(draw, SETTINGS.max_loss, slices, MONTH) for _ in track(range(given.runs // 10), f"{slices}")]
        wrong = sum(one is not None for one in found)
        print(f"at the edge, {slices} slice(s): {wrong} of {len(found)} taken back within a month; the budget is "
              f"{alpha_of(SETTINGS):.3f} of them, {SETTINGS.false_aborts_per_year:g} a year")  # fmt: skip


if __name__ == "__main__":
    main()
