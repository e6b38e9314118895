"""Numbers in names and texts of others: only those count that this program would write, whatever else is sent."""

#: what 63 bits hold
_MOST_DIGITS = 18


def whole_in(text: str) -> int | None:
    """The whole number that a text is, None for any other; what is longer than an offset can be is none.

    >>> [whole_in(one) for one in ("7", "007", "-7", "²", "٣", "", "9" * 5000)]
    [7, 7, None, None, None, None, None]
    """
    return int(text) if 0 < len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() else None


def number_in(name: str, prefix: str, suffix: str, width: int) -> int | None:
    """The number in ``prefix`` + so many digits + ``suffix``; None for a foreign name.

    >>> number_in("epochs/000000000007.json", "epochs/", ".json", 12)
    7
    >>> [number_in(f"epochs/{one}.json", "epochs/", ".json", 12) for one in ("7", "x", "²", "00000000000²")]
    [None, None, None, None]
    """
    if not (name.startswith(prefix) and name.endswith(suffix)):
        return None
    digits = name[len(prefix) : len(name) - len(suffix)]
    return int(digits) if len(digits) == width and digits.isascii() and digits.isdigit() else None
