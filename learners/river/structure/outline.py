"""What a River model is made of: to say where a saved one is another than the one that its factory makes now."""

import inspect
from typing import Any

from river import base, compose

_SIMPLE = (bool, int, float, str, type(None))


def outline(model: Any, path: str = "") -> dict[str, str]:
    """Classes of its parts, and parameters, by their path.

    >>> from river import linear_model, preprocessing
    >>> found = outline(preprocessing.StandardScaler() | linear_model.LogisticRegression())
    >>> found["LogisticRegression"], found["LogisticRegression.l2"], found["LogisticRegression.optimizer"]
    ('a LogisticRegression', '0.0', 'SGD')
    """
    found = {path or "it": f"a {type(model).__name__}" if isinstance(model, base.Estimator) else type(model).__name__}
    if isinstance(model, compose.Pipeline):
        inner: dict[str, Any] = dict(model.steps)
    elif isinstance(model, compose.TransformerUnion):
        inner = dict(model.transformers)
    else:
        names = [name for name in inspect.signature(type(model).__init__).parameters if name != "self"]
        inner = {name: getattr(model, name, None) for name in names}
    for name, part in inner.items():
        here = f"{path}.{name}" if path else str(name)
        if isinstance(part, base.Base) or type(part).__module__.startswith("river.optim"):
            found |= outline(part, here)
        elif isinstance(part, _SIMPLE):
            found[here] = repr(part)
    return found


def differences(saved: Any, made: Any) -> tuple[list[str], list[str]]:
    """Parts that a saved model and a new one do not share, and parameters that are others in the same parts."""
    was, now = outline(saved), outline(made)
    parts = [name for name in {**was, **now} if was.get(name) != now.get(name) and "a " in (was | now)[name][:2]]
    rest = [name for name in was.keys() & now.keys() if was[name] != now[name] and name not in parts]
    return (
        [f"{name} was {was.get(name, 'not there')} and is {now.get(name, 'gone')}" for name in parts],
        [f"{name} = {was[name]} (not {now[name]})" for name in sorted(rest)],
    )
