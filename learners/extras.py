"""How an optional part is installed from where one stands: a checkout, a file, or an index of packages."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "holdfast"


def install(extra: str) -> str:
    """The command that brings an extra, to be pasted into a terminal.

    A package that came from an index is asked for by its name; one that came from a checkout, or a file, by where that
    is (``direct_url.json``, PEP 610), since no index need have it.
    """
    beside = Path(__file__).parents[1]
    if (beside / "pyproject.toml").exists():
        return f"pip install --editable {shlex.quote(f'{beside}[{extra}]')}"
    try:
        said = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        said = None
    about = json.loads(said) if said else {}
    version_control = about.get("vcs_info", {}).get("vcs")
    return f"pip install {_wanted(extra, f'{version_control}+' * bool(version_control) + about.get('url', ''))}"


def _wanted(extra: str, url: str) -> str:
    """What pip is asked for.

    >>> _wanted("s3", ""), _wanted("s3", "file:///src/holdfast"), _wanted("s3", "git+https://example.org/h")
    ("'holdfast[s3]'", "'/src/holdfast[s3]'", "'holdfast[s3] @ git+https://example.org/h'")
    """
    path = url2pathname(urlsplit(url).path) if url.startswith("file:") else ""
    if not url:
        return shlex.quote(f"{_NAME}[{extra}]")
    return shlex.quote(f"{path}[{extra}]" if path else f"{_NAME}[{extra}] @ {url}")
