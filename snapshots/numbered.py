"""Names that carry a number: only those count that this program would write, whatever else lies in a store."""


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
