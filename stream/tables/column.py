"""One column of a table: what its cells are, decided once all of them were seen."""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from stream.tables.cells import (
    EXACT,
    MISSING,
    WHOLE,
    flat,
    is_exact,
    is_number,
    leaves,
    number_of,
    odd,
    text_number,
    text_of,
)

#: of these, what may as well be the name of a class
_NAMES = frozenset(
    ("-", "--", "?", ".", "..", "None", "none", "nil", "missing", "unknown", "undefined", "no data", "No data")
)
#: a column of texts may have been meant for numbers when so many of its values are some for each that is none
_MEANT = 9
#: numbers with three digits behind each point, as others write thousands
_IN_THREES, _THOUSAND = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+"), 1000
REMEMBERED = 10_000
#: cells that are shown as examples
_SHOWN = 3
_BOOLS = {"true": True, "false": False, "1": True, "0": False}


class Column:
    """What was seen of one column; ``kind`` is number, text, bool or empty.

    ``texts`` are the paths of what lies in its objects and stays text: what ``[event.types]`` calls so, and whole
    numbers that no float holds. ``words`` mean nothing where they stand among numbers; fewer do in a ``label``, since
    some may be a class. ``bytes`` tells whether some cell holds bytes, which mean nothing.
    """

    def __init__(
        self, name: str, *, typed: bool, kind: str | None, missing: Iterable[str], texts: Iterable[str] = (),
        label: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.typed, self._fixed = name, typed, kind
        self.texts = set(texts)
        self.bytes = False
        self.absent = frozenset(("", *missing))
        self.words = MISSING - _NAMES if label else MISSING
        self.guesses: Counter[str] = Counter()
        self.why_text = self.odd = self.example = ""
        self.strange: list[str] = []
        self._numbers = self._texts = self._bools = self._quoted = self._strange = 0
        self._undotted = self._threes = self._decimals = 0
        self._seen: set[Any] = set()
        self._inside: dict[str, dict[str, Any]] = {"nothing": {}, "text": {}, "number": {}}

    def fix(self, kind: str) -> None:
        """Say what it is, whatever its cells look like."""
        self._fixed = kind

    def see(self, cell: Any) -> None:
        """Take one cell into account."""
        if isinstance(cell, (dict, list)):
            self._see_nested(cell)
            return
        if cell is None or self._fixed or cell in self._seen:
            return
        if type(cell) is not str:
            self._see_typed(cell)
        elif cell in self.absent:
            return
        elif self.typed:
            self._see_typed_text(cell)
        elif (number := text_number(cell)) is not None and math.isfinite(number):
            self._see_number(cell.strip(), number)
        elif cell.strip() in self.words:
            self.guesses[cell] += 1
            return
        else:
            self._see_strange(cell)
        if len(self._seen) < REMEMBERED:
            self._seen.add(cell)

    def _see_number(self, text: str, number: float) -> None:
        self._numbers += 1
        if "." not in text:
            self._undotted += abs(number) < _THOUSAND
        elif _IN_THREES.fullmatch(text):
            self._threes += 1
        else:
            self._decimals += 1
        if not self.why_text and abs(number) >= EXACT and WHOLE.fullmatch(text) and abs(int(text)) > EXACT:
            self.why_text = f"no float holds {text} exactly"

    def _see_strange(self, text: str) -> None:
        """A text that is no number, in a column that may be of numbers."""
        self._strange += 1
        if len(self.strange) < _SHOWN:
            self.strange.append(text)
        if not self.why_text:
            self.why_text = f"{text!r} is no number"
            self.odd, self.example = odd(text.strip()), text

    def _see_typed(self, cell: Any) -> None:
        if isinstance(cell, bool):
            self._bools += 1
        elif isinstance(cell, bytes):
            self.bytes = True
        elif is_number(cell):
            self._numbers += 1
            if not is_exact(cell):
                self.why_text = f"no float holds {text_of(cell)} exactly"
        else:
            self._texts += 1

    def _see_typed_text(self, cell: str) -> None:
        if cell.strip() in self.words:  # of a column of texts it is one of them
            self.guesses[cell] += 1
            return
        self._texts += 1
        self._quoted += text_number(cell) is not None
        self._strange += 1
        if len(self.strange) < _SHOWN:
            self.strange.append(cell)
        if not self.odd:
            self.odd, self.example = odd(cell.strip()), cell

    def _see_nested(self, cell: Any) -> None:
        for path, leaf in leaves(cell, self.name):
            if isinstance(leaf, bytes):
                self.bytes = True
            elif isinstance(leaf, str):
                kind = "nothing" if leaf.strip() in self.words else "text"
                self._inside[kind].setdefault(path, leaf)
            elif is_number(leaf) and not isinstance(leaf, bool):
                self._inside["number"].setdefault(path, leaf)
                if not is_exact(leaf):
                    self.texts.add(path)

    @property
    def why_odd(self) -> str:
        """Why it is no column of numbers, where it looks like one; empty where it does not."""
        return f"{self.example!r} is no number, {self.odd}" if self.odd else ""

    @functools.cached_property
    def nothing(self) -> dict[str, str]:
        """Where in its objects a word among numbers means that nothing is there, and which."""
        found, other = self._inside["nothing"], self._inside["text"].keys() | self.texts
        return {path: word for path, word in found.items() if path in self._inside["number"] and path not in other}

    @property
    def mixed(self) -> dict[str, tuple[Any, str]]:
        """Where in its objects numbers and texts lie, with one of each: they are features of their own."""
        texts = self._inside["text"]
        return {path: (one, texts[path]) for path, one in self._inside["number"].items() if path in texts}

    @property
    def in_threes(self) -> bool:
        """Whether every point may separate thousands: three digits behind each, beside smaller numbers without one."""
        return self.kind == "number" and self._threes > 2 and self._undotted > 0 and not self._decimals

    @property
    def meant(self) -> bool:
        """Whether nearly all of its values are numbers, though it is a column of texts."""
        return self.kind == "text" and not self.odd and 0 < self._strange * _MEANT <= self._numbers

    @property
    def quoted(self) -> bool:
        """Tell whether all of its texts are numbers in quotes."""
        return 0 < self._texts == self._quoted

    @property
    def kind(self) -> str:
        """number, text, bool, or empty when no cell holds anything."""
        if self._fixed:
            return self._fixed
        kinds = (self._numbers > 0) + (self._texts > 0) + (self._bools > 0)
        if self.why_text or self._texts or kinds > 1:
            return "text"
        return "number" if self._numbers else "bool" if self._bools else "empty"

    def value(self, cell: Any) -> Any:
        """What a cell means: a number, a text, a boolean, None where nothing is there; lists and dicts as they are."""
        if cell is None or isinstance(cell, (dict, list)):
            return flat(cell, self.name, self.texts, self.nothing)
        if isinstance(cell, bytes):
            return None
        if type(cell) is str:
            return self._of_text(cell)
        kind = self.kind
        if kind == "text":
            return text_of(cell)
        if kind == "bool":
            return cell if isinstance(cell, bool) else text_of(cell)
        return number_of(cell)

    def _of_text(self, cell: str) -> Any:
        if cell in self.absent:
            return None
        kind = self.kind
        if kind == "empty":
            return None
        if kind == "number":
            number = text_number(cell)
            if number is None:
                return None if cell.strip() in self.words else cell
            return int(cell) if abs(number) <= EXACT and WHOLE.fullmatch(cell.strip()) else number
        if kind == "bool":
            return None if cell in self.guesses else _BOOLS.get(cell.strip().lower(), cell)
        return cell
