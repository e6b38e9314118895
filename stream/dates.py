"""Times as tables write them: ISO 8601, seconds or milliseconds, 1/31/2011, Jan 31, 2011, read over a column."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from stream.errors import CommandError

_DATE = re.compile(
    r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})"
    r"(?:(?P<by>[ T])(?P<hours>\d{1,2}):\d{2}(?P<seconds>:\d{2}(?P<part>\.\d{1,6})?)?"
    r"(?P<half>(?P<space> ?)[AaPp][Mm])?)?"
)
_NAMED = re.compile(
    r"(?=.*\d)(\w{3}, )?(\w{3} )?(\d{1,2}[-/. ]+)?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-/ ]\d.*",
    re.IGNORECASE,
)
_DAYS = ("%b %d, %Y", "%b %d %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d %b %y", "%d. %b %Y")
_CLOCKS = (
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %I:%M%p", ":%H:%M:%S", ":%H:%M:%S %z",
    " %H:%M:%S %z", " %H:%M:%S %Z",
)  # fmt: skip
#: dates whose month is a name
_WORDED = [
    *(f"{day}{clock}" for day in _DAYS for clock in _CLOCKS),
    *(f"%a, {day}{clock}" for day in ("%d %b %Y", "%b %d, %Y") for clock in _CLOCKS),
    "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Z %Y", "%a %b %d %H:%M:%S %z %Y",
]  # fmt: skip
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
        return reader_of(form), form
    if not some:
        return reader_of("iso"), "iso"
    fitting = next(([one] for one in (*_digits(some), "number", "iso") if _fits(one, some)), None) or [
        one for one in _dates(some[0]) if _fits(one, some)
    ]
    if not fitting:
        raise CommandError(
            f"the times of {column}, such as {some[0]!r}, have no form that is known: name it, as --time-format "
            "'%d.%m.%Y %H:%M' (the letters are those of strptime), s, ms or iso"
        )
    if len(fitting) > 1 and not _read_alike(fitting, some):
        ordered = [one for one in fitting if _in_order(one, some)]
        if len(ordered) != 1:
            raise CommandError(
                f"the times of {column}, such as {some[0]!r}, can be read as {' or as '.join(fitting)}: say which, "
                f"with --time-format '{fitting[0]}'"
            )
        fitting = ordered
    return reader_of(fitting[0]), fitting[0]


def reader_of(form: str) -> Callable[[str], float]:
    """What turns a text of this form (``s``, ``ms``, ``number``, ``iso``, or of ``strptime``) into Unix seconds."""
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
    read = reader_of(form)
    try:
        for text in texts:
            read(text)
    except (ValueError, OverflowError):
        return False
    return True


def _read_alike(forms: list[str], texts: list[str]) -> bool:
    """Tell whether it makes no difference which of the forms is taken, as where every month is a May."""
    readers = [reader_of(form) for form in forms]
    return all(len({read(text) for read in readers}) == 1 for text in texts)


def _in_order(form: str, texts: list[str]) -> bool:
    times = [reader_of(form)(text) for text in texts]
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


def day_of(texts: list[str]) -> str:
    """The form of texts of digits that are all days, or moments, such as 20110131; empty when they are not."""
    return next((form for form in _digits(texts) if form != "%Y" and _fits(form, texts)), "")


def reading_of(column: str, texts: list[str]) -> tuple[str, str]:
    """The form in which a column's dates are read, and another in which all of them could be read as well, or none.

    ISO 8601 leaves no doubt. Of two that fit, days before months where points separate them, and months before days
    elsewhere. Raises :class:`CommandError` where no form fits.
    """
    if _fits("iso", texts):
        return parser_of(column, None, texts)[1], ""
    fitting = [form for form in _dates(texts[0]) if _fits(form, texts)] if texts else []
    if len(fitting) < 2 or _read_alike(fitting, texts) or sum(_in_order(form, texts) for form in fitting) == 1:
        return parser_of(column, None, texts)[1], ""
    first = next((form for form in fitting if form.startswith("%d") == ("." in form)), fitting[0])
    return first, next(form for form in fitting if form != first)


def _dates(example: str) -> list[str]:
    """The forms that a date with two separators, or with the name of a month, may have."""
    example = example.strip()
    if _NAMED.fullmatch(example):
        long = [form.replace("%b", "%B") for form in _WORDED]
        return [form for form in (*_WORDED, *long) if _fits(form, [example])]
    found = _DATE.fullmatch(example)
    if found is None:
        return []
    first, by, _, last = found.groups()[:4]
    clock = _clock(found)
    if len(first) == 4:
        return [f"%Y{by}%m{by}%d{clock}", f"%Y{by}%d{by}%m{clock}"]
    year = "%Y" if len(last) == 4 else "%y"
    return [f"%m{by}%d{by}{year}{clock}", f"%d{by}%m{by}{year}{clock}"]


def _clock(found: re.Match[str]) -> str:
    """How the time of a day is written, as far as it is."""
    if found["hours"] is None:
        return ""
    hours = "%I" if found["half"] else "%H"
    seconds = ":%S" if found["seconds"] else ""
    return f"{found['by']}{hours}:%M{seconds}{'.%f' * bool(found['part'])}" + (
        f"{found['space']}%p" if found["half"] else ""
    )
