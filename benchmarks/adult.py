"""The kinds of baseline on adult (income above 50K), a random split with a seed, beside scikit-learn.

``python benchmarks/adult.py ../shared/data``: 70 % of the rows are learnt through ``holdfast archive import`` and
``holdfast retrain``; AUC on the other 30 %, the speed of training, and the time of single predictions.
"""

import csv
import gzip
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from learners.baseline.served import Baseline
from learners.event import Features
from snapshots import LocalStore
from snapshots.records import baselines

_LABEL = "income >50K"
CONFIG = """
name = "adult"
task = "binary"
source.kind = "files"
holdout.rate = 0.02
learners.hashed.kind = "vw"
learners.hashed.args = "--loss_function logistic"
gates.tolerance = 0.1
gates.max_calibration_loss = 0.2
"""


def main() -> None:
    """Run it and print the table."""
    with gzip.open(Path(sys.argv[1]) / "adult.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    random.Random(7).shuffle(rows)
    labels = np.array([int(row.pop(_LABEL)) for row in rows])
    events = [{name: _value(text) for name, text in row.items()} for row in rows]
    cut = int(0.7 * len(rows))
    print(f"{'':32} {'AUC':>7} {'rows/s':>10} {'µs, one':>8}")
    numbers = [name for name, value in events[0].items() if isinstance(value, float)]
    texts = [name for name in events[0] if name not in numbers]
    table = np.array([[row[name] for name in (*numbers, *texts)] for row in events], object)
    count = len(numbers)
    model = make_pipeline(
        make_column_transformer(
            (StandardScaler(), list(range(count))),
            (OneHotEncoder(handle_unknown="ignore"), list(range(count, table.shape[1]))),
        ),
        LogisticRegression(max_iter=1000),
    )
    model.fit(table[:cut], labels[:cut])
    print(f"{'scikit-learn, one-hot':32} {roc_auc_score(labels[cut:], model.predict_proba(table[cut:])[:, 1]):7.4f}")
    for kind in ("linear", "fm", "dcn"):
        for how in ("standardised", "binned"):
            _run(f'retrain.kind = "{kind}"\nretrain.numbers = "{how}"\n', f"{kind}, {how}", events, labels, cut)


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _run(recipe: str, name: str, events: list[dict[str, Any]], labels: Any, cut: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "holdfast.toml").write_text(CONFIG + recipe)
        lines = [
            orjson.dumps({"id": str(i), "ts": float(i), "x": events[i], "y": int(labels[i])}) + b"\n"
            for i in range(cut)
        ]
        (folder / "train.jsonl").write_bytes(b"".join(lines))
        for command in (["archive", "import", "train.jsonl"], ["retrain", "--now", "--json"]):
            subprocess.run(
                [sys.executable, "-m", "stream.cli", *command], cwd=folder, check=False, stdout=subprocess.DEVNULL
            )
        store = LocalStore(folder / "store")
        manifest, data = baselines.model_of(store, baselines.numbers(store)[-1])
    baseline = Baseline(data)
    asked = [orjson.dumps(event) for event in events[cut:]]
    said = baseline.predict_many([Features(raw) for raw in asked])
    auc = roc_auc_score(labels[cut:], [one.probability or 0.0 for one in said])
    began = time.perf_counter()
    for raw in asked[:5000]:
        baseline.predict(Features(raw))
    each = 1e6 * (time.perf_counter() - began) / len(asked[:5000])
    print(f"{'holdfast ' + name:32} {auc:7.4f} {manifest.trained['rows_per_second']:10,} {each:8.0f}", flush=True)


if __name__ == "__main__":
    main()
