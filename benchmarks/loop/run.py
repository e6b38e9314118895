"""Guard rules in a closed loop, on public tables, clean and poisoned, over several draws of the holdout.

    python benchmarks/loop/run.py DATA [--rules hold,auto] [--streams …] [--poisons …] [--seeds 5] [--csv runs.csv]

DATA holds the tables (NAME.csv.gz). The learner is a linear one in numpy, so nothing is measured of River or Vowpal
Wabbit; evidence, looks and distances are the product's own. Gains are accuracy served minus that of the unguarded,
unpoisoned learner in the same looks, in points (regression: per cent of its mean absolute error).
"""

import argparse
import csv
import math
import os
import random
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

import numpy as np
from data import POISONS, STREAMS, events_of, plan, poisons_of
from model import Encoder
from rich.progress import track
from rules import RULES
from world import Look, World

Figures = dict[str, Any]


def _score(looks: list[Look]) -> float:
    known = [one for one in looks if one.served is not None]
    asked = sum(one.asked for one in known)
    return sum(one.served or 0.0 for one in known) / asked if asked else math.nan


def figures(folder: Path, name: str, poisons: list[str], rules: list[str], seed: int) -> list[Figures]:
    """All runs of a stream with one draw of the holdout."""
    stream = STREAMS[name]
    events = events_of(stream, folder)
    encoder = Encoder(events, stream.task)
    rng = random.Random(seed)
    drawn = {one["id"]: rng.random() < stream.held for one in events}
    drawn |= {-1 - n: rng.random() < stream.held for n in range(100_000)}
    nothing = plan("none", stream, events)
    clean = World(stream, encoder, len(events), RULES["unguarded"]()).run(nothing, drawn).looks
    plans = [(one, plan(one, stream, events)) for one in poisons if one in ("none", *poisons_of(stream))]
    rows = []
    for rule in rules:
        before = World(stream, encoder, len(events), RULES[rule]())
        for poison, made in sorted(plans, key=lambda one: one[1].first):  # what comes before a poison is shared
            spans = {"all": slice(None), "during": slice(made.first, made.end), "after": slice(made.end, None)}
            world = before.run(nothing, drawn, made.first).fork().run(made, drawn)
            gains = {}
            for span, at in spans.items():
                served, plain = _score(world.looks[at]), _score(clean[at])
                regression = stream.task == "regression"
                gains[span] = 100 * (plain - served) / plain if regression else 100 * (served - plain)
            acts = [act for _, act, _ in world.acts]
            rows.append(
                {"stream": name, "moves": stream.moves, "poison": poison, "rule": rule, "seed": seed, **gains,
                 "suspects": sum(one.verdict != "pass" for one in world.looks) / len(world.looks),
                 "stopped": sum(one.state == "open" for one in world.looks) / len(world.looks)}
                | {act: acts.count(act) for act in ("revert", "hold", "follow", "open")}
            )  # fmt: skip
    return rows


def summary(rows: list[Figures]) -> str:
    """A line for each rule, and a table of each rule's cells: means over seeds, with the spread of the means."""
    said = ["| rule | moving: mean, worst | quiet: suspects, reverts | poison: during | cells under -5 | after |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for rule in dict.fromkeys(row["rule"] for row in rows):
        cells: dict[tuple[str, str], list[Figures]] = {}
        for row in (one for one in rows if one["rule"] == rule):
            cells.setdefault((row["stream"], row["poison"]), []).append(row)
        clean = {key: of for key, of in cells.items() if key[1] == "none"}
        moving = [_mean(of, "all") for of in clean.values() if of[0]["moves"]]
        quiet = [one for of in clean.values() if not of[0]["moves"] for one in of]
        during = [max(-100.0, _mean(of, "during")) for key, of in cells.items() if key[1] != "none"]
        after = [one for key, of in cells.items() if key[1] != "none" and not math.isnan(one := _mean(of, "after"))]
        said.append(
            f"| {rule} | {_of(moving)}, {min(moving, default=math.nan):+.1f} | "
            f"{100 * np.mean([one['suspects'] for one in quiet] or [math.nan]):.1f} %, "
            f"{sum(one['revert'] for one in quiet)} in {len(quiet)} runs | "
            f"{_of(during)} | {sum(one < -5 for one in during)} of {len(during)} | {_of(after)} |"
        )
    for rule in dict.fromkeys(row["rule"] for row in rows):
        own = [row for row in rows if row["rule"] == rule]
        kinds = list(dict.fromkeys(row["poison"] for row in own))
        said += ["", f"`{rule}`: during, after (clean: all); mean ± spread over seeds", "",
                 f"| stream | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]  # fmt: skip
        for stream in dict.fromkeys(row["stream"] for row in own):
            row = []
            for kind in kinds:
                of = [one for one in own if (one["stream"], one["poison"]) == (stream, kind)]
                spans = ("all",) if kind == "none" else ("during", "after")
                row.append(", ".join(_cell(of, span) for span in spans) if of else "")
            said.append(f"| {stream} | {' | '.join(row)} |")
    return "\n".join(said)


def _mean(of: list[Figures], span: str) -> float:
    return float(np.mean([one[span] for one in of]))


def _of(values: list[float]) -> str:
    return f"{np.mean(values):+.1f}" if values else "-"


def _cell(of: list[Figures], span: str) -> str:
    values = [one[span] for one in of]
    return "-" if math.isnan(values[0]) else f"{np.mean(values):+.1f} ± {np.std(values):.1f}"


def _some(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Reads a list of names; a name that is not known is an error that lists those that are."""
    names = [*known]

    def read(text: str) -> list[str]:
        asked = {one.strip() for one in text.split(",")}
        if wrong := asked - {"all", *names}:
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(wrong))}: write all, or of {', '.join(names)}")
        return names if "all" in asked else [name for name in names if name in asked]

    return read


def main() -> None:
    """Run what is asked for, in as many processes as there are cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rules", type=_some(RULES), default="hold,auto", help="all, or of " + ", ".join(RULES))
    parser.add_argument("--streams", type=_some(STREAMS), default="all", help="all, or of " + ", ".join(STREAMS))
    kinds = ("none", *POISONS)
    parser.add_argument("--poisons", type=_some(kinds), default="all", help="all, or of " + ", ".join(kinds))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="write every run there")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(asked.processes) as pool:
        jobs = [
            pool.submit(figures, asked.data, name, asked.poisons, asked.rules, seed)
            for seed in range(1, asked.seeds + 1) for name in asked.streams
        ]  # fmt: skip
        for job in track(jobs, "streams and seeds"):
            rows += job.result()
    if asked.csv:
        with asked.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    print(summary(rows))


if __name__ == "__main__":
    main()
