"""Transformers of River as stages over blocks: each takes its state from the River object, and gives it back."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from river import compose, preprocessing, stats

from learners.river.compiled import loops
from learners.river.compiled.block import Block, Floats, Integers, Names, Source, grown

Flags = npt.NDArray[np.bool_]
_ASKED, _LEARNT = 1, 2
_HALF = 0.5


class UnfitError(Exception):
    """An event that a stage does not take, by its index in the block: River itself learns it, or raises at it."""

    def __init__(self, event: int) -> None:
        super().__init__(f"event {event} of the block is River's own to handle")
        self.event = event


class Stage(Protocol):
    """One step of a compiled model. ``names`` are those of the entries that it puts out."""

    names: Names

    def run(self, block: Block, learns: Flags) -> Block:
        """Transform, learning from the events that are learnt; :class:`UnfitError` before anything changed."""

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


class Columns:
    """Figures by feature, as long as there are names: what scalers and linear models keep."""

    def __init__(self, names: Names, **fills: float) -> None:
        self._names, self._fills = names, fills
        self.seen = np.zeros(0, np.int8)
        self.of: dict[str, Floats] = {name: np.zeros(0) for name in fills}

    def fit(self) -> None:
        """Have room for every name."""
        size = len(self._names)
        self.seen = grown(self.seen, size)  # type: ignore[assignment]
        self.of = {name: grown(array, size, self._fills[name]) for name, array in self.of.items()}  # type: ignore[misc]

    def clear(self) -> None:
        """Begin anew."""
        self.seen = np.zeros(0, np.int8)
        self.of = {name: np.zeros(0) for name in self._fills}
        self.fit()

    def mark(self) -> tuple[npt.NDArray[np.int8], dict[str, Floats]]:
        """A copy."""
        return self.seen.copy(), {name: array.copy() for name, array in self.of.items()}

    def back(self, mark: tuple[npt.NDArray[np.int8], dict[str, Floats]]) -> None:
        """Take a copy."""
        self.seen, self.of = mark[0].copy(), {name: array.copy() for name, array in mark[1].items()}

    def take(self, name: str, found: Mapping[Any, float], seen: int = 0) -> None:
        """Take one figure of every feature that a dict has."""
        ids = [self._names.id_of(key) for key in found]
        self.fit()
        self.of[name][ids] = list(found.values())
        self.seen[ids] = np.maximum(self.seen[ids], seen)

    def pairs(self, name: str, seen: int = _ASKED) -> list[tuple[Any, float]]:
        """Name and figure of every feature that was asked about, or learnt."""
        chosen = np.flatnonzero(self.seen >= seen)
        return [
            (self._names.all[i], value) for i, value in zip(chosen, self.of[name][chosen].tolist(), strict=True)
        ]


class _Scaler:
    """What the scalers share: figures by feature, and features that are no numbers."""

    def __init__(self, model: Any, names: Names, **fills: float) -> None:
        self.model, self.names = model, names
        self.columns = Columns(names, **fills)

    def run(self, block: Block, learns: Flags) -> Block:
        """Scale, learning as it goes; a text is River's to refuse."""
        unfit(block, np.isnan(block.before))
        self.columns.fit()
        before, after = np.empty(len(block.ids)), np.zeros(len(block.ids))
        self._loop(block, learns, before, after)
        return block._replace(before=before, after=after)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        raise NotImplementedError

    def mark(self) -> Any:
        """The figures."""
        return self.columns.mark()

    def back(self, mark: Any) -> None:
        """The figures as they were."""
        self.columns.back(mark)


class Standard(_Scaler):
    """``StandardScaler`` over the whole past."""

    def __init__(self, model: preprocessing.StandardScaler, names: Names) -> None:
        super().__init__(model, names, counts=0.0, means=0.0, variances=0.0, deviations=0.0)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        of = self.columns.of
        loops.standardise(
            block.starts, block.ids, block.before, block.after, learns, of["counts"], of["means"], of["variances"],
            of["deviations"], self.columns.seen, self.model.with_std, _HALF, before, after,
        )  # fmt: skip

    def read(self) -> None:
        """Counts, means and variances."""
        model, columns = self.model, self.columns
        columns.clear()
        columns.take("means", model.means, _ASKED)
        columns.take("variances", model.vars, _ASKED)
        columns.take("counts", model.counts, _LEARNT)
        columns.of["deviations"][:] = [value**_HALF for value in columns.of["variances"].tolist()]

    def write(self) -> None:
        """Counts, means and variances."""
        model = self.model
        model.means.update(self.columns.pairs("means"))
        if model.with_std:
            model.vars.update(self.columns.pairs("variances"))
        model.counts.update(dict.fromkeys(model.counts, 0))
        for name, count in self.columns.pairs("counts", _LEARNT):
            model.counts[name] = int(count)


class MinMax(_Scaler):
    """``MinMaxScaler`` over the whole past."""

    def __init__(self, model: preprocessing.MinMaxScaler, names: Names) -> None:
        super().__init__(model, names, lowest=np.inf, highest=-np.inf)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        of = self.columns.of
        loops.scale_to_range(
            block.starts, block.ids, block.before, block.after, learns, of["lowest"], of["highest"],
            self.columns.seen, before, after,
        )  # fmt: skip

    def read(self) -> None:
        """The least and the largest value of each feature."""
        self.columns.clear()
        self.columns.take("lowest", {name: one.min for name, one in self.model.min.items()}, _ASKED)
        self.columns.take("highest", {name: one.max for name, one in self.model.max.items()}, _ASKED)

    def write(self) -> None:
        """The least and the largest value of each feature."""
        for name, value in self.columns.pairs("lowest"):
            self.model.min[name].min = value
        for name, value in self.columns.pairs("highest"):
            self.model.max[name].max = value


