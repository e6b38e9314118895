"""History first, then the stream: online, baseline, warm and full retrains, and what was served, on the same events.

    python benchmarks/streamed.py FOLDER [fraud] [flights] [--most ROWS]

The first 60 % of a data set are brought in with ``holdfast archive import`` and a baseline is trained on them. The rest
is streamed through ``holdfast up`` (trainer, guard, archiver, serving): a chunk is first asked of ``/predict/batch``,
then written as labelled events, and the next is asked when a snapshot that learnt it was judged. After each third of
the stream the baseline is trained anew over the whole archive; beside it, in a store of its own, another goes on warm
from one to the next. All are scored on the same streamed events, none of which it had seen.
"""

import argparse
import contextlib
import csv
import gzip
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import orjson
from fraud import event_of, with_features
from fraud import rows as fraud_rows
from sklearn.metrics import average_precision_score, roc_auc_score

from learners import learn
from learners.baseline.served import Baseline
from learners.event import Event, Features
from snapshots import Lineage, LocalStore
from snapshots.records import baselines
from stream.config import load
from stream.parts import build_learner, labels_of, reach_modules

_THIRDS = 3
_FEWEST = 200
_CHUNKS, _ASKED = 400, 500
_TOLD = ("fall_back", "return", "revert", "promote", "retrain")
CONFIG = """
name = "streamed"
task = "binary"
champion = "auto"
source.kind = "files"
snapshots.every_seconds = 0.3
holdout.rate = 0.02
guard.sample = 0.2
guard.moved = "follow"
archive.enabled = true
archive.every_seconds = 1.0
retrain.kind = "dcn"
gates.max_calibration_loss = 0.05
gates.max_slice_loss = 0.05
gates.tolerance = 0.02
breaker.jump = 1.0
learners.vw = {kind = "vw", args = "--loss_function logistic -b 20", role = "champion"}
learners.river = {kind = "river", factory = "model:logistic"}
"""
MODEL = """
from numbers import Number
from river import compose, linear_model, optim, preprocessing

def logistic():
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(optim.SGD(0.01))
"""


class Data(msgspec.Struct):
    """Events in order, the settings that belong to them, and the feature that names the slices."""

    events: list[dict[str, Any]]
    settings: str
    by: str


