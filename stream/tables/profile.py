"""What a table holds, column by column, and what each column is good for: the way to ``check`` and ``init --from``.

Two passes over the rows: the first decides what the cells mean (``stream.tables.columns``), the second looks at the
values.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from learners.event import Task
from learners.labels import LabelValue, alike, canonical, folded
from stream import dates
from stream.errors import CommandError
from stream.tables.cells import MISSING, is_number, text_of
from stream.tables.column import Column
from stream.tables.columns import Columns, Survey
from stream.tables.readers import Table

Role: TypeAlias = Literal[
    "label", "id", "time", "number", "code", "category", "hashed", "words", "date", "nested", "constant", "counter",
    "left out",
]  # fmt: skip
#: what a learner is given
FEATURES: tuple[Role, ...] = ("number", "code", "category", "hashed", "words", "date", "nested")
_SHOWN_INNER: dict[str, str] = {
    "words": "free text, learnt by its words", "date": "dates, learnt by month, weekday and hour",
    "hashed": "text of many values, hashed",
}  # fmt: skip
_MOST_VALUES, _MOST_IDS, _MOST_LEAVES = 2000, 5_000_000, 200
#: texts of up to so many values are one-hot, beyond they are hashed; whole numbers of few values are codes as well
_ONE_HOT, _CODES = 200, 32
_WORDS = 2.0
_YES = ("1", "yes", "true", "y", "t", "positive", "spam", "fraud", "up", "click", "clicked")
_NAMED_ID = re.compile(r"(^|[ _.-])(u?u?id|key|ref|reference)\Z|[a-z]I[dD]\Z", re.IGNORECASE)
_BIRTH = re.compile(r"birth|born|(?<![a-z])dob(?![a-z])", re.IGNORECASE)
#: the earliest time that events are taken to have, in Unix seconds (1971)
_EVENTS_FROM = 31_536_000.0
_MILLISECONDS = 1e11
#: a column of ids repeats in one of so many rows at most
_REPEATS = 20
#: rows come in order of their labels when these change so much seldomer than by chance
_IN_ORDER, _FEWEST_CHANGES = 0.05, 5.0
_TIME = re.compile(
    r"(^|[ _.-])(ts|time|timestamp|epoch|unixtime|datetime|created|occurred)([ _.-]|at\Z|\Z)", re.IGNORECASE
)
_CLASSES, _ROWS_PER_CLASS = 30, 30
_DETERMINED, _RELATED, _MAJORITY = 0.999, 0.999, 0.99


class Found(msgspec.Struct):
    """One column. ``share_missing`` is of all rows; ``values`` are the most frequent, with how often they occur.

    ``distinct`` counts up to 2,000 (``many`` beyond); ``repeated`` is how many rows have an id that came before.
    ``leaves`` are the kinds of what lies in its objects, where each is of one kind; ``deep`` tells whether lists, or
    objects within objects, are among them. ``doubtful`` dates can be read in another way as well.
    """

    name: str
    kind: str
    role: Role = "left out"
    share_missing: float = 0.0
    distinct: int = 0
    many: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False
    words: float = 0.0
    values: dict[str, int] = {}
    suspect: str = ""
    repeated: int = 0
    form: str = ""
    leaves: dict[str, str] = {}
    deep: bool = False
    doubtful: bool = False


class Profile(msgspec.Struct):
    """What was found of a table. ``said`` are sentences: what was guessed, and what looks wrong.

    ``inner`` is free text, dates and texts of many values in objects, by their path. ``folds`` tells whether
    labels that differ only in case or spaces are taken for one.
    """

    path: str
    rows: int
    columns: dict[str, Found]
    task: Task | None = None
    label: str | None = None
    positive: LabelValue | None = None
    labels: dict[str, int] = {}
    folds: bool = False
    id: str | None = None
    time: str | None = None
    inner: dict[str, Found] = {}
    said: list[str] = []

    def of(self, *roles: Role) -> list[str]:
        """The columns of these roles, in the table's order."""
        return [one.name for one in self.columns.values() if one.role in roles]

    def learnt(self, *roles: Role) -> list[str]:
        """The same, and what lies in objects and is learnt in another way than the rest of them."""
        return [*self.of(*roles), *(one.name for one in self.inner.values() if one.role in roles)]


