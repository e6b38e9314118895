"""Lists and deeper nesting as features, where ``event.flatten`` asks for it; for events and questions alike.

``{"tags": ["red", "new"]}`` becomes ``{"tags": {"red": true, "new": true}}``, and
``{"user": {"home": {"city": "Ulm"}, "roles": ["a"]}}`` becomes ``{"user": {"home.city": "Ulm", "roles.a": true}}``.
Numbers with a decimal point are told by their place: ``{"e": [0.5, -1.25]}`` becomes ``{"e": {"0": 0.5, "1": -1.25}}``.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from learners.labels import canonical
from stream.refusal import Reason, RefusedEventError
from stream.source import diagnosis


def flattened(raw: bytes, field: str) -> bytes:
    """JSON of the features with at most one level of nesting; raises :class:`RefusedEventError` for what is wrong."""
    found = diagnosis.parsed(raw, field)
    flat: dict[str, Any] = {}
    for name, value in diagnosis.once(found, field):
        here = f"{field}.{name}".lstrip(".")
        if isinstance(value, list):  # a parsed object is a list of pairs, too
            inner = dict[str, Any]()
            for deeper, leaf in _leaves("", value, here):
                if deeper in inner:
                    raise RefusedEventError(Reason.DUPLICATE_NAME, here, f"the name {deeper!r} occurs twice")
                inner[deeper] = leaf
            flat[name] = inner
        else:
            flat[name] = value
    return msgspec.json.encode(flat)


def _leaves(path: str, value: Any, field: str) -> Iterator[tuple[str, Any]]:
    if diagnosis.is_object(value):
        for name, inner in diagnosis.once(value, field):
            yield from _leaves(_joined(path, name), inner, field)
    elif is_vector(value):
        yield from ((_joined(path, str(place)), one) for place, one in enumerate(value) if one is not None)
    elif isinstance(value, list):
        for text in dict.fromkeys(_text(one, field) for one in value if one is not None):
            yield _joined(path, text), True
    else:
        yield path, value


def is_vector(value: Any) -> bool:
    """Tell whether a list is one of numbers by their place, such as an embedding; None is a place without one.

    All are written with a decimal point, or one that is not whole is; whole numbers alone may be of tags.

    >>> [is_vector(one) for one in ([0.5, 1, None], [0.0, 1.0], [1, 2], [1, 3.0], [0.5, "a"], [0.5, True], [], 0.5)]
    [True, True, False, False, False, False, False, False]
    """
    if not isinstance(value, list):
        return False
    there = [one for one in value if one is not None]
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in there):
        return False
    decimals = [one for one in there if isinstance(one, float)]
    return bool(decimals) and (len(decimals) == len(there) or not all(one.is_integer() for one in decimals))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _text(one: Any, field: str) -> str:
    if not isinstance(one, (str, int, float)):
        raise RefusedEventError(Reason.WRONG_TYPE, field, "a list holds texts and finite numbers, not objects or lists")
    return canonical(one)
