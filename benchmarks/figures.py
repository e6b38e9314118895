"""What the benchmarks share: a broker, a row of the table, the middle and the spread of several rounds."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.broker import Broker


class Row(msgspec.Struct, frozen=True):
    """One figure: what was measured, its middle, lowest and highest of several rounds, and the bar it is held to."""

    what: str
    detail: str
    middle: float
    low: float
    high: float
    bar: float | None = None
    at_least: bool = False
    unit: str = ""

    def reached(self) -> str:
        """Tell whether the bar is reached."""
        if self.bar is None:
            return ""
        return "yes" if (self.middle >= self.bar if self.at_least else self.middle <= self.bar) else "NO"

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        bar = "" if self.bar is None else f"  bar {sign} {self.bar:g}{self.unit}: {self.reached()}"
        spread = f"({self.low:.3g} to {self.high:.3g})"
        return f"{self.what:55} {self.middle:7.3g}{self.unit} {spread:20} {self.detail}{bar}"


def median_of(rounds: Sequence[float]) -> tuple[float, float, float]:
    """Return middle, lowest and highest."""
    ordered = sorted(rounds)
    return ordered[len(ordered) // 2], ordered[0], ordered[-1]


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """Run a real broker and give its address."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        running = Broker(Path(folder)).start()
        try:
            yield running.address
        finally:
            running.stop()
