"""A pickle read as data: every name in it becomes an inert stand-in, so that reading it imports and calls nothing.

A pickle is a program for a small machine. Here the machine runs, but each name that it asks for is answered by a class
that only notes what was done with it: how it was made, with which arguments, and which state it was given.
:mod:`learners.river.safe_pickle` then decides what may be built from the notes.
"""

import _compat_pickle
import io
import pickle
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeGuard


class Named(type):
    """A name of the pickle (``module``, ``name``), used as a value; an object made from it is a :class:`Made`."""

    pair: tuple[str, str]

    def __call__(cls, *args: Any) -> Any:
        """Note a call (the opcode REDUCE); making without a call (NEWOBJ) goes past this."""
        made: Made = Made.__new__(cls, *args)  # type: ignore[arg-type]
        made.called = True
        return made


class Made:
    """What the pickle makes of a name: ``args`` it was given, ``called`` or only created, state, items and entries."""

    __slots__ = ("args", "called", "entries", "items", "state")
    pair: tuple[str, str] = ("", "")
    args: tuple[Any, ...]
    called: bool
    state: Any
    items: list[Any]
    entries: list[tuple[Any, Any]]

    def __new__(cls, *args: Any) -> "Made":  # noqa: D102, PYI034  River's pickles make thousands: no __init__
        made = object.__new__(cls)
        made.args, made.called, made.state = args, False, None
        made.items, made.entries = [], []
        return made

    def __setstate__(self, state: Any) -> None:
        """Note the state (the opcode BUILD); a second one is refused, since nothing that is saved has two."""
        if self.state is not None:
            raise pickle.UnpicklingError("an object is given its state twice")
        self.state = state

    def extend(self, items: Iterable[Any]) -> None:
        """Note items of a list (APPENDS)."""
        self.items.extend(items)

    def append(self, item: Any) -> None:
        """Note an item of a list (APPEND)."""
        self.items.append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Note an entry of a dict (SETITEM, SETITEMS)."""
        self.entries.append((key, value))


@cache
def _stand_in(module: str, name: str) -> Named:
    return Named("Made", (Made,), {"__slots__": (), "pair": (module, name)})


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Named:
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("a name that is no text")
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))  # as protocols 0 to 2 name it
        return _stand_in(_compat_pickle.IMPORT_MAPPING.get(module, module), name)


def is_name(value: object) -> TypeGuard[Named]:
    """Tell whether a value is a name of the pickle, and not what was made from one."""
    return isinstance(value, Named)


def read(data: bytes) -> Any:
    """The plain data in a pickle, with :class:`Named` and :class:`Made` where it speaks of classes and objects.

    Raises whatever :mod:`pickle` raises for bytes that are no pickle.
    """
    return _Reader(io.BytesIO(data)).load()
