"""Selectors, encoders and the hasher of River as stages, and our own transformers of columns."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from river import compose, preprocessing

from learners.river.columns import DateParts, Under
from learners.river.compiled.arrays.block import Block, Integers, Names, Source
from learners.river.compiled.arrays.stages import Flags, Stateless, UnfitError, unfit
from learners.river.compiled.loops import scaling as loops


class Picked(Stateless):
    """``Pick``: these features, in its order, as far as an event has them."""

    def __init__(self, keys: Iterable[str], names: Names[Any]) -> None:
        self.names, self._keys = names, [names.id_of(key) for key in keys]

    def run(self, block: Block, learns: Flags) -> Block:  # noqa: ARG002  it learns nothing
        """Keep what is picked."""
        slots = np.full(len(self.names), -1)
        slots[self._keys] = np.arange(len(self._keys))
        at = np.empty((len(block.starts) - 1, len(self._keys)), np.int64)
        loops.place_of_each(block.starts, block.ids, slots, at)
        there = at >= 0
        self._check(there)
        return _of_entries(block, at[there], there.sum(axis=1))

    def _check(self, there: Flags) -> None:
        """Whether each event (rows) has what is picked."""


class Chosen(Picked):
    """``Select``: these features, in the order of River's set; an event that lacks one is River's to refuse."""

    def _check(self, there: Flags) -> None:
        whole = there.all(axis=1)
        if not whole.all():
            raise UnfitError(int(np.argmin(whole)))


class Dates(Stateless):
    """``DateParts``: month, weekday and hour of each date."""

    def __init__(self, model: DateParts, source: Source) -> None:
        self.names, self._model, self._source = source.names, model, source
        self._keys = {source.names.id_of(name): name for name in model.forms}

    def run(self, block: Block, learns: Flags) -> Block:  # noqa: ARG002  it learns nothing
        """Take the dates of each event apart."""
        tokens = self._source.tokens.all
        wanted = np.isin(block.ids, list(self._keys))
        unfit(block, wanted & (block.tokens < 0))  # a number as a date is River's to read
        found: list[dict[str, Any]] = [{} for _ in range(len(block.starts) - 1)]
        entries = np.flatnonzero(wanted)
        events = np.searchsorted(block.starts, entries, side="right") - 1
        for entry, event in zip(entries.tolist(), events.tolist(), strict=True):
            feature, _, value = tokens[block.tokens[entry]]
            found[event][self._keys[feature]] = value
        parts = [self._model.transform_one(one) for one in found]
        starts = np.concatenate(([0], np.cumsum([len(one) for one in parts], dtype=np.int64)))
        ids = np.array([self.names.id_of(name) for one in parts for name in one], np.int64)
        values = [value for one in parts for value in one.values()]
        said = np.array(values, np.float64)
        tokens_of = [self._source.token(number, value) for number, value in zip(ids.tolist(), values, strict=True)]
        return Block(starts, ids, said, said, np.array(tokens_of, np.int64))


class Hashed(Stateless):
    """``FeatureHasher``: a place and a sign for each number, and for each value of a text."""

    def __init__(self, model: preprocessing.FeatureHasher, source: Source) -> None:
        self._model, self._source = model, source
        self.names: Names[Any] = Names()
        self._of_token: dict[int, tuple[int, float]] = {}
        self._of_number: dict[int, tuple[int, float]] = {}

    def run(self, block: Block, learns: Flags) -> Block:  # noqa: ARG002  it learns nothing
        """Hash; two entries of one event in one place are River's to add up."""
        pairs = [
            self._place(feature, token)
            for feature, token in zip(block.ids.tolist(), block.tokens.tolist(), strict=True)
        ]
        ids = np.array([place for place, _ in pairs], np.int64)
        signs = np.array([sign for _, sign in pairs], np.float64)
        unfit(block, _twice(block, ids))
        number = block.tokens < 0
        before, after = (np.where(number, part, 1.0) * signs for part in (block.before, block.after))
        return Block(block.starts, ids, before, after, np.full(len(ids), -1))

    def _place(self, feature: int, token: int) -> tuple[int, float]:
        known, key = (self._of_number, feature) if token < 0 else (self._of_token, token)
        found = known.get(key)
        if found is None:
            value = 1.0 if token < 0 else self._source.tokens.all[token][2]
            ((place, sign),) = self._model.transform_one({self._source.names.all[feature]: value}).items()
            found = known[key] = (self.names.id_of(place), float(sign))
        return found


