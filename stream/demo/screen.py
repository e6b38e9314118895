"""What the demo shows, in 80 columns and 24 lines: the story first, then the learners, then what to paste."""

from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from stream.terminal.printing import duration

#: what is drawn spans at least ten points of a hundred
_SPAN = 0.1
_BARS = "▁▂▃▄▅▆▇█"
#: of poison, suspicion and revert, in the order they are told
_COLOURS = ("red", "yellow", "green")
#: so many figures are drawn, the newest last
POINTS = 30


class Row(msgspec.Struct, frozen=True):
    """A learner: its accuracy of late, 0 to 1, oldest first, and the newest verdict."""

    name: str
    role: str
    recent: list[float]
    verdict: str | None


class Scene(msgspec.Struct, frozen=True):
    """Everything that is shown. ``rate`` is in payments a second, ``freshness`` in seconds."""

    story: list[str]
    rows: list[Row]
    consumed: int
    rate: float
    snapshot: int
    serving: int | None
    freshness: float | None
    hints: list[tuple[str, str]]


def sparkline(figures: Sequence[float], low: float, high: float) -> str:
    """Figures as bars, between two bounds.

    >>> sparkline([0.5, 0.75, 1.0], 0.5, 1.0)
    '▁▅█'
    """
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, max(0, round(7 * (one - low) / span)))] for one in figures)


def bounds(figures: Iterable[float]) -> tuple[float, float]:
    """Between which bounds figures are drawn: far enough apart that what is chance does not look like a fall.

    >>> bounds([0.78, 0.80])
    (0.7, 0.8)
    """
    known = list(figures)
    high = max(known, default=1.0)
    return round(min([high - _SPAN, *known]), 6), high


def shown(scene: Scene) -> Group:
    """The whole screen; what can be pasted stands on a line of its own."""
    story = [Text(one, style=f"bold {colour}") for one, colour in zip(scene.story[1:], _COLOURS, strict=False)]
    facts = Text(f"{scene.consumed:,} payments, {scene.rate:,.0f}/s; snapshot {scene.snapshot} is written, ")
    if scene.serving is None or scene.freshness is None:
        facts.append("nothing answers yet")
    else:
        newest = duration(max(0.0, scene.freshness))
        facts.append(f"{scene.serving} answers, whose newest payment is {newest} old")
    hints = [line for said, command in scene.hints for line in (Text(said, style="dim"), Text(command, style="cyan"))]
    return Group(Text(scene.story[0], style="bold"), *story, Text(""), _learners(scene.rows), facts, Text(""), *hints)


def _learners(rows: Sequence[Row]) -> Table:
    """A line for each: its accuracy of late as bars, on one scale for all."""
    found = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("learner", "", "right of the last 2,000", "now", "verdict"):
        found.add_column(column, no_wrap=True)
    low, high = bounds(one for row in rows for one in row.recent)
    for row in rows:
        now = f"{100 * row.recent[-1]:.1f} %" if row.recent else "-"
        style = {"pass": "green", "suspect": "yellow", "fail": "red"}.get(row.verdict or "", "")
        found.add_row(
            row.name, row.role, Text(sparkline(row.recent[-POINTS:], low, high), style="cyan"), now,
            Text(row.verdict or "-", style=style),
        )  # fmt: skip
    return found
