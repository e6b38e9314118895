"""Trying again with longer and longer waits: the one loop for whatever is away and comes back."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_FIRST_SECONDS = 0.2


def patiently(
    action: Callable[[], T],
    away: type[Exception] | tuple[type[Exception], ...],
    trouble: Callable[[Exception, float], None],
    sleep: Callable[[float], object],
    most_seconds: float = 10.0,
) -> T:
    """Do it, and again while it raises one of ``away``; return what it returns at last.

    ``trouble`` is told what was raised and for how many seconds is waited; it gives up by raising.
    """
    delay = _FIRST_SECONDS
    while True:
        try:
            return action()
        except away as cause:
            trouble(cause, delay)
        sleep(delay)
        delay = min(2 * delay, most_seconds)
