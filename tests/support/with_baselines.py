"""A lineage with a baseline beside its champion."""

import random
from typing import Any

from support.lineages import Folder

RETRAIN: dict[str, Any] = {
    "archive__enabled": True, "archive__every_seconds": 0.5, "retrain__kind": "fm", "retrain__epochs": 4,
    "gates__tolerance": 0.1, "gates__max_calibration_loss": 0.5, "gates__p99_ms": 1000.0, "gates__max_slice_loss": 0.2,
}  # fmt: skip


def compared(here: Folder) -> dict[str, Any]:
    found = here.status()["baseline"]
    return (found or {}).get("compared") or {}


def blown(made: dict[str, Any]) -> None:
    """Features on another scale, under labels without meaning: what was learnt of them is lost for long."""
    draw = random.Random(made["id"])
    made["x"] |= {name: value * 1000 * draw.choice((-1, 1)) for name, value in made["x"].items() if name != "country"}
    made["y"] = draw.randrange(2)


def switches(here: Folder) -> list[tuple[str, str]]:
    return [(e["action"], e["by"]) for e in here.json("ledger") if e["action"] in ("fall_back", "return")]
