"""Processes that end at a write of a seeded number."""

from pathlib import Path

HOOK = str(Path(__file__).parents[1] / "crash" / "points")
