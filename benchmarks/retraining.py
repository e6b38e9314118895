"""How many encoded rows a second each kind of baseline learns, beside scikit-learn and Vowpal Wabbit on the same rows.

``python benchmarks/retraining.py [--rows N] [--device cpu]``, or ``make bench ARGS="--only retrain"``: rows
as of clicks: 13 numbers and 26 texts of up to 10,000 values. Ours are counted as training counts them, from arrays in
memory, one epoch. scikit-learn's SGDClassifier gets the same as a sparse matrix, Vowpal Wabbit its own binary cache,
which it reads much faster than text.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from figures import Row, median_of
from scipy import sparse
from sklearn.linear_model import SGDClassifier

from learners.baseline.batches import Rows
from learners.baseline.networks import Shape
from learners.baseline.recipe import Recipe
from learners.baseline.training import Hooks, device_of, train

_NUMBERS, _TEXTS, _VALUES = 13, 26, 10_000
#: memory bandwidth in bytes a second, by what the device calls itself (NVIDIA's data sheets)
_BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12}


def made(count: int) -> Rows:
    """Rows with a signal in both numbers and texts; place 0 is for what is unknown."""
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(count, _NUMBERS)).astype(np.float32)
    places = np.minimum(rng.zipf(1.2, (count, _TEXTS)), _VALUES - 1).astype(np.int32)
    places += np.arange(_TEXTS, dtype=np.int32) * _VALUES + 1
    weights = rng.normal(0, 0.3, _TEXTS * _VALUES + 1)
    score = numbers @ rng.normal(0, 0.3, _NUMBERS) + weights[places].sum(axis=1)
    labels = (score + rng.logistic(size=count) > 0).astype(np.float32)
    return Rows(numbers, places, labels, np.ones(count, np.float32), np.arange(count, dtype=np.float64))


def ours(kind: str, rows: Rows, device: torch.device) -> float:
    """Rows a second of one epoch; the first, which warms up, is not counted."""
    shape = Shape(_NUMBERS, _TEXTS, _TEXTS * _VALUES + 1, 1)
    recipe = Recipe(kind=kind, epochs=2, patience=9, validation=0.02)  # type: ignore[arg-type]
    moments: list[float] = []
    hooks = Hooks(keep=lambda _: moments.append(time.monotonic()))
    train(rows, shape, "binary", recipe, device, hooks=hooks)
    return 0.98 * len(rows) / (moments[-1] - moments[0])


def scikit(rows: Rows) -> float:
    """Rows a second of SGDClassifier, one epoch, logistic loss."""
    count = len(rows)
    indices = np.concatenate(
        [np.tile(np.arange(_NUMBERS, dtype=np.int32), (count, 1)), rows.places + _NUMBERS], axis=1
    ).ravel()
    values = np.concatenate([rows.numbers, np.ones((count, _TEXTS), np.float32)], axis=1).ravel().astype(np.float64)
    ends = np.arange(0, len(indices) + 1, _NUMBERS + _TEXTS)
    table = sparse.csr_matrix((values, indices, ends), shape=(count, _NUMBERS + _TEXTS * _VALUES + 1))
    model = SGDClassifier(loss="log_loss", max_iter=1, tol=None)
    began = time.monotonic()
    model.partial_fit(table, rows.labels, classes=[0.0, 1.0])
    return count / (time.monotonic() - began)


def vowpal(rows: Rows, folder: Path) -> float:
    """Rows a second of Vowpal Wabbit out of its cache: two passes less one."""
    import vowpalwabbit  # noqa: PLC0415  here only

    path = folder / "rows.vw"
    with path.open("w") as file:
        for x, p, y in zip(rows.numbers, rows.places, rows.labels, strict=True):
            numbers = " ".join(f"n{i}:{v:.4f}" for i, v in enumerate(x))
            file.write(f"{1 if y else -1} | {numbers} {' '.join(f't{v}' for v in p)}\n")
    taken = []
    for passes in (1, 3):
        cache = folder / f"cache{passes}"
        began = time.monotonic()
        vowpalwabbit.Workspace(
            f"-d {path} --cache_file {cache} -k --passes {passes} --loss_function logistic -b 20 --holdout_off --quiet"
        ).finish()
        taken.append(time.monotonic() - began)
    return 2 * len(rows) / (taken[1] - taken[0])


def rows_of(count: int = 300_000, device: str = "cpu", rounds: int = 3) -> Iterator[Row]:
    """The rows of the table."""
    data, place = made(count), device_of(device)
    with tempfile.TemporaryDirectory() as folder:
        peers = {
            "scikit-learn SGDClassifier": median_of([scikit(data) for _ in range(rounds)]),
            "Vowpal Wabbit, from its cache": median_of([vowpal(data, Path(folder)) for _ in range(rounds)]),
        }
    for name, found in peers.items():
        yield Row(name, f"{count:,} rows, one epoch", *(one / 1e6 for one in found), unit=" M/s")
    for kind in ("linear", "fm", "dcn"):
        found = median_of([ours(kind, data, place) for _ in range(rounds)])
        detail = ", ".join(f"{found[0] / one[0]:.2f} of {name}" for name, one in peers.items())
        if place.type == "cuda":
            card = torch.cuda.get_device_name(place)
            width = next((one for name, one in _BANDWIDTH.items() if name in card), None)
            read = 4 * (_NUMBERS + _TEXTS + 2) * found[0]
            share = f", rows alone {read / width:.1%} of its bandwidth" if width else ""
            detail += f"; {card}{share}"
        yield Row(f"full retrain, {kind}, on {place.type}", detail, *(one / 1e6 for one in found), unit=" M/s")


def main() -> None:
    """Print each row as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    for row in rows_of(chosen.rows, chosen.device, chosen.rounds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
