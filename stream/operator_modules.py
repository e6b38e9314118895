"""The operator's modules beside the configuration: ``model:linear`` is ``model.py`` there.

A file there replaces no library: only modules that the configuration names are looked for there first, whatever else
lies there (their own neighbours, say) last.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from stream.settings import Config


class _Beside(MetaPathFinder):
    def __init__(self, folder: Path, names: frozenset[str]) -> None:
        self.place = (str(folder), names)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder, names = self.place
        if path is not None or name not in names:
            return None
        found = PathFinder.find_spec(name, [folder], target)
        return found if found is not None and found.loader is not None else None


def reach(config: Config) -> None:
    """Let the modules that the configuration names, and what they import, be found in its folder."""
    named = [one for learner in config.learners.values() for one in (learner.factory, *learner.types)]
    named += [config.event.decoder or "", config.retrain.factory]
    names = frozenset(one.partition(":")[0].partition(".")[0] for one in named if one)
    finder = _Beside(config.base, names)
    if not any(isinstance(one, _Beside) and one.place == finder.place for one in sys.meta_path):
        sys.meta_path.insert(0, finder)
    if str(config.base) not in sys.path:
        sys.path.append(str(config.base))
