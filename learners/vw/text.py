"""Texts as Vowpal Wabbit tells them apart: its JSON parser takes ``a b``, ``a:b`` and ``a_b`` for one, and ends at NUL.

It also reads a text of digits as a number, so ``01000`` is ``1000``, and drops white space at the ends. Such characters
are written as ``%20`` and the like before it parses them, a percent sign only where it would be read as one of these.
So no two texts become the same. Names are only kept from being cut off at NUL: for the rest they are as in its text
format.
"""

import re

import orjson

from learners.event import Features, Scalar, Value

_IN_VALUE = re.compile(r"[\0- :|]|%(?=[0-9A-F]{2})")
_IN_NAME = re.compile("\0|%(?=00|25)")
#: a text of digits that is more than the number it would be read as
_CODE = re.compile("0[0-9]+|[0-9]{20,}")
#: a text value that is empty or holds what VW changes; found by its colon, a good deal faster than by reading all
_MAY_NEED_IT = re.compile(rb':[ \t\r\n]*"(?:"|0[0-9]|[0-9]{20}|[^" :|]*[ :|])')
_CODE_BYTES = re.compile(rb'(?:0[0-9]+|[0-9]{20,})"')
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
    return _IN_NAME.sub(_coded, name)


def _value(value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    if value in ("", "%"):  # an empty text would be the name alone, as true is
        return "%25" if value else "%"
    if _CODE.fullmatch(value):
        return f"%3{value}"
    return _IN_VALUE.sub(_coded, value)


def _coded(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


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
    if _CODE_BYTES.fullmatch(text):
        return before + b'"%3' + text
    return before + b'"' + text.replace(b" ", b"%20").replace(b":", b"%3A").replace(b"|", b"%7C")
