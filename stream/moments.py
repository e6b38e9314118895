"""Times as tables write them: ISO 8601, seconds or milliseconds, and dates such as 1/31/2011, read over a column."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from stream.errors import CommandError

_DATE = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2})(?:\.\d+)?)?)?")
_DIGITS = {
    "%Y": re.compile(r"(19|20)\d\d"),
    "%Y%m%d": re.compile(r"(19|20)\d{6}"),
    "%Y%m%d%H%M%S": re.compile(r"(19|20)\d{12}"),
}
_MILLISECONDS_FROM = 1e11
_EXAMPLES = 20_000


def parser_of(column: str, form: str | None, texts: Iterable[str]) -> tuple[Callable[[str], float], str]:
    """Return what turns a text of a column into Unix seconds (UTC unless it says otherwise), and which form that is.

    ``form`` is a format of ``strptime``, ``s``, ``ms`` or ``iso``; None: found out from the column's ``texts``. Of
    dates that can be read two ways, the way in which they come in order is taken. Raises :class:`CommandError` where
    no form fits all of them, or more than one does, or a named one fits none.
    """
    some = [text for text, _ in zip((text for text in texts if text), range(_EXAMPLES), strict=False)]
    if form is not None:
        if some and not any(_fits(form, [text]) for text in some):
            raise CommandError(
                f"no time of {column}, such as {some[0]!r}, is written as --time-format {form!r} says: the letters are "
                "those of strptime ('%d.%m.%Y %H:%M'); or write s, ms or iso"
            )
        return _reader(form), form
    if not some:
        return _reader("iso"), "iso"
    fitting = next(([one] for one in (*_digits(some), "number", "iso") if _fits(one, some)), None) or [
        one for one in _dates(some[0]) if _fits(one, some)
    ]
    if not fitting:
        raise CommandError(
            f"the times of {column}, such as {some[0]!r}, have no form that is known: name it, as --time-format "
            "'%d.%m.%Y %H:%M' (the letters are those of strptime), s, ms or iso"
        )
    if len(fitting) > 1:
        ordered = [one for one in fitting if _in_order(one, some)]
        if len(ordered) != 1:
            raise CommandError(
                f"the times of {column}, such as {some[0]!r}, can be read as {' or as '.join(fitting)}: say which, "
                f"with --time-format '{fitting[0]}'"
            )
        fitting = ordered
    return _reader(fitting[0]), fitting[0]


def _reader(form: str) -> Callable[[str], float]:
    if form in ("s", "ms"):
        return lambda text: float(text) / (1000 if form == "ms" else 1)
    if form == "number":
        return lambda text: float(text) / (1000 if abs(float(text)) >= _MILLISECONDS_FROM else 1)
    if form == "iso":
        return lambda text: _seconds(datetime.fromisoformat(text.strip()))
    return lambda text: _seconds(datetime.strptime(text.strip(), form))  # noqa: DTZ007  without a zone it is UTC


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _fits(form: str, texts: list[str]) -> bool:
    read = _reader(form)
    try:
        for text in texts:
            read(text)
    except (ValueError, OverflowError):
        return False
    return True


def _in_order(form: str, texts: list[str]) -> bool:
    times = [_reader(form)(text) for text in texts]
    return times == sorted(times)


def _digits(texts: list[str]) -> list[str]:
    """The form of dates without separators: years from 1900 to 2099, which as seconds would be a day of 1970."""
    for form, pattern in _DIGITS.items():
        if all(pattern.fullmatch(text.strip()) for text in texts):
            return [form]
    return []


def is_date(text: str) -> bool:
    """Tell whether a text has the form of a date that can be read as a time."""
    return any(_fits(form, [text]) for form in _dates(text))


def _dates(example: str) -> list[str]:
    """The forms that a date with two separators may have."""
    found = _DATE.fullmatch(example.strip())
    if found is None:
        return []
    first, by, _, last, hours, _, seconds = found.groups()
    clock = "" if hours is None else " %H:%M" + (":%S" if seconds else "")
    if "T" in example:
        clock = clock.replace(" ", "T")
    if len(first) == 4:
        return [f"%Y{by}%m{by}%d{clock}", f"%Y{by}%d{by}%m{clock}"]
    year = "%Y" if len(last) == 4 else "%y"
    return [f"%m{by}%d{by}{year}{clock}", f"%d{by}%m{by}{year}{clock}"]
