r"""Text that others wrote, made safe for a terminal and for a line of a log.

Names, ids, labels, reasons and files come from producers and callers. What would move the cursor, colour, turn the
direction of reading, hide, or begin a line of its own is written as an escape (``\x1b``, ``\u202e``), so that it is
seen. JSON keeps its value: there the escape is that of JSON.
"""

import json
from typing import Any

import orjson

#: so many characters of a text are shown
LONGEST = 4000
_MOST_LINES = 200
_SELECTORS = (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
#: printable by Unicode's classes, and yet nothing is seen: joiners, fillers, selectors of variants
_UNSEEN = {*"\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0", *map(chr, _SELECTORS)}


def shown(text: object, longest: int = LONGEST) -> str:
    r"""One line of at most about ``longest`` characters, in which every character can be seen.

    >>> shown("a\x1b[31mb\nc\u202ed"), shown("abcdef", 3)
    ('a\\x1b[31mb\\nc\\u202ed', 'abc… (6 characters)')
    """
    whole = str(text)
    found = whole[:longest]
    if not (found.isascii() and found.isprintable()):
        found = "".join(one if _seen(one) else one.encode("unicode_escape").decode() for one in found)
    return found if len(whole) <= longest else f"{found}… ({len(whole):,} characters)"


def lines(text: object) -> str:
    r"""Several lines: those after the first are indented, so that none looks like one of the log's own.

    >>> lines("one\n2026-01-01 INFO forged")
    'one\n    2026-01-01 INFO forged'
    """
    found = str(text).split("\n")
    more = [f"… ({len(found):,} lines)"] if len(found) > _MOST_LINES else []
    return "\n    ".join([*(shown(one) for one in found[:_MOST_LINES]), *more])


def forwarded(line: bytes) -> bytes:
    """A line that another process wrote, its end kept; libraries write there what no formatter has seen."""
    return shown(line.decode("utf-8", "replace").rstrip("\r\n"), len(line)).encode() + b"\n"


def as_json(value: Any, *, indent: bool = False) -> str:
    """JSON in which every character can be seen; it reads back as the same value."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 if indent else None).decode()
    except TypeError:  # a name that is not UTF-8: Python's own writes what stands for its bytes
        text = json.dumps(value, default=str, indent=2 if indent else None, ensure_ascii=True)
    return seen_json(text)


def seen_json(text: str) -> str:
    """The same JSON with escapes for what cannot be seen."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(one if one == "\n" or _seen(one) else _escape(one) for one in text)


def _seen(one: str) -> bool:
    return one.isprintable() and one not in _UNSEEN


def _escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
