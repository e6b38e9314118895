"""``make bench-smoke``: the ratios that matter most, in two minutes; exit 1 when one has fallen by a quarter.

What they were is written in ``smoke.json``, as on a machine that has other work as well (``--write`` measures it anew);
what a quiet one gives stands in docs/benchmarks.md. The best of the rounds counts.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import figures
import learning
import serving
from support.lineages import Folder
from support.samples import numbers

KEPT = Path(__file__).with_name("smoke.json")
ROUNDS, ALLOWED = 3, 0.75
EVENTS = {"river": 120_000, "vw": 120_000}
FEWER = 40_000


def river(address: str, _: Path) -> float:
    """River from Kafka / the script that people write, on the same topic."""
    return learning.holdfast("river", EVENTS["river"], address, "smoke") / learning.plain_script(
        FEWER, address, "smoke"
    )


def vw(address: str, _: Path) -> float:
    """Vowpal Wabbit from Kafka / its binding called directly."""
    lines = learning.events(FEWER)
    return learning.holdfast("vw", EVENTS["vw"], address, "smoke") / learning.vw_binding(lines)


def predict(_: str, folder: Path) -> float:
    """``POST /predict`` / an application that does nothing."""
    body = b'{"id":"q1","x":{"f0":0.31,"f1":-1.2,"f2":0.5,"f3":1.9,"f4":-0.2,"f5":0.7,"f6":0.1,"f7":-2.2}}'
    serving.SECONDS = 2.0
    here = Folder(Path(tempfile.mkdtemp(dir=folder), "here"), {"river": serving.LEARNERS["river"]})
    try:
        here.write(numbers(3000))
        here.trained()
        here.start("serve")
        here.wait_ready()
        with serving.nothing(here.port + 1):
            return serving.rate(here.port, body) / serving.rate(here.port + 1, body)
    finally:
        here.end()


PARTS: dict[str, Callable[[str, Path], float]] = {"river": river, "vw": vw, "predict": predict}


def main() -> int:
    """Measure, and hold against what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what is measured now")
    write = parser.parse_args().write
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    found: dict[str, float] = {}
    with figures.broker() as address, tempfile.TemporaryDirectory(prefix="holdfast-smoke-") as folder:
        learning.produce(address, "smoke", learning.events(max(EVENTS.values())))
        for name, measure in PARTS.items():
            found[name] = 0.0
            for _ in range(ROUNDS):
                found[name] = max(found[name], measure(address, Path(folder)))
                if not write and found[name] >= ALLOWED * kept.get(name, 0.0):
                    break
            print(f"{measure.__doc__} {found[name]:.2f}; it was {kept.get(name, 0.0):.2f}", flush=True)
    if write:
        KEPT.write_text(json.dumps({name: round(ratio, 2) for name, ratio in found.items()}, indent=1) + "\n")
        return 0
    fallen = [name for name, ratio in found.items() if ratio < ALLOWED * kept.get(name, 0.0)]
    if fallen:
        print(f"fallen by more than a quarter: {', '.join(fallen)}", file=sys.stderr)
    return bool(fallen)


if __name__ == "__main__":
    raise SystemExit(main())
