"""Every hint to install something works from where one stands."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from learners import extras

ROOT = Path(__file__).parents[2]
SOURCES = [path for package in ("learners", "snapshots", "stream") for path in (ROOT / package).rglob("*.py")]
NAMED = {name for path in SOURCES for name in re.findall(r"""\binstall\(["'](\w+)["']\)""", path.read_text("utf-8"))}


def test_no_hint_asks_an_index_for_what_need_not_be_there() -> None:
    """All go through one function, and name extras that there are."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(known) >= NAMED >= {"s3", "signing", "parquet", "archive", "baseline", "retrain"}
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for path in [*SOURCES, *documents]:
        assert not re.search(r"pip install '?holdfast\[", path.read_text("utf-8")), path


def test_from_a_checkout_the_hint_names_the_checkout() -> None:
    """A folder that pip takes, whatever its name."""
    *_, wanted = shlex.split(extras.install("s3"))
    folder, _, extra = wanted.rpartition("[")
    assert (Path(folder) / "pyproject.toml").exists()
    assert extra == "s3]"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("", "holdfast[s3]"),
        ("file:///src/with%20space", "/src/with space[s3]"),
        ("file:///w/holdfast-1-py3-none-any.whl", "/w/holdfast-1-py3-none-any.whl[s3]"),
        ("git+https://example.org/holdfast.git", "holdfast[s3] @ git+https://example.org/holdfast.git"),
    ],
)
def test_the_hint_is_one_word_for_the_shell(url: str, wanted: str) -> None:
    """From an index, a folder, a wheel, or an address."""
    assert shlex.split(extras._wanted("s3", url)) == [wanted]
