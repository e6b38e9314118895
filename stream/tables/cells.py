"""What single cells of tables are: numbers, texts, objects; what is no number though it looks like one."""

import math
import re
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

from stream import dates
from stream.errors import CommandError
from stream.source.flattening import is_vector

_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
#: what identifies and looks like a number: a telephone's, or a code such as 12E4, which programs write as 1.2e5
_CODE = re.compile(r"\+\d{8,}|\d+E\d+")
#: numbers as other countries, accounts and programs write them
_ELSEWHERE = re.compile(
    r"[-+]?(\d{1,3}([.\u00a0\u202f' ]\d{3})+|\d+),\d+|[-+]?\d{1,3}(,\d{3})+(\.\d+)?"
    r"|[-+]?[€$£¥]\s?[\d.,]+|[-+]?[\d.,]+\s?[€$£¥%]|[-+]?(inf|infinity)|[-+]?\d+(\.\d+)?e[-+]?\d+", re.IGNORECASE,
)  # fmt: skip
WHOLE = re.compile(r"[+-]?\d+")
#: beyond it, floats skip whole numbers
EXACT = 2**53
#: what people write into a column of numbers where nothing is there
MISSING = frozenset(
    ("NA", "N/A", "n/a", "na", "#N/A", "null", "NULL", "Null", "None", "none", "nan", "NaN", "NAN", "-", "--", "?",
     "(null)", "\\N", "nil", "missing", "unknown", ".", "..", "<NA>", "<null>", "NaT", "-nan", "n.a.", "N.A.", "n.d.",
     "N.D.", "no data", "No data", "undefined", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!")
)  # fmt: skip


def odd(text: str) -> str:
    """What a text may have been meant for, when it is a number or a time as somebody else writes it.

    >>> [odd(one)[:8] for one in ("71,49", "9,425.50", "$683", "50 %", "inf", "31.01.2020 00:00")]
    ['but it l', 'but it l', 'but it l', 'but it l', 'but it l', 'but it m']
    >>> [odd(one) for one in ("1,000 men", "1.2.3.4", "01000", "a")]
    ['', '', '', '']
    """
    if _ELSEWHERE.fullmatch(text) and not _CODE.fullmatch(text):
        return "but it looks like one: write it as 1234.5, with nothing around it, for a number"
    if dates.is_date(text):
        return "but it may be a time: --time names the column of it, and what --features does not name is left out"
    return ""


def text_number(text: str) -> float | None:
    """The number that a text is, None when it is none; digits that begin with a zero are none.

    >>> [text_number(one) for one in ("12", "-1.50", "1e3", ".5", "007", "0x1", "1_000", "0", "12E4", "+491701000037")]
    [12.0, -1.5, 1000.0, 0.5, None, None, None, 0.0, None, None]
    """
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) and not _CODE.fullmatch(text) else None


def is_number(cell: Any) -> bool:
    """Tell whether a cell is a number of any type that a table holds: float, Decimal, a duration is none."""
    return not isinstance(cell, (str, bytes)) and hasattr(cell, "__float__")


def text_of(cell: Any) -> str:
    """The text of a cell, as an id or a label is compared: 3 and 3.0 are "3", a moment is ISO 8601."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= EXACT:
        return str(int(cell))
    if is_whole_decimal(cell):
        return str(int(cell))
    if isinstance(cell, bytes):
        raise CommandError("bytes can be no id, no label and no time: make texts or numbers of that column")
    return str(cell.isoformat()) if hasattr(cell, "isoformat") else str(cell)


def flat(cell: Any, path: str = "", texts: Collection[str] = (), nothing: Collection[str] = ()) -> Any:
    """A nested cell as objects of features; a list of texts becomes names that are true, at any depth.

    A list of numbers with decimals becomes a number for each place. Numbers at the paths ``texts`` become texts; words
    at the paths ``nothing`` and bytes are left out. A list of objects or lists stays one, and is refused
    with its reason.

    >>> flat({"home": {"roles": ["a", 1]}, "gone": None}), flat([{"a": 1}])
    ({'home': {'roles': {'a': True, '1': True}}}, [{'a': 1}])
    >>> flat({"e": [0.5, 1]})
    {'e': {'0': 0.5, '1': 1}}
    >>> flat({"id": 2**60, "price": Decimal("1.50"), "raw": b""}, "user", ["user.id"])
    {'id': '1152921504606846976', 'price': 1.5}
    """
    if isinstance(cell, list):
        if any(isinstance(one, (dict, list)) for one in cell):
            return cell
        leaves = [int(one) if is_whole_decimal(one) else _leaf(one, as_text=False) for one in cell]
        if is_vector(leaves):
            return {str(place): one for place, one in enumerate(leaves) if one is not None}
        return {text_of(one): True for one in cell if one is not None and not isinstance(one, bytes)}
    if isinstance(cell, dict):
        found = {name: flat(value, f"{path}.{name}", texts, nothing) for name, value in cell.items()}
        return {name: value for name, value in found.items() if value is not None}
    return (
        None
        if isinstance(cell, str) and path in nothing and cell.strip() in MISSING
        else _leaf(cell, as_text=path in texts)
    )


def is_whole_decimal(cell: Any) -> bool:
    """Tell whether a cell is a Decimal without decimals, which may be an id."""
    return isinstance(cell, Decimal) and cell.is_finite() and cell == cell.to_integral_value()


def _leaf(cell: Any, *, as_text: bool) -> Any:
    if cell is None or isinstance(cell, (str, bool)):
        return cell
    if isinstance(cell, bytes):
        return None
    return number_of(cell) if is_number(cell) and not as_text else text_of(cell)


def leaves(cell: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What lies in a nested cell, and where; a list's elements lie where the list lies."""
    if isinstance(cell, dict):
        for name, inner in cell.items():
            yield from leaves(inner, f"{path}.{name}")
    elif isinstance(cell, list):
        for inner in cell:
            if isinstance(inner, bytes):
                yield path, inner
    else:
        yield path, cell


def is_exact(cell: Any) -> bool:
    """Tell whether a float holds a cell: not a whole number beyond 2^53, which may be an id."""
    if isinstance(cell, Decimal):
        return not cell.is_finite() or abs(cell) <= EXACT or cell != cell.to_integral_value()
    return not isinstance(cell, int) or abs(cell) <= EXACT


def number_of(cell: Any) -> int | float | None:
    """The number of a cell that is one, None where it is not finite."""
    number = cell if isinstance(cell, int) and not isinstance(cell, bool) else float(cell)
    return number if math.isfinite(number) else None


def hashable(cell: Any) -> Any:
    """The cell, or its text where it can be no key."""
    return cell if isinstance(cell, (str, int, float, bool)) or cell is None else text_of(cell)
