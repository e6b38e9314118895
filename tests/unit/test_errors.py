"""Errors: the trees in the documentation are those of the code, and each keeps its class when it crosses a process."""

import inspect
import re
from types import ModuleType

import pytest

from learners import errors as of_learners
from snapshots import errors as of_snapshots
from stream import errors as of_stream
from stream.learner.wire import error_of


def classes(module: ModuleType) -> list[type[Exception]]:
    return [one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__]


@pytest.mark.parametrize("module", [of_learners, of_snapshots, of_stream], ids=lambda module: module.__name__)
def test_the_tree_of_errors_is_that_of_the_code(module: ModuleType) -> None:
    """Each class stands in it, below the one that it extends."""
    above: list[str] = []
    drawn = {}
    for line in (module.__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]+)(\w+Error)\b", line)
        if found is not None:
            depth = (len(found[1]) - 4) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
    assert drawn == {one.__name__: one.__bases__[0].__name__ for one in classes(module)}


@pytest.mark.parametrize(
    "kind", [one for module in (of_learners, of_snapshots, of_stream) for one in classes(module)],
    ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_an_error_that_crosses_a_process_keeps_its_class(kind: type[Exception]) -> None:
    """Also one whose constructor asks for more than what is said."""
    crossed = error_of(kind.__name__, "what happened")
    assert (type(crossed), str(crossed)) == (kind, "what happened")


def test_an_error_of_others_crosses_as_one_of_ours() -> None:
    """A library's class is not known on the other side."""
    assert type(error_of("ZeroDivisionError", "by zero")) is of_stream.StreamError
