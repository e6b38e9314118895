"""Events for tests: seeded, with numbers, texts and nesting."""

import random
from typing import Any


def numbers(count: int, seed: int = 1, first: int = 0) -> list[dict[str, Any]]:
    """Binary events with numeric features, like elec2's."""
    events = []
    for i in range(first, first + count):
        draw = random.Random(f"{seed}-{i}")
        x = {f"f{j}": round(draw.gauss(0, 1), 6) for j in range(8)}
        y = int(x["f0"] + 0.5 * x["f1"] + draw.gauss(0, 0.7) > 0)
        events.append({"id": f"e{i}", "ts": 1_700_000_000.0 + i, "x": x, "y": y})
    return events


def mixed(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Binary events with numbers, texts, booleans, nesting, absent values and weights."""
    events = []
    for i in range(count):
        draw = random.Random(f"{seed}-{i}")
        x: dict[str, Any] = {
            "amount": round(draw.lognormvariate(3, 1), 2),
            "country": draw.choice(["de", "fr", "br", "日本"]),
            "night": draw.random() < 0.3,
            "user": {"age": draw.randint(18, 90), "kind": draw.choice("abc")},
            "rare": None if i % 3 else 1,
        }
        y = int(x["amount"] > 25) if draw.random() < 0.9 else draw.randint(0, 1)
        events.append({"id": f"m{i}", "x": x, "y": y, "w": draw.choice([1.0, 0.5, 2.0])})
    return events
