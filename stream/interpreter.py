"""Starting our own modules in processes of their own, so that nothing of the current directory is run.

``python -m`` puts the current directory first on ``sys.path``; a file there that is named like a library would be run
as the operator. ``-P`` leaves it out, and what is handed on in ``PYTHONPATH`` never holds it.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def command(module: str, *arguments: object) -> list[str]:
    """The command line of a module of ours."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def environment(base: Mapping[str, str], **more: str) -> dict[str, str]:
    """An environment in which a child finds our packages where this process does, and nothing beside the command."""
    return {**base, "PYTHONPATH": os.pathsep.join(search_path()), "PYTHONSAFEPATH": "1", **more}


def search_path() -> list[str]:
    """``sys.path`` without the current directory, unless our packages lie there."""
    ours, here = str(Path(__file__).resolve().parent.parent), str(Path.cwd())
    found = [path for path in sys.path if path and (path != here or path == ours)]
    return [path for path in found if Path(path).is_absolute()]
