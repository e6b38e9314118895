"""What River's state holds beyond River's own classes, and the one way in which each is built.

Arrays are plain numbers: dtype, shape and bytes are checked and put together here, and no code of numpy's pickling is
run. A rule takes what was read (:class:`learners.river.pickle_as_data.Made`) and returns the real thing.
"""

import datetime as dt
import functools
import math
import operator
import random
import statistics
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from learners.errors import UnsafeStateError
from learners.river.pickle_as_data import Made, Named, is_name

_MOST = 10_000_000
#: classes and functions that River keeps as values: what a defaultdict makes, what a tokeniser calls
VALUES = {
    *(("builtins", name) for name in ("bool", "complex", "dict", "float", "frozenset", "int", "list", "max", "min",
                                      "object", "set", "str", "tuple")),
    *(("collections", name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
    *(("datetime", name) for name in ("date", "datetime", "timedelta", "timezone")),
    ("copy", "deepcopy"), ("numbers", "Number"), ("numpy", "array"), ("numpy", "float64"), ("numpy", "int64"),
    ("numpy", "ndarray"), ("numpy", "ones"), ("random", "Random"), ("statistics", "NormalDist"),
}  # fmt: skip
#: Methods that River's estimators keep in their state, beyond public ones of River's own types: each exact.
METHODS = {
    "river.bandit.thompson.ThompsonSampling": {"_clone_reward_obj_with_seed"},
    "river.forest.online_extra_trees.ExtraTrees": {
        "_detection_mode_all", "_detection_mode_drop", "_detection_mode_off",
    },
    "builtins.str": {"lower"},
    "random.Random": {"gauss"},
    "river.drift.dummy.DummyDriftDetector": {"_fixed_trigger", "_random_trigger"},
    "river.drift.page_hinkley.PageHinkley": {
        "_test_both", "_test_decrease", "_test_down", "_test_increase", "_test_up",
    },
    "river.ensemble.bagging.LeveragingBaggingClassifier": {
        "_leveraging_bag", "_leveraging_bag_half", "_leveraging_bag_me", "_leveraging_bag_wt", "_leveraging_subag",
    },
    "river.feature_extraction.kernel_approx.RBFSampler": {"_random_weights"},
    "river.linear_model.pa.PAClassifier": {"_calc_tau_0", "_calc_tau_1", "_calc_tau_2"},
    "river.linear_model.pa.PARegressor": {"_calc_tau_0", "_calc_tau_1", "_calc_tau_2"},
    "river.preprocessing.scale_target.TargetMinMaxScaler": {"_scale", "_unscale"},
    "river.preprocessing.scale_target.TargetStandardScaler": {"_scale", "_unscale"},
    "river.multiclass.occ.OutputCodeClassifier": {"_next_code"},
    "river.naive_bayes.gaussian.GaussianNB": {"_make_gaussian"},
    "river.tree.splitter.ebst_splitter.EBSTNode": {"_update_estimator_multivariate", "_update_estimator_univariate"},
    "river.tree.splitter.nominal_splitter_reg.NominalSplitterReg": {
        "_update_estimator_multivariate", "_update_estimator_univariate",
    },
    "river.tree.splitter.qo_splitter.Slot": {"_update_estimator_multivariate", "_update_estimator_univariate"},
    "river.preprocessing.random_projection.GaussianRandomProjector": {"_rand_gauss"},
    "river.preprocessing.random_projection.SparseRandomProjector": {"_rand_weights_for_feature"},
}  # fmt: skip
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
_DTYPE_STATE = (None, None, None, -1, -1, 0)
_BITS = {"MT19937", "PCG64"}


class Builds(Protocol):
    """What a rule asks of who builds."""

    def of(self, value: Any) -> Any:
        """The real value of what was read."""

    def note(self, read_: Any, built: Any) -> Any:
        """Remember what was built for what was read."""

    def class_of(self, name: Any) -> type:
        """The class of a name."""

    def instance(self, made: Made, name: Named, args: tuple[Any, ...]) -> Any:
        """An object of a River class."""


def refuse(what: str) -> UnsafeStateError:
    """What to raise for something that no model's state holds."""
    return UnsafeStateError(f"the state asks for {what}, as no saved model does; nothing of it was run")


def _check(right: object, what: str) -> None:
    if not right:
        raise refuse(what)


def _bare(made: Made, *, state: bool = False) -> None:
    """Refuse state, items or entries of what has none."""
    _check(made.called and not made.items and not made.entries and (state or made.state is None), "more than it can be")


# Collections ---------------------------------------------------------------------------------------------------------


def _whole(build: Builds, made: Made, built: Any) -> Any:
    """Fill a collection with its items and entries."""
    build.note(made, built)
    _check(made.called and made.state is None, f"a {type(built).__name__} with state")
    for item in made.items:
        built.append(build.of(item))
    for key, value in made.entries:
        built[build.of(key)] = build.of(value)
    return built


def _counter(build: Builds, made: Made) -> Any:
    _check(len(made.args) <= 1 and all(type(one) is dict for one in made.args), "a Counter of no dict")
    built: Counter[Any] = Counter()
    if made.args:
        dict.update(built, build.of(made.args[0]))
    return _whole(build, made, built)


def _ordered(build: Builds, made: Made) -> Any:
    _check(not made.args and not made.items, "an OrderedDict with arguments")
    return _whole(build, made, OrderedDict())


def _defaultdict(build: Builds, made: Made) -> Any:
    _check(len(made.args) <= 1 and not made.items, "a defaultdict with arguments")
    built = build.note(made, defaultdict(None))
    built.default_factory = build.of(made.args[0]) if made.args else None
    return _whole(build, made, built)


def _deque(build: Builds, made: Made) -> Any:
    first, longest = (*made.args, (), None)[:2] if len(made.args) < 2 else made.args
    _check(first == () and not made.entries and (longest is None or type(longest) is int), "a deque with arguments")
    return _whole(build, made, deque(maxlen=longest))


def _set(build: Builds, made: Made) -> Any:
    _bare(made)
    _check(len(made.args) == 1 and type(made.args[0]) in (list, tuple), "a set of no list")
    kind = frozenset if made.pair[1] == "frozenset" else set
    return build.note(made, kind([build.of(one) for one in made.args[0]]))


def _numbers(kind: type, *types: type) -> Callable[[Builds, Made], Any]:
    """A rule for what is called with plain arguments of these types."""

    def rule(build: Builds, made: Made) -> Any:
        _bare(made)
        args = [build.of(one) for one in made.args]
        _check(len(args) <= 8 and all(isinstance(one, types) for one in args), f"the arguments of {kind.__name__}")
        return build.note(made, kind(*args))

    return rule


def _range(build: Builds, made: Made) -> range:
    _bare(made)
    _check(1 <= len(made.args) <= 3 and all(type(one) is int for one in made.args), "a range of no numbers")
    found = range(*made.args)
    _check(len(found) <= _MOST, f"{len(found):,} elements at once")
    return build.note(made, found)  # type: ignore[no-any-return]


def _iterator(build: Builds, made: Made) -> Any:
    _bare(made, state=True)
    _check(len(made.args) == 1 and type(made.args[0]) in (list, tuple), "an iterator of no list")
    _check(made.state is None or type(made.state) is int, "the place of an iterator")
    built = build.note(made, iter(build.of(made.args[0])))
    if made.state is not None:
        built.__setstate__(made.state)
    return built


def _bytes(build: Builds, made: Made) -> Any:
    """Bytes as old protocols write them: as a text of Latin-1, or none."""
    _bare(made)
    if made.pair[1] == "bytes":
        _check(not made.args, "bytes with arguments")
        return b""
    _check(len(made.args) == 2 and type(made.args[0]) is str and made.args[1] == "latin1", "an encoding")
    return build.note(made, made.args[0].encode("latin-1"))


# Functions -----------------------------------------------------------------------------------------------------------


def _partial(build: Builds, made: Made) -> Any:
    _bare(made, state=True)
    state = made.state
    _check(len(made.args) == 1 and type(state) is tuple and len(state) == 4 and type(state[1]) is tuple
           and type(state[2]) is dict and not state[3], "a partial with more than function and arguments")  # fmt: skip
    function = build.of(state[0])
    _check(callable(function) and all(type(name) is str for name in state[2]), "a partial of what cannot be called")
    return build.note(made, functools.partial(function, *build.of(state[1]), **build.of(state[2])))


def _getter(build: Builds, made: Made) -> Any:
    """What takes one feature out of an event, by its name."""
    _bare(made)
    _check(len(made.args) == 1 and type(made.args[0]) is str, "what takes several things out of another")
    return build.note(made, operator.itemgetter(made.args[0]))


def _method(build: Builds, made: Made) -> Any:
    """A public method of a River type, or one of a fixed list, as a value; it is not called."""
    _bare(made)
    _check(len(made.args) == 2 and type(made.args[1]) is str, "an attribute")
    owner, name = build.of(made.args[0]), made.args[1]
    kind = owner if isinstance(owner, type) else type(owner)
    public = kind.__module__.startswith("river.") and not name.startswith("_") and "." not in name
    if not public and name not in METHODS.get(f"{kind.__module__}.{kind.__qualname__}", ()):
        raise UnsafeStateError(
            f"the state asks for {name!r} of {kind.__module__}.{kind.__qualname__}; only public methods of River's own "
            "types are given"
        )
    _check(callable(getattr(kind, name, None)), f"{name!r}, which is no method")
    return build.note(made, getattr(owner, name))


def _reconstructed(build: Builds, made: Made) -> Any:
    """An object as protocols 0 and 1 write it."""
    kind, base, state = made.args if len(made.args) == 3 else (None, None, 0)
    _check(is_name(kind) and is_name(base) and base.pair == ("builtins", "object") and state is None, "an old object")
    return build.instance(made, kind, ())  # type: ignore[arg-type]


# Arrays --------------------------------------------------------------------------------------------------------------


def _dtype(read: Any) -> np.dtype[Any]:
    """A plain numeric dtype; structured, of objects, of dates or with metadata it is none of a model's."""
    _check(isinstance(read, Made) and read.pair == ("numpy", "dtype"), "an array without a dtype")
    code, state = (read.args or ("",))[0], read.state
    _check(type(code) is str and code in _DTYPES and read.called, f"an array of {code!r:.40}")
    order = "="
    if state is not None:
        _check(type(state) is tuple and len(state) == 8 and state[0] == 3 and state[2:] == _DTYPE_STATE, "a dtype")
        order = state[1]
    _check(order in ("<", ">", "|", "="), f"the byte order {order!r:.40}")
    return np.dtype(("" if order == "|" else order) + code)


def _dtype_value(build: Builds, made: Made) -> Any:
    return build.note(made, _dtype(made))


def _array(data: Any, kind: np.dtype[Any], shape: Any, order: Any) -> npt.NDArray[Any]:
    """An array of dtype, shape and bytes that fit each other."""
    _check(type(data) in (bytes, bytearray) and type(shape) is tuple and order in ("C", "F"), "an array")
    _check(all(type(one) is int and one >= 0 for one in shape), f"the shape {shape!r:.60}")
    _check(math.prod(shape) * kind.itemsize == len(data), f"the shape {shape!r:.60} for {len(data)} bytes")
    return np.frombuffer(bytearray(data), kind).reshape(shape, order=order)


def _buffer(build: Builds, made: Made) -> Any:
    _bare(made)
    _check(len(made.args) == 4, "an array")
    data, kind, shape, order = made.args
    return build.note(made, _array(data, _dtype(kind), shape, order))


def _old_array(build: Builds, made: Made) -> Any:
    _bare(made, state=True)
    _check(type(made.state) is tuple and len(made.state) == 5 and type(made.state[3]) is bool, "an array")
    _, shape, kind, fortran, data = made.state
    if isinstance(data, Made):
        data = build.of(data)
    return build.note(made, _array(data, _dtype(kind), shape, "F" if fortran else "C"))


def _scalar(build: Builds, made: Made) -> Any:
    _bare(made)
    _check(len(made.args) == 2, "a number")
    data = build.of(made.args[1])
    return build.note(made, _array(data, _dtype(made.args[0]), (), "C")[()])


# Random numbers ------------------------------------------------------------------------------------------------------


def _random(build: Builds, made: Made) -> Any:
    _bare(made, state=True)
    _check(not made.args and type(made.state) is tuple, "a random generator")
    built = build.note(made, random.Random())
    built.setstate(made.state)
    return built


def _bits(build: Builds, made: Made) -> Any:
    _bare(made, state=True)
    name = made.args[0] if made.args else None
    _check(len(made.args) == 1 and is_name(name) and name.pair[1] in _BITS, "a bit generator")
    bits: Any = getattr(np.random, name.pair[1])(0)  # type: ignore[union-attr]
    _check(type(made.state) is tuple and len(made.state) == 2, "the state of a bit generator")
    state, seeds = build.of(made.state[0]), build.of(made.state[1])
    _check_bits(state)
    _check(seeds is None or isinstance(seeds, np.random.SeedSequence), "the seeds of a bit generator")
    bits.__setstate__((state, seeds))
    return build.note(made, bits)


def _check_bits(state: Any) -> None:
    """Refuse a state whose place lies outside of its numbers: numpy would read there."""
    _check(type(state) is dict and type(state.get("state")) is dict and type(state.get("bit_generator")) is str, "bits")
    inner = state["state"]
    if state["bit_generator"] == "MT19937":
        key, pos = inner.get("key"), inner.get("pos")
        right = isinstance(key, np.ndarray) and key.shape == (624,) and key.dtype == np.uint32
        _check(right and type(pos) is int and 0 <= pos <= 624, "the place of a random generator")
    else:
        _check(all(type(one) is int and one >= 0 for one in inner.values()), "the numbers of a random generator")


def _random_state(build: Builds, made: Made) -> Any:
    _bare(made, state=True)
    bits = build.of(made.args[0]) if len(made.args) == 1 else None
    _check(isinstance(bits, np.random.BitGenerator), "a random generator without bits")
    if made.pair[1] == "__generator_ctor":
        _check(made.state is None, "a random generator with state")
        return build.note(made, np.random.Generator(bits))  # type: ignore[arg-type]
    state = build.of(made.state)
    _check_bits(state)
    built = np.random.RandomState(bits)
    built.__setstate__(state)
    return build.note(made, built)


def _seeds(build: Builds, made: Made) -> Any:
    """A sequence of seeds, made again from what it was made of; its pool follows from that."""
    _bare(made, state=True)
    state = build.of(made.state)
    _check(type(state) is tuple and len(state) >= 5, "a sequence of seeds")
    entropy, children, _, size, spawn = state[:5]
    _check(type(size) is int and 4 <= size <= 1024 and type(children) is int and type(spawn) is tuple, "seeds")
    return build.note(
        made, np.random.SeedSequence(entropy, spawn_key=spawn, pool_size=size, n_children_spawned=children)
    )


def _sorted(build: Builds, made: Made) -> Any:
    from sortedcontainers import SortedList  # noqa: PLC0415  River's own dependency, imported with it

    _bare(made)
    _check(made.args and type(made.args[0]) in (list, tuple), "a sorted list of no list")
    return build.note(made, SortedList(build.of(list(made.args[0])), *map(build.of, made.args[1:2])))


def _normal(build: Builds, made: Made) -> Any:
    _check(not made.args and type(made.state) is tuple and len(made.state) == 2, "a normal distribution")
    _check(all(isinstance(one, (int, float)) for one in made.state), "a normal distribution of no numbers")
    return build.note(made, statistics.NormalDist(*made.state))


_datetimes = (bytes, int, str, dt.timezone, dt.timedelta)
RULES: dict[tuple[str, str], Callable[[Any, Made], Any]] = {
    ("_codecs", "encode"): _bytes,
    ("builtins", "bytearray"): _numbers(bytearray, bytes),
    ("builtins", "bytes"): _bytes,
    ("builtins", "complex"): _numbers(complex, float, int),
    ("builtins", "frozenset"): _set,
    ("builtins", "getattr"): _method,
    ("builtins", "iter"): _iterator,
    ("builtins", "range"): _range,
    ("builtins", "set"): _set,
    ("builtins", "slice"): _numbers(slice, int, type(None)),
    ("collections", "Counter"): _counter,
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): _defaultdict,
    ("collections", "deque"): _deque,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("datetime", "date"): _numbers(dt.date, *_datetimes),
    ("datetime", "datetime"): _numbers(dt.datetime, *_datetimes),
    ("datetime", "timedelta"): _numbers(dt.timedelta, *_datetimes),
    ("datetime", "timezone"): _numbers(dt.timezone, *_datetimes),
    ("functools", "partial"): _partial,
    ("numpy", "dtype"): _dtype_value,
    ("numpy._core.multiarray", "_reconstruct"): _old_array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _buffer,
    ("numpy.core.multiarray", "_reconstruct"): _old_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _buffer,
    ("numpy.random._pickle", "__bit_generator_ctor"): _bits,
    ("numpy.random._pickle", "__generator_ctor"): _random_state,
    ("numpy.random._pickle", "__randomstate_ctor"): _random_state,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _seeds,
    ("operator", "itemgetter"): _getter,
    ("random", "Random"): _random,
    ("sortedcontainers.sortedlist", "SortedList"): _sorted,
    ("statistics", "NormalDist"): _normal,
}
