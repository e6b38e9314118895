"""What the demo shows, in 80 columns and 24 lines: the story first, then the learners, then what to paste."""

from collections.abc import Sequence

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from stream.printing import duration

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


def shown(scene: Scene) -> Group:
    """The whole screen; what can be pasted stands on a line of its own."""
    story = [Text(one, style=f"bold {colour}") for one, colour in zip(scene.story[1:], _COLOURS, strict=False)]
    facts = Text.assemble(
        (f"{scene.consumed:,}", "bold"), f" payments, {scene.rate:,.0f}/s; snapshot {scene.snapshot} is written, ",
        ("-" if scene.serving is None else str(scene.serving), "bold"), " answers, whose newest payment is ",
        ("-" if scene.freshness is None else duration(max(0.0, scene.freshness)), "bold"), " old",
    )  # fmt: skip
    hints = [line for said, command in scene.hints for line in (Text(said, style="dim"), Text(command, style="cyan"))]
    return Group(Text(scene.story[0], style="bold"), *story, Text(""), _learners(scene.rows), facts, Text(""), *hints)


def _learners(rows: Sequence[Row]) -> Table:
    """A line for each: its accuracy of late as bars, on one scale for all."""
    found = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("learner", "", "right of the last 2,000", "now", "verdict"):
        found.add_column(column, no_wrap=True)
    known = [one for row in rows for one in row.recent]
    low, high = min(known, default=0.0), max(known, default=1.0)
    for row in rows:
        now = f"{100 * row.recent[-1]:.1f} %" if row.recent else "-"
        style = {"pass": "green", "suspect": "yellow", "fail": "red"}.get(row.verdict or "", "")
        found.add_row(
            row.name, row.role, Text(sparkline(row.recent[-POINTS:], low, high), style="cyan"), now,
            Text(row.verdict or "-", style=style),
        )  # fmt: skip
    return found
