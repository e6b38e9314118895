"""Loading pickles of River state without running anything else.

A pickle is a program. This loader answers only the exact (module, name) pairs of ``river_types.txt`` and those
that ``learners.NAME.types`` adds; no pattern, no prefix, and ``builtins.getattr`` is replaced by one that gives
only public methods of allowed types. What could fill the memory or never end from a few bytes is bounded.
"""

import importlib
import importlib.resources
import io
import pickle
from collections.abc import Callable, Collection, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np

from learners.errors import StateRefusedError, UnsafeStateError

#: elements that one call may make
_MOST = 10_000_000
#: Methods that River's estimators keep in their state, beyond public ones of River's own types: each exact.
_METHODS = {
    "builtins.str": {"lower"},
    "random.Random": {"gauss"},
    "river.drift.dummy.DummyDriftDetector": {"_fixed_trigger", "_random_trigger"},
    "river.drift.page_hinkley.PageHinkley": {"_test_both", "_test_down", "_test_up"},
    "river.ensemble.bagging.LeveragingBaggingClassifier": {
        "_leveraging_bag", "_leveraging_bag_half", "_leveraging_bag_me", "_leveraging_bag_wt", "_leveraging_subag",
    },
    "river.feature_extraction.kernel_approx.RBFSampler": {"_random_weights"},
    "river.linear_model.pa.PAClassifier": {"_calc_tau_0", "_calc_tau_1", "_calc_tau_2"},
    "river.linear_model.pa.PARegressor": {"_calc_tau_0", "_calc_tau_1", "_calc_tau_2"},
    "river.multiclass.occ.OutputCodeClassifier": {"_next_code"},
    "river.preprocessing.random_projection.GaussianRandomProjector": {"_rand_gauss"},
    "river.preprocessing.random_projection.SparseRandomProjector": {"_rand_weights_for_feature"},
}  # fmt: skip


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


def _iterator(one: Any) -> Iterator[Any]:
    """``iter`` of one argument: with two it calls the first for ever."""
    return iter(one)


def _range(*ends: int) -> range:
    found = range(*ends)
    _refuse_many(len(found))
    return found


def _bytes(*what: Any) -> bytearray:
    if what and isinstance(what[0], int):
        _refuse_many(what[0])
    return bytearray(*what)


def _ones(shape: Any, *more: Any) -> Any:
    _refuse_many(int(np.prod(shape)))
    return np.ones(shape, *more)


def _refuse_many(count: int) -> None:
    if not 0 <= count <= _MOST:
        raise UnsafeStateError(f"the state asks for {count:,} elements at once; no model does")


#: stands in for what makes much of little, or does not end
_BOUNDED: dict[tuple[str, str], Callable[..., Any]] = {
    ("builtins", "iter"): _iterator,
    ("builtins", "range"): _range,
    ("builtins", "bytearray"): _bytes,
    ("numpy", "ones"): _ones,
}


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
        if (module, name) in _BOUNDED:
            return _BOUNDED[module, name]
        return attrgetter(name)(importlib.import_module(module))

    def _public_method(self, owner: Any, name: Any, *default: Any) -> Any:  # noqa: ARG002  getattr's own shape
        kind = owner if isinstance(owner, type) else type(owner)
        known = (kind.__module__, kind.__qualname__) in self._allowed and kind.__module__.startswith("river.")
        public = isinstance(name, str) and not name.startswith("_") and "." not in name
        if (known and public) or name in _METHODS.get(f"{kind.__module__}.{kind.__qualname__}", ()):
            return getattr(owner, name)
        raise UnsafeStateError(
            f"the state asks for {name!r} of {kind.__module__}.{kind.__qualname__}; only public methods of River's own "
            "types are given"
        )
