"""What a compiled model is made of: stages over blocks, alone, one after another, or side by side."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from learners.river.compiled.arrays.block import Block, Names

Flags: TypeAlias = npt.NDArray[np.bool_]


class UnfitError(Exception):
    """An event that a stage does not take, by its index in the block: River itself learns it, or raises at it."""

    def __init__(self, event: int) -> None:
        super().__init__(f"event {event} of the block is River's own to handle")
        self.event = event


class Stage(Protocol):
    """One step of a compiled model. ``names`` are those of the entries that it puts out."""

    names: Names[Any]

    def run(self, block: Block, learns: Flags) -> Block:
        """Transform, learning from what is learnt. After an :class:`UnfitError` it has to go back to a mark."""

    def read(self) -> None:
        """Take the state of the River object."""

    def write(self) -> None:
        """Give the state back to the River object."""

    def mark(self) -> Any:
        """The state as it is, for :meth:`back`."""

    def back(self, mark: Any) -> None:
        """Be as at the mark."""


class Stateless:
    """A stage that keeps nothing."""

    def read(self) -> None:
        """There is nothing to take."""

    def write(self) -> None:
        """There is nothing to give."""

    def mark(self) -> Any:
        """Nothing."""

    def back(self, mark: Any) -> None:
        """Nothing."""


def unfit(block: Block, entries: Flags) -> None:
    """Raise for the first event that has one of these entries."""
    if entries.any():
        raise UnfitError(block.event_of(int(np.argmax(entries))))


class Chain:
    """Stages one after another."""

    def __init__(self, stages: Sequence[Stage], names: Names[Any]) -> None:
        self.stages = list(stages)
        self.names = self.stages[-1].names if self.stages else names

    def run(self, block: Block, learns: Flags) -> Block:
        """Each on what the one before puts out."""
        for stage in self.stages:
            block = stage.run(block, learns)
        return block

    def read(self) -> None:
        """All of them."""
        for stage in self.stages:
            stage.read()

    def write(self) -> None:
        """All of them."""
        for stage in self.stages:
            stage.write()

    def mark(self) -> Any:
        """All of them."""
        return [stage.mark() for stage in self.stages]

    def back(self, mark: Any) -> None:
        """All of them."""
        for stage, one in zip(self.stages, mark, strict=True):
            stage.back(one)


class Together(Chain):
    """``TransformerUnion``: all on the same block, the last one's entries first, as River puts them."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__(stages, Names())
        self.names: Names[Any] = Names()
        self._ids: list[list[int]] = [[] for _ in self.stages]
        self._of: dict[int, int] = {}
        self._twice = False

    def run(self, block: Block, learns: Flags) -> Block:
        """Put side by side what each of them makes; one name from two of them is River's to settle."""
        made = [stage.run(block, learns) for stage in self.stages]
        for number, (ids, stage) in enumerate(zip(self._ids, self.stages, strict=True)):
            for name in stage.names.all[len(ids) :]:
                ids.append(self.names.id_of(name))
                if self._of.setdefault(ids[-1], number) != number:
                    self._twice = True
        if self._twice:
            raise UnfitError(0)
        parts = [
            one._replace(ids=np.array(ids, np.int64)[one.ids] if len(one.ids) else one.ids)
            for ids, one in zip(self._ids, made, strict=True)
        ][::-1]
        sizes = np.array([np.diff(one.starts) for one in parts])
        starts = np.concatenate(([0], np.cumsum(sizes.sum(axis=0))))
        offsets = starts[:-1] + np.concatenate((np.zeros((1, sizes.shape[1]), np.int64), np.cumsum(sizes, axis=0)))[:-1]
        total = int(starts[-1])
        whole = Block(starts, np.empty(total, np.int64), np.empty(total), np.empty(total), np.empty(total, np.int64))
        for one, size, offset in zip(parts, sizes, offsets, strict=True):
            at = np.arange(len(one.ids)) - np.repeat(one.starts[:-1], size) + np.repeat(offset, size)
            whole.ids[at], whole.before[at], whole.after[at], whole.tokens[at] = one[1:]
        return whole
