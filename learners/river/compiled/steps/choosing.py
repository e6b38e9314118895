"""Selectors and the one-hot encoder of River as stages."""

import numbers
from typing import Any

import numpy as np
from river import compose, preprocessing

from learners.river.compiled.arrays.block import Block, Integers, Names, Source
from learners.river.compiled.arrays.stages import Flags, Stateless, UnfitError, unfit
from learners.river.compiled.loops import scaling as loops


class Chosen(Stateless):
    """``Select``: these features, in the order of River's set; an event that lacks one is River's to refuse."""

    def __init__(self, model: compose.Select, names: Names[Any]) -> None:
        self.names, self._keys = names, [names.id_of(key) for key in model.keys]

    def run(self, block: Block, learns: Flags) -> Block:  # noqa: ARG002  it learns nothing
        """Keep what is chosen."""
        events = len(block.starts) - 1
        slots = np.full(len(self.names), -1)
        slots[self._keys] = np.arange(len(self._keys))
        at = np.empty((events, len(self._keys)), np.int64)
        loops.place_of_each(block.starts, block.ids, slots, at)
        lacking = (at < 0).any(axis=1)
        if lacking.any():
            raise UnfitError(int(np.argmax(lacking)))
        return _of_entries(block, at.reshape(-1), np.full(events, len(self._keys)))


class Kept(Stateless):
    """``Discard`` and ``SelectType``: entries that stay, in the order in which they came."""

    def __init__(self, model: compose.Discard | compose.SelectType, names: Names[Any]) -> None:
        self._model, self.names = model, names

    def run(self, block: Block, learns: Flags) -> Block:  # noqa: ARG002  it learns nothing
        """Keep what is to stay."""
        kept = self._kept(block)
        sizes = np.diff(np.concatenate(([0], np.cumsum(kept)))[block.starts])
        return _of_entries(block, np.flatnonzero(kept), sizes)

    def _kept(self, block: Block) -> Flags:
        if isinstance(self._model, compose.Discard):
            out = [index for index, name in enumerate(self.names.all) if name in self._model.keys]
            return ~np.isin(block.ids, out)
        number, said = block.tokens < 0, np.isnan(block.before)
        examples = ((number, 0.0), (said, ""), (~number & ~said, True))
        found = np.zeros(len(block.ids), bool)
        for entries, example in examples:
            if isinstance(example, self._model.types):
                found |= entries
        return found


def _of_entries(block: Block, entries: Integers, sizes: Integers) -> Block:
    starts = np.concatenate(([0], np.cumsum(sizes)))
    return Block(starts, block.ids[entries], block.before[entries], block.after[entries], block.tokens[entries])


class OneHot:
    """``OneHotEncoder`` over texts and truth values; numbers as classes are River's."""

    def __init__(self, model: preprocessing.OneHotEncoder, source: Source) -> None:
        self._model, self._source = model, source
        self.names: Names[Any] = Names()
        self._of_token: list[int] = []
        self._known: dict[int, None] = {}

    def run(self, block: Block, learns: Flags) -> Block:
        """One entry for each class that an event has, and a 0 for each other known one unless zeros are dropped."""
        unfit(block, block.tokens < 0)
        for token in self._source.tokens.all[len(self._of_token) :]:
            self._of_token.append(self.names.id_of(self._source.class_of(token)))
        ids = np.array(self._of_token, np.int64)[block.tokens]
        ones = np.ones(len(ids))
        if self._model.drop_zeros:
            return Block(block.starts, ids, ones, ones, np.full(len(ids), -1))
        return self._with_zeros(block, ids, learns)

    def _with_zeros(self, block: Block, ids: Integers, learns: Flags) -> Block:
        rows: list[list[int]] = []
        known = self._known
        for event, learnt in enumerate(learns.tolist()):
            own = ids[block.starts[event] : block.starts[event + 1]].tolist()
            if learnt:
                known.update(dict.fromkeys(own))
            row = list(known)
            if not learnt:
                row += [one for one in own if one not in known]
            rows.append(row)
        sizes = np.array([len(row) for row in rows], np.int64)
        starts = np.concatenate(([0], np.cumsum(sizes)))
        flat = np.array([one for row in rows for one in row], np.int64)
        events = np.repeat(np.arange(len(rows)), sizes)
        width = len(self.names) + 1
        own = np.repeat(np.arange(len(rows)), np.diff(block.starts)) * width + ids
        values = np.isin(events * width + flat, own).astype(np.float64)
        return Block(starts, flat, values, values, np.full(len(flat), -1))

    def read(self) -> None:
        """The classes that are known."""
        self._known = {self.names.id_of(name): None for name in self._model._zero_dict}  # noqa: SLF001  its order counts

    def write(self) -> None:
        """The classes that are known."""
        if self._model.drop_zeros:
            return
        known = {self.names.all[one] for one in self._known}
        for feature, value in self._source.tokens.all:
            if self._source.class_of((feature, value)) in known:
                self._model.values[self._source.names.all[feature]].add(value)
        self._model._zero_dict.update((self.names.all[one], 0) for one in self._known)  # noqa: SLF001

    def mark(self) -> Any:
        """The classes that are known."""
        return dict(self._known)

    def back(self, mark: Any) -> None:
        """The classes that were known."""
        self._known = dict(mark)


def is_plain(model: compose.Discard | compose.SelectType) -> bool:
    """Tell whether a selector names features, or types that features have."""
    return isinstance(model, compose.Discard) or set(model.types) <= {float, str, bool, numbers.Number, int}
