"""Somebody's table through two commands, beside the plain library: ``init --from``, then learning it all.

    python benchmarks/tables.py --data DIR [TABLE…] [--rows N]

For each table of DIR (NAME.csv.gz) the folder that ``holdfast init --from`` writes learns every row, with the settings
that a user has; beside it the pipeline that River documents (scaled numbers, one-hot texts or bags of words, the
estimator with its default optimiser) predicts and learns the same rows in the same order, one by one, without anything
of Holdfast. Score: the whole stream, each row predicted before it is learnt. Holdfast sets 2 % of the rows aside.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from numbers import Number
from pathlib import Path
from typing import Any

from river import compose, feature_extraction, linear_model, metrics, multiclass, preprocessing

#: label, options, and the measure that is compared (higher is better but for mae)
TABLES: dict[str, tuple[str, list[str], str]] = {
    "adult": ("income >50K", [], "roc_auc"),
    "bank_full": ("deposit", [], "roc_auc"),
    "bike_hour": ("cnt", [], "mae"),
    "sms_spam": ("label", [], "roc_auc"),
    "nycflights13": ("arr_delay", ["--exclude", "dep_time,dep_delay,arr_time,air_time"], "mae"),
    "phishing_uci": ("", [], "roc_auc"),
    "kdd99_10pct": ("label", [], "accuracy"),
}
_BETTER = {"mae": -1}


def main() -> None:
    """Print a row for each table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(TABLES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=0, help="Only the first rows; 0: all.")
    arguments = parser.parse_args()
    print(f"{'table':14} {'rows':>9} {'measure':9} {'plain':>10} {'Holdfast':>10} {'seconds':>8}  learner")
    worse = 0
    for name in arguments.tables:
        label, options, measure = TABLES[name]
        with tempfile.TemporaryDirectory() as temporary:
            table = _cut(arguments.data / f"{name}.csv.gz", Path(temporary), arguments.rows)
            label = label or _last_column(table)
            began = time.monotonic()
            folder, found = _learnt(table, Path(temporary) / "folder", label, options)
            seconds = time.monotonic() - began
            champion = next(name for name, one in found["learners"].items() if one["role"] == "champion")
            ours = found["learners"][champion]["metrics"][measure]
            plain = _plain(folder, found["task"], measure)
            rows = found["learners"][champion]["events"]["consumed"]
            print(f"{name:14} {rows:9,} {measure:9} {plain:10.4f} {ours:10.4f} {seconds:8.0f}  {champion}", flush=True)
            worse += (ours - plain) * _BETTER.get(measure, 1) < 0
    sys.exit(1 if worse else 0)


def _cut(source: Path, folder: Path, rows: int) -> Path:
    """The table, or its first rows."""
    if not rows:
        return source
    cut = folder / source.name.removesuffix(".gz")
    with gzip.open(source, "rt", encoding="utf-8", newline="") as lines, cut.open("w", newline="") as out:
        for number, line in enumerate(lines):
            if number > rows:
                break
            out.write(line)
    return cut


def _last_column(table: Path) -> str:
    with gzip.open(table, "rt") if table.suffix == ".gz" else table.open() as lines:
        return lines.readline().strip().rsplit(",", 1)[-1]


def _learnt(table: Path, folder: Path, label: str, options: list[str]) -> tuple[Path, dict[str, Any]]:
    """The folder of ``init --from`` after it has learnt every row, and its status."""
    command = [sys.executable, "-m", "stream.cli"]
    subprocess.run(
        [*command, "init", str(folder), "--from", str(table), "--label", label, *options], check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    subprocess.run([*command, "train", "--until-end"], check=True, cwd=folder, stderr=subprocess.DEVNULL)
    done = subprocess.run([*command, "status", "--json"], check=True, cwd=folder, capture_output=True)
    return folder, json.loads(done.stdout)


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    for path in (folder / "events").iterdir():
        with path.open("rb") as lines:
            yield from map(json.loads, lines)


def _plain(folder: Path, task: str, measure: str) -> float:
    """What River's documented pipeline comes to on the same events."""
    events = _events(folder)
    first = next(events)
    texts = [name for name, value in first["x"].items() if isinstance(value, str)]
    model = _pipeline(task, texts if len(texts) == len(first["x"]) == 1 else [])
    score = {
        "roc_auc": metrics.ROCAUC, "mae": metrics.MAE, "accuracy": metrics.Accuracy,
    }[measure]()  # fmt: skip
    positive = _positive(folder)
    for event in (first, *events):
        if "y" not in event:
            continue
        x, y = event["x"], event["y"]
        y = (str(y) == positive) if task == "binary" else float(y) if task == "regression" else y
        answer = model.predict_proba_one(x) if measure == "roc_auc" else model.predict_one(x)
        if answer is not None:
            score.update(y, answer.get(True, 0.5) if measure == "roc_auc" else answer)
        model.learn_one(x, y)
    return float(score.get())


def _positive(folder: Path) -> str:
    lines = (folder / "holdfast.toml").read_text().splitlines()
    found = next((line.split("=", 1)[1] for line in lines if line.startswith("positive")), "1")
    return str(json.loads(found))


def _pipeline(task: str, text: list[str]) -> Any:
    if text:
        features: Any = feature_extraction.BagOfWords(on=text[0])
    else:
        numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
        features = numbers + (compose.SelectType(str) | preprocessing.OneHotEncoder())
    if task == "regression":
        return features | linear_model.LinearRegression()
    logistic = linear_model.LogisticRegression()
    return features | (logistic if task == "binary" else multiclass.OneVsRestClassifier(logistic))


if __name__ == "__main__":
    main()
