"""A value that is none of those allowed, or of another kind, is told what to write."""

import os
import pty
import re
import signal
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from support.lineages import Folder, wait_for
from support.samples import numbers

from learners.errors import FactoryRefusedError
from learners.labels import Labels
from learners.river.factory import build
from stream.config import check
from stream.errors import ConfigError
from stream.settings import Config

BASE: dict[str, Any] = {
    "name": "x", "task": "binary", "source": {"kind": "files"},
    "learners": {"a": {"kind": "vw", "role": "champion"}}, "event": {"types": {"f": "text"}},
}  # fmt: skip


def choices(struct: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Every key of the configuration that allows a few values, and which."""
    for field in msgspec.structs.fields(struct):
        kind, here = field.type, (*path, field.name)
        if typing.get_origin(kind) is dict:
            kind, here = typing.get_args(kind)[1], (*here, "a" if field.name == "learners" else "f")
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from choices(kind, here)
        elif typing.get_origin(kind) is Literal:
            yield here, typing.get_args(kind)


ALL = list(choices(Config))


def test_the_table_is_whole() -> None:
    """Those that everybody meets are in it."""
    keys = {".".join(path) for path, _ in ALL}
    assert keys >= {"task", "source.kind", "learners.a.kind", "learners.a.role", "event.types.f", "guard.moved"}


def refused(path: tuple[str, ...], value: Any) -> str:
    """What is said of a value at a key, which it names."""
    table: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(BASE))
    place = table
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value
    with pytest.raises(ConfigError) as error:
        check(table, Path())
    said = str(error.value)
    assert said.startswith(".".join(path))
    return said


@pytest.mark.parametrize(("path", "allowed"), ALL, ids=".".join)
@pytest.mark.parametrize("value", ["nonsense", 7, ["binary"], True])
def test_another_value_is_told_which_are_allowed(path: tuple[str, ...], allowed: tuple[str, ...], value: Any) -> None:
    """By the key, whatever the value's type."""
    said = refused(path, value)
    assert all(one in said for one in allowed)


UNIONS = (typing.Union, types.UnionType)


def words_or_numbers(struct: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of the configuration that takes a word of a few, or a number."""
    for field in msgspec.structs.fields(struct):
        kind, here = field.type, (*path, field.name)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from words_or_numbers(kind, here)
        elif typing.get_origin(kind) in UNIONS and any(
            typing.get_origin(one) is Literal for one in typing.get_args(kind)
        ):
            yield here, kind


BOTH = list(words_or_numbers(Config))


@pytest.mark.parametrize(("path", "kind"), BOTH, ids=[".".join(path) for path, _ in BOTH])
@pytest.mark.parametrize("value", ["nonsense", "0.5", 1.5e12, -7.5, True, [1], {}])
def test_a_word_or_a_number_is_told_both(path: tuple[str, ...], kind: Any, value: Any) -> None:
    """The words, and the ends of the numbers, by the key."""
    said = refused(path, value)
    words = [
        word for one in typing.get_args(kind) if typing.get_origin(one) is Literal for word in typing.get_args(one)
    ]
    assert all(f'"{word}"' in said for word in words)
    assert re.search("a number (above|at least) .* and (below|at most) ", said)


def test_some_keys_take_a_word_or_a_number() -> None:
    """And what they take is taken."""
    assert ("guard", "sample") in [path for path, _ in BOTH]
    for value in ("auto", 0.5, 1):
        assert check({**BASE, "guard": {"sample": value}}, Path()).guard.sample == value
    with pytest.raises(ConfigError, match='known: a, or "auto"'):
        check({**BASE, "champion": "b"}, Path())


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [("task", "classification", "did you mean binary or multiclass?"), ("task", "Binary", "did you mean binary?"),
     ("task", "regresion", "did you mean regression?")],
)  # fmt: skip
def test_what_people_write_is_understood(key: str, value: str, meant: str) -> None:
    """Another case, a letter that is missing, another word."""
    with pytest.raises(ConfigError, match=meant.replace("?", r"\?")):
        check({**BASE, key: value}, Path())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "def f(): return LogisticRegression",
            r"gave the class LogisticRegression.*write return LogisticRegression\(\)",
        ),
        ("def f(): LogisticRegression()", "gave nothing: end it with return"),
        ("def g(): return LogisticRegression()\ndef f(): return g", r"gave the function g.*write return g\(\)"),
        ("f = LogisticRegression()", r"is a LogisticRegression that is made already.*def f\(\): return"),
        ("f = 7", r"is 7, and not a function.*def f\(\): return"),
        ("def f(): return 7", "gave a int; task 'binary' needs a river Classifier"),
    ],
)
def test_a_factory_that_is_none_is_told_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    """A class or an instance where a function is wanted, and its relatives."""
    name = f"made_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(f"from river.linear_model import LogisticRegression\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FactoryRefusedError, match=said):
        build(f"{name}:f", Labels("binary"), name="a")


@pytest.mark.parametrize(
    ("settings", "learners", "name"),
    [
        ({}, {"mine": {"kind": "vw", "args": "--daemon", "role": "champion"}}, "learners.mine"),
        ({}, {"mine": {"kind": "vw", "args": "--nonsense 3", "role": "champion"}}, "learners.mine"),
        ({"task": "multiclass"}, {"mine": {"kind": "vw", "args": "", "role": "champion"}}, "learners.mine"),
    ],
)
def test_what_vowpal_wabbit_refuses_names_the_learner(
    folder: Callable[..., Folder], settings: dict[str, Any], learners: Any, name: str
) -> None:
    """And no other."""
    here = folder(learners=learners | {"other": {"kind": "river", "factory": "model:bayes"}}, **settings)
    here.write(numbers(10))
    assert name in here.run("train", "--until-end", code=2).stderr


def test_a_form_of_logs_that_there_is_none_of() -> None:
    """HOLDFAST_LOG, too."""
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", "status"], env={**os.environ, "HOLDFAST_LOG": "xml"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "HOLDFAST_LOG = xml is not allowed: write console, json" in done.stderr


def test_who_presses_ctrl_c_is_told_what_is_waited_for(folder: Callable[..., Folder]) -> None:
    """Once for each process that ends; in a terminal."""
    here = folder()
    here.write(numbers(100))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(here._command("train"), cwd=here.path, stderr=theirs, stdout=theirs)
    os.close(theirs)
    wait_for(lambda: here.lineage.numbers and here.lineage.numbers[-1] > 0, 60)
    process.send_signal(signal.SIGINT)
    said = b""
    while b"waiting: what was read is learnt, and a last snapshot written" not in said:
        said += os.read(ours, 4096)
    os.close(ours)
    process.wait(30)
