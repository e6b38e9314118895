"""Canonical state: equal bytes for two objects that behave identically.

Two River models that behave identically can pickle to different bytes (shared or separate strings, the order of a
set). This walks what pickle would save and writes it in one fixed form instead.
"""

import copyreg
import hashlib
from typing import Any

import numpy as np

#: what River's splitters keep for each class
_COUNTS = "_att_dist_per_class"


def canonical_state(value: object) -> bytes:
    """SHA-256 over a fixed form of all that pickle would save of ``value`` (32 bytes)."""
    digest = hashlib.sha256()
    for part in _walk(value, {}):
        digest.update(part)
    return digest.digest()


def _walk(value: Any, seen: dict[int, tuple[int, Any]]) -> list[bytes]:  # noqa: PLR0911  one line per kind of value
    if type(value) is int:
        return [f"int:{value:x};".encode()]  # in hexadecimal a number may have any length
    if value is None or isinstance(value, (bool, int, str, bytes, complex)):
        return [f"{type(value).__name__}:{value!r};".encode()]
    if isinstance(value, float):
        return [f"float:{value.hex()};".encode()]
    if id(value) in seen:
        return [b"again:%d;" % seen[id(value)][0]]
    seen[id(value)] = (len(seen), value)
    if isinstance(value, np.ndarray):
        return [f"array:{value.dtype}:{value.shape}:".encode(), np.ascontiguousarray(value).tobytes()]
    if isinstance(value, (list, tuple)):
        return [b"[", *(part for item in value for part in _walk(item, seen)), b"]"]
    if isinstance(value, (set, frozenset)):
        return [b"{", *sorted(b"".join(_walk(item, {})) for item in value), b"}"]
    if isinstance(value, dict):
        return _walk_items(value, seen)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return [f"name:{getattr(value, '__module__', '')}.{value.__qualname__};".encode()]
    return _walk_reduced(value, seen)


def _walk_items(items: dict[Any, Any], seen: dict[int, tuple[int, Any]]) -> list[bytes]:
    """Entries sorted by key: the order of a dict of weights is not behaviour."""
    keyed = sorted(((b"".join(_walk(key, {})), item) for key, item in items.items()), key=lambda pair: pair[0])
    return [b"<", *(part for key, item in keyed for part in (key, *_walk(item, seen))), b">"]


def _walk_reduced(value: Any, seen: dict[int, tuple[int, Any]]) -> list[bytes]:
    reducer = copyreg.dispatch_table.get(type(value))
    reduced: Any = reducer(value) if reducer else value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return [f"global:{reduced};".encode()]
    parts = [b"("]
    for part in _without_traces(value, _without_sampler(value, reduced[:3])):
        parts += _walk(part, seen)
    if len(reduced) > 3 and reduced[3] is not None:
        parts += _walk(list(reduced[3]), seen)
    if len(reduced) > 4 and reduced[4] is not None:
        parts += _walk_items(dict(reduced[4]), seen)
    return [*parts, b")"]


def _without_traces(value: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out the empty counts that a tree over texts makes for a class when it is asked: they count nothing."""
    state = reduced[-1]
    if not type(value).__module__.startswith("river.tree.splitter.") or not isinstance(state, dict):
        return reduced
    return (*reduced[:-1], {name: _filled(one) if name == _COUNTS else one for name, one in state.items()})


def _filled(counts: Any) -> Any:
    return {name: one for name, one in counts.items() if one != {}} if isinstance(counts, dict) else counts


def _without_sampler(value: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out the unseeded generator that River's distributions keep for ``sample``; no prediction asks it."""
    if not type(value).__module__.startswith("river.proba.") or not isinstance(reduced[-1], dict):
        return reduced
    return (*reduced[:-1], {name: one for name, one in reduced[-1].items() if name != "_rng"})
