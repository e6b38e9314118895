"""How fast learning through Holdfast is, as a ratio to the bare loop on the same events in the same run.

``make bench``. Events have 39 features. The yardsticks: for River, test-then-train over decoded dicts; for Vowpal
Wabbit, its binding called directly on the events' JSON. Holdfast reads the same events from a file, through the codec,
into metrics and snapshots.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from river import linear_model, optim, preprocessing
from vowpalwabbit import Workspace

from stream.compose import trainer_of
from stream.config import check

EVENTS = 40_000
ROUNDS = 3
FEATURES = 39
MODEL = """
from river import linear_model, optim, preprocessing
def linear():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
"""
LEARNERS = {
    "river": {"kind": "river", "factory": "bench_model:linear"},
    "vw": {"kind": "vw", "args": "--loss_function logistic"},
}


def events() -> list[bytes]:
    """Seeded events."""
    draw = random.Random(1)
    made = []
    for i in range(EVENTS):
        x = {f"f{j}": round(draw.gauss(0, 1), 5) for j in range(FEATURES)}
        made.append(orjson.dumps({"id": f"e{i}", "x": x, "y": int(x["f0"] > 0)}))
    return made


def bare_river(lines: list[bytes]) -> float:
    """Events a second of the bare loop on decoded dicts."""
    decoded = [orjson.loads(line) for line in lines]
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
    began = time.perf_counter()
    for event in decoded:
        model.predict_proba_one(event["x"])
        model.learn_one(event["x"], event["y"] == 1)
    return len(lines) / (time.perf_counter() - began)


def bare_vw(lines: list[bytes]) -> float:
    """Events a second of VW's binding on the features' JSON, label and weight through its API."""
    import pylibvw  # noqa: PLC0415  beside its one use

    workspace = Workspace("--loss_function logistic --json --quiet")
    rows = [(orjson.dumps(event["x"]), "1" if event["y"] else "-1") for event in map(orjson.loads, lines)]
    began = time.perf_counter()
    for features, label in rows:
        example = workspace._parse(features)[0]  # noqa: SLF001  the fast way, as Holdfast takes it
        workspace.unsetup_example(example)
        pylibvw.example.set_label_string(example, workspace, label, 0)
        workspace.setup_example(example)
        pylibvw.vw.learn(workspace, example)
        pylibvw.vw._finish_example(workspace, example)  # noqa: SLF001  the same
    return len(lines) / (time.perf_counter() - began)


def holdfast(kind: str, lines: list[bytes]) -> float:
    """Events a second of a whole trainer, its start and its last snapshot left out."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "events").mkdir()
        (base / "events" / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        (base / "bench_model.py").write_text(MODEL)
        sys.modules.pop("bench_model", None)
        sys.path.insert(0, folder)
        table = {"name": "bench", "task": "binary", "source": {"kind": "files"}, "learners": {"only": LEARNERS[kind]}}
        moments: list[float] = []
        trainer = trainer_of(
            check(table, base),
            stopping=lambda: False,
            progress=lambda count, _: moments.append(time.perf_counter()) if count else None,
        )
        trainer.run(until_end=True)
        sys.path.remove(folder)
        batch = 1000
        return (len(lines) - batch) / (moments[-1] - moments[0])


def main() -> None:
    """Measure in turns, and print the best of each with the spread of the ratio."""
    lines = events()
    bare: dict[str, Callable[[list[bytes]], float]] = {"river": bare_river, "vw": bare_vw}
    print(f"{EVENTS} events, {FEATURES} features, {ROUNDS} rounds")
    for kind, yardstick in bare.items():
        rounds = [(yardstick(lines), holdfast(kind, lines)) for _ in range(ROUNDS)]
        ratios = sorted(ours / theirs for theirs, ours in rounds)
        print(
            f"{kind:6} bare {max(t for t, _ in rounds):9,.0f}/s   holdfast {max(o for _, o in rounds):9,.0f}/s   "
            f"ratio {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
