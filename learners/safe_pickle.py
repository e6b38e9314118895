"""Loading pickles of River state without running anything else.

A pickle is a program. This loader answers only the exact (module, name) pairs of ``river_types.txt`` and those
that ``learners.NAME.types`` adds; no pattern, no prefix, and ``builtins.getattr`` is replaced by one that gives
only public methods of allowed types.
"""

import importlib
import importlib.resources
import io
import pickle
from collections.abc import Collection
from functools import cache
from operator import attrgetter
from typing import Any

from learners.errors import StateRefusedError, UnsafeStateError


@cache
def river_types() -> frozenset[tuple[str, str]]:
    """The exact pairs allowed for the pinned River."""
    text = importlib.resources.files("learners").joinpath("river_types.txt").read_text("utf-8")
    return frozenset(_pair(line) for line in text.splitlines() if line)


def _pair(text: str) -> tuple[str, str]:
    module, _, name = text.replace(":", " ").partition(" ")
    if not module or not name:
        raise UnsafeStateError(f"{text!r} is not a type: write it as module:Name")
    return module, name


def loads(data: bytes, types: Collection[str] = ()) -> Any:
    """Load a pickle; ``types`` are further names as ``module:Name``.

    Raises :class:`UnsafeStateError` when it names anything else, before that is imported or called, and
    :class:`StateRefusedError` when it does not load.
    """
    allowed = river_types() | {_pair(name) for name in types}
    try:
        return _Unpickler(io.BytesIO(data), allowed).load()
    except UnsafeStateError:
        raise
    except Exception as cause:
        raise StateRefusedError(f"the learner's state does not load: {type(cause).__name__}: {cause}") from cause


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: frozenset[tuple[str, str]]) -> None:
        super().__init__(file)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise UnsafeStateError(
                f"the state names {module}.{name}, which is not on the allow-list; nothing of it was run. "
                f'If the name is yours, add types = ["{module}:{name}"] to the learner\'s configuration'
            )
        if (module, name) == ("builtins", "getattr"):
            return self._public_method
        return attrgetter(name)(importlib.import_module(module))

    def _public_method(self, owner: Any, name: Any, *default: Any) -> Any:  # noqa: ARG002  getattr's own shape
        kind = owner if isinstance(owner, type) else type(owner)
        if not isinstance(name, str) or name.startswith("_") or "." in name:
            raise UnsafeStateError(f"the state asks for attribute {name!r}; only public methods are given")
        if not kind.__module__.startswith("river.") or (kind.__module__, kind.__qualname__) not in self._allowed:
            raise UnsafeStateError(f"the state asks for {name!r} of {kind.__module__}.{kind.__qualname__}")
        return getattr(owner, name)
