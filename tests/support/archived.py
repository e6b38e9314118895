"""An archive to be retrained over."""

import random
from typing import Any

import orjson

from support.lineages import Folder

RULES: dict[str, Any] = {
    "retrain__fewest_rows": 10, "retrain__epochs": 3, "retrain__kind": "linear", "gates__max_calibration_loss": 0.5,
    "gates__p99_ms": 1000.0,  # how busy this machine is decides nothing here
}  # fmt: skip


def mixed(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Events with texts, booleans, nested, missing and heavy-tailed features."""
    found = []
    for number in range(first, first + count):
        draw = random.Random(number)
        a = draw.gauss(0, 1)
        x: dict[str, Any] = {
            "a": a, "country": draw.choice(["de", "fr", "br"]), "night": draw.random() < 0.3,
            "count": draw.randrange(9),
            "user": {"age": draw.randrange(18, 90), "city": f"c{draw.randrange(30)}"}, "big": draw.lognormvariate(3, 3),
        }  # fmt: skip
        if draw.random() < 0.2:
            del x["big"]
        if draw.random() < 0.1:
            x["a"] = None
        y = int(a + (x["country"] == "br") - 0.5 * x["night"] + draw.gauss(0, 0.5) > 0)
        found.append({"id": f"m{number}", "ts": 1.7e9 + number, "x": x, "y": y})
    return found


def archived(here: Folder, events: list[dict[str, Any]], name: str = "history.jsonl") -> None:
    path = here.path / name
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in events))
    here.run("archive", "import", str(path))
