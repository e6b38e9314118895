"""What the policies answer on a real stream: accuracy of the best learner, of Hedge, and of equal shares.

    python benchmarks/policies.py elec2 data/elec2.csv.gz

River's own learners, each asked before it learns. The weights are the product's (``learners.evidence.hedge``), as old
as a snapshot is: so many events (``--every``).
"""

import argparse
import csv
import gzip
import random
import statistics
from pathlib import Path
from typing import Any

from rich.progress import track
from river import forest, linear_model, naive_bayes, neighbors, optim, preprocessing, tree

from learners.event import Prediction
from learners.evidence.hedge import Hedge
from learners.evidence.losses import losses

BINARY: dict[str, Any] = {
    "logreg": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
    "alma": lambda: preprocessing.StandardScaler() | linear_model.ALMAClassifier(),
    "bayes": naive_bayes.GaussianNB,
    "tree": tree.HoeffdingTreeClassifier,
    "pa": lambda: preprocessing.StandardScaler() | linear_model.PAClassifier(),
}
CLASSES: dict[str, Any] = {
    "softmax": lambda: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(),
    "bayes": naive_bayes.GaussianNB,
    "tree": tree.HoeffdingTreeClassifier,
    "neighbours": lambda: preprocessing.StandardScaler() | neighbors.KNNClassifier(),
    "forest": lambda: forest.ARFClassifier(n_models=5, seed=1),
}
STREAMS = {"elec2": ("class", "UP", ("date",)), "insects": ("class", "", ())}


def events(name: str, path: Path) -> tuple[list[tuple[dict[str, float], Any]], list[Any]]:
    """Features and label of each row; the classes."""
    label, positive, without = STREAMS[name]
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    label = label if label in rows[0] else list(rows[0])[-1]
    names = [one for one in rows[0] if one != label and one not in without]
    found = [({one: float(row[one]) for one in names}, row[label]) for row in rows]
    if positive:
        return [(x, y == positive) for x, y in found], [False, True]
    return found, sorted({y for _, y in found})


def asked(model: Any, x: dict[str, float], classes: list[Any]) -> Prediction:
    """What a model of River's says, as a learner would."""
    try:
        chances = model.predict_proba_one(x)
    except (NotImplementedError, AttributeError):
        chances = {}
    if classes == [False, True]:
        if chances:
            chance = chances.get(True, 0.0)
            return Prediction(chance > 0.5, chance)
        return Prediction(bool(model.predict_one(x)))
    numbers = {classes.index(one): chance for one, chance in chances.items()}
    return Prediction(max(numbers, key=numbers.get) if numbers else None, None, numbers or None)  # type: ignore[arg-type]


def mean_of(said: dict[str, Prediction], weights: dict[str, float], classes: list[Any]) -> int:
    """The class that the weighted mean says."""
    chances = [0.0] * len(classes)
    for name, one in said.items():
        if one.probability is not None:
            chances[0] += weights[name] * (1 - one.probability)
            chances[1] += weights[name] * one.probability
        elif one.probabilities:
            for number, chance in one.probabilities.items():
                chances[number] += weights[name] * chance
        elif one.value is not None:
            chances[int(one.value)] += weights[name]
    return max(range(len(classes)), key=lambda number: chances[number])


def main() -> None:
    """Print the accuracy of each learner and of each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", choices=STREAMS)
    parser.add_argument("path", type=Path)
    parser.add_argument("--every", type=int, default=500, help="events between two snapshots")
    given = parser.parse_args()
    rows, classes = events(given.stream, given.path)
    task: Any = "binary" if classes == [False, True] else "multiclass"
    models = {name: make() for name, make in (BINARY if task == "binary" else CLASSES).items()}
    hedge, draw = Hedge(), random.Random(1)
    weights = dict.fromkeys(models, 1 / len(models))
    right: dict[str, list[int]] = {name: [] for name in (*models, "hedge: best", "hedge: mean", "equal shares")}
    for number, (x, y) in enumerate(track(rows, given.stream)):
        truth = classes.index(y)
        said = {name: asked(model, x, classes) for name, model in models.items()}
        for name, one in said.items():
            right[name].append(one.value == truth)
        right["hedge: best"].append(right[max(weights, key=lambda name: weights[name])][-1])
        right["hedge: mean"].append(mean_of(said, weights, classes) == truth)
        right["equal shares"].append(right[draw.choice(list(models))][-1])
        hedge.update({name: losses(task, [truth], [one]) for name, one in said.items()})
        for model in models.values():
            model.learn_one(x, y)
        if number % given.every == given.every - 1:
            weights = dict(hedge.weights)
    for name, one in right.items():
        print(f"{name:14} {statistics.fmean(one):.4f}")


if __name__ == "__main__":
    main()