class MaxAbs(_Scaler):
    """``MaxAbsScaler`` over the whole past."""

    def __init__(self, model: preprocessing.MaxAbsScaler, names: Names) -> None:
        super().__init__(model, names, largest=0.0)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        loops.scale_by_largest(
            block.starts, block.ids, block.before, block.after, learns, self.columns.of["largest"], self.columns.seen,
            before, after,
        )  # fmt: skip

    def read(self) -> None:
        """The largest distance from 0 of each feature."""
        self.columns.clear()
        self.columns.take("largest", {name: one.abs_max for name, one in self.model.abs_max.items()}, _ASKED)

    def write(self) -> None:
        """The largest distance from 0 of each feature."""
        for name, value in self.columns.pairs("largest"):
            self.model.abs_max[name].abs_max = value


class Chosen(Stateless):
    """``Select``: these features, in the order of River's set; an event that lacks one is River's to refuse."""

    def __init__(self, model: compose.Select, names: Names) -> None:
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

    def __init__(self, model: compose.Discard | compose.SelectType, names: Names) -> None:
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
        self.names = Names()
        self._of_token: list[int] = []
        self._zeros = Names()

    def run(self, block: Block, learns: Flags) -> Block:
        """One entry for each class that an event has, and a 0 for each other known one unless zeros are dropped."""
        unfit(block, block.tokens < 0)
        for feature, value in self._source.tokens.all[len(self._of_token) :]:  # type: ignore[misc]
            self._of_token.append(self.names.id_of(f"{self._source.names.all[feature]}_{value}"))
        ids = np.array(self._of_token, np.int64)[block.tokens]
        ones = np.ones(len(ids))
        if self._model.drop_zeros:
            return Block(block.starts, ids, ones, ones, np.full(len(ids), -1))
        return self._with_zeros(block, ids, learns)

    def _with_zeros(self, block: Block, ids: Integers, learns: Flags) -> Block:
        rows: list[list[int]] = []
        known = self._zeros
        for event, learnt in enumerate(learns.tolist()):
            own = ids[block.starts[event] : block.starts[event + 1]].tolist()
            if learnt:
                for one in own:
                    known.id_of(one)
            row = list(known.all)
            if not learnt:
                row += [one for one in own if one not in set(row)]
            rows.append(row)  # type: ignore[arg-type]
        sizes = np.array([len(row) for row in rows])
        starts = np.concatenate(([0], np.cumsum(sizes)))
        flat = np.array([one for row in rows for one in row], np.int64)
        events = np.repeat(np.arange(len(rows)), sizes)
        width = len(self.names) + 1
        own = np.repeat(np.arange(len(rows)), np.diff(block.starts)) * width + ids
        values = np.isin(events * width + flat, own).astype(np.float64)
        return Block(starts, flat, values, values, np.full(len(flat), -1))

    def read(self) -> None:
        """The classes that are known."""
        self._zeros = Names()
        for name in self._model._zero_dict:  # noqa: SLF001  its order is the order of the entries
            self._zeros.id_of(self.names.id_of(name))

    def write(self) -> None:
        """The classes that are known."""
        if self._model.drop_zeros:
            return
        for feature, value in self._source.tokens.all:  # type: ignore[misc]
            name = self._source.names.all[feature]
            if self.names.id_of(f"{name}_{value}") in self._zeros.all:
                self._model.values[name].add(value)
        self._model._zero_dict.update((self.names.all[one], 0) for one in self._zeros.all)  # type: ignore[index]  # noqa: SLF001

    def mark(self) -> Any:
        """The classes that are known."""
        return list(self._zeros.all)

    def back(self, mark: Any) -> None:
        """The classes that were known."""
        self._zeros = Names()
        for one in mark:
            self._zeros.id_of(one)


class Chain:
    """Stages one after another."""

    def __init__(self, stages: Sequence[Stage], names: Names) -> None:
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
        self.names = Names()
        self._ids: list[list[int]] = [[] for _ in self.stages]

    def run(self, block: Block, learns: Flags) -> Block:
        """Put side by side what each of them makes; one name from two of them is River's to settle."""
        made = [stage.run(block, learns) for stage in self.stages]
        for ids, stage in zip(self._ids, self.stages, strict=True):
            for name in stage.names.all[len(ids) :]:
                before = len(self.names)
                ids.append(self.names.id_of(name))
                if ids[-1] < before:
                    raise NotImplementedError(f"two parts of a union make {name!r}")
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


def is_number_type(kind: type) -> bool:
    """Tell whether a ``SelectType`` may name this type: one of those that features have."""
    return kind in (float, str, bool, numbers.Number, int)


def is_plain_statistic(model: preprocessing.MinMaxScaler | preprocessing.MaxAbsScaler) -> bool:
    """Tell whether the scaler looks at the whole past, and not at a window."""
    kinds = (stats.Min, stats.Max, stats.AbsMax)
    return model.window_size is None and all(
        type(one) in kinds for part in vars(model).values() if isinstance(part, dict) for one in part.values()
    )
