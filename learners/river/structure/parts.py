"""What a River model is made of: its steps, and whether some of them put something in the place of a null."""

from collections.abc import Iterator
from typing import Any

from river import base, compose, preprocessing

_IMPUTERS = (preprocessing.StatImputer, preprocessing.PreviousImputer)


def final(model: Any) -> Any:
    """The last step of a pipeline, or the model itself."""
    return final(list(model.steps.values())[-1]) if isinstance(model, compose.Pipeline) else model


def parts(model: Any) -> Iterator[Any]:
    """The model and every River object that it holds, through lists and dicts; each once."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, base.Base):
            yield one
            waiting += getattr(one, "__dict__", {}).values()
            if isinstance(one, (list, dict)):  # an ensemble is a list of its models
                waiting += one.values() if isinstance(one, dict) else one
        elif isinstance(one, dict):
            waiting += [value for value in one.values() if isinstance(value, (base.Base, dict, list, tuple))]
        elif isinstance(one, (list, tuple)):
            waiting += [value for value in one if isinstance(value, (base.Base, dict, list, tuple))]


def takes_nulls(model: Any) -> bool:
    """Tell whether an imputer is among the steps (River's two, and classes made from them)."""
    return any(isinstance(one, _IMPUTERS) for one in parts(model))