class Kept(Stateless):
    """``Discard``, ``SelectType`` and ``Under``: entries that stay, in the order in which they came."""

    def __init__(self, model: compose.Discard | compose.SelectType | Under, names: Names[Any]) -> None:
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
        if isinstance(self._model, Under):
            under = [index for index, name in enumerate(self.names.all) if name.split(".")[0] in self._model.names]
            return np.isin(block.ids, under)
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
    """``OneHotEncoder``. A feature that has values of several types is River's: 1, 1.0 and True are one to a set."""

    def __init__(self, model: preprocessing.OneHotEncoder, source: Source) -> None:
        self._model, self._source = model, source
        self.names: Names[Any] = Names()
        self._of_token: dict[int, int] = {}
        self._type_of: dict[int, type] = {}
        self._odd: set[int] = set()
        self._known: dict[int, None] = {}
        self._negative: list[int] = []

    def run(self, block: Block, learns: Flags) -> Block:
        """One entry for each class that an event has, and a 0 for each other known one unless zeros are dropped."""
        tokens = self._tokens(block)
        different, place = np.unique(tokens, return_inverse=True)
        ids = np.array([self._id_of(token) for token in different.tolist()], np.int64)[place]
        if self._odd:
            unfit(block, np.isin(tokens, list(self._odd)))
        unfit(block, _twice(block, ids))  # two features may make one class: a_b=c and a=b_c
        ones = np.ones(len(ids))
        if self._model.drop_zeros:
            return Block(block.starts, ids, ones, ones, np.full(len(ids), -1))
        return self._with_zeros(block, ids, learns)

    def _id_of(self, token: int) -> int:
        found = self._of_token.get(token)
        if found is None:
            feature, kind, _ = whole = self._source.tokens.all[token]
            found = self._of_token[token] = self.names.id_of(self._source.class_of(whole))
            if self._type_of.setdefault(feature, kind) is not kind:
                self._odd.add(token)
        return found

    def _tokens(self, block: Block) -> Integers:
        """Of each entry, numbers as well. A negative zero is River's, and so is 0 where a negative one is known.

        The two are one to a set, and two classes by name.
        """
        numbers = np.flatnonzero(block.tokens < 0)
        if not len(numbers):
            return block.tokens
        signed = np.signbit(block.before) | np.isin(block.ids, self._negative)
        unfit(block, (block.tokens < 0) & (block.before == 0) & signed)
        tokens, token = block.tokens.copy(), self._source.token
        pairs = zip(block.ids[numbers].tolist(), block.before[numbers].tolist(), strict=True)
        tokens[numbers] = [token(feature, value) for feature, value in pairs]
        return tokens

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
        self._negative = [
            self._source.names.id_of(name)
            for name, values in self._model.values.items()
            if 0.0 in values and math.copysign(1.0, next(value for value in values if value == 0)) < 0
        ]

    def write(self) -> None:
        """The classes that are known."""
        if self._model.drop_zeros:
            return
        for token, one in self._of_token.items():
            if one in self._known and token not in self._odd:
                feature, _, value = self._source.tokens.all[token]
                self._model.values[self._source.names.all[feature]].add(value)
        self._model._zero_dict.update((self.names.all[one], 0) for one in self._known)  # noqa: SLF001

    def mark(self) -> Any:
        """The classes that are known."""
        return dict(self._known)

    def back(self, mark: Any) -> None:
        """The classes that were known."""
        self._known = dict(mark)


def _twice(block: Block, ids: Integers) -> Flags:
    """Entries whose id another entry of the same event has as well."""
    events = np.repeat(np.arange(len(block.starts) - 1), np.diff(block.starts))
    keys = events * (int(ids.max(initial=0)) + 1) + ids
    order = np.argsort(keys, kind="stable")
    twice = np.zeros(len(ids), bool)
    twice[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return twice


def is_plain(model: compose.Discard | compose.SelectType | Under) -> bool:
    """Tell whether a selector names features, or types that features have."""
    return isinstance(model, (compose.Discard, Under)) or set(model.types) <= {float, str, bool, numbers.Number, int}