class _Column:
    """Looks at one column's values beside the label."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missing = self.words = self.texts = self.whole = self.numbers = self.nested = 0
        self.low, self.high = float("inf"), float("-inf")
        self.values: Counter[Any] = Counter()
        self.many = False
        self.with_label: dict[Any, Counter[Any]] = {}
        self.same = self.both = 0
        self.steps = Counter[float]()
        self.turns = 0
        self.leaves: dict[str, set[str]] = {}
        self.deep = False
        self._before: float | None = None
        self._last: Any = None
        self._sums = [0.0] * 6

    def see(self, value: Any, label: Any) -> None:
        if value is None:
            self.missing += 1
            return
        self.turns += value != self._last
        self._last = value
        if isinstance(value, (dict, list)):
            self.nested += 1
            return
        if isinstance(value, str):
            self.texts += 1
            self.words += value.count(" ") + 1
        else:
            self._number(float(value), label)
        if not self.many:
            self.values[value] += 1
            if label is not None:
                self.with_label.setdefault(value, Counter())[label] += 1
            if len(self.values) > _MOST_VALUES:
                self.many, self.with_label = True, {}
        if label is not None:
            self.both += 1
            self.same += canonical(value) == canonical(label)

    def _number(self, value: float, label: Any) -> None:
        self.numbers += 1
        self.whole += value.is_integer()
        self.low, self.high = min(self.low, value), max(self.high, value)
        if self._before is not None and len(self.steps) < 3:
            self.steps[value - self._before] += 1
        self._before = value
        if isinstance(label, (int, float)):
            for place, part in enumerate((1.0, value, label, value * value, label * label, value * label)):
                self._sums[place] += part

    def see_nested(self, cell: Any, path: str, column: Column) -> None:
        """Take what lies in an object into account; of lists, only that there are some."""
        if isinstance(cell, dict):
            self.deep |= path != self.name
            for name, inner in cell.items():
                self.see_nested(inner, f"{path}.{name}", column)
        elif isinstance(cell, list):
            self.deep = True
        elif (
            cell is not None
            and not isinstance(cell, bytes)
            and not (isinstance(cell, str) and path in column.nothing)
            and path != self.name
            and len(self.leaves) <= _MOST_LEAVES
        ):
            self.leaves.setdefault(path, set()).add("text" if path in column.texts else _kind(cell))

    @property
    def has_clock(self) -> bool:
        """Whether some text says the time of a day too."""
        return any(":" in text for text in self.values if isinstance(text, str))

    def correlation(self) -> float:
        """With a label that is a number; 0 where one of them does not vary."""
        count, x, y, xx, yy, xy = self._sums
        spread = (count * xx - x * x) * (count * yy - y * y)
        return (count * xy - x * y) / spread**0.5 if spread > 0 else 0.0

    def determined(self) -> float:
        """The share of rows whose label is the usual one of this column's value."""
        rows = sum(one.total() for one in self.with_label.values())
        return sum(max(one.values()) for one in self.with_label.values()) / rows if rows else 0.0


def profile(
    path: Path, columns: Columns, *, task: Task | None = None, exclude: Iterable[str] = (),
    progress: Callable[[int, int], None] = lambda _rows, _bytes: None,
) -> tuple[Profile, Survey]:  # fmt: skip
    """Look at a table. Raises :class:`CommandError` for what cannot be read, or a column that is not there."""
    table = Table(path, encoding=columns.encoding, delimiter=columns.delimiter)
    survey = Survey([table], columns, {})
    survey.look(table.rows(progress))
    survey.decide()
    if not survey.rows:
        raise CommandError(f"{path} has no rows")
    left_out = set(exclude)
    if unknown := left_out - set(survey.columns):
        raise CommandError(f"{path} has no column {min(unknown)!r}; it has {', '.join(survey.columns)}")
    seen = {name: _Column(name) for name in survey.columns}
    inner: dict[str, _Column] = {}
    ids = _Ids([name for name in seen if name == columns.id or _NAMED_ID.search(name)])
    for row in table.rows(progress):
        values = {name: column.value(row.get(name)) for name, column in survey.columns.items()}
        label = None if columns.label is None else values[columns.label]
        for name, value in values.items():
            seen[name].see(value, label)
            if isinstance(value, (dict, list)):
                seen[name].see_nested(row[name], name, survey.columns[name])
                _see_texts(inner, value, name, label)
        ids.see(row)
    found = Profile(
        str(path), survey.rows, {name: _found(one, survey, ids) for name, one in seen.items()}, label=columns.label
    )
    _decide_label(found, survey, seen, task, columns.positive)
    _decide_roles(found, columns, seen, left_out)
    _decide_inner(found, inner)
    _suspect(found, seen)
    survey.dates = found.of("date")
    found.said = [*survey.said, *found.said]
    return found, survey


