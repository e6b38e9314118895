"""The codec's slow way: why exactly is this refused? Looks at every name and number with the standard library."""

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from learners.labels import FLOAT32_MAX
from stream.refusal import Reason, RefusedEventError
from stream.settings import EventPaths

_MOST_DIGITS = 4000


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, names repeated where they were."""


class _NotFinite:
    """NaN, Infinity or a number too large for a double."""


def dumps(made: Any) -> bytes:
    """JSON of what a decoder made; NaN stays visible and is refused as a number."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _number(text: str) -> Any:
    value = float(text)
    return value if math.isfinite(value) else _NotFinite()


def _whole(text: str) -> Any:
    return int(text) if len(text) < _MOST_DIGITS else _number(text)


def _parse(raw: bytes, field: str, whole: Callable[[str], Any] = _number) -> Any:
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_Pairs,
            parse_float=_number,
            parse_int=whole,
            parse_constant=lambda _: _NotFinite(),
        )
    except RecursionError:
        raise RefusedEventError(Reason.TOO_DEEP, field, "nested too deep to be read") from None
    except ValueError as cause:
        raise RefusedEventError(Reason.NOT_JSON, field, f"not JSON in UTF-8: {cause}") from None


def parsed(raw: bytes, field: str) -> Any:
    """JSON as pairs, names repeated where they were, whole numbers exact; :class:`RefusedEventError` for others."""
    return _parse(raw, field, _whole)


def is_object(found: Any) -> bool:
    """Tell whether something that was parsed is an object."""
    return isinstance(found, _Pairs)


def once(found: Any, field: str) -> list[tuple[str, Any]]:
    """The pairs of an object, each name once and its number finite; raises :class:`RefusedEventError` otherwise."""
    if not isinstance(found, _Pairs):
        raise RefusedEventError(Reason.WRONG_TYPE, field, "features are a JSON object")
    _refuse_twice(found, field)
    for name, value in found:
        if isinstance(value, _NotFinite):
            raise RefusedEventError(Reason.BAD_NUMBER, _dotted(field, name), "the number is not finite")
    return found


def syntax(value: bytes, field: str, paths: EventPaths, weight: str) -> NoReturn:
    """Raise the reason why an envelope could not be read."""
    found = _parse(value, field)
    if not isinstance(found, _Pairs):
        raise RefusedEventError(Reason.NOT_AN_OBJECT, field, "an event is a JSON object")
    for name, inner in found:
        if isinstance(inner, _NotFinite):
            reason = Reason.BAD_WEIGHT if name == weight else Reason.BAD_NUMBER
            raise RefusedEventError(reason, name, "the number is not finite")
        if isinstance(inner, _Pairs) and name == paths.features.split(".")[0]:
            _check(inner, name)
    raise RefusedEventError(Reason.NOT_JSON, field, "the value is not strict JSON in UTF-8")


def features(raw: bytes, field: str) -> RefusedEventError:
    """Return the reason why features could not be decoded."""
    try:
        found = _parse(raw, field)
        if not isinstance(found, _Pairs):
            return RefusedEventError(Reason.WRONG_TYPE, field, "features are a JSON object")
        _check(found, field)
    except RefusedEventError as refused:
        return refused
    return RefusedEventError(Reason.NOT_JSON, field, "the features are not strict JSON in UTF-8")


def names(value: bytes, paths: EventPaths) -> None:
    """Raise when a name of the envelope, or of its features, occurs twice."""
    found = _parse(value, "")
    _refuse_twice(found, "")
    for name, inner in found:
        if isinstance(inner, _Pairs):
            _refuse_twice(inner, name)
            if name != paths.features:
                for deeper, innermost in inner:
                    if isinstance(innermost, _Pairs):
                        _refuse_twice(innermost, f"{name}.{deeper}")


def feature_names(raw: bytes, field: str) -> None:
    """Raise when a feature's name occurs twice or is reserved."""
    _check(_parse(raw, field), field)


def _refuse_twice(pairs: _Pairs, field: str) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise RefusedEventError(Reason.DUPLICATE_NAME, _dotted(field, name), f"the name {name!r} occurs twice")
        seen.add(name)


def _dotted(field: str, name: str) -> str:
    return f"{field}.{name}" if field and field != "." else name


def _check(pairs: _Pairs, field: str, depth: int = 0) -> None:
    """Raise the first thing that is wrong with features."""
    _refuse_twice(pairs, field)
    for name, value in pairs:
        here = _dotted(field, name)
        if name.startswith("_"):
            raise RefusedEventError(Reason.RESERVED_NAME, here, f"the name {name!r} begins with an underscore")
        if isinstance(value, _Pairs):
            if depth:
                raise RefusedEventError(
                    Reason.TOO_DEEP,
                    here,
                    "features are nested more than one level deep; event.flatten = true makes names of them",
                )
            _check(value, here, depth + 1)
        elif isinstance(value, _NotFinite) or (
            isinstance(value, float) and not isinstance(value, bool) and abs(value) > FLOAT32_MAX
        ):
            raise RefusedEventError(Reason.BAD_NUMBER, here, "the number is not finite or outside float32")
        elif isinstance(value, list):
            raise RefusedEventError(
                Reason.WRONG_TYPE,
                here,
                "a feature is a number, text, a boolean or null, not a list; event.flatten = true takes lists of texts",
            )
    if not depth:
        dotted = [
            n if not isinstance(v, _Pairs) else f"{n}.{i}"
            for n, v in pairs
            for i in (dict(v) if isinstance(v, _Pairs) else [""])
        ]
        _refuse_twice(_Pairs((name, None) for name in dotted), field)
