"""Every estimator of River that can be made, trained a little."""

import contextlib
import importlib
import inspect
import pkgutil
import random
import warnings
from collections.abc import Iterator
from typing import Any

import river
from river import base


def estimators() -> Iterator[Any]:
    """Each class with its own test parameters, or with none; what needs arguments that nobody gives is left out."""
    seen = set()
    for found in pkgutil.walk_packages(river.__path__, "river."):
        if any(part in found.name for part in (".test", "datasets", "conftest", ".checks", ".stream")):
            continue
        try:
            module = importlib.import_module(found.name)
        except ImportError:
            continue
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind in seen or not kind.__module__.startswith("river.") or inspect.isabstract(kind):
                continue
            seen.add(kind)
            if issubclass(kind, base.Base) or hasattr(kind, "_unit_test_params"):
                yield from _made(kind)


def _made(kind: Any) -> Iterator[Any]:
    choices: list[dict[str, Any]] = [{}]
    with contextlib.suppress(Exception):
        choices = list(kind._unit_test_params())
    for one in choices:
        with contextlib.suppress(Exception):
            yield kind(**one)


def trained(model: Any, count: int = 150) -> Any:
    """Teach it whatever it takes: numbers, texts, labels of every kind; ask it a little, too."""
    draw = random.Random(1)
    row: Any = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            plain = {"a": draw.gauss(0, 1), "b": draw.random() * 3, "c": float(number % 4)}
            rows = [plain, {**plain, "word": "ab"[number % 2]}, f"the word {number % 7}"]
            yes = plain["a"] > 0
            answers: list[Any] = [
                yes,
                plain["a"],
                {"l1": yes, "l2": plain["b"] > 1},
                {"l1": plain["a"], "l2": plain["b"]},
            ]
            row = next((one for one in rows for answer in [*answers, None] if _learns(model, one, answer)), None)
            if row is None:
                break
        for ask in ("predict_one", "predict_proba_one", "transform_one", "score_one"):
            with contextlib.suppress(Exception):
                getattr(model, ask)(row)
    return model


def _learns(model: Any, row: Any, answer: Any) -> bool:
    with contextlib.suppress(Exception):
        model.learn_one(*([row] if answer is None else [row, answer]))
        return True
    return False
