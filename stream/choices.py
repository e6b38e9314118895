"""Values of the configuration of which only a few are allowed: one that is none of them is told which there are."""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from stream.errors import ConfigError

#: what people write who mean one of the others
_MEANT = {
    "classification": ("binary", "multiclass"), "classifier": ("binary", "multiclass"), "class": ("multiclass",),
    "multi-class": ("multiclass",), "regressor": ("regression",), "vowpalwabbit": ("vw",), "vowpal wabbit": ("vw",),
    "str": ("text",), "string": ("text",), "int": ("number",), "float": ("number",), "boolean": ("bool",),
    "file": ("files",), "directory": ("files",), "begin": ("earliest",), "end": ("latest",),
}  # fmt: skip


def refuse_others(table: Mapping[str, Any], struct: type[msgspec.Struct], path: str = "") -> None:
    """Raise :class:`ConfigError` for the first value that is none of those its key allows, naming them."""
    for field in msgspec.structs.fields(struct):
        if field.name in table:
            for key, value, kind in _leaves(f"{path}{field.name}", table[field.name], field.type):
                allowed = _allowed(kind)
                if allowed and value not in allowed:
                    raise ConfigError(f"{key} = {_said(value)} is not allowed: {_hint(value, allowed)}")
                if (wanted := _word_or_number(kind)) and not _fits(value, kind):
                    raise ConfigError(f"{key} = {_said(value)} is not allowed: write {wanted}")


def _leaves(path: str, value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """The values below a key, with the type that each should have."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if isinstance(value, dict):
            refuse_others(value, kind, f"{path}.")
    elif typing.get_origin(kind) is dict and isinstance(value, dict):
        for name, one in value.items():
            yield from _leaves(f"{path}.{name}", one, typing.get_args(kind)[1])
    else:
        yield path, value, kind


def _allowed(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _word_or_number(kind: Any) -> str:
    """Which words and which numbers a key allows that takes both; empty for any other key.

    >>> _word_or_number(typing.Annotated[float, msgspec.Meta(gt=0, le=1)] | Literal["auto"]), _word_or_number(float)
    ('"auto", or a number above 0 and at most 1', '')
    """
    several = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else ()
    words = [f'"{word}"' for one in several for word in _allowed(one)]
    numbers = [_bounds(one) for one in several if not _allowed(one)]
    return ", or ".join([", ".join(words), *numbers]) if words else ""


def _bounds(kind: Any) -> str:
    """A number with its ends, in words."""
    base, *rest = typing.get_args(kind) or (kind,)
    meta = rest[0] if rest else msgspec.Meta()
    ends = [
        f"{word} {end:g}"
        for word, end in (("above", meta.gt), ("at least", meta.ge), ("below", meta.lt), ("at most", meta.le))
        if end is not None
    ]
    return " ".join(["a whole number" if base is int else "a number", " and ".join(ends)]).rstrip()


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _hint(value: Any, allowed: tuple[str, ...]) -> str:
    meant = [one for one in _MEANT.get(str(value).lower(), ()) if one in allowed]
    meant = meant or difflib.get_close_matches(str(value).lower(), allowed, n=1)
    return f"write {', '.join(allowed)}" + (f" (did you mean {' or '.join(meant)}?)" if meant else "")


def _said(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
