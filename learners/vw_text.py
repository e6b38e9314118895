"""Texts as Vowpal Wabbit tells them apart: its JSON parser takes ``a b``, ``a:b`` and ``a_b`` for one, and ends at NUL.

Such characters are written as ``%20`` and the like before it parses them, a percent sign only where it would be read
as one of these, so that no two texts become the same. Names are only cut off at NUL.
"""

import re

import orjson

from learners.event import Features, Scalar, Value

_CODES = {" ": "%20", "\t": "%09", ":": "%3A", "|": "%7C", "\0": "%00"}
_IN_VALUE = re.compile("[ \t:|\0]|%(?=20|09|3A|7C|00|25)")
_IN_NAME = re.compile("\0|%(?=00|25)")
#: a text value that is empty or holds what VW changes; found by its colon, a good deal faster than by reading all
_MAY_NEED_IT = re.compile(rb':[ \t\r\n]*"(?:"|[^" :|]*[ :|])')
_TEXT = re.compile(rb':[ \t\r\n]*"[^"]*"')
#: a name that ends like the beginning of a text, or a text that begins with a colon
_MISLEADING = re.compile(rb':[ \t\r\n]*"[ \t\r\n]*:')


def needs_telling(raw: bytes) -> bool:
    """Whether features as JSON may hold a text that Vowpal Wabbit would take for another."""
    return b"\\" in raw or b"%" in raw or _MAY_NEED_IT.search(raw) is not None


def told_apart(values: dict[str, Value]) -> dict[str, Value]:
    """Features with other texts in place of those that Vowpal Wabbit would take for others.

    >>> told_apart({"t": "a b", "at": "10:30", "u": {"x": "a_b"}, "n": 1.0})
    {'t': 'a%20b', 'at': '10%3A30', 'u': {'x': 'a_b'}, 'n': 1.0}
    """
    return {
        _name(name): {_name(inner): _value(one) for inner, one in value.items()}
        if isinstance(value, dict)
        else _value(value)
        for name, value in values.items()
    }


def _name(name: str) -> str:
    return _IN_NAME.sub(_code, name)


def _value(value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    if value in ("", "%"):  # an empty text would be the name alone, as true is
        return "%25" if value else "%"
    return _IN_VALUE.sub(_code, value)


def _code(found: re.Match[str]) -> str:
    return _CODES.get(found[0], "%25")


def bytes_of(features: Features) -> bytes:
    """The features as JSON for Vowpal Wabbit: the same bytes where they can be, changed in place where that is safe."""
    raw = features.raw
    if not needs_telling(raw):
        return raw
    if b"\\" in raw or b"%" in raw or b'""' in raw or _MISLEADING.search(raw) is not None:
        return orjson.dumps(told_apart(features.values))
    return _TEXT.sub(_in_place, raw)


def _in_place(found: re.Match[bytes]) -> bytes:
    before, _, text = found[0].partition(b'"')
    return before + b'"' + text.replace(b" ", b"%20").replace(b":", b"%3A").replace(b"|", b"%7C")
