"""Flights of 2013 with the delays that their labels really had: the joins beside those of duckdb.

    pip install duckdb; python benchmarks/flights.py /path/to/nycflights13.csv.gz --rows 100000

The question is asked at scheduled departure; the label (more than 15 minutes late or not) comes when the flight lands,
which is taken to be its departure plus its time in the air. Cancelled flights never have one. Events and labels go to
directories of their own, in order of time, through ``holdfast train`` and ``holdfast archive run``; duckdb joins the
same two files as tables. Prints for each wait whether the sets are equal, what became of all, and the scores.
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stream.archive.files import Archive
from stream.config import load
from stream.parts import store_of

WAITS = ("30m", "3h", "24h")
SECONDS = {"30m": 1800, "3h": 10800, "24h": 86400}
MODEL = """
from numbers import Number

from river import compose, linear_model, optim, preprocessing

def linear():
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(optim.SGD(0.01))
"""
CONFIGURATION = """
name = "flights"
task = "binary"
[source]
kind = "files"
[labels]
directory = "labels"
[join]
wait = "{wait}"
[learners.linear]
kind = "river"
factory = "model:linear"
"""


def flights(path: Path, rows: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events and labels, each in order of time."""
    events, labels = [], []
    with gzip.open(path, "rt") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number >= rows:
                break
            at = int(row["sched_dep_time"])
            day = datetime(int(row["year"]), int(row["month"]), int(row["day"]), tzinfo=UTC)
            moment = day + timedelta(hours=at // 100, minutes=at % 100)
            x = {"hour": at // 100, "distance": float(row["distance"]), "carrier": row["carrier"],
                 "origin": row["origin"], "dest": row["dest"], "weekday": str(moment.weekday())}  # fmt: skip
            events.append({"id": f"f{number}", "ts": moment.timestamp(), "x": x})
            if row["air_time"] not in ("", "NA") and row["arr_delay"] not in ("", "NA"):
                landed = moment + timedelta(minutes=float(row["dep_delay"]) + float(row["air_time"]))
                y = int(float(row["arr_delay"]) > 15)
                labels.append({"id": f"f{number}", "ts": landed.timestamp(), "y": y})
    return events, sorted(labels, key=lambda one: one["ts"])


def joined_by_duckdb(folder: Path, wait: float) -> set[tuple[str, int]]:
    """The pairs, by a query over both files."""
    import duckdb  # noqa: PLC0415  only where it is installed

    events, labels = f"'{folder}/events/a.jsonl'", f"'{folder}/labels/a.jsonl'"
    query = f"SELECT id, l.y FROM {events} e JOIN {labels} l USING (id) WHERE l.ts <= e.ts + {wait}"  # noqa: S608  ours
    found = duckdb.sql(query)
    return {(identity, int(y)) for identity, y in found.fetchall()}


def holdfast(folder: Path, *words: str) -> str:
    """Run the command; what it prints."""
    command = [sys.executable, "-m", "stream.cli", "--config", str(folder / "holdfast.toml"), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Print a paragraph for each wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    events, labels = flights(given.path, given.rows)
    for wait in WAITS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "model.py").write_text(MODEL)
            (folder / "holdfast.toml").write_text(CONFIGURATION.format(wait=wait))
            for kind, rows in (("events", events), ("labels", labels)):
                (folder / kind).mkdir()
                (folder / kind / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
            holdfast(folder, "train", "--until-end")
            holdfast(folder, "archive", "run", "--until-end")
            archive = Archive(store_of(load(folder / "holdfast.toml", {})))
            kept = [json.loads(row.value) for file in archive.files() for row in archive.rows(file)]
            pairs = {(one["id"], int(one["y"])) for one in kept}
            expected = joined_by_duckdb(folder, SECONDS[wait])
            status = json.loads(holdfast(folder, "status", "--json"))
            one, said = status["learners"]["linear"], status["labels"]
            print(f"wait {wait}: {len(pairs):,} pairs, duckdb {len(expected):,}, equal: {pairs == expected}")
            shown = ("joined", "late", "orphan", "pending", "timed_out")
            print("  " + ", ".join(f"{said[key]:,} {key}" for key in shown))
            scores = {"delayed": one["delayed"]["log_loss"], "prequential": one["metrics"]["log_loss"]}
            print("  log loss: " + ", ".join(f"{kind} {score:.4f}" for kind, score in scores.items()))
            late, wait_for_99 = said["delays"]["late_share"], said["delays"]["wait_for_99"]
            print(f"  {late:.1%} of the labels are late; 99 % come within {wait_for_99:,.0f} s")


if __name__ == "__main__":
    main()
