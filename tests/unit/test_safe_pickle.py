"""Promise 9: a model file is never a way to run code."""

import builtins
import collections
import functools
import os
import pickle
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from river import linear_model, preprocessing

from learners.errors import StateRefusedError, UnsafeStateError
from learners.safe_pickle import loads, river_types


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
