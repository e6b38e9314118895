"""Where a process of ours may import from: never from the current directory, which somebody else may write."""

import os
import sys
from pathlib import Path


def search_path() -> list[str]:
    """``sys.path`` without the current directory, unless our packages lie there, and without what is relative to it."""
    ours = Path(__file__).resolve().parent.parent
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was removed
        here = ours
    found = (path for path in sys.path if path and Path(path).is_absolute())
    return [path for path in found if (place := Path(os.path.realpath(path))) != here or place == ours]
