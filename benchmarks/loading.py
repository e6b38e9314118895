"""Loading a saved River model by the rules of promise 9, beside plain pickle: seconds of processor time, and the ratio.

``python benchmarks/loading.py [EVENTS]``: a forest of ten trees that learnt so many events (6,000).
"""

import pickle
import random
import sys
import time
from collections.abc import Callable

from river import forest

from learners.river.safe_pickle import loads


def best(what: Callable[[], object]) -> float:
    """The best of three, in seconds of processor time."""
    found = []
    for _ in range(3):
        began = time.process_time()
        what()
        found.append(time.process_time() - began)
    return min(found)


def main() -> None:
    """Train, save, and load both ways."""
    model, draw = forest.ARFClassifier(n_models=10, seed=1), random.Random(1)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 6000):
        x = {f"f{number}": draw.gauss(0, 1) for number in range(9)}
        model.learn_one(x, x["f0"] + x["f1"] * x["f2"] > 0)
    data = pickle.dumps(model, 5)
    plain, ours = best(lambda: pickle.loads(data)), best(lambda: loads(data))  # noqa: S301  our own of a moment ago
    print(f"{len(data) / 1e6:.1f} MB: plain pickle {plain:.2f} s, here {ours:.2f} s, ratio {ours / plain:.2f}")


if __name__ == "__main__":
    main()
