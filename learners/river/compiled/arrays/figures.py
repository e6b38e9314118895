"""Figures by feature, in arrays that grow with the names: what scalers and linear models keep."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from learners.river.compiled.arrays.block import Floats, Names

#: of a feature: it was asked about, or learnt
ASKED, LEARNT = 1, 2
Seen: TypeAlias = npt.NDArray[np.int8]


class Figures:
    """Figures by feature, as long as there are names: what scalers and linear models keep."""

    def __init__(self, names: Names[Any], **fills: float) -> None:
        self._names, self._fills = names, fills
        self.seen = np.zeros(0, np.int8)
        self.of: dict[str, Floats] = {name: np.zeros(0) for name in fills}

    def fit(self) -> None:
        """Have room for every name."""
        size = len(self._names)
        self.seen = _grown(self.seen, size)
        self.of = {name: _grown(array, size, self._fills[name]) for name, array in self.of.items()}

    def clear(self) -> None:
        """Begin anew."""
        self.seen = np.zeros(0, np.int8)
        self.of = {name: np.zeros(0) for name in self._fills}
        self.fit()

    def mark(self) -> tuple[Seen, dict[str, Floats]]:
        """A copy."""
        return self.seen.copy(), {name: array.copy() for name, array in self.of.items()}

    def back(self, mark: tuple[Seen, dict[str, Floats]]) -> None:
        """Take a copy."""
        self.seen, self.of = mark[0].copy(), {name: array.copy() for name, array in mark[1].items()}

    def take(self, name: str, found: Mapping[Any, float], seen: int = 0) -> None:
        """Take one figure of every feature that a dict has."""
        ids = [self._names.id_of(key) for key in found]
        self.fit()
        self.of[name][ids] = list(found.values())
        self.seen[ids] = np.maximum(self.seen[ids], seen)

    def pairs(self, name: str, seen: int = ASKED) -> list[tuple[Any, float]]:
        """Name and figure of every feature that was asked about, or learnt."""
        chosen = np.flatnonzero(self.seen >= seen)
        return [(self._names.all[i], value) for i, value in zip(chosen, self.of[name][chosen].tolist(), strict=True)]


def _grown(array: npt.NDArray[Any], size: int, fill: float = 0.0) -> npt.NDArray[Any]:
    """The array with room for ``size``; doubled, so that names which keep coming cost little."""
    if len(array) >= size:
        return array
    longer = np.full(max(size, 2 * len(array), 16), fill, array.dtype)
    longer[: len(array)] = array
    return longer
