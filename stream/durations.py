"""Durations as people write them: ``30m``, ``1h30m``, ``7d``, ``500ms``, or a number of seconds."""

import re
from typing import Annotated, TypeAlias

from msgspec import Meta

from learners.bounded import LONGEST

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = r"\d{1,9}(\.\d{1,9})?(ms|s|m|h|d|w)"
_NUMBER = Annotated[float, Meta(ge=0, le=LONGEST)]
Duration: TypeAlias = Annotated[str, Meta(pattern=rf"^({_PART})+\Z")] | _NUMBER
#: empty where a setting says what it then is
DurationOrEmpty: TypeAlias = Annotated[str, Meta(pattern=rf"^(({_PART})+)?\Z")] | _NUMBER
#: how a refusal of a text that is none is told from others
UNITS = "(ms|s|m|h|d|w)"
IN_WORDS = 'Expected a duration such as "30m", "1h30m", "7d" or "500ms", or a number of seconds'


def seconds_of(duration: str | float) -> float:
    """The seconds of a duration, at most about 30 years.

    >>> [seconds_of(one) for one in ("30m", "1h30m", "500ms", "7d", 90)]
    [1800.0, 5400.0, 0.5, 604800.0, 90.0]
    """
    if not isinstance(duration, str):
        return float(duration)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", duration)
    return min(LONGEST, sum(float(number) * _UNITS[unit] for number, unit in parts))