def fraud(folder: Path) -> Data:
    """The handbook's payments with its features, from the day on which its windows are full."""
    every = fraud_rows(folder, 10_000)
    with_features(every, 37)
    events = [event_of(row) for row in every if row["t"] // 86_400 >= 37]
    return Data(events, 'retrain.decay = 0.1\nfallback.margin = 0.0005\nevent.slices = ["night"]\n', "night")


def flights(folder: Path) -> Data:
    """Departures of 2013 with what is known before them; late is an arrival over a quarter of an hour after plan."""
    events = []
    with gzip.open(folder / "nycflights13.csv.gz", "rt", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if row["arr_delay"] == "NA":
                continue
            day = datetime(int(row["year"]), int(row["month"]), int(row["day"]), tzinfo=UTC)
            x = {name: row[name] for name in ("carrier", "origin", "dest", "tailnum", "hour")}
            x |= {"weekday": f"{day:%a}", "planned": float(row["sched_dep_time"]), "distance": float(row["distance"])}
            at = day.timestamp() + 3600 * int(row["hour"]) + 60 * int(row["minute"])
            events.append({"id": f"f{number}", "ts": at, "x": x, "y": int(float(row["arr_delay"]) > 15)})
    return Data(events, 'fallback.margin = 0.002\nevent.slices = ["origin"]\n', "origin")


DATA: dict[str, Callable[[Path], Data]] = {"fraud": fraud, "flights": flights}


class Lot:
    """A folder with a configuration and a store."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        (folder / "events").mkdir(parents=True)
        (folder / "model.py").write_text(MODEL)
        (folder / "holdfast.toml").write_text(CONFIG + settings)

    def run(self, *arguments: str) -> str:
        """Run the command to its end."""
        command = [sys.executable, "-m", "stream.cli", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def bring_in(self, events: Sequence[dict[str, Any]], name: str) -> None:
        """Import events as history."""
        (self.folder / name).write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
        self.run("archive", "import", name)

    def retrain(self, *options: str) -> tuple[Baseline, dict[str, Any]]:
        """Train the next baseline; return it, whatever the gates said, and what they said."""
        said = json.loads(self.run("retrain", "--now", "--json", *options))
        store = LocalStore(self.folder / "store")
        return Baseline(baselines.model_of(store, said["baseline"])[1]), said


class Service:
    """``holdfast up`` on a free port."""

    def __init__(self, lot: Lot) -> None:
        self.lot, self.port = lot, _free_port()
        self.written = 0
        log = (lot.folder / "up.log").open("w")
        command = [sys.executable, "-m", "stream.cli", "up"]
        environment = {"HOLDFAST_SERVE__PORT": str(self.port), **_environment()}
        self.process = subprocess.Popen(command, cwd=lot.folder, stdout=log, stderr=log, env=environment)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.lineage = Lineage(LocalStore(lot.folder / "store"))

    def ask(self, events: Sequence[dict[str, Any]]) -> list[tuple[float, str]]:
        """The probability of each event and who answered it; an even chance while nobody does."""
        found: list[tuple[float, str]] = []
        for begin in range(0, len(events), _ASKED):
            some = events[begin : begin + _ASKED]
            try:
                body = orjson.dumps({"instances": [{"x": event["x"]} for event in some]})
                answer = self.http.post("/predict/batch", content=body)
            except httpx.TransportError:  # it is starting
                answer = httpx.Response(503)
            if answer.status_code not in (200, 503):
                raise SystemExit(answer.text)
            said = answer.json()["predictions"] if answer.status_code == 200 else []
            found += [(one["probability"], one["learner"]) for one in said] or [(0.5, "nobody")] * len(some)
        return found

    def write(self, events: Sequence[dict[str, Any]]) -> None:
        """Write labelled events, and wait until a snapshot that learnt them is judged and looked for."""
        with (self.lot.folder / "events" / "a.jsonl").open("ab") as file:
            file.write(b"".join(orjson.dumps(event) + b"\n" for event in events))
        self.written += len(events)
        while not self._judged():
            if self.process.poll() is not None:
                raise SystemExit((self.lot.folder / "up.log").read_text()[-3000:])
            time.sleep(0.05)
        time.sleep(0.15)

    def _judged(self) -> bool:
        newest = self.lineage.refresh().newest()
        return newest is not None and newest.counts.consumed == self.written and not self.lineage.waiting(
            newest.snapshot
        )  # fmt: skip

    def end(self) -> None:
        """Stop it, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _free_port() -> int:
    import socket  # noqa: PLC0415  here only

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _environment() -> dict[str, str]:
    import os  # noqa: PLC0415  here only

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def online(lot: Lot, name: str, events: Sequence[dict[str, Any]]) -> list[float]:
    """Test-then-train, as the trainer does it, without what it holds out."""
    config = load(lot.folder / "holdfast.toml", {})
    reach_modules(config)
    learner = build_learner(config, name, labels_of(config))
    pairs = (Event(one["id"], Features(orjson.dumps(one["x"])), one["y"]) for one in events)
    return [0.5 if said.probability is None else said.probability for _, said in learn(learner, pairs, name=name)]


def asked(one: Baseline, events: Sequence[dict[str, Any]]) -> list[float]:
    """What a baseline says of events."""
    return [said.probability or 0.0 for said in one.predict_many([Features(orjson.dumps(e["x"])) for e in events])]


def compare(name: str, folder: Path, most: int | None) -> None:  # noqa: PLR0915  one story
    """One data set: run it and print its table."""
    data = DATA[name](folder)
    events = data.events[:most]
    begin = int(0.6 * len(events))
    ends = [begin + (len(events) - begin) * third // _THIRDS for third in range(_THIRDS + 1)]
    chunk = max(200, (len(events) - begin) // _CHUNKS)
    base = Path(tempfile.mkdtemp(prefix="streamed-"))
    said: dict[str, list[float]] = {one: [] for one in ("frozen baseline", "warm retrains", "full retrains", "served")}
    answered: list[str] = []
    states: list[str] = []
    try:
        full, warm = Lot(base / "full", data.settings), Lot(base / "warm", data.settings)
        for lot in (full, warm):
            lot.bring_in(events[:begin], "history.jsonl")
        frozen, about = full.retrain()
        states.append(_state("frozen", about))
        if about["state"] != "accepted":
            raise SystemExit(f"the first baseline is refused: {about['why']}")
        shutil.copytree(full.folder / "store" / "baselines", warm.folder / "store" / "baselines")
        shutil.copytree(full.folder / "store" / "ledger", warm.folder / "store" / "ledger", dirs_exist_ok=True)
        newest, warmed = frozen, frozen
        service = Service(full)
        for third in range(_THIRDS):
            part = events[ends[third] : ends[third + 1]]
            for model, row in ((frozen, "frozen baseline"), (newest, "full retrains"), (warmed, "warm retrains")):
                said[row] += asked(model, part)
            for at in range(0, len(part), chunk):
                answers = service.ask(part[at : at + chunk])
                said["served"] += [chance for chance, _ in answers]
                answered += [who for _, who in answers]
                service.write(part[at : at + chunk])
                if sys.stderr.isatty():
                    print(f"\r{name}: {ends[third] + at - begin:,} of {len(events) - begin:,} streamed", end="",
                          file=sys.stderr, flush=True)  # fmt: skip
            if third < _THIRDS - 1:
                warm.bring_in(part, f"part{third}.jsonl")
                warmed, about = warm.retrain("--warm")
                states.append(_state("warm", about))
                time.sleep(3)  # the archiver's interval
                newest, about = full.retrain("--full")
                states.append(_state("full", about))
        switches = [e for e in json.loads(full.run("ledger", "--json")) if e["action"] in _TOLD]
        status = json.loads(full.run("status", "--json"))["learners"]
        service.end()
        streamed = events[begin:]
        rows = {f"online, {one}": online(full, one, streamed) for one in ("vw", "river")} | said
        _table(name, data.by, streamed, rows)
        print("\nanswered by: " + ", ".join(f"{who} {answered.count(who):,}" for who in sorted(set(answered))))
        print("retrains: " + "; ".join(states))
        print("ledger: " + ("; ".join(f"{e['action']} ({e['by']}): {e['why']}" for e in switches) or "no switch"))
        for one, seen in status.items():
            print(f"the trainer's own figures of {one}: brier {seen['metrics']['brier']:.4f}, "
                  f"AUC {seen['metrics']['roc_auc']:.4f}")  # fmt: skip
    finally:
        with contextlib.suppress(NameError, UnboundLocalError):
            if service.process.poll() is None:
                service.process.kill()
        shutil.rmtree(base, ignore_errors=True)


def _state(name: str, about: dict[str, Any]) -> str:
    said = f"{name}: {about['state']}, {about['rows']:,} rows, {about['seconds']:.0f} s"
    return said if about["state"] == "accepted" else f"{said} ({about['why']})"


def _table(name: str, by: str, events: Sequence[dict[str, Any]], rows: dict[str, list[float]]) -> None:
    labels = np.array([event["y"] for event in events])
    values = [str(event["x"].get(by)) for event in events]
    chosen = [one for one in sorted(set(values)) if values.count(one) >= _FEWEST][:4]
    print(f"\n## {name}: {len(events):,} streamed, {labels.mean():.2%} positive\n")
    print("| | AUC | average precision | Brier | " + " | ".join(f"Brier, {by}={one}" for one in chosen) + " |")
    print("|---|---|---|---|" + "---|" * len(chosen))
    for row, said in rows.items():
        chances = np.array(said)
        squares = (chances - labels) ** 2
        slices = [float(squares[np.array([v == one for v in values])].mean()) for one in chosen]
        print(f"| {row} | {roc_auc_score(labels, chances):.4f} | {average_precision_score(labels, chances):.4f} | "
              f"{squares.mean():.5f} | " + " | ".join(f"{one:.5f}" for one in slices) + " |", flush=True)  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--most", type=int, help="only so many rows")
    chosen = parser.parse_args()
    for name in chosen.names or DATA:
        compare(name, chosen.data, chosen.most)


if __name__ == "__main__":
    main()
