"""Loading River's state without running anything else (promise 9).

The bytes are read as data (:mod:`learners.river.pickle_as_data`), and what they describe is built here by a few rules:
plain values; objects of exactly the classes in ``river_types.txt`` (and of ``learners.NAME.types``), created bare and
given their attributes; and a fixed list of other things, each by a rule of its own in
:mod:`learners.river.foreign_types`. A River class is never called, no method is, and nothing is imported that is not on
the list. See docs/adr/0018.
"""

import gc
import importlib
import importlib.resources
import sys
from collections import deque
from collections.abc import Collection
from functools import cache
from operator import attrgetter
from typing import Any

from learners.errors import StateRefusedError, UnsafeStateError
from learners.river import foreign_types
from learners.river.foreign_types import refuse
from learners.river.memory_limit import bounded
from learners.river.pickle_as_data import Made, Named, is_name, read

#: how deep a model may be nested; River's neighbours' graphs are the deepest
_DEEPEST = 30_000
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, complex})
_RUST, _VECTOR = "river._river_rust.", ("river._river_rust.vectordict", "VectorDict")
#: modules of Python that only compute and keep; a transformer, or a class of one's own, may be made of them
_HARMLESS = {"cmath", "collections", "datetime", "decimal", "fractions", "math", "numbers", "statistics"}
_LARGEST_ARGUMENT = 10_000_000


@cache
def river_types() -> frozenset[tuple[str, str]]:
    """The exact pairs allowed for the pinned River."""
    text = importlib.resources.files("learners.river").joinpath("types.txt").read_text("utf-8")
    return frozenset(_pair(line) for line in text.splitlines() if line)


def _pair(text: str) -> tuple[str, str]:
    module, _, name = text.replace(":", " ").partition(" ")
    if not module or not name:
        raise UnsafeStateError(f"{text!r} is not a type: write it as module:Name")
    return module, name


def loads(data: bytes, types: Collection[str] = ()) -> Any:
    """Build what a pickle describes; ``types`` are further names as ``module:Name``.

    Raises :class:`UnsafeStateError` when it names anything else, before that is imported or called, and
    :class:`StateRefusedError` when it does not load.
    """
    own = frozenset(_pair(name) for name in types)
    limit, collecting = sys.getrecursionlimit(), gc.isenabled()
    try:
        gc.disable()  # it would look again and again at what is only growing: half of the time
        with bounded(len(data)):
            found = read(data)
            sys.setrecursionlimit(max(limit, _DEEPEST))
            return Building(own).of(found)
    except UnsafeStateError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as cause:  # a panic in Rust is no Exception
        raise StateRefusedError(f"the learner's state does not load: {type(cause).__name__}: {cause}") from cause
    finally:
        sys.setrecursionlimit(limit)
        if collecting:
            gc.enable()


