"""Many events as arrays: what goes through the stages of a compiled model."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Name = TypeVar("Name", bound=Hashable)
#: a feature, by number, and a value of it with its type
Token: TypeAlias = tuple[int, type, float | str | bool]
#: groups of events with the same names that are smaller than this are read entry by entry
_FEW = 8


class Block(NamedTuple):
    """Features of many events, one entry after another in the order in which River's dicts hold them.

    Event ``i`` has the entries ``starts[i]`` to ``starts[i + 1]``. ``ids`` says which feature (an index into the names
    of the stage that made the block), ``before`` its value as it is when the event is predicted, ``after`` as it is
    when the event is learnt, which a scaler has seen by then. ``tokens`` numbers texts and truth values; -1: a number.
    """

    starts: Integers
    ids: Integers
    before: Floats
    after: Floats
    tokens: Integers

    def event_of(self, entry: int) -> int:
        """The event that an entry belongs to."""
        return int(np.searchsorted(self.starts, entry, side="right")) - 1


class Names(Generic[Name]):
    """Numbers names in the order in which they come."""

    def __init__(self) -> None:
        self.all: list[Name] = []
        self._ids: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self.all)

    def id_of(self, name: Name) -> int:
        """The number of a name, a new one where it is new."""
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = len(self.all)
            self.all.append(name)
        return found


class Source:
    """Makes blocks of events as the learner sees them: dicts of numbers, texts and truth values."""

    def __init__(self) -> None:
        self.names: Names[str] = Names()
        self.tokens: Names[Token] = Names()

    def block(self, rows: Sequence[Mapping[str, float | str | bool]]) -> Block:
        """The rows as one block. A text has no number: its value is nan."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(tuple(row), []).append(index)
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        total = int(starts[-1])
        ids, tokens, values = np.empty(total, np.int64), np.full(total, -1), np.empty(total)
        for names, chosen in groups.items():
            known = np.array([self.names.id_of(name) for name in names], np.int64)
            at = starts[chosen]
            if len(chosen) < _FEW:
                for begin, index in zip(at, chosen, strict=True):
                    ids[begin : begin + len(names)] = known
                    for entry, value in enumerate(rows[index].values(), int(begin)):
                        values[entry], tokens[entry] = self._read(known[entry - begin], value)
                continue
            for column, (number, said) in enumerate(zip(known, _columns(rows, chosen), strict=True)):
                ids[at + column] = number
                if set(map(type, said)) == {float}:
                    values[at + column] = said
                else:
                    values[at + column], tokens[at + column] = zip(*(self._read(number, v) for v in said), strict=True)
        return Block(starts, ids, values, values, tokens)

    def class_of(self, token: Token) -> str:
        """What River's encoder calls the class that a feature has."""
        return f"{self.names.all[token[0]]}_{token[2]}"

    def token(self, feature: int, value: float | str | bool) -> int:
        """The number of a value that a feature has. 1, 1.0 and True are three."""
        return self.tokens.id_of((feature, type(value), value))

    def numbers(self, names: Sequence[str], values: Floats) -> Block:
        """Rows one after another, of which each has these names and numbers, as a block."""
        known = np.array([self.names.id_of(name) for name in names], np.int64)
        rows = len(values) // len(known)
        starts = np.arange(rows + 1, dtype=np.int64) * len(known)
        return Block(starts, np.tile(known, rows), values, values, np.full(len(values), -1))

    def _read(self, number: int, value: float | str | bool) -> tuple[float, int]:
        if type(value) is float:
            return value, -1
        if isinstance(value, bool):
            return float(value), self.token(int(number), value)
        return (np.nan, self.token(int(number), value)) if isinstance(value, str) else (float(value), -1)


def _columns(
    rows: Sequence[Mapping[str, float | str | bool]], chosen: Sequence[int]
) -> Iterator[tuple[float | str | bool, ...]]:
    return zip(*[rows[index].values() for index in chosen], strict=True)


def cut(block: Block, begin: int, end: int) -> Block:
    """Some of the events."""
    if begin == 0 and end == len(block.starts) - 1:
        return block
    starts = block.starts[begin : end + 1]
    entries = slice(starts[0], starts[-1])
    return Block(
        starts - starts[0], block.ids[entries], block.before[entries], block.after[entries], block.tokens[entries]
    )
