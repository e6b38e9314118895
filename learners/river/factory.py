"""A River learner from the function that the configuration names, proved before it learns anything."""

import importlib
import traceback
from collections.abc import Callable, Collection
from typing import Any

from river import base

from learners.errors import FactoryRefusedError
from learners.labels import Labels
from learners.river.learner import RiverLearner
from learners.river.structure.parts import final
from learners.river.trial import trial, unsuited, weights_count


def build(
    factory: str,
    labels: Labels,
    *,
    types: Collection[str] = (),
    weights_matter: bool = False,
    ignore_weights: bool = False,
    name: str = "",
) -> RiverLearner:
    """Import ``module:function``, call it, and prove that its result can be saved and loaded again.

    Raises :class:`FactoryRefusedError` with the reason: not importable, not a classifier or regressor as the task
    needs, state outside the allow-list, a round trip that changes it, predictions that change it, nothing learnt from
    plain rows, or weights that would be dropped while ``event.weight`` is set (``weights_matter``).
    """
    make = imported(factory)
    try:
        model = make()
    except (Exception, SystemExit) as cause:
        raise FactoryRefusedError(f"learners.{name}: {factory} raised {_where(cause)}") from cause
    if reason := unsuited(model, labels.task):
        raise FactoryRefusedError(f"learners.{name}: {factory} {reason}")
    learner = RiverLearner(model, labels, factory=factory, types=types, weighted=not ignore_weights, fresh=True)
    try:
        again = learner.load(learner.save())
    except Exception as cause:
        raise FactoryRefusedError(f"learners.{name}: {factory} cannot be saved and loaded: {cause}") from cause
    if again.state() != learner.state():
        raise FactoryRefusedError(f"learners.{name}: {factory} comes back different from a save and a load")
    if reason := trial(make(), labels):
        raise FactoryRefusedError(f"learners.{name}: the model of {factory} {reason}")
    if weights_matter and not ignore_weights and not weights_count(make, labels.task):
        raise FactoryRefusedError(
            f"learners.{name}: event.weight is set, and {type(final(model)).__name__} ignores weights. Choose a "
            f"learner that takes them, or set learners.{name}.ignore_weights = true"
        )
    return learner


def _where(cause: BaseException) -> str:
    """An error of the operator's own module, with file and line."""
    if isinstance(cause, SyntaxError):
        return f"{type(cause).__name__}: {cause}"
    lines = traceback.extract_tb(cause.__traceback__)
    last = f" ({lines[-1].filename}, line {lines[-1].lineno})" if lines else ""
    return f"{type(cause).__name__}: {cause}{last}"


def imported(factory: str) -> Callable[[], Any]:
    """Return the function that a factory names; :class:`FactoryRefusedError` says why there is none."""
    module, _, function = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as cause:
        raise FactoryRefusedError(
            f"factory {factory!r} cannot be imported: {cause}. Write it as module:function; "
            "a file model.py beside the configuration is the module model"
        ) from cause
    except (Exception, SystemExit) as cause:
        raise FactoryRefusedError(f"the module of factory {factory!r} cannot be imported: {_where(cause)}") from cause
    if not callable(make):
        raise FactoryRefusedError(
            f"factory {factory!r} is {_thing(make)}, and not a function: every start needs a fresh one. Write "
            f"def {function}(): return …, with what makes it behind return"
        )
    return make  # type: ignore[no-any-return]


def _thing(found: Any) -> str:
    return f"a {type(found).__name__} that is made already" if isinstance(found, base.Estimator) else f"{found!r:.50}"
