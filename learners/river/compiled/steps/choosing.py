"""Selectors, encoders and the hasher of River as stages, and our own transformers of columns."""

import numbers
from typing import Any

import numpy as np
from river import compose, preprocessing

from learners.river.columns import DateParts, Pick, Under
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


class Picked(Stateless):
    """``Pick``: these features, in its order, as far as an event has them."""

    def __init__(self, model: Pick, names: Names[Any]) -> None:
        self.names, self._keys = names, [names.id_of(key) for key in model.names]

    def run(self, block: Block, learns: Flags) -> Block:  # noqa: ARG002  it learns nothing
        """Keep what is picked."""
        slots = np.full(len(self.names), -1)
        slots[self._keys] = np.arange(len(self._keys))
        at = np.empty((len(block.starts) - 1, len(self._keys)), np.int64)
        loops.place_of_each(block.starts, block.ids, slots, at)
        return _of_entries(block, at[at >= 0], (at >= 0).sum(axis=1))


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
        self._of_token: list[int] = []
        self._type_of: dict[int, type] = {}
        self._odd: list[bool] = []
        self._known: dict[int, None] = {}

    def run(self, block: Block, learns: Flags) -> Block:
        """One entry for each class that an event has, and a 0 for each other known one unless zeros are dropped."""
        tokens = self._tokens(block)
        for token in self._source.tokens.all[len(self._of_token) :]:
            self._of_token.append(self.names.id_of(self._source.class_of(token)))
            self._odd.append(self._type_of.setdefault(token[0], token[1]) is not token[1])
        if len(tokens):
            unfit(block, np.array(self._odd)[tokens])
        ids = np.array(self._of_token, np.int64)[tokens] if len(tokens) else tokens
        unfit(block, _twice(block, ids))  # two features may make one class: a_b=c and a=b_c
        ones = np.ones(len(ids))
        if self._model.drop_zeros:
            return Block(block.starts, ids, ones, ones, np.full(len(ids), -1))
        return self._with_zeros(block, ids, learns)

    def _tokens(self, block: Block) -> Integers:
        """Of each entry, numbers as well; a negative zero, which is a class of its own in name only, is River's."""
        numbers = np.flatnonzero(block.tokens < 0)
        if not len(numbers):
            return block.tokens
        unfit(block, (block.tokens < 0) & (block.before == 0) & np.signbit(block.before))
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

    def write(self) -> None:
        """The classes that are known."""
        if self._model.drop_zeros:
            return
        known = {self.names.all[one] for one in self._known}
        for token in self._source.tokens.all:
            if self._source.class_of(token) in known and self._type_of.get(token[0]) is token[1]:
                self._model.values[self._source.names.all[token[0]]].add(token[2])
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