class Building:
    """Builds real objects from what was read; each once, so that what was shared is shared again."""

    def __init__(self, own: Collection[tuple[str, str]]) -> None:
        self._own = own
        self._built: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._classes: dict[Any, type] = {}
        self._attributes_seen: dict[type, set[str]] = {}

    def of(self, value: Any) -> Any:  # noqa: PLR0911  one line for each kind of value
        """The real value of what was read."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if id(value) in self._built:
            return self._built[id(value)]
        if kind is list:
            return self._list(value)
        if kind is dict:
            return self._dict(value)
        if kind is tuple:
            return self._tuple(value)
        if isinstance(value, Made):
            return self._made(value)
        if is_name(value):
            return self.named(value.pair)
        if kind in (set, frozenset):
            return self.note(value, kind([self.of(one) for one in value]))
        if kind is bytearray:
            return value
        raise refuse(f"a {kind.__name__}")

    def note(self, read_: Any, built: Any) -> Any:
        """Remember what was built for what was read."""
        self._built[id(read_)] = built
        self._kept.append(read_)  # an id is only its object's while that lives
        return built

    def _list(self, items: list[Any]) -> list[Any]:
        self.note(items, items)
        for index, item in enumerate(items):
            if type(item) not in _PLAIN:
                items[index] = self.of(item)
        return items

    def _tuple(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        built = tuple([self.of(one) for one in items])
        if id(items) not in self._built:  # else it holds itself, and was built while its items were
            self.note(items, built)
        return self._built[id(items)]  # type: ignore[no-any-return]

    def _dict(self, entries: dict[Any, Any]) -> dict[Any, Any]:
        self.note(entries, entries)
        keyed = any(type(key) not in _PLAIN for key in entries)
        for key, value in list(entries.items()) if keyed else entries.items():
            if keyed:
                del entries[key]
                entries[self.of(key)] = self.of(value)
            elif type(value) not in _PLAIN:
                entries[key] = self.of(value)
        return entries

    def named(self, pair: tuple[str, str]) -> Any:
        """The class or function of a name that is used as a value."""
        if pair not in foreign_types.VALUES and not self._known(pair):
            self._unknown(pair)
        return attrgetter(pair[1])(importlib.import_module(pair[0]))

    def class_of(self, name: Any) -> type:
        """The class of a name that objects are made of."""
        if name not in self._classes:
            found = self.named(name.pair) if is_name(name) else None
            if not isinstance(found, type):
                raise refuse("an object of what is no class")
            self._classes[name] = found
        return self._classes[name]

    def _known(self, pair: tuple[str, str]) -> bool:
        return pair in self._own or pair in river_types()

    def _unknown(self, pair: tuple[str, str]) -> None:
        module, name = pair
        raise UnsafeStateError(
            f"the state names {module}.{name}, which is not on the allow-list; nothing of it was run. {_advice(*pair)}"
        )

    def _made(self, made: Made) -> Any:
        if made.pair in self._own:
            return self._own_object(made)
        rule = foreign_types.RULES.get(made.pair)
        if rule is not None:
            return rule(self, made)
        if not self._known(made.pair):
            self._unknown(made.pair)
        return self.instance(made, type(made), made.args)  # type: ignore[arg-type]

    def instance(self, made: Made, name: Named, args: tuple[Any, ...]) -> Any:
        """An object of a River class: created bare, or by the arguments that its kind takes, then given its state."""
        kind = self.class_of(name)
        rust = name.pair[0].startswith(_RUST)
        if name.pair == _VECTOR:
            built: Any = kind(*map(self.of, args))
        elif rust or issubclass(kind, deque):  # what is written in Rust, and the parts of HoltWinters
            built = kind(*map(self._argument, args))
        elif made.called and made.pair == name.pair:
            raise refuse(f"a call of {kind.__qualname__}")
        elif issubclass(kind, tuple):
            built = tuple.__new__(kind, [self.of(one) for one in args])
        elif args:
            raise refuse(f"a {kind.__qualname__} with arguments")
        else:
            built = object.__new__(kind)
        self.note(made, built)
        self._give(built, kind, made, rust=rust)
        return built

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, (float, int)) or not abs(value) <= _LARGEST_ARGUMENT:
            raise refuse(f"the argument {value!r:.40}")
        return value

    def _give(self, built: Any, kind: type, made: Made, *, rust: bool) -> None:
        if made.items and "extend" in dir(kind):
            built.extend([self.of(one) for one in made.items])
        elif made.items or made.entries:
            raise refuse(f"items of a {kind.__qualname__}")
        state = made.state
        if state is None:
            return
        if rust:
            state = self.of(state)
            if type(state) is not bytes:
                raise refuse(f"the state of a {kind.__qualname__}")
            built.__setstate__(state)
            return
        if hasattr(kind, "__setstate__"):
            built.__setstate__(self.of(state))
            return
        fields, slots = _parts(state)
        if fields is not None:
            vars(built).update(self._attributes(fields, kind))
        if slots is not None:
            for name, value in self._attributes(slots, kind).items():
                object.__setattr__(built, name, value)

    def _attributes(self, part: Any, kind: type) -> dict[str, Any]:
        """Attributes of an object; none of them may stand in for a method of its class."""
        if type(part) is not dict:
            raise refuse(f"the state of a {kind.__qualname__}")
        seen = self._attributes_seen.setdefault(kind, set())
        for name in part.keys() - seen:
            if type(name) is not str or name.startswith("__") or callable(getattr(kind, name, None)):
                raise refuse(f"the attribute {name!r:.60} of a {kind.__qualname__}")
            seen.add(sys.intern(name))
        return self._dict(part)

    def _own_object(self, made: Made) -> Any:
        """An object of a class that the operator named; it is made as pickle makes it."""
        kind: Any = self.named(made.pair)
        args = [self.of(one) for one in made.args]
        built = self.note(made, kind(*args) if made.called else kind.__new__(kind, *args))
        if made.items:
            built.extend([self.of(one) for one in made.items])
        for key, value in made.entries:
            built[self.of(key)] = self.of(value)
        if made.state is not None and hasattr(kind, "__setstate__"):
            built.__setstate__(self.of(made.state))
        elif made.state is not None:
            fields, slots = _parts(made.state)
            for name, value in {**self.of(fields or {}), **self.of(slots or {})}.items():
                setattr(built, name, value)
        return built


def _advice(module: str, name: str) -> str:
    """What to do about a name that is not on the list: only what may be the operator's own is let in by ``types``."""
    head = module.partition(".")[0]
    if head == "__main__":
        return "It was defined in the script that saved it: put it into a module beside the configuration, save anew"
    if head in sys.stdlib_module_names and head not in _HARMLESS:
        return (
            "It is Python's own, and no model that River saves names it: the file is damaged, or was made to run "
            "something. Do not use it"
        )
    return f'If the name is yours, add types = ["{module}:{name}"] to the learner\'s configuration'


def _parts(state: Any) -> tuple[Any, Any]:
    """What goes into an object's dict, and what into its slots."""
    return state if type(state) is tuple and len(state) == 2 else (state, None)
