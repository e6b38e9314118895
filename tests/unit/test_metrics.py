"""Prequential metrics: equal to River's, the same bits however batched, exact over the window."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import datasets, evaluate, linear_model, metrics, naive_bayes, optim, preprocessing

from learners import Event, Features, Metrics, Prediction, StateRefusedError, learn
from learners.labels import Labels
from learners.metrics import OTHER_SLICES, roc_auc
from learners.river.learner import RiverLearner


def logreg() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))


def regression() -> Any:
    return preprocessing.StandardScaler() | linear_model.LinearRegression(intercept_lr=0.1)


def run(build: Callable[[], Any], dataset: Any, task: Any) -> Metrics:
    labels = Labels(task)
    learner = RiverLearner(build(), labels)
    found = Metrics(task)
    events = (Event(str(i), Features.of(dict(x)), labels.label_of(y)) for i, (x, y) in enumerate(dataset))
    for _ in learn(learner, events, found):
        pass
    return found


@pytest.mark.parametrize(
    ("task", "build", "dataset", "wanted"),
    [
        (
            "binary",
            logreg,
            datasets.Phishing(),
            {"accuracy": metrics.Accuracy(), "f1": metrics.F1(), "log_loss": metrics.LogLoss()},
        ),
        ("binary", logreg, datasets.Bananas(), {"accuracy": metrics.Accuracy(), "f1": metrics.F1()}),
        (
            "multiclass",
            naive_bayes.GaussianNB,
            datasets.ImageSegments(),
            {"accuracy": metrics.Accuracy(), "macro_f1": metrics.MacroF1(), "log_loss": metrics.CrossEntropy()},
        ),
        (
            "regression",
            regression,
            datasets.TrumpApproval(),
            {"mae": metrics.MAE(), "rmse": metrics.RMSE(), "mse": metrics.MSE(), "r2": metrics.R2()},
        ),
    ],
)
def test_equal_to_rivers_progressive_validation(task: Any, build: Any, dataset: Any, wanted: dict[str, Any]) -> None:
    """Every figure equals river.evaluate.progressive_val_score on the same stream."""
    found = run(build, dataset, task).overall()
    for name, metric in wanted.items():
        reference = evaluate.progressive_val_score(dataset, build(), metric).get()
        assert found[name] == pytest.approx(reference, rel=1e-9, abs=1e-12), name


def test_published_figures_of_phishing() -> None:
    """River's published benchmark: logistic regression on Phishing, accuracy 0.8872, F1 0.871233."""
    found = run(logreg, datasets.Phishing(), "binary").overall()
    assert found["accuracy"] == pytest.approx(0.8872, abs=1e-6)
    assert found["f1"] == pytest.approx(0.871233, abs=1e-6)


def _stream(task: str, count: int = 3000) -> tuple[list[Event], list[Prediction], list[list[str]]]:
    draw = random.Random(7)
    events, predictions, slices = [], [], []
    for i in range(count):
        chance = draw.random()
        label: Any = {"binary": draw.random() < chance, "multiclass": i % 4, "regression": draw.gauss(5, 100)}[task]
        if task == "binary":
            said = Prediction(chance > 0.5, chance) if i % 50 else Prediction(None)
        elif task == "multiclass":
            said = Prediction(draw.randrange(4), None, dict.fromkeys(range(4), 0.25))
        else:
            said = Prediction(draw.gauss(5, 100))
        events.append(Event(str(i), Features.of({}), label))
        predictions.append(said)
        slices.append([f"c={i % 3}", f"d={i % 7}"])
    return events, predictions, slices


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_same_bits_however_batched(task: Any) -> None:
    """Promise 1: metrics of a trainer that was killed, and so cut its batches elsewhere, are the same bits."""
    events, predictions, slices = _stream(task)
    states = set()
    for sizes in ([3000], [1] * 3000, [7, 993, 1500, 500]):
        found, at = Metrics(task, window=500), 0
        for size in sizes:
            found.update(events[at : at + size], predictions[at : at + size], slices[at : at + size])
            at += size
            if size > 100:
                found = Metrics.load(found.dump())
        states.add(found.dump())
    assert len(states) == 1


def test_slices_add_up_to_the_whole_and_are_bounded() -> None:
    """Each slice is counted; beyond max_slices they are counted together."""
    events, predictions, _ = _stream("binary")
    found = Metrics("binary", max_slices=2)
    found.update(events, predictions, [[f"c={i % 4}"] for i in range(len(events))])
    by_slice = found.by_slice()
    assert set(by_slice) == {"c=0", "c=1", OTHER_SLICES}
    assert sum(int(one["n"] or 0) for one in by_slice.values()) == found.overall()["n"]


def test_events_without_a_prediction_are_counted_and_left_out() -> None:
    """They are neither right nor wrong."""
    events, predictions, slices = _stream("binary")
    found = Metrics("binary")
    found.update(events, predictions, slices)
    assert found.overall()["unpredicted"] == 60
    assert found.overall()["n"] == 2940


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_roc_auc_is_within_two_thousandths_of_exact(share: float) -> None:
    """Also with one positive in a hundred, where river's ten thresholds fail."""
    draw = np.random.default_rng(3)
    labels = draw.random(100_000) < share
    scores = 1 / (1 + np.exp(-(draw.normal(-4, 1, 100_000) + 1.3 * labels)))
    found = Metrics("binary", window=5000)
    for start in range(0, 100_000, 1000):
        rows = slice(start, start + 1000)
        found.update(
            [Event("", Features.of({}), bool(y)) for y in labels[rows]],
            [Prediction(bool(p > 0.5), float(p)) for p in scores[rows]],
        )
    exact = roc_auc(labels.astype(float), scores)
    assert found.overall()["roc_auc"] == pytest.approx(exact, abs=0.002)
    assert found.recent()["roc_auc"] == pytest.approx(roc_auc(labels[-5000:].astype(float), scores[-5000:]), abs=1e-12)


def test_the_window_holds_the_last_events_only() -> None:
    """The recent figures are those of a fresh start on the last window of events."""
    events, predictions, _ = _stream("binary", 1000)
    whole, last = Metrics("binary", window=200), Metrics("binary", window=200)
    whole.update(events, predictions)
    last.update(events[-204:], predictions[-204:])
    assert whole.recent() == last.recent()
    assert whole.recent()["accuracy"] == pytest.approx(last.overall()["accuracy"])


def test_nothing_scored_gives_no_figures() -> None:
    """None rather than a made-up zero."""
    assert Metrics("binary").overall() == {
        "n": 0, "unpredicted": 0, "accuracy": None, "f1": None, "brier": None, "log_loss": None, "roc_auc": None,
    }  # fmt: skip
    assert Metrics("regression").overall()["r2"] is None


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x80", b"garbage"])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    """By name, not with whatever the decoder raises."""
    with pytest.raises(StateRefusedError):
        Metrics.load(data)
