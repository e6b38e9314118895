"""What a learner sees of an event, and what it answers."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

Task: TypeAlias = Literal["binary", "multiclass", "regression"]
Scalar: TypeAlias = float | str | bool | None
Value: TypeAlias = Scalar | dict[str, Scalar]
_decode = msgspec.json.Decoder(dict[str, Value]).decode
_Exact: TypeAlias = int | float | str | bool | None
_decode_exact = msgspec.json.Decoder(dict[str, _Exact | dict[str, _Exact]]).decode
_decode_numbers = msgspec.json.Decoder(dict[str, float]).decode
_numbers = True
#: binary: bool; multiclass: the class's number in :class:`learners.labels.Labels`; regression: float
Label: TypeAlias = bool | int | float


class Features(msgspec.Struct, gc=False):
    """The features of one event: JSON bytes as they came, decoded once when somebody looks.

    ``values`` holds finite numbers as float, strings, booleans and None (absent), with at most one level of
    nesting (a namespace). Features that are all numbers may come with them as a ``row`` of float64, dotted ``names``
    beside it; ``raw`` may then be empty.
    """

    raw: bytes
    _values: dict[str, Value] | None = None
    _flat: dict[str, float | str | bool] | None = None
    names: tuple[str, ...] | None = None
    row: bytes | None = None

    @classmethod
    def of(cls, values: dict[str, Value]) -> "Features":
        """Features from a plain dict, for notebooks and tests."""
        return cls(msgspec.json.encode(values))

    @property
    def values(self) -> dict[str, Value]:
        """The features by name, numbers as float, nested ones in dicts of their own."""
        if self._values is None:
            self._values = _decode(self.raw)
        return self._values

    def flat(self) -> dict[str, float | str | bool]:
        """Return features as River takes them: numbers as float, ``user.age`` for nested ones, no nulls.

        The dict is shared by every learner of the event and must not be changed.
        """
        if self._flat is None:
            if self.row is not None and self.names is not None:
                numbers_of = struct.unpack(f"{len(self.names)}d", self.row)
                self._flat = dict(zip(self.names, numbers_of, strict=True))
                return self._flat
            if self._values is None and (numbers := _only_numbers(self.raw)) is not None:
                self._values = self._flat = numbers  # type: ignore[assignment]
                return numbers  # type: ignore[return-value]
            plain = b"null" not in self.raw and self.raw.count(b"{") == 1
            self._flat = self.values if plain else flatten(self.values)  # type: ignore[assignment]
        return self._flat  # type: ignore[return-value]

    def with_nulls(self) -> dict[str, float | str | bool | None]:
        """Return features as :meth:`flat` does, with None for what is null: for pipelines that put something there."""
        if b"null" not in self.raw:
            return self.flat()  # type: ignore[return-value]
        return _dotted(self.values)

    def as_sent(self, *, nulls: bool) -> dict[str, Any]:
        """Return features as :meth:`flat` does, with whole numbers as int: as ``json`` reads them."""
        found = _dotted(_decode_exact(self.raw))
        return found if nulls else {name: value for name, value in found.items() if value is not None}


def _dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names for nested features."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update((f"{name}.{inner}", nested) for inner, nested in value.items())
        else:
            flat[name] = value
    return flat


def _only_numbers(raw: bytes) -> dict[str, float] | None:
    """Decode features that are all numbers, a third faster; None from the first event on that has something else."""
    global _numbers  # noqa: PLW0603  what a stream is like is learnt once for the process
    if _numbers:
        try:
            return _decode_numbers(raw)
        except msgspec.ValidationError:
            _numbers = False
    return None


def flatten(values: dict[str, Value]) -> dict[str, float | str | bool]:
    """Dotted names for nested features; integers become floats; nulls are left out."""
    flat: dict[str, float | str | bool] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            for inner, nested in value.items():
                if nested is not None:
                    flat[f"{name}.{inner}"] = float(nested) if type(nested) is int else nested
        elif value is not None:
            flat[name] = float(value) if type(value) is int else value
    return flat


def slices_of(features: Features, names: Sequence[str]) -> list[str]:
    """The slices that an event belongs to, as ``feature=value``; what it does not have names none."""
    if not names:
        return []
    flat = features.flat()
    return [f"{name}={flat[name]}" for name in names if name in flat]


class Event(msgspec.Struct, gc=False):
    """One valid event. ``label`` is None when it is not known (yet); ``time`` is in Unix seconds, UTC."""

    id: str
    features: Features
    label: Label | None = None
    weight: float = 1.0
    time: float = 0.0

    @classmethod
    def of(cls, x: dict[str, Value], y: Label | None = None, w: float = 1.0, id: str = "") -> "Event":  # noqa: A002  the field's name on the wire
        """Build an event from plain values, for notebooks and tests."""
        return cls(id=id, features=Features.of(x), label=y, weight=w)


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """What a learner answers for one event.

    ``value`` is the decision (binary: bool; multiclass: class number; regression: float), None when the
    learner cannot say yet. ``probability`` is that of the positive class (binary). ``probabilities`` maps class
    numbers to probabilities (multiclass).
    """

    value: Label | None
    probability: float | None = None
    probabilities: dict[int, float] | None = None