def _see_texts(inner: dict[str, _Column], cell: Any, path: str, label: Any) -> None:
    """Look at the texts that lie in objects; lists have become objects of truth values by then."""
    if isinstance(cell, dict):
        for name, value in cell.items():
            _see_texts(inner, value, f"{path}.{name}", label)
    elif isinstance(cell, str) and (path in inner or len(inner) < _MOST_LEAVES):
        inner.setdefault(path, _Column(path)).see(cell, label)


def _decide_inner(found: Profile, inner: dict[str, _Column]) -> None:
    """Free text, dates and texts of many values in objects are learnt as columns of their kind are."""
    for path, seen in inner.items():
        parent = found.columns[path.split(".")[0]]
        if parent.role != "nested" or parent.leaves.get(path, "text") != "text":
            continue
        one = Found(path, "text", distinct=len(seen.values), many=seen.many, words=seen.words / max(1, seen.texts))
        one.role = _role(one, seen, found.rows, found.said)
        if one.role in _SHOWN_INNER:
            found.inner[path] = one
            found.said.append(f"{path}: {_SHOWN_INNER[one.role]}")


class _Ids:
    """Whether the ids of some columns repeat."""

    def __init__(self, names: list[str]) -> None:
        self._seen: dict[str, set[int]] = {name: set() for name in names}
        self.repeated: Counter[str] = Counter()

    def see(self, row: dict[str, Any]) -> None:
        for name, seen in self._seen.items():
            if (cell := row.get(name)) in (None, "") or isinstance(cell, (dict, list)):
                continue
            key = hash(text_of(cell))
            self.repeated[name] += key in seen
            if len(seen) < _MOST_IDS:
                seen.add(key)


def _found(seen: _Column, survey: Survey, ids: _Ids) -> Found:
    most = {text_of(value): count for value, count in seen.values.most_common(5)}
    return Found(
        seen.name, "nested" if seen.nested else survey.columns[seen.name].kind,
        share_missing=seen.missing / survey.rows, distinct=len(seen.values), many=seen.many,
        low=seen.low if seen.numbers else None, high=seen.high if seen.numbers else None,
        whole=seen.whole == seen.numbers > 0, words=seen.words / seen.texts if seen.texts else 0.0, values=most,
        repeated=ids.repeated[seen.name], leaves=_of_one_kind(seen.leaves), deep=seen.deep,
    )  # fmt: skip


def _kind(cell: Any) -> str:
    return "bool" if isinstance(cell, bool) else "number" if is_number(cell) else "text"


def _of_one_kind(leaves: dict[str, set[str]]) -> dict[str, str]:
    """The kind of each leaf that has one; none where there are so many that their names look like values."""
    few = leaves if len(leaves) <= _MOST_LEAVES else {}
    return {name: min(kinds) for name, kinds in few.items() if len(kinds) == 1}


def _decide_label(
    found: Profile, survey: Survey, seen: dict[str, _Column], task: Task | None, positive: str | None
) -> None:
    """Choose the task by the label's values, and which of two means yes."""
    if found.label is None:
        return
    column, labels = survey.columns[found.label], _folded(found, seen[found.label].values)
    if not labels:
        raise CommandError(f"the column {found.label!r} holds nothing in any row")
    if len(labels) == 1:
        raise CommandError(
            f"the column {found.label!r} is {next(iter(labels))!r} in every row: there is nothing to learn"
        )
    found.labels = {text_of(value): count for value, count in labels.most_common(_CLASSES)}
    whole = column.kind == "number" and found.columns[found.label].whole
    few = len(labels) <= _CLASSES and survey.rows >= _ROWS_PER_CLASS * len(labels)
    if task is None:
        numbers = column.kind == "number" and not (whole and few)
        task = "binary" if len(labels) == 2 else "regression" if numbers else "multiclass"
        if whole and task != "binary":
            other = "multiclass" if task == "regression" else "regression"
            found.said.append(
                f"{found.label} has {len(labels):,}{'+' if seen[found.label].many else ''} whole values: taken for "
                f"{task} (--task {other} says otherwise)"
            )
    _say_order(found, seen[found.label], labels)
    if task == "regression" and column.kind != "number":
        why = f": {column.why_odd}" if column.odd else ""
        raise CommandError(f"{found.label!r} is not a column of numbers, and the task is regression{why}")
    found.task = task
    if task == "binary":
        found.positive = _positive(labels, positive, found)
    if task == "multiclass" and seen[found.label].many:
        way = column.why_odd or "another --label, or --task regression where they are numbers"
        raise CommandError(f"{found.label!r} has over {_MOST_VALUES:,} values, which are too many classes: {way}")


