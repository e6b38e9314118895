"""A bound on the memory that reading a file may take: a few bytes of it can ask for gigabytes."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

_ROOM = 1 << 29
_TIMES = 60


def _taken() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split(" ", 1)[0])
    except (OSError, ValueError):
        return 0
    return pages * resource.getpagesize()


@contextlib.contextmanager
def bounded(size: int) -> Iterator[None]:
    """Let the address space grow by no more than 512 MiB and 60 times ``size`` bytes; beyond it MemoryError is raised.

    Where the kernel does not tell how much is taken, nothing is bounded.
    """
    taken = _taken()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + _ROOM + _TIMES * size
    bounds = [limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY]
    if not taken:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
