"""Every estimator of River with its documented parameters, one of them changed at a time."""

import contextlib
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from river import base

from support.estimators import estimators

_QUOTED = re.compile(r"""['"`]+([A-Za-z][\w-]*)['"`]+""")
#: families of objects that parameters take, by the module that has them
_FAMILIES = {
    "optim.losses": "Loss", "optim.initializers": "Initializer", "optim": "Optimizer", "optim.schedulers": "Scheduler",
    "drift": "DriftDetector", "stats": "Univariate", "tree.splitter": "Splitter", "metrics": "Metric",
}  # fmt: skip


def variants() -> Iterator[tuple[str, Any]]:
    """A name and an estimator, for each value that can be told from the signature and the documentation."""
    seen = set()
    for model in estimators():
        kind = type(model)
        with contextlib.suppress(Exception):
            given = model._get_params()
            yield kind.__name__, model
            if kind in seen:
                continue
            seen.add(kind)
            for name, value in _changes(kind):
                with contextlib.suppress(Exception):
                    yield f"{kind.__name__}({name}={_shown(value)})", kind(**{**_cloned(given), name: value})


def _cloned(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, base.Base) else value for name, value in given.items()}


def _shown(value: Any) -> str:
    return type(value).__name__ if isinstance(value, base.Base) else repr(value)


def _changes(kind: type) -> Iterator[tuple[str, Any]]:
    """Other values for each parameter: the other truth, a small number, a quoted word, an object of its family."""
    documented = _documented(inspect.getdoc(kind) or "")
    for name, parameter in inspect.signature(kind).parameters.items():
        said = f"{parameter.annotation}"
        if isinstance(parameter.default, bool):
            yield name, not parameter.default
            continue
        if "int" in said or "float" in said:
            yield name, 2 if "int" in said else 0.5
        for word in dict.fromkeys(_QUOTED.findall(documented.get(name, ""))):
            if parameter.default != word:
                yield name, word
        for family, wanted in _FAMILIES.items():
            if re.search(rf"\b{wanted}\b|\b{family.rsplit('.', 1)[-1]}\.", said):
                yield from ((name, one()) for one in _members(family, wanted))


def _documented(text: str) -> dict[str, str]:
    """The paragraph of each parameter in a docstring."""
    found: dict[str, str] = {}
    section = text.partition("Parameters\n---")[2].partition("\n\nAttributes")[0].partition("\n\nExamples")[0]
    name = ""
    for line in section.splitlines():
        if re.fullmatch(r"\w+", line):
            name = line
        elif name:
            found[name] = found.get(name, "") + line
    return found


@cache
def _members(family: str, wanted: str) -> list[Any]:
    """Classes of a family that can be made without arguments."""
    module = importlib.import_module(f"river.{family}")
    found = []
    for _, one in inspect.getmembers(module, inspect.isclass):
        if any(parent.__name__ in (wanted, f"Base{wanted}") for parent in one.__mro__) and not inspect.isabstract(one):
            with contextlib.suppress(Exception):
                one()
                found.append(one)
    return found
