"""Starting processes, so that nothing of the current directory is run.

``python -m`` puts the current directory first on ``sys.path``; a file there that is named like a library would be run
as the operator. ``-P`` leaves it out, and what is handed on in ``PYTHONPATH`` never holds it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

from learners.search_path import search_path

_PR_SET_PDEATHSIG = 1
#: where the operator's own PYTHONPATH is kept for programs that are not ours
_KEPT = "_HOLDFAST_PYTHONPATH"


def command(module: str, *arguments: object) -> list[str]:
    """The command line of a module of ours."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def end_with_parent(number: signal.Signals) -> None:
    """Ask the kernel for this signal when the parent of this process is gone, so that nothing is left running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def environment(base: Mapping[str, str], **more: str) -> dict[str, str]:
    """An environment in which a child finds our packages where this process does, and nothing beside the command."""
    kept = base.get(_KEPT, base.get("PYTHONPATH", ""))
    return {**base, _KEPT: kept, "PYTHONPATH": os.pathsep.join(search_path()), "PYTHONSAFEPATH": "1", **more}


def foreign(base: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program of the operator's, which may be Python too: without what is for our children."""
    if _KEPT not in base:
        return dict(base)
    found = {name: value for name, value in base.items() if name not in (_KEPT, "PYTHONPATH", "PYTHONSAFEPATH")}
    return {**found, "PYTHONPATH": base[_KEPT]} if base[_KEPT] else found
