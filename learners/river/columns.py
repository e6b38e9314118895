"""Transformers of columns that River has not: the ``model.py`` of ``holdfast init --from`` is made of them."""

import contextlib
from datetime import datetime
from typing import Any

from river import base


class Pick(base.Transformer):  # type: ignore[misc]  # River has no types
    """Some of an event's values, as far as it has them; ``absent`` stands for one that it has not."""

    def __init__(self, names: list[str], absent: Any = None) -> None:
        self.names = names
        self.absent = absent

    def transform_one(self, x: dict[str, Any]) -> dict[str, Any]:
        """Pick."""
        if self.absent is None:
            return {name: x[name] for name in self.names if name in x}
        return {name: x.get(name, self.absent) for name in self.names}


class Under(base.Transformer):  # type: ignore[misc]  # River has no types
    """The values of nested objects and lists, such as ``user.age`` and ``tags.red``."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def transform_one(self, x: dict[str, Any]) -> dict[str, Any]:
        """Pick what lies under one of the names."""
        return {name: value for name, value in x.items() if name.split(".")[0] in self.names}


class DateParts(base.Transformer):  # type: ignore[misc]  # River has no types
    """Month, weekday and hour of dates, each a category; a text that is no date has none.

    ``forms`` maps a feature to how its dates are written: ``iso``, or a format of ``datetime.strptime``. ISO 8601 is
    read in any case.
    """

    def __init__(self, forms: dict[str, str]) -> None:
        self.forms = forms

    def transform_one(self, x: dict[str, Any]) -> dict[str, Any]:
        """Take the dates apart."""
        parts: dict[str, Any] = {}
        for name, form in self.forms.items():
            moment = _moment(str(x.get(name, "")), form)
            if moment is None:
                continue
            parts |= {f"{name} month": moment.month, f"{name} weekday": moment.weekday(), f"{name} hour": moment.hour}
        return parts


def _moment(text: str, form: str) -> datetime | None:
    if form != "iso":
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007  as written
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text)
    return None
