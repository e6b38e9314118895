"""The digest of a factory's source: tells whether a learner would be built differently today."""

import ast
import contextlib
import hashlib
import importlib
import inspect
import json
import textwrap
from typing import Any


def digest(factory: str) -> str:
    """Return the SHA-256 (hex) of the source of ``module:function`` and of what it uses of its own module.

    Comments and layout do not count, so another learner may be added to the file. Empty when there is no source.
    """
    module_name, _, name = factory.partition(":")
    try:
        module = importlib.import_module(module_name)
        found: dict[str, str] = {}
        _collect(module, name, found)
    except (ImportError, AttributeError, ValueError, OSError, TypeError, SyntaxError):
        return ""
    if name not in found:
        return ""
    return hashlib.sha256("\n".join(found[one] for one in sorted(found)).encode()).hexdigest()


def _collect(module: Any, name: str, found: dict[str, str]) -> None:
    """Add the source of a function, class or constant of a module, and of what it names there."""
    if name in found:
        return
    value = getattr(module, name)
    if inspect.ismodule(value) or getattr(value, "__module__", module.__name__) != module.__name__:
        return
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        with contextlib.suppress(TypeError, ValueError):  # what JSON cannot hold may look different every time
            found[name] = json.dumps(value, sort_keys=True)
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    found[name] = ast.unparse(tree)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for other in sorted(used & set(vars(module))):
        _collect(module, other, found)
