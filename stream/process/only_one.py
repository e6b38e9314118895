"""One lineage has one trainer, and one ``holdfast up``: before one begins, it looks whether another is alive."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snapshots import Store
from snapshots.errors import RefusedError
from stream.process.presence import FRESH_SECONDS, namespace, present

_EVERY_SECONDS = 0.25
_WHAT = {"trainer": "trainer", "up": "holdfast up"}


def refuse_company(
    store: Store, now: Callable[[], float], sleep: Callable[[float], None], stopping: Callable[[], bool],
    role: str = "trainer",
) -> None:  # fmt: skip
    """Raise :class:`RefusedError` when another process of this role and lineage is alive and goes on being it.

    One that ends just now is waited for, and so is the last word of one whose process cannot be seen from here: after
    ten seconds without another it is nobody's.
    """
    first: dict[str, float] = {}
    until = now() + 1.5 * FRESH_SECONDS
    while not stopping():
        others = [word for word in present(store, now()) if word["role"] == role and not _is_gone(word)]
        for word in others:
            name = f"process {word['pid']} on {word['host']}"
            if now() >= until and word["time"] > first.get(name, word["time"]):
                what = _WHAT[role]
                raise RefusedError(
                    f"another {what} of this lineage is alive: {name}; nothing was changed. One lineage has one "
                    f"{what}: end that one, or give one of them a name and a store of its own, or add --take-over"
                )
            first.setdefault(name, word["time"])
        if not others or now() >= until + FRESH_SECONDS:
            return
        sleep(_EVERY_SECONDS)


def _is_gone(word: dict[str, Any]) -> bool:
    """Tell whether the process that said this is known to be no more; elsewhere nobody knows."""
    if word["host"] != platform.node() or word.get("namespace") != namespace():
        return False
    try:
        state = Path("/proc", str(word["pid"]), "stat").read_text("ascii", "replace").rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"
