"""The baseline on the simulated card payments of the Fraud Detection Handbook, on the book's own split and delay.

``python benchmarks/fraud.py ../shared/data [--kind dcn]``: computes the book's features (weekend, night; customer and
terminal windows of 1, 7 and 30 days, the terminal's risk delayed by 7 days), brings the training week in as history
with ``holdfast archive import``, retrains, and asks the exported baseline about the test week. Beside it the published
figures (Chapter 3, baseline: training 2018-07-25 to 31, test 2018-08-08 to 14). Frauds of cards that were found out
before are left out of the test, as there.
"""

import argparse
import csv
import gzip
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sklearn.metrics import average_precision_score, roc_auc_score

from learners.baseline.served import Baseline
from learners.event import Features
from snapshots import LocalStore
from snapshots.records import baselines

_DAY = 86_400
_FIRST = datetime(2018, 4, 1, tzinfo=UTC)
_TRAIN, _DELAY, _DAYS = (datetime(2018, 7, 25, tzinfo=UTC) - _FIRST).days, 7, 7
PUBLISHED = {
    "logistic regression": (0.871, 0.606, 0.291), "random forest": (0.867, 0.658, 0.287),
    "XGBoost": (0.862, 0.639, 0.273),
}  # fmt: skip
CONFIG = """
name = "fraud"
task = "binary"
source.kind = "files"
holdout.rate = 0.01
learners.hashed.kind = "vw"
learners.hashed.args = "--loss_function logistic"
retrain.fewest_rows = 1000
gates.max_calibration_loss = 0.05
gates.tolerance = 0.05
retrain.decay = 0.1
"""


def rows(folder: Path, last_day: int) -> list[dict[str, Any]]:
    """Every transaction up to a day, with its day and second."""
    found = []
    with gzip.open(folder / "fraud_handbook_sim.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            seconds = int(row["TX_TIME_SECONDS"])
            if seconds // _DAY > last_day:
                break
            found.append({
                "id": row["TRANSACTION_ID"], "t": seconds, "customer": row["CUSTOMER_ID"],
                "terminal": row["TERMINAL_ID"],
                "amount": float(row["TX_AMOUNT"]), "fraud": int(row["TX_FRAUD"]),
            })  # fmt: skip
    return found


def with_features(found: list[dict[str, Any]], from_day: int) -> None:
    """Add the book's features to every transaction from a day on."""
    for key, delay in (("customer", 0), ("terminal", _DELAY * _DAY)):
        by: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(found):
            by[row[key]].append(index)
        for indices in by.values():
            times = [found[i]["t"] for i in indices]
            values = np.array([found[i]["amount" if key == "customer" else "fraud"] for i in indices])
            sums = np.concatenate([[0.0], np.cumsum(values)])
            for position, index in enumerate(indices):
                row = found[index]
                if row["t"] // _DAY < from_day:
                    continue
                end = position + 1 if not delay else bisect_left(times, row["t"] - delay)
                for days in (1, 7, 30):
                    begin = bisect_left(times, row["t"] - delay - days * _DAY)
                    count = max(0, end - begin)
                    mean = float(sums[end] - sums[begin]) / count if count else 0.0
                    what = "amount" if key == "customer" else "risk"
                    row[f"{key}_{days}d_count"], row[f"{key}_{days}d_{what}"] = float(count), mean


def event_of(row: dict[str, Any]) -> dict[str, Any]:
    """The event that is sent: the book's features, and the label."""
    moment = datetime.fromtimestamp(_FIRST.timestamp() + row["t"], UTC)
    x = {name: value for name, value in row.items() if "_" in name}
    x |= {"amount": row["amount"], "weekend": float(moment.weekday() >= 5), "night": float(moment.hour <= 6)}
    return {"id": row["id"], "ts": moment.timestamp(), "x": x, "y": row["fraud"]}


def card_precision(test: list[dict[str, Any]], chances: list[float], top: int = 100) -> float:
    """Mean over the days of the share of compromised cards among the hundred most suspicious, found ones left out."""
    found: set[str] = set()
    shares = []
    for day in sorted({row["t"] // _DAY for row in test}):
        cards: dict[str, list[float]] = {}
        for row, chance in zip(test, chances, strict=True):
            if row["t"] // _DAY == day and row["customer"] not in found:
                one = cards.setdefault(row["customer"], [0.0, 0.0])
                one[0], one[1] = max(one[0], chance), max(one[1], row["fraud"])
        best = sorted(cards.items(), key=lambda one: -one[1][0])[:top]
        hits = {card for card, (_, fraud) in best if fraud}
        found |= hits
        shares.append(len(hits) / top)
    return float(np.mean(shares))


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kind", default="all")
    chosen = parser.parse_args()
    began = time.monotonic()
    test_day = _TRAIN + _DAYS + _DELAY
    every = rows(chosen.data, test_day + _DAYS - 1)
    with_features(every, _TRAIN)
    train = [row for row in every if _TRAIN <= row["t"] // _DAY < _TRAIN + _DAYS]
    known = {row["customer"] for row in train if row["fraud"]}
    test = []
    for day in range(_DAYS):
        test += [r for r in every if r["t"] // _DAY == test_day + day and r["customer"] not in known]
        found_out = _TRAIN + _DAYS + day  # labels arrive a week later
        known |= {r["customer"] for r in every if r["t"] // _DAY == found_out and r["fraud"]}
    print(f"{len(train):,} and {len(test):,} transactions, {sum(r['fraud'] for r in train)} and "
          f"{sum(r['fraud'] for r in test)} frauds; features in {time.monotonic() - began:.0f} s")  # fmt: skip
    print(f"{'':32} {'AUC':>6} {'AP':>6} {'CP@100':>7}")
    for name, figures in PUBLISHED.items():
        _show(f"published: {name}", figures)
    for kind in ("linear", "fm", "dcn") if chosen.kind == "all" else (chosen.kind,):
        for numbers in ("standardised",) if kind != "linear" else ("standardised", "binned"):
            _show(f"holdfast {kind}, {numbers}", _figures(kind, numbers, train, test))


def _show(name: str, figures: Sequence[float]) -> None:
    print(f"{name:32} {figures[0]:6.3f} {figures[1]:6.3f} {figures[2]:7.3f}", flush=True)


def _figures(kind: str, numbers: str, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> list[float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "holdfast.toml").write_text(CONFIG + f'retrain.kind = "{kind}"\nretrain.numbers = "{numbers}"\n')
        (folder / "train.jsonl").write_bytes(b"".join(orjson.dumps(event_of(row)) + b"\n" for row in train))
        for command in (["archive", "import", "train.jsonl"], ["retrain", "--now", "--json"]):
            subprocess.run(
                [sys.executable, "-m", "stream.cli", *command], cwd=folder, check=False, stdout=subprocess.DEVNULL
            )
        store = LocalStore(folder / "store")
        baseline = Baseline(baselines.model_of(store, baselines.numbers(store)[-1])[1])
        said = baseline.predict_many([Features(orjson.dumps(event_of(row)["x"])) for row in test])
    chances = [one.probability or 0.0 for one in said]
    labels = [row["fraud"] for row in test]
    return [
        float(roc_auc_score(labels, chances)), float(average_precision_score(labels, chances)),
        card_precision(test, chances),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