def _say_order(found: Profile, seen: _Column, labels: Counter[Any]) -> None:
    """Say that rows are sorted by their label: who learns them in that order knows the last label, and forgets."""
    rows = labels.total()
    expected = rows - sum(count * count for count in labels.values()) / rows
    if not seen.many and expected > _FEWEST_CHANGES / _IN_ORDER and seen.turns - 1 < _IN_ORDER * expected:
        found.said.append(
            f"the rows are sorted by {found.label}: what is learnt in that order knows the last ones best. Shuffle "
            "them, or put them in the order of time"
        )


def _folded(found: Profile, labels: Counter[Any]) -> Counter[Any]:
    """Count labels that are spelled in several ways under the most frequent one, and say so."""
    groups = alike(value for value, _ in labels.most_common())
    if len(groups) == 1 and len(groups[0]) == len(labels):
        return labels  # nothing would be left to tell apart
    for first, *others in groups:
        labels = labels + Counter({first: sum(labels[one] for one in others)})
        for one in others:
            del labels[one]
    if groups and found.label is not None:
        shown = "; ".join(" and ".join(repr(one) for one in group) for group in groups[:5])
        found.folds, found.columns[found.label].distinct = True, len(labels)
        found.said.append(
            f"{found.label}: {shown} differ only in case or spaces, and are taken for one label (event.fold_labels)"
        )
    return labels


def _positive(labels: Counter[Any], wanted: str | None, found: Profile) -> Any:
    if wanted is not None:
        key_of = folded if found.folds else canonical
        chosen = next((value for value in labels if key_of(value) == key_of(wanted)), None)
        if chosen is None:
            shown = ", ".join(repr(value) for value, _ in labels.most_common(10))
            raise CommandError(f"--positive {wanted!r} is no value of {found.label!r}; its values are {shown}")
        return chosen
    if len(labels) > 2:
        shown = ", ".join(repr(value) for value, _ in labels.most_common(10))
        raise CommandError(
            f"the task is binary, and {found.label!r} has more than two values: --positive one of {shown}"
        )
    chosen = next(
        (value for value in labels if text_of(value).strip().lower() in _YES), min(labels, key=labels.__getitem__)
    )
    if {text_of(value) for value in labels} != {"0", "1"}:
        found.said.append(f"{found.label}: {text_of(chosen)!r} is taken for yes (--positive says otherwise)")
    return chosen


def _decide_roles(found: Profile, columns: Columns, seen: dict[str, _Column], left_out: set[str]) -> None:
    for one in found.columns.values():
        if one.name == found.label:
            one.role = "label"
        elif one.name in left_out or (columns.features is not None and one.name not in columns.features):
            one.role = "left out"
        else:
            one.role = _role(one, seen[one.name], found.rows, found.said)
    _choose_id(found, columns)
    _choose_time(found, columns, seen)


def _role(one: Found, seen: _Column, rows: int, said: list[str]) -> Role:
    if one.kind == "empty" or (one.distinct == 1 and not one.share_missing):
        return "constant"
    if one.kind in ("number", "bool", "nested"):
        return _role_of_numbers(one, seen, rows, said)
    if _date_form(one, seen, said):
        return "date"
    if one.words >= _WORDS and (one.many or one.distinct > _ONE_HOT):
        return "words"
    return "category" if not one.many and one.distinct <= _ONE_HOT else "hashed"


def _role_of_numbers(one: Found, seen: _Column, rows: int, said: list[str]) -> Role:
    if one.kind == "nested":
        return "nested"
    if one.kind == "number" and one.whole and one.distinct > 1 and (form := dates.day_of(_texts(seen))):
        one.kind, one.form = "text", form
        said.append(f"{one.name}: numbers such as {_texts(seen)[0]} are dates, sent as texts and read as {form}")
        return "date"
    if one.whole and set(seen.steps) in ({1.0}, {-1.0}) and rows > 2:
        return "counter"
    most = _ONE_HOT if _NAMED_ID.search(one.name) else _CODES  # the number of a customer has no size
    return "code" if one.kind == "number" and one.whole and 2 < one.distinct <= most and not one.many else "number"


def _texts(seen: _Column) -> list[str]:
    return [text_of(value) for value in seen.values if value not in MISSING]


