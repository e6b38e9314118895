"""Writes the drawing and the table of rooms in docs/architecture.md from the imports: python scripts/architecture.py.

A room is a folder of modules; a module that stands alone in a package is one as well. An arrow is drawn where no longer
way of arrows leads, so that the drawing shows who builds on whom, and not every import.
"""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
PACKAGES = ("learners", "snapshots", "stream")
_MADE = re.compile(r"(<!-- (drawing|rooms) -->\n).*?(?=<!-- /\2 -->)", re.DOTALL)


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def room(module: str) -> str:
    """The room of a module; a package itself belongs to none."""
    parent = module.rpartition(".")[0]
    return module if modules()[module].name == "__init__.py" or parent in PACKAGES else parent


def imported(module: str) -> set[str]:
    """The modules of ours that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{one.name}" for one in node.names} | {node.module}
    return {name for name in found if name in modules() and name not in PACKAGES}


@cache
def rooms() -> dict[str, frozenset[str]]:
    """The rooms, each with those that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules():
        if module not in PACKAGES:
            here = room(module)
            found[here] |= {room(one) for one in imported(module)} - {here}
    return {name: frozenset(found[name]) for name in sorted(found)}


@cache
def below(name: str) -> frozenset[str]:
    """Every room that one builds on, at whatever distance."""
    return rooms()[name].union(*(below(one) for one in rooms()[name]))


def drawing() -> str:
    """The rooms as a Mermaid flowchart, the arrows that no longer way of arrows stands for."""
    lines = ["```mermaid", "flowchart TB"]
    for package in reversed(PACKAGES):
        lines += [f"  subgraph {package}"]
        lines += [f'    {name}["{name.removeprefix(package + ".")}"]' for name in rooms() if name.startswith(package)]
        lines += ["  end"]
    for name, others in rooms().items():
        lines += [f"  {name} --> {one}" for one in sorted(others) if not any(one in below(other) for other in others)]
    return "\n".join([*lines, "```"]) + "\n"


def table() -> str:
    """Each room with what it is for, in its own words, and what it imports."""
    lines = ["| room | what it is for | files | imports |", "|---|---|---|---|"]
    for name, others in rooms().items():
        path = modules()[name]
        files = [one for one in modules() if room(one) == name and one != name] or [name]
        first = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
        named = ", ".join(f"`{one}`" for one in sorted(others)) or "nothing"
        lines.append(f"| `{name.replace('.', '/')}` | {first} | {len(files)} | {named} |")
    return "\n".join(lines) + "\n"


def text() -> str:
    """The document as it should be."""
    made = {"drawing": drawing, "rooms": table}
    return _MADE.sub(lambda match: f"{match[1]}\n{made[match[2]]()}\n", DOCUMENT.read_text("utf-8"))


if __name__ == "__main__":
    DOCUMENT.write_text(text(), "utf-8")
