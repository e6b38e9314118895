"""What a guard's rule may look at, what a look leaves for the next one, and what it answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from learners.event import Task
from learners.evidence.findings import Found
from learners.evidence.lane import MEDIAN_LOOKS
from learners.evidence.losses import Floats
from learners.evidence.paired import Paired
from snapshots.records.verdict import Finding

#: how many events ago a yardstick has passed: what creeps in below the first is seen against the second
LAGS = (1000, 8000)


class Row(Protocol):
    """A held-out row."""

    @property
    def label(self) -> Any:
        """Its label."""

    @property
    def slices(self) -> Sequence[str]:
        """The slices that it belongs to."""


class Scene(Protocol):
    """What a rule may look at: nothing of what is true, only what a guard has. None as a model is the learner itself.

    ``held`` counts the rows set aside so far. ``passes`` are snapshot and events learnt of those that may be compared
    with, oldest first. ``now`` is the snapshot's time (Unix seconds), ``alarm`` the threshold of the fresh lane;
    ``hold_events`` and ``tolerance``: see ``guard.hold_events`` and ``guard.tolerance``.
    """

    task: Task
    number: int
    learnt: int
    now: float
    held: int
    scale: float
    tolerance: float
    paired: Paired
    passes: Sequence[tuple[int, int]]
    alarm: float
    hold_events: int
    yard_rows: int

    def rows(self, begin: int, end: int) -> Sequence[Row]:
        """The rows set aside as number ``begin`` to before ``end``; those that are gone are left out."""

    def rows_at(self, model: int, begin: int, end: int) -> Sequence[Row]:
        """The same as they were at an older snapshot, for what may be gone by now."""

    def held_at(self, model: int) -> int:
        """How many rows had been set aside at an older snapshot."""

    def trusted(self, since: float) -> Sequence[Row]:
        """Rows with labels that somebody checked, given since a moment (Unix seconds)."""

    def losses(self, model: int | None, rows: Sequence[Any]) -> Floats:
        """The loss of each row: half by the probabilities, half by whether the answer is wrong."""

    def answers(self, model: int | None, rows: Sequence[Any]) -> Sequence[Any]:
        """The class or number answered for each row."""

    def features(self, rows: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """The rows' features by name, None where one is absent."""


class Trouble(msgspec.Struct):
    """What is known since looks are bad: the snapshot of before, where its rows end, and when it began.

    ``began`` is its time, ``lag`` that of the yardstick; ``lies``: labels looked wrong, in ``liars`` and how, last when
    ``told`` events were learnt; ``alone``: one slice changed alone, which stays for somebody to decide; ``moved``:
    features lie elsewhere; ``where`` was bad at some look; ``good``: looks since that were good again; ``kept``:
    nothing was promoted since labels first looked wrong, so that what serves is from before.
    """

    yardstick: int
    end: int
    held: int
    learnt: int
    look: int
    began: float
    lag: int = LAGS[0]
    lies: bool = False
    liars: dict[str, str] = {}
    told: int = -1_000_000
    alone: bool = False
    moved_at_once: bool = False
    moved: bool = False
    compared: int = 0
    good: int = 0
    where: list[str] = []
    kept: bool = False


class Changes(msgspec.Struct):
    """By how much the older snapshot lost more on the newest rows than before: ever (``most``), and in late looks."""

    most: float = 0.0
    lately: list[tuple[int, float]] = []


class Gains(msgspec.Struct):
    """How much less the learner lost than its reference, summed over fresh events: a few points (events, sum)."""

    reference: int | None = None
    points: list[tuple[int, float]] = []


class Memory(msgspec.Struct):
    """What a look leaves for the next one. ``since``: passes before this snapshot are of a world that was left.

    ``doubted`` are the yardstick and the rows by which labels are held against what was before, since they look wrong;
    ``lied`` the rows, and ``lied_looks`` after which snapshot and up to which, while labels lied last: not asked again.
    ``approved`` is the last entry of the ledger by which somebody said that the world changed.
    """

    looks: int = 0
    since: int = -1
    floor: int = 0
    calm: dict[str, list[float]] = {}
    changes: dict[str, Changes] = {}
    streak: dict[str, int] = {}
    told: dict[str, str] = {}
    asked: tuple[int, int] = (-1, -1)
    doubted: tuple[int, int] | None = None
    lied: tuple[int, int] = (0, 0)
    lied_looks: tuple[int, int] = (-1, -1)
    gains: Gains = msgspec.field(default_factory=Gains)
    trouble: Trouble | None = None
    approved: int = 0

    def copy(self) -> "Memory":
        """Another that may be changed."""
        return msgspec.json.decode(msgspec.json.encode(self), type=Memory)

    def follow(self, number: int, held: int) -> None:
        """From this snapshot and these rows on the stream is another one."""
        self.floor, self.since, self.trouble, self.streak, self.told = held, number, None, {}, {}
        self.calm = {name: of[-MEDIAN_LOOKS:] for name, of in self.calm.items()}
        for changes in self.changes.values():  # what was followed has been heard of
            changes.most, changes.lately = max([changes.most, *(one for _, one in changes.lately)]), []

    def after_revert(self) -> "Memory":
        """What counted against the old line does not count against the new one; doubt of the labels stays."""
        found = self.copy()
        trouble = found.trouble if found.trouble is not None and found.trouble.lies else None
        return msgspec.structs.replace(found, trouble=trouble, streak={}, gains=Gains())


class Answer(NamedTuple):
    """A verdict, what was found, where and why.

    ``loss`` is what the choice of a reference goes by; ``serve`` the older snapshot that is to answer meanwhile,
    ``refer`` the one to compare with from here on.
    """

    verdict: Finding
    found: Found = "pass"
    where: Sequence[str] = ()
    why: str = ""
    loss: float = 0.0
    difference: float = 0.0
    yardstick: int | None = None
    serve: int | None = None
    refer: int | None = None
