"""Asking a River model leaves no trace: River's tables note the name of every feature that they are asked about.

A scaler's table of means is a ``defaultdict``, so a question with a new feature enters it, for good. Whoever may ask
could so fill the memory, and what was asked would be part of the next snapshot. New entries of such tables are taken
out again after each question; a dict keeps the order in which they came.
"""

import random
from collections import defaultdict
from typing import Any, TypeAlias

import numpy as np
from river import base

_MOST_OBJECTS = 2000
_DRAWS = (random.Random, np.random.RandomState, np.random.Generator)
Table: TypeAlias = defaultdict[Any, Any]
#: how many entries each table has, and the states of what draws random numbers
Mark: TypeAlias = tuple[list[int], list[Any]]


class Tables:
    """The tables of a model that enter what they are asked about, and what draws random numbers for new entries."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._of: list[tuple[dict[str, Any], str, Table]] = []
        self._tables: list[Table] = []
        self._draws: list[Any] = []
        self.look(anew=True)

    def look(self, *, anew: bool = False) -> None:
        """Find them again, where the model has others by now: after it has learnt it may."""
        if anew or not all(attributes.get(name) is table for attributes, name, table in self._of):
            self._of, self._draws = _found(self._model)
            anew = True
        if anew or any(_holds_tables(table) for _, _, table in self._of):
            self._tables = [one for _, _, table in self._of for one in _with_inner(table)]

    def mark(self) -> Mark:
        """How they are before a question."""
        return list(map(len, self._tables)), [_state_of(one) for one in self._draws]

    def back(self, mark: Mark) -> None:
        """Take out what came since; random numbers that were drawn for it will be drawn again."""
        if list(map(len, self._tables)) == mark[0]:
            return
        for table, size in zip(self._tables, mark[0], strict=True):
            while len(table) > size:
                table.popitem()
        for one, state in zip(self._draws, mark[1], strict=True):
            _restore(one, state)


def _found(model: Any) -> tuple[list[tuple[dict[str, Any], str, Table]], list[Any]]:
    """The tables of a model and of its parts, each with where it stands; and what draws random numbers."""
    tables: list[tuple[dict[str, Any], str, Table]] = []
    draws: list[Any] = []
    seen, left = {id(model)}, [model]
    while left and len(seen) < _MOST_OBJECTS:
        part = left.pop()
        inner: Any = part.values() if isinstance(part, dict) else part
        if isinstance(part, base.Base):
            attributes: dict[str, Any] = getattr(part, "__dict__", {})
            tables += [(attributes, name, one) for name, one in attributes.items() if isinstance(one, defaultdict)]
            draws += [one for one in attributes.values() if isinstance(one, _DRAWS)]
            inner = attributes.values()
        for one in inner:
            wanted = isinstance(one, (base.Base, list, tuple, dict)) and not isinstance(one, defaultdict)
            if wanted and id(one) not in seen:
                seen.add(id(one))
                left.append(one)
    return tables, draws if tables else []


def _holds_tables(table: Table) -> bool:
    return bool(table) and isinstance(next(iter(table.values())), defaultdict)


def _with_inner(table: Table) -> list[Table]:
    """A table, and those that are its values."""
    return [table, *table.values()] if _holds_tables(table) else [table]


def _state_of(draw: Any) -> Any:
    if isinstance(draw, random.Random):
        return draw.getstate()
    return draw.get_state() if isinstance(draw, np.random.RandomState) else draw.bit_generator.state


def _restore(draw: Any, state: Any) -> None:
    if isinstance(draw, random.Random):
        draw.setstate(state)
    elif isinstance(draw, np.random.RandomState):
        draw.set_state(state)
    else:
        draw.bit_generator.state = state
