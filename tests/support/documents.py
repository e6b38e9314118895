"""The documents of the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def doc(name: str) -> str:
    return (ROOT / name).read_text("utf-8")
