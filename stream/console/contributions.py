"""What each feature adds to the answer of a linear model: weight times the value that the model saw, largest first."""

from typing import Any

from river import compose, linear_model

_MOST = 30


def contributions(model: Any, features: dict[str, Any]) -> list[tuple[str, float]] | None:
    """(feature, weight · value) of a linear River model or a pipeline that ends in one; None of any other.

    The last is the intercept. Asking changes nothing.
    """
    x, last = features, model
    if isinstance(model, compose.Pipeline):
        *steps, last = model.steps.values()
        for step in steps:
            if not hasattr(step, "transform_one"):
                return None
            x = step.transform_one(x)
    if not isinstance(last, (linear_model.LogisticRegression, linear_model.LinearRegression)):
        return None
    weights = last.weights
    parts = [(str(name), float(weights[name] * value)) for name, value in x.items() if value and name in weights]
    parts.sort(key=lambda one: -abs(one[1]))
    return [*parts[:_MOST], ("(intercept)", float(last.intercept))]


def weights(model: Any) -> dict[str, float] | None:
    """The weights of a linear River model or a pipeline that ends in one, by feature; None of any other."""
    last = list(model.steps.values())[-1] if isinstance(model, compose.Pipeline) else model
    if not isinstance(last, (linear_model.LogisticRegression, linear_model.LinearRegression)):
        return None
    return {str(name): float(value) for name, value in last.weights.items()}


def telling(now: dict[str, float], then: dict[str, float]) -> list[tuple[str, float, float]]:
    """(feature, weight now, weight then): the heaviest, and those that moved furthest."""
    names = {*sorted(now, key=lambda name: -abs(now[name]))[:_MOST]}
    names |= {*sorted({*now, *then}, key=lambda name: -abs(now.get(name, 0.0) - then.get(name, 0.0)))[:_MOST]}
    return sorted(((name, now.get(name, 0.0), then.get(name, 0.0)) for name in names), key=lambda one: -abs(one[1]))
