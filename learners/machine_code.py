"""Functions compiled by numba (extra ``fast``); whoever imports this has it installed."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(signature: str | list[str]) -> Callable[[Callable[..., Any]], Any]:
    """Compile for these signatures at once, and keep the machine code beside the module, or in numba's own cache.

    Where neither folder may be written it is compiled at each start, which takes some seconds.
    """

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=True, nogil=True)(function)
        except RuntimeError:  # there is no place for a cache
            return numba.njit(signature, nogil=True)(function)

    return compile_


def inlined(function: Callable[..., Any]) -> Any:
    """Make a function part of every compiled one that calls it: a call costs as much as reading a number."""
    return numba.njit(inline="always")(function)
