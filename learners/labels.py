"""Labels: what counts as one and the same label, and the numbers of classes."""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from learners.event import Label, Task

_NUMERAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_KNOWN = 1000
FLOAT32_MAX = 3.4028234663852886e38
LabelValue: TypeAlias = str | int | float | bool
#: so many digits are the same text again once they were a float
_DIGITS = 15


def canonical(value: LabelValue) -> str:
    """Return one text per label: 1, 1.0, "1" and true are the same label; whole numbers of any length stay apart.

    >>> [canonical(v) for v in (1, 1.0, "1", True, "1.50", "UP", "01", "9007199254740993")]
    ['1', '1', '1', '1', '1.5', 'UP', '01', '9007199254740993']
    """
    if isinstance(value, str):
        if not _NUMERAL.fullmatch(value):
            return value
        whole, _, decimals = value.partition(".")
        if not decimals.strip("0"):
            return "0" if whole == "-0" else whole
        if len(whole) + len(decimals) > _DIGITS:
            return f"{whole}.{decimals.rstrip('0')}"
        value = float(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(int(value))


def folded(value: LabelValue) -> str:
    """The canonical text of a label without its case and the spaces around it.

    >>> [folded(v) for v in ("YES", " yes ", 1.0, "1 ")]
    ['yes', 'yes', '1', '1']
    """
    return canonical(value.strip().casefold()) if isinstance(value, str) else canonical(value)


def alike(values: Iterable[LabelValue]) -> list[list[LabelValue]]:
    """Labels that are apart and differ only in case or in spaces around them, in the order in which they come.

    >>> alike(["yes", "no", "YES", 1, "1", " No", "maybe"])
    [['yes', 'YES'], ['no', ' No']]
    """
    groups: dict[str, dict[str, LabelValue]] = {}
    for value in values:
        groups.setdefault(folded(value), {}).setdefault(canonical(value), value)
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def _tidy(name: LabelValue) -> LabelValue:
    """A class's name as it is answered: whole numbers without a point."""
    return int(name) if isinstance(name, float) and name.is_integer() else name


class UnknownLabelError(ValueError):
    """A label outside the task, the configured list or ``max_labels``."""


class Labels:
    """Turns the labels of events into those of learners, and class numbers back into names.

    Binary: ``positive`` is the value that means yes. When ``negative`` is not given, a numeric or boolean
    ``positive`` takes 0 and -1 for no and refuses anything else, and a text takes every other value for no.
    Multi-class: ``names`` in order, or, when empty, numbered on arrival up to ``max_labels``; the
    map grows only here and travels in the snapshot. Regression: numbers. ``fold`` takes labels that differ only in
    case, or in spaces around them, for one.
    """

    def __init__(
        self,
        task: Task,
        *,
        positive: LabelValue = 1,
        negative: LabelValue | None = None,
        names: list[LabelValue] | None = None,
        max_labels: int = 1000,
        fold: bool = False,
    ) -> None:
        self.task = task
        self.folds = fold
        self._key = folded if fold else canonical
        self.fixed = bool(names)
        self.max_labels = max_labels
        #: where it stands how many classes there may be
        self.limit = "event.max_labels"
        self.names: list[LabelValue] = list(names or [])
        self._numbers = {self._key(name): number for number, name in enumerate(self.names)}
        self._positive = self._key(positive)
        self._known: dict[LabelValue, Label] = {}
        self._negatives: set[str] | None = None
        if negative is not None:
            self._negatives = {self._key(negative)}
        elif self._positive == "1":
            self._negatives = {"0", "-1"}
        #: where labels are the texts True and False in some case: what JSON's true and false mean
        words = [self._positive, *(self._negatives or ())]
        self._spelled = {word.casefold() == "true": word for word in words if word.casefold() in ("true", "false")}

    @property
    def seen(self) -> list[LabelValue]:
        """Values of labels that came, up to a thousand; refused ones are not among them."""
        return list(self._known)

    def label_of(self, value: Any) -> Label:
        """Return the learner's label for a JSON value; raise :class:`UnknownLabelError` when there is none."""
        if self.task == "regression" and type(value) is float:
            return self._number(value)
        if self._spelled and isinstance(value, bool):  # True is 1 to a dict
            return self._label_of(value)
        known = self._known.get(value) if isinstance(value, (float, str, int)) else None
        if known is None:
            known = self._label_of(value)
            if len(self._known) < _KNOWN:
                self._known[value] = known
        return known

    def _label_of(self, value: Any) -> Label:
        if not isinstance(value, (str, float, int)):
            raise UnknownLabelError(f"a label is text, a number or a boolean, not {type(value).__name__}")
        if self.task == "regression":
            return self._number(value)
        key = self._key(value)
        if self.task == "binary":
            if isinstance(value, bool) and (spelled := self._spelled.get(value)):
                key = spelled
            if key == self._positive:
                return True
            if self._negatives is None or key in self._negatives:
                return False
            raise UnknownLabelError(f"{value!r} is neither the positive label nor the negative one")
        return self._class(key, value)

    def _number(self, value: LabelValue) -> float:
        try:
            number = float(value)
        except ValueError:
            raise UnknownLabelError(f"{value!r} is not a number, and the task is regression") from None
        if not -FLOAT32_MAX <= number <= FLOAT32_MAX:
            raise OverflowError(f"label {value!r} is not finite or outside float32")
        return number

    def _class(self, key: str, value: LabelValue) -> int:
        number = self._numbers.get(key)
        if number is None:
            if self.fixed:
                raise UnknownLabelError(f"{value!r} is not in event.labels")
            if len(self.names) >= self.max_labels:
                raise UnknownLabelError(
                    f"{value!r} would be label {len(self.names) + 1} of {self.max_labels} ({self.limit})"
                )
            number = self._numbers[key] = len(self.names)
            self.names.append(_tidy(value))
        return number

    def value_of(self, label: Label) -> LabelValue:
        """A value that :meth:`label_of` turns into this label."""
        if self.task == "multiclass":
            return self.names[int(label)]
        if self.task == "regression":
            return float(label)
        if self._negatives == {"0", "-1"}:
            return int(label)
        if label:
            return self._positive
        return min(self._negatives) if self._negatives is not None else f"not {self._positive}"

    def number_of(self, name: Any) -> int:
        """Return the number of a class by its name, as a restored learner spells it; it may be none of the labels."""
        number = self._numbers.get(self._key(name))
        if number is None:
            raise UnknownLabelError(f"the learner answers {name!r}, which is none of the labels that it was told")
        return number

    def restore(self, names: list[LabelValue]) -> None:
        """Take the map that a snapshot carried (multi-class)."""
        if self.task != "multiclass":
            return
        known = [self._key(name) for name in names]
        if len(set(known)) < len(known):
            raise UnknownLabelError(
                "event.fold_labels makes labels one that this lineage learnt apart: turn it off, or begin a new "
                "lineage with another name and store"
            )
        if self.fixed:
            if known and known != list(self._numbers):
                raise UnknownLabelError(
                    "event.labels differs from the labels this lineage began with: restore the list, "
                    "or begin a new lineage with another name and store"
                )
            return
        self.names = [_tidy(name) for name in names]
        self._known.clear()
        self._numbers = {key: number for number, key in enumerate(known)}
