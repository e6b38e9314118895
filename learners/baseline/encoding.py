"""Features as arrays, for models that need a fixed width: numbers standardised or binned, texts as hashed values.

The same function encodes for training and for serving (promise 10). A text or boolean is known by the CRC-32 of
``name=value`` (no text is kept, which also keeps people's names out of models) and gets the place of that hash in the
values seen in training; what was not seen there is place 0. The field's own standard for both: K. Weinberger et al.,
"Feature hashing for large scale multitask learning" (2009).
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from learners.errors import StateRefusedError
from learners.event import Features

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint32]
Numbers: TypeAlias = Literal["standardised", "binned"]
_FORMAT = 1
#: a standardised number further out than so many standard deviations is taken for that far
_FARTHEST = 50.0
#: stands for a value that is not there; no text has this hash on purpose, and one that has it by chance is unknown
ABSENT = 0


class Number(msgspec.Struct, frozen=True):
    """A feature that is a number: its mean and standard deviation, and where it is binned, the edges of its bins."""

    name: str
    mean: float
    deviation: float
    edges: list[float] = []
    missing: bool = False


class Encoding(msgspec.Struct, frozen=True):
    """How features become arrays. ``values`` are the hashes that have a place, sorted; place 0 is for all others.

    ``numbers`` come first, in order, then a column of 0 and 1 for each that was ``missing`` at times. Binned numbers
    are values instead, after ``texts``.
    """

    numbers: list[Number]
    texts: list[str]
    values: list[int]
    format: int = _FORMAT

    @property
    def width(self) -> int:
        """How many columns of numbers there are; one of zeros where features are all texts."""
        plain = [one for one in self.numbers if not one.edges]
        return max(1, len(plain) + sum(one.missing for one in plain))

    @property
    def fields(self) -> int:
        """How many columns of places there are; one of place 0 where features are all numbers."""
        return max(1, len(self.texts) + sum(bool(one.edges) for one in self.numbers))

    @property
    def places(self) -> int:
        """How many places there are, place 0 included."""
        return len(self.values) + 1

    def dump(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def load(cls, data: bytes) -> "Encoding":
        """Return what :meth:`dump` wrote; raise :class:`StateRefusedError` when it is not that."""
        try:
            found = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, RecursionError, msgspec.ValidationError) as cause:
            raise StateRefusedError(f"the encoding of the baseline does not decode: {cause}") from cause
        if found.format != _FORMAT:
            raise StateRefusedError(f"the encoding of the baseline has format {found.format}, not {_FORMAT}")
        return found


class Encoder:
    """Encodes one event or many. Hashes that were looked up are remembered, up to a bound."""

    _REMEMBERED = 100_000

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._plain = [one for one in encoding.numbers if not one.edges]
        self._indicated = [i for i, one in enumerate(self._plain) if one.missing]
        self._binned = [one for one in encoding.numbers if one.edges]
        self._mean = np.array([one.mean for one in self._plain], np.float32)
        self._deviation = np.array([one.deviation for one in self._plain], np.float32)
        self._values = np.array(encoding.values, np.uint32)
        self._known: dict[tuple[str, str | bool], int] = {}

    def one(self, features: Features) -> tuple[Floats, Integers]:
        """Return numbers (float32, shape (1, width)) and places (int64, shape (1, fields)) of an event."""
        return self.many([features])

    def many(self, rows: Sequence[Features]) -> tuple[Floats, Integers]:
        """The same for several events, a row each."""
        flats = [row.flat() for row in rows]
        raw = np.array([[_number(flat.get(one.name)) for one in self._plain] for flat in flats], np.float32)
        places = [
            [
                *(self._place(name, flat.get(name)) for name in self.encoding.texts),
                *(self._place(one.name, bin_of(one.edges, _single(flat.get(one.name)))) for one in self._binned),
            ]
            for flat in flats
        ]
        if not places or not places[0]:
            places = [[0]] * len(rows)
        return self.standardised(raw.reshape(len(rows), -1)), np.array(places, np.int64).reshape(len(rows), -1)

    def standardised(self, raw: Floats) -> Floats:
        """Numbers as they are learnt: in standard deviations from the mean, 0 where absent (nan), then indicators."""
        if not self._plain:
            return np.zeros((len(raw), 1), np.float32)
        absent = np.isnan(raw)
        found = np.clip((raw - self._mean) / self._deviation, -_FARTHEST, _FARTHEST)
        found[absent] = 0.0
        return np.concatenate((found, absent[:, self._indicated].astype(np.float32)), axis=1)

    def places_of(self, hashes: Hashes) -> Integers:
        """The places of hashes, 0 for those that have none."""
        if not len(self._values):
            return np.zeros(hashes.shape, np.int64)
        at = np.minimum(np.searchsorted(self._values, hashes), len(self._values) - 1)
        return np.where(self._values[at] == hashes, at + 1, 0).astype(np.int64)

    def _place(self, name: str, value: float | str | bool | None) -> int:
        if value is None or isinstance(value, float):
            return 0
        found = self._known.get((name, value))
        if found is None:
            found = int(self.places_of(np.array([hash_of(name, value)], np.uint32))[0])
            if len(self._known) < self._REMEMBERED:
                self._known[name, value] = found
        return found


def _number(value: float | str | bool | None) -> float:
    return value if type(value) is float else math.nan


def _single(value: float | str | bool | None) -> float:
    """A number as precise as those that were learnt."""
    return float(np.float32(value)) if type(value) is float else math.nan


def hash_of(name: str, value: str | bool) -> int:
    """The CRC-32 of ``name=value``; a boolean is ``true`` or ``false``.

    >>> hash_of("country", "de") == hash_of("country", "fr")
    False
    """
    text = value if isinstance(value, str) else str(value).lower()
    return zlib.crc32(f"{name}={text}".encode("utf-8", "surrogatepass"))


def bin_of(edges: Sequence[float], value: float) -> str | None:
    """The bin that a value falls into, as a text; None where it is absent (nan).

    >>> [bin_of([1.0, 2.0], value) for value in (0.5, 1.0, 1.5, 7.0)]
    ['#0', '#1', '#1', '#2']
    """
    return None if math.isnan(value) else f"#{np.searchsorted(edges, value, side='right')}"


class Layout(msgspec.Struct, frozen=True):
    """Which features are looked at: ``numbers`` and ``texts``, by name."""

    numbers: list[str]
    texts: list[str]


def layout_of(sample: Iterable[Features], most: int) -> tuple[Layout, int]:
    """Choose up to ``most`` features, the most frequent first; also return how many others there are."""
    numbers: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for features in sample:
        for name, value in features.flat().items():
            (numbers if type(value) is float else texts)[name] += 1
    counted = [(count, name, kind) for kind, found in enumerate((numbers, texts)) for name, count in found.items()]
    chosen = sorted(counted, key=lambda one: (-one[0], one[1]))[:most]
    names = [sorted(name for _, name, kind in chosen if kind == which) for which in (0, 1)]
    return Layout(*names), len(counted) - len(chosen)


def raw_of(layout: Layout, features: Features) -> tuple[list[float], list[int]]:
    """Numbers as they are (nan: absent) and hashes of texts (``ABSENT``: absent), before anything is known of them."""
    flat = features.flat()
    numbers = [_number(flat.get(name)) for name in layout.numbers]
    texts = [
        ABSENT if (value := flat.get(name)) is None or isinstance(value, float) else hash_of(name, value)
        for name in layout.texts
    ]
    return numbers, texts


def numbers_of(layout: Layout, sample: Floats, kind: Numbers, bins: int) -> list[Number]:
    """Mean, deviation, and edges of every number, from a sample of shape (rows, numbers)."""
    found = []
    for name, column in zip(layout.numbers, sample.T.astype(np.float64), strict=True):
        there = column[~np.isnan(column)]
        mean, deviation = (float(there.mean()), float(there.std())) if len(there) else (0.0, 0.0)
        edges: list[float] = []
        if kind == "binned" and len(there):
            quantiles = np.quantile(there, np.linspace(0, 1, bins + 1)[1:-1])
            edges = sorted({float(np.float32(one)) for one in quantiles})
        found.append(Number(name, mean, deviation if deviation > 0 else 1.0, edges, len(there) < len(column)))
    return found
