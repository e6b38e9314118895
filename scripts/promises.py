"""Writes the lists of tests in docs/promises.md from the tests' docstrings: python scripts/promises.py."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "promises.md"
PROMISES = range(1, 11)
_CITED = re.compile(r"promises? (\d+)((?:(?:,| and|, and) \d+)*)", re.IGNORECASE)
_LIST = re.compile(r"<!-- tests of (\d+) -->\n(?:\n(?:- .*\n)+)?")


def tests() -> dict[int, list[str]]:
    """By promise the tests that cite it, as ``file`` or ``file::function``."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = path.relative_to(ROOT).as_posix()
        module = ast.parse(path.read_text("utf-8"))
        documented = {name: ast.get_docstring(module)}
        for one in module.body:
            if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
                documented[f"{name}::{one.name}"] = ast.get_docstring(one)
        for title, documentation in documented.items():
            for promise in _cited(documentation or ""):
                found[promise].append(title)
    return found


def _cited(text: str) -> list[int]:
    cited = [number for one in _CITED.finditer(text) for number in re.findall(r"\d+", one[0])]
    return sorted({int(one) for one in cited})


def text() -> str:
    """The document as it should be."""
    found = tests()

    def listed(match: re.Match[str]) -> str:
        return f"<!-- tests of {match[1]} -->\n\n" + "".join(f"- `{one}`\n" for one in found[int(match[1])])

    return _LIST.sub(listed, DOCUMENT.read_text("utf-8"))


if __name__ == "__main__":
    DOCUMENT.write_text(text(), "utf-8")
