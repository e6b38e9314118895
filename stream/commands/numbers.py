"""Numbers on the command line: each has bounds, so that none becomes a name or a wait that nothing could hold."""

import math
from typing import Any

import click

from snapshots.store.numbers import whole_in
from stream.terminal.safe_text import shown

#: the largest number that the name of a snapshot has room for
_MOST = 10**12 - 1
_LONGEST = 1e9
_SHOWN = 40


class Whole(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """A whole number between two others."""

    name = "integer"

    def __init__(self, low: int = 0, high: int = _MOST) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; what is none is a usage error that names the bounds."""
        number = whole_in(str(value))
        if number is None or not self._low <= number <= self._high:
            self.fail(f"{shown(value, _SHOWN)} is no whole number from {self._low} to {self._high}", param, ctx)
        return number


class Figure(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """A finite number from ``low`` (``above``: beyond it) to ``high``."""

    name = "float"

    def __init__(self, low: float = 0.0, high: float = _LONGEST, *, above: bool = False) -> None:
        self._low, self._high, self._above = low, high, above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; what is none, or has no end, is a usage error that names the bounds."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self._low <= number <= self._high or (self._above and number == self._low):
            begins = "above" if self._above else "from"
            bounds = f"{begins} {self._low:,g} to {self._high:,.0f}"
            self.fail(f"{shown(value, _SHOWN)} is no number {bounds}", param, ctx)
        return number
