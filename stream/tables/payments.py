"""A realistic stream for the demo and for ``holdfast init``: card payments, some of them fraud, drifting.

Every payment is a pure function of its number, so that a demo that starts again goes on where it was.
"""

import math
import random
from typing import Any

COUNTRIES = ("de", "fr", "gb", "us", "br", "in")
DEVICES = ("phone", "web", "terminal")
MERCHANTS = ("grocer", "fuel", "travel", "games", "jewels", "books")
_DRIFT_EVENTS = 40_000.0


def payment(number: int, time: float, *, drifting: bool = True) -> dict[str, Any]:
    """Payment ``number`` at ``time`` (Unix seconds): an event with features ``x`` and label ``y`` (1: fraud).

    What makes a payment suspicious turns slowly with the number, unless ``drifting`` is false: fraudsters move from
    country to country.
    """
    draw = random.Random(number)
    country = draw.choices(COUNTRIES, (30, 20, 18, 16, 10, 6))[0]
    device = draw.choices(DEVICES, (45, 35, 20))[0]
    merchant = draw.choice(MERCHANTS)
    amount = round(draw.lognormvariate(3.2, 1.0), 2)
    age = draw.randint(18, 85)
    night = draw.random() < 0.25
    phase = 2 * math.pi * number / _DRIFT_EVENTS if drifting else 0.0
    odds = -2.6 + 0.9 * math.log1p(amount / 40) + (0.8 if night else 0.0)
    odds += 1.3 * math.cos(phase + COUNTRIES.index(country)) + 1.0 * math.sin(phase / 2 + MERCHANTS.index(merchant))
    odds += {"phone": 0.0, "web": 0.7, "terminal": -1.2}[device] + (0.6 if age > 70 else 0.0)
    fraud = draw.random() < 1 / (1 + math.exp(-odds))
    x = {
        "amount": amount, "country": country, "device": device, "merchant": merchant, "night": night,
        "user": {"age": age, "cards": draw.randint(1, 4)},
    }  # fmt: skip
    return {"id": f"p{number}", "ts": round(time, 3), "x": x, "y": int(fraud)}