def _date_form(one: Found, seen: _Column, said: list[str]) -> str:
    """The form of a column of dates, empty when it is none; a column of years or numbers is none."""
    texts = _texts(seen)
    if len(texts) < 2 or one.kind != "text":
        return ""
    one.form = dates.day_of(texts)
    if one.form or not (any(mark in texts[0] for mark in "-/.:") or dates.is_date(texts[0])):
        return one.form
    try:
        form, other = dates.reading_of(one.name, texts)
    except CommandError:
        return ""
    one.form, one.doubtful = form if form != "number" else "", bool(other)
    if other:
        said.append(
            f"{one.name}: dates such as {texts[0]!r} are learnt as {form}, and could be {other}: if they are, write so "
            "in model.py"
        )
    return one.form


def _choose_id(found: Profile, columns: Columns) -> None:
    if columns.id is not None:
        found.id = columns.id
        found.columns[columns.id].role = "id"
        if repeated := found.columns[columns.id].repeated:
            found.said.append(
                f"{columns.id}: {repeated:,} rows have an id that came before, and count as duplicates: is it the id "
                "of an event?"
            )
        return
    for one in found.columns.values() if not columns.no_id else ():
        named = _NAMED_ID.search(one.name) and one.role in ("hashed", "number", "counter") and not one.repeated
        if one.repeated and one.repeated * _REPEATS <= found.rows and _NAMED_ID.search(one.name):
            found.said.append(
                f"{one.name} is not taken for the id, since {one.repeated:,} rows have one that came before: --id "
                f"{one.name} takes it all the same, and they count as duplicates"
            )
        if named and (one.many or one.distinct == found.rows):
            one.role, found.id = "id", one.name
            found.said.append(
                f"{one.name} is taken for the id: no value of it repeats (--id says otherwise, "
                '--id "" that there is none)'
            )
            return


def _choose_time(found: Profile, columns: Columns, seen: dict[str, _Column]) -> None:
    if columns.no_time:
        return
    if columns.time is not None:
        found.time = columns.time
        one = found.columns[columns.time]
        one.role = "date" if one.kind == "text" and one.form not in ("", "s", "ms") else "time"
        return
    dated = [one for one in found.columns.values() if one.role == "date" and not one.doubtful]
    fitting = [one for one in dated if _is_of_events(one, seen[one.name])]
    if not fitting:
        fitting = [one for one in found.columns.values() if one.role == "number" and _is_clock(one)]
        for one in fitting[:1]:
            one.role, one.form = "time", "ms" if (one.low or 0.0) > _MILLISECONDS else "s"
    if fitting:
        chosen = next((one for one in fitting if seen[one.name].has_clock), fitting[0])
        found.time = chosen.name
        found.said.append(
            f"{found.time} is taken for the time of events, and read as {chosen.form} (--time says otherwise, "
            '--time "" that there is none)'
        )


def _is_clock(one: Found) -> bool:
    """Whether a column of numbers has the name of a time, and values of Unix seconds or milliseconds since 1980."""
    low, high = one.low or 0.0, one.high or 0.0
    scale = 1000.0 if low > _MILLISECONDS else 1.0
    return bool(_TIME.search(one.name)) and one.distinct > 1 and 315e6 * scale <= low <= high <= 4.1e9 * scale


def _is_of_events(one: Found, seen: _Column) -> bool:
    """Whether events may have happened at these times: from 1971 on, and no day of birth."""
    if _BIRTH.search(one.name):
        return False
    read = dates.reader_of(one.form)
    return all(read(text) >= _EVENTS_FROM for text in _texts(seen))


def _suspect(found: Profile, seen: dict[str, _Column]) -> None:
    """Say which columns look as if they held the label, or came from it."""
    if found.label is None:
        return
    labels = seen[found.label].values
    majority = max(labels.values()) / labels.total() if labels else 1.0
    for one in found.columns.values():
        column = seen[one.name]
        if one.role not in FEATURES or not column.both:
            continue
        few = not one.many and one.distinct * 5 <= found.rows and one.distinct > 1
        if column.same >= _DETERMINED * column.both and len(labels) > 1:
            one.suspect = "equals the label"
        elif found.task != "regression" and few and majority < _MAJORITY and column.determined() >= _DETERMINED:
            one.suspect = "determines the label"
        elif found.task != "multiclass" and abs(column.correlation()) >= _RELATED:
            one.suspect = f"follows the label (correlation {column.correlation():.4f})"
        if one.suspect:
            found.said.append(
                f"{one.name} {one.suspect}: if it is not known when a prediction is asked for, leave it out with "
                f"--exclude {one.name}"
            )
