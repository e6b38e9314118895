"""What the guard has of one snapshot, as the yardsticks ask for it: held-out rows, and models to be asked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from learners import LearnersError, Prediction
from learners.event import Event, Task
from learners.evidence.losses import Floats, losses
from learners.evidence.paired import Paired
from learners.learner import Learner
from learners.prequential import opinion
from snapshots.errors import DamagedError
from snapshots.records import cut as snapshots
from snapshots.records.held_rows import HeldRow, read_version
from snapshots.records.manifest import HoldoutVersion, Manifest, Part
from snapshots.store.store import Store

#: rows on which two snapshots are compared at most
YARD_ROWS = 1000
_KEPT_PARTS = 64


class UnreadableError(Exception):
    """An older snapshot that is gone or does not load; ``number`` is its own."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number


class HeldOut:
    """The rows held out so far at a snapshot, in their order; blobs, which never change, are decoded once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: dict[str, list[HeldRow]] = {}

    def at(self, manifest: Manifest, newest: Sequence[HeldRow] | None = None) -> list[HeldRow]:
        """Oldest first: those of the newest sealed version, then those that were set aside since.

        ``newest`` are the rows that the shared part holds, where it was read already.
        """
        rows = [row for one in manifest.holdout.versions[-1:] for row in self._version(one)]
        for part in manifest.holdout.chunks:
            if not part.name.startswith("holdout/kept-"):
                rows += self._chunk(part)
        rows += snapshots.read_shared(self._store, manifest).held.recent if newest is None else newest
        return list({(row.topic, row.partition, row.offset): row for row in rows}.values())

    def _version(self, version: HoldoutVersion) -> list[HeldRow]:
        return self._kept(version.part, lambda: read_version(self._store, version))

    def _chunk(self, part: Part) -> list[HeldRow]:
        return self._kept(part, lambda: snapshots.rows_of_part(self._store, part))

    def _kept(self, part: Part, read: Callable[[], list[HeldRow]]) -> list[HeldRow]:
        found = self._parts.pop(part.sha256, None)
        self._parts[part.sha256] = read() if found is None else found
        while len(self._parts) > _KEPT_PARTS:
            self._parts.pop(next(iter(self._parts)))
        return self._parts[part.sha256]


class Past(Protocol):
    """Held-out rows at older snapshots. Raises :class:`DamagedError` for one that is gone."""

    def rows(self, number: int) -> Sequence[HeldRow]:
        """Oldest first, see :class:`HeldOut`."""

    def held(self, number: int) -> int:
        """How many had been set aside."""


class Sight:
    """See :class:`snapshots.moved.memory.Scene`. ``older`` loads the learner as a snapshot has it."""

    def __init__(  # noqa: PLR0913  everything that a look depends on
        self, task: Task, number: int, learnt: int, held: int, rows: Sequence[HeldRow], paired: Paired,
        passes: Sequence[tuple[int, int]], learner: Learner, older: Callable[[int], Learner], past: "Past",
        *, now: float, scale: float, tolerance: float, alarm: float, hold_events: int,
        trusted: Callable[[float], Sequence[HeldRow]],
    ) -> None:  # fmt: skip
        self.task, self.number, self.learnt, self.held = task, number, learnt, held
        self.paired, self.passes, self.scale, self.alarm = paired, passes, scale, alarm
        self.hold_events, self.yard_rows = hold_events, YARD_ROWS
        self._rows, self._learner, self._older = rows, learner, older
        self._past, self.now, self.tolerance, self.trusted = past, now, tolerance, trusted
        self._models: dict[int, Learner] = {}
        self._events: dict[tuple[str, str, int], Event] = {}
        self._said: dict[tuple[int | None, str, str, int], Prediction] = {}

    def rows(self, begin: int, end: int) -> Sequence[HeldRow]:
        """Those that are still there."""
        return _between(self._rows, self.held, begin, end)

    def rows_at(self, model: int, begin: int, end: int) -> Sequence[HeldRow]:
        """Those that were there at an older snapshot; raise :class:`UnreadableError` when it does not tell."""
        try:
            return _between(self._past.rows(model), self._past.held(model), begin, end)
        except DamagedError as cause:
            raise UnreadableError(model, str(cause)) from cause

    def held_at(self, model: int) -> int:
        """As its manifest counts; raise :class:`UnreadableError` when that is gone."""
        try:
            return self._past.held(model)
        except DamagedError as cause:
            raise UnreadableError(model, str(cause)) from cause

    def losses(self, model: int | None, rows: Sequence[HeldRow]) -> Floats:
        """Half by the probabilities, half by whether the answer is wrong; no opinion is half wrong."""
        said, labels = self._predictions(model, rows), [row.label for row in rows]
        lost = losses(self.task, labels, said, self.scale)
        if self.task == "regression":
            return lost
        wrong = [
            0.5 if one.value is None else float(one.value != label) for one, label in zip(said, labels, strict=True)
        ]
        mixed: Floats = (lost + np.array(wrong)) / 2
        return mixed

    def answers(self, model: int | None, rows: Sequence[HeldRow]) -> Sequence[Any]:
        """The values predicted; without an opinion a class that nobody has, or 0 (regression)."""
        nothing = 0.0 if self.task == "regression" else None
        return [nothing if one.value is None else one.value for one in self._predictions(model, rows)]

    def features(self, rows: Sequence[HeldRow]) -> Mapping[str, Sequence[Any]]:
        """By dotted name, None where one is absent."""
        flat = [self._event(row).features.flat() for row in rows]
        return {name: [one.get(name) for one in flat] for name in dict.fromkeys(name for one in flat for name in one)}

    def _event(self, row: HeldRow) -> Event:
        key = (row.topic, row.partition, row.offset)
        return self._events.get(key) or self._events.setdefault(key, row.event())

    def _predictions(self, model: int | None, rows: Sequence[HeldRow]) -> list[Prediction]:
        learner = self._learner if model is None else self._model(model)
        found = []
        for row in rows:
            key = (model, row.topic, row.partition, row.offset)
            if key not in self._said:
                self._said[key] = opinion(learner, self._event(row).features)
            found.append(self._said[key])
        return found

    def _model(self, number: int) -> Learner:
        if number not in self._models:
            try:
                self._models[number] = self._older(number)
            except (DamagedError, LearnersError) as cause:
                raise UnreadableError(number, str(cause)) from cause
        return self._models[number]


def _between(rows: Sequence[HeldRow], held: int, begin: int, end: int) -> Sequence[HeldRow]:
    """Rows number ``begin`` to before ``end`` of ``held`` that were set aside, of which these are the newest."""
    first = held - len(rows)
    return rows[max(0, begin - first) : max(0, end - first)]
