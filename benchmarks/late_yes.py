"""What a late yes does to a model that learnt no, and what each correction makes of it.

    python benchmarks/late_yes.py --events 40000

Made-up clicks: 5 numbers, and a yes with the probability of a logistic model (about 24 % or 3 % in the mean), which
comes a while later: a third within the wait, the others after it, in events. River's scaler and logistic regression
learn no after the wait, and the late yes with the weight that ``join.correction`` gives it
(``learners/late_labels.py``, p as the learner says it then). Scored is what was said when the event came, over the
second half, against what was true: log loss, and calibration, the mean of what was said over the share of yes.
"""

import argparse
import heapq
import math
import random
from typing import Any

from river import linear_model, optim, preprocessing

from learners.late_labels import weight_of_late_yes, weight_of_no

WAIT, MEAN_DELAY = 500, 1250.0


def stream(count: int, base: float, seed: int) -> list[tuple[dict[str, float], int, float]]:
    """Features, the truth, and after how many events a yes comes."""
    draw = random.Random(seed)
    weights = {f"f{n}": draw.gauss(0, 0.6) for n in range(5)}
    shift = math.log(base / (1 - base)) - (0.25 if base > 0.1 else 0.45)
    found = []
    for _ in range(count):
        x = {name: draw.gauss(0, 1) for name in weights}
        p = 1 / (1 + math.exp(-shift - sum(weights[name] * value for name, value in x.items())))
        found.append((x, int(draw.random() < p), draw.expovariate(1 / MEAN_DELAY)))
    return found


def scored(rule: str, rows: list[tuple[dict[str, float], int, float]]) -> tuple[float, float]:
    """Log loss and calibration of one way."""
    model: Any = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.02))
    waiting: list[tuple[float, int, int, float]] = []
    losses, said, true, half = 0.0, 0.0, 0, len(rows) // 2
    for number, (x, y, delay) in enumerate(rows):
        while waiting and waiting[0][0] <= number:
            _, which, label, mode = heapq.heappop(waiting)
            features = rows[which][0]
            p = model.predict_proba_one(features).get(True, 0.0)
            weight = 1.0 if mode == 0 else weight_of_no(rule, p) if mode == 1 else weight_of_late_yes(rule, p)
            model.learn_one(features, bool(label), w=1.0 if rule == "none" else weight)
        p = min(1 - 1e-9, max(1e-9, model.predict_proba_one(x).get(True, 0.0)))
        if number >= half:
            losses -= math.log(p if y else 1 - p)
            said, true = said + p, true + y
        if rule == "oracle":
            heapq.heappush(waiting, (number + 1, number, y, 0))
        elif rule == "wait 6,000":
            heapq.heappush(waiting, (number + 6000, number, int(y and delay <= 6000), 0))
        elif y and delay <= WAIT:
            heapq.heappush(waiting, (number + delay, number, 1, 0))
        else:
            heapq.heappush(waiting, (number + WAIT, number, 0, 1))
            if y:
                heapq.heappush(waiting, (number + delay, number, 1, 2))
    return losses / (len(rows) - half), said / max(1, true)


def main() -> None:
    """Print a line for each way and base rate, the means of some seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    for base in (0.24, 0.03):
        streams = [stream(given.events, base, seed) for seed in range(given.seeds)]
        share = sum(y for rows in streams for _, y, _ in rows) / sum(map(len, streams))
        print(f"{share:.1%} yes, {math.exp(-WAIT / MEAN_DELAY):.0%} of them after the wait")
        for rule in ("oracle", "none", "fnw", "retract", "wait 6,000"):
            found = [scored(rule, rows) for rows in streams]
            loss = sum(one for one, _ in found) / len(found)
            calibrations = [one for _, one in found]
            spread = f"{min(calibrations):.2f} to {max(calibrations):.2f}"
            mean = sum(calibrations) / len(calibrations)
            print(f"  {rule:11} log loss {loss:.4f}, calibration {mean:.2f} ({spread})")


if __name__ == "__main__":
    main()
