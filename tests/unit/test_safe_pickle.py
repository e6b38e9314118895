"""Promise 9: a model file is never a way to run code."""

import builtins
import collections
import functools
import os
import pickle
import random
import re
import subprocess
from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np
import pytest
from river import compose, linear_model, preprocessing

from learners.errors import LearnersError, StateRefusedError, UnsafeStateError
from learners.event import Features
from learners.river.imported import adopted
from learners.river.learner import RiverLearner
from learners.river.safe_pickle import loads, river_types

#: names in a model that nothing is asked of when it answers and learns
_UNASKED = {
    "_y_name", "intercept_init", "learn_one", "predict_proba_one", "score_one", "transform_one", "weight_neg",
    "window_size",
}  # fmt: skip


class Reduced:
    """Pickles to a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def raw(module: str, name: str) -> bytes:
    """A pickle that names module.name by STACK_GLOBAL and calls it with ('x',)."""
    return (
        b"\x80\x04"
        + b"".join(pickle.SHORT_BINUNICODE + bytes([len(s)]) + s.encode() for s in (module, name))
        + (b"\x93\x8c\x01x\x85R.")
    )


HOSTILE: dict[str, bytes] = {
    "os.system": pickle.dumps(Reduced(os.system, "touch ran")),
    "subprocess": pickle.dumps(Reduced(subprocess.call, ["touch", "ran"])),
    "eval": pickle.dumps(Reduced(builtins.eval, "open('ran','w')")),
    "exec": pickle.dumps(Reduced(builtins.exec, "open('ran','w')")),
    "open": pickle.dumps(Reduced(builtins.open, "ran", "w")),
    "import": pickle.dumps(Reduced(builtins.__import__, "os")),
    "nested": pickle.dumps([{"a": (1, Reduced(os.system, "touch ran"))}]),
    "state": pickle.dumps({"model": preprocessing.StandardScaler(), "x": Reduced(os.mkdir, "ran")}),
    "dotted": raw("river.base", "os.system"),
    "dotted river": raw("river.linear_model.log_reg", "LogisticRegression.__init__.__globals__"),
    "river function": raw("river.utils.pretty", "print_table"),
    "river datasets": raw("river.datasets.base", "RemoteDataset"),
    "module": raw("river", "base"),
    "loads": pickle.dumps(Reduced(pickle.loads, b"cos\nsystem\n(S'touch ran'\ntR.")),
    "getattr of os": pickle.dumps(Reduced(getattr, linear_model.LogisticRegression, "__init__")),
    "getattr private": pickle.dumps(Reduced(getattr, linear_model.LogisticRegression(), "_fit")),
    "getattr globals": pickle.dumps(Reduced(getattr, preprocessing.StandardScaler().learn_one, "__globals__")),
    "getattr dotted": pickle.dumps(Reduced(getattr, preprocessing.StandardScaler(), "learn_one.__globals__")),
    "getattr foreign": pickle.dumps(Reduced(getattr, collections.Counter(), "update")),
    "partial": pickle.dumps(functools.partial(os.system, "touch ran")),
    "defaultdict": pickle.dumps(collections.defaultdict(os.getcwd)),
    "compile": pickle.dumps(Reduced(compile, "open('ran','w')", "x", "exec")),
    "breakpoint": pickle.dumps(Reduced(breakpoint)),
    "input": pickle.dumps(Reduced(input)),
    "setattr": pickle.dumps(Reduced(setattr, preprocessing.StandardScaler(), "learn_one", 1)),
    "vars": pickle.dumps(Reduced(vars, preprocessing.StandardScaler())),
    "type": pickle.dumps(Reduced(type, "New", (), {})),
    "map": pickle.dumps(Reduced(map, os.system, ["touch ran"])),
    "filter": pickle.dumps(Reduced(filter, os.system, ["touch ran"])),
    "popen": pickle.dumps(Reduced(os.popen, "touch ran")),
    "posix": raw("posix", "system"),
    "importlib": raw("importlib", "import_module"),
    "runpy": raw("runpy", "run_path"),
    "ctypes": raw("ctypes", "CDLL"),
    "code": raw("types", "CodeType"),
    "function": raw("types", "FunctionType"),
    "attrgetter": raw("operator", "attrgetter"),
    "methodcaller": raw("operator", "methodcaller"),
    "reduce": raw("functools", "reduce"),
    "shutil": raw("shutil", "rmtree"),
    "numpy load": raw("numpy", "load"),
    "numpy vectorize": raw("numpy", "vectorize"),
    "numpy testing": raw("numpy.testing._private.utils", "runstring"),
    "timeit": raw("timeit", "timeit"),
    "pdb": raw("pdb", "run"),
    "webbrowser": raw("webbrowser", "open"),
    "own loader": raw("learners.river.safe_pickle", "importlib.import_module"),
    "own process": raw("stream.guard.notify", "subprocess.run"),
    "dotted builtin": raw("builtins", "dict.fromkeys"),
    "dotted partial": raw("functools", "partial.__init_subclass__"),
    "subclasses": pickle.dumps(Reduced(getattr, object, "__subclasses__")),
    "getattr of getattr": pickle.dumps(Reduced(getattr, getattr, "__self__")),
    "partial of getattr": pickle.dumps(Reduced(functools.partial(getattr, object), "__subclasses__")),
    "chain of getattr": pickle.dumps(
        Reduced(getattr, Reduced(getattr, preprocessing.StandardScaler(), "learn_one"), "__func__")
    ),
    "iterator that calls for ever": pickle.dumps(Reduced(list, Reduced(iter, int, 1))),
    "memo of something else": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\ttouch ran\x85R.",
    "memo overwritten": b"\x80\x02cbuiltins\ndict\nq\x00cos\nsystem\nq\x00h\x00U\ttouch ran\x85R.",
    "memo that is not there": b"\x80\x04h\x09.",
    "extension code": b"\x80\x02\x82\x01.",
    "persistent id": b"Pos.system\n.",
    "new object of a function": b"\x80\x02cos\nsystem\nU\ttouch ran\x85\x81.",
    "build of a module": b"\x80\x02cos\nenviron\n}U\x04PATHU\x00sb.",
    "names that are no text": b"\x80\x04K\x01K\x02\x93.",
    "huge bytes": b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.",
    "huge text": b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"x.",
    "huge frame": b"\x80\x04\x95" + (1 << 60).to_bytes(8, "little") + b"N.",
    "huge list": pickle.dumps(Reduced(list, Reduced(range, 10**12))),
    "huge array": pickle.dumps(Reduced(np.ones, (10**7, 10**7))),
    "huge bytearray": pickle.dumps(Reduced(bytearray, 10**13)),
    "deep": b"\x80\x04" + b"]" * 10 + b"(" * 100_000 + b"0" * 3 + b"a.",
    "old global": b"cos\nsystem\n(S'touch ran'\ntR.",
    "inst": b"(S'touch ran'\nios\nsystem\n.",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused_and_run_nothing(
    data: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, before anything of theirs is imported or called."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnsafeStateError, StateRefusedError)):
        loads(data)
    assert list(tmp_path.iterdir()) == []
    assert len(HOSTILE) >= 70


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x05.", pickle.dumps([1])[:-2]])
def test_what_is_no_pickle_is_refused_by_name(data: bytes) -> None:
    """Not with whatever pickle raises."""
    with pytest.raises(StateRefusedError):
        loads(data)


def test_the_list_is_exact_names() -> None:
    """No pattern, no module as a whole, nothing that runs code."""
    names = river_types()
    assert ("river.linear_model.log_reg", "LogisticRegression") in names
    assert not names & {("builtins", "eval"), ("builtins", "exec"), ("os", "system"), ("builtins", "__import__")}
    assert not [pair for pair in names if pair[0].startswith(("river.datasets", "river.stream", "os", "subprocess"))]


def test_names_of_ones_own_are_added_one_by_one() -> None:
    """learners.NAME.types, as module:Name."""
    data = pickle.dumps(collections.ChainMap())
    with pytest.raises(UnsafeStateError, match="collections:ChainMap"):
        loads(data)
    assert loads(data, ["collections:ChainMap"]) == collections.ChainMap()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (one, "Python's own")
        for one in ("os.system", "builtins.eval", "subprocess.Popen", "posix.system", "importlib.import_module")
    ]
    + [("__main__.Mine", "script that saved it")]
    + [(one, "add types = ") for one in ("model.Mine", "math.log", "statistics.median", "sklearn.base.clone")],
)
def test_a_name_that_is_not_on_the_list_is_refused_with_advice_that_holds(name: str, said: str) -> None:
    """Nobody is told to let in what runs anything."""
    module, _, last = name.rpartition(".")
    with pytest.raises(UnsafeStateError, match="allow-list") as refused:
        loads(b"c" + f"{module}\n{last}\n".encode() + b".")
    assert said in str(refused.value)
    assert ("types =" in str(refused.value)) == (said == "add types = ")


def _model(kind: str) -> Any:
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    found: Any = {
        "binary": numbers | linear_model.LogisticRegression(),
        "regression": (numbers + (compose.SelectType(str) | preprocessing.OneHotEncoder()))
        | linear_model.LinearRegression(),
    }[kind]
    draw = random.Random(1)
    for _ in range(60):
        x = {"a": draw.gauss(0, 1), "b": draw.gauss(0, 1), "c": draw.choice("xyz")}
        found.learn_one(x, x["a"] > 0 if kind == "binary" else x["a"])
    return found


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_a_damaged_file_is_not_imported(kind: str) -> None:
    """Cut off anywhere, a name of an attribute or class changed: one sentence, and no traceback."""
    model = _model(kind)
    data = pickle.dumps(model)
    damaged = [data[:at] for at in range(0, len(data), 17)]
    names = {one.decode() for one in re.findall(rb"\x8c.([A-Za-z_]{4,})", data, re.DOTALL)} - _UNASKED
    damaged += [data.replace(name.encode(), name[:-1].encode() + b"~") for name in sorted(names)]
    learner = RiverLearner.of(model, kind)  # type: ignore[arg-type]
    for one in damaged:
        with pytest.raises(LearnersError) as refused:
            adopted(learner, lambda one=one: loads(one))  # type: ignore[misc]
        assert "\n" not in str(refused.value)
    asked = Features.of({"a": 1.0, "b": -1.0, "c": "x"})
    assert adopted(learner, lambda: loads(data)).predict(asked) == learner.predict(asked)
