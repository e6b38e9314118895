"""The documentation is complete and true: everything a user can name stands in it."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from support.documents import ROOT, doc

from snapshots.decisions.charter import Charter
from snapshots.decisions.epochs import Epoch
from snapshots.decisions.head import Head
from snapshots.decisions.ledger import Entry
from snapshots.records.cut import Shared
from snapshots.records.held_rows import HeldRow
from snapshots.records.manifest import LearnerPart, Manifest
from snapshots.records.verdict import Verdict
from snapshots.store.lease import Word
from snapshots.store.signed import FOLDERS, Signature
from snapshots.store.size_limits import BEGINNINGS
from stream.cli import main
from stream.refusal import MEANING, Reason
from stream.serve.http.metrics import METRICS
from stream.settings import Config, LearnerConfig


def commands(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, one in group.commands.items():
        found.append((" ".join((*words, name)), one))
        if isinstance(one, click.Group):
            found += commands(one, (*words, name))
    return found


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says() -> None:
    """Commands, options, endpoints, metrics and reasons; python scripts/reference.py writes it again."""
    assert doc("docs/reference.md") == script("reference").text()


def test_the_drawing_of_the_rooms_is_that_of_the_imports() -> None:
    """As the modules import each other; python scripts/architecture.py draws it again."""
    assert doc("docs/architecture.md") == script("architecture").text()


def test_every_room_says_what_it_is_for() -> None:
    """In one line, and holds at most a dozen files, but for the commands, of which each group has one."""
    architecture = script("architecture")
    rooms = architecture.rooms()
    for name in rooms:
        files = [one for one in architecture.modules() if architecture.room(one) == name and one != name]
        assert len(files) <= (17 if name == "stream.commands" else 12), name
        assert f"| `{name.replace('.', '/')}` |  |" not in architecture.table(), name


def test_every_promise_names_the_tests_that_hold_it() -> None:
    """As the tests' docstrings cite them; python scripts/promises.py writes the lists again."""
    promises = script("promises")
    assert sorted(promises.tests()) == list(promises.PROMISES)
    assert doc("docs/promises.md") == promises.text()


@pytest.mark.parametrize(("words", "command"), commands(main), ids=lambda v: v if isinstance(v, str) else "")
def test_every_command_and_option_is_documented_and_explained(words: str, command: click.Command) -> None:
    """Each has a help text, and stands in the reference."""
    assert command.help
    reference = doc("docs/reference.md")
    section = reference.split(f"### `holdfast {words}`")[1].split("\n### ")[0]
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else []:
            assert f"{option}" in section
            assert isinstance(parameter, click.Option)
            assert parameter.help


def keys(struct: Any, path: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(struct):
        if field.name == "base":
            continue
        here = f"{path}{field.name}"
        if field.name == "learners":
            found += keys(LearnerConfig, "learners.NAME.")
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += keys(field.type, f"{here}.")
        else:
            found.append(here)
    return found


@pytest.mark.parametrize("key", keys(Config))
def test_every_configuration_key_is_documented(key: str) -> None:
    """A row of its own in docs/configuration.md."""
    assert f"| `{key}` |" in doc("docs/configuration.md")


def test_no_configuration_key_is_documented_that_is_not_there() -> None:
    """The table has no dead rows."""
    rows = re.findall(r"^\| `([^`]+)` \|", doc("docs/configuration.md"), re.MULTILINE)
    assert set(rows) == set(keys(Config))


def test_defaults_in_the_table_are_those_of_the_code() -> None:
    """As TOML writes them."""
    rows = dict(re.findall(r"^\| `([^`]+)` \| (?:`([^`]*)`)?", doc("docs/configuration.md"), re.MULTILINE))
    for key, written in rows.items():
        struct: Any = LearnerConfig if key.startswith("learners.NAME.") else Config
        path = key.removeprefix("learners.NAME.").split(".")
        for name in path[:-1]:
            struct = next(field.type for field in msgspec.structs.fields(struct) if field.name == name)
        field = next(field for field in msgspec.structs.fields(struct) if field.name == path[-1])
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if not written or key == "event.weight":
            assert default in (msgspec.NODEFAULT, None, {}, ""), key
        else:
            shown = written.strip('"') if isinstance(default, str) else written
            if isinstance(default, tuple):
                assert tomllib.loads(f"a = {written}")["a"] == list(default), key
                continue
            assert str(default).lower() == shown.lower() or float(shown) == default, key


def test_metrics_and_reasons_stand_in_the_reference() -> None:
    """Each by its name."""
    reference = doc("docs/reference.md")
    assert all(f"`{name}`" in reference for name in METRICS)
    assert all(f"`{reason.value}`" in reference for reason in Reason)
    assert set(MEANING) == set(Reason)


@pytest.mark.parametrize("struct", [Manifest, LearnerPart])
def test_every_field_of_the_manifest_is_documented(struct: Any) -> None:
    """In docs/snapshots.md."""
    text = doc("docs/snapshots.md")
    for field in msgspec.structs.fields(struct):
        assert f"`{field.name}`" in text or f"`{field.name}.NAME`" in text, field.name


def test_every_dependency_is_explained() -> None:
    """One line each."""
    declared = re.findall(r'^    "([a-z-]+)[=>]', doc("pyproject.toml").split("[project.optional")[0], re.MULTILINE)
    text = doc("docs/dependencies.md")
    assert len(declared) > 8
    assert all(name in text for name in declared)


def test_every_pinned_version_is_within_what_is_declared() -> None:
    """The constraints file has each declared dependency."""
    pins = {
        line.split("==")[0].lower().replace("_", "-") for line in doc("constraints.txt").splitlines() if "==" in line
    }
    declared = re.findall(r'^    "([a-zA-Z-]+)[=>]', doc("pyproject.toml"), re.MULTILINE)
    assert {name.lower() for name in declared} <= pins | {"torch"}


def test_links_in_the_documents_lead_somewhere() -> None:
    """Every relative link."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_makefile_has_the_targets_that_the_readme_names() -> None:
    """And those of the house."""
    makefile = doc("Makefile")
    named = set(re.findall(r"`?make ([a-z]+)", doc("README.md"))) | {
        "run",
        "test",
        "check",
        "fix",
        "bench",
        "soak",
        "kafka",
    }
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_the_notebook_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The library call without configuration, store or server, as docs/learners.md shows it."""
    code = re.findall(r"```python\n(.*?)```", doc("docs/learners.md"), re.DOTALL)[0]
    exec(compile(code, "docs/learners.md", "exec"), {})  # noqa: S102  the example is ours
    assert "'n': 1000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("struct", "section"),
    [
        (Charter, "lineage.json"), (Epoch, "epochs/N"), (Head, "ledger/head"), (Shared, "shared-"), (Word, "leases/"),
        (Signature, "….sig"), (Entry, "## An entry of the ledger"), (Verdict, "## A verdict"),
        (HeldRow, "## A held-out row"),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)  # fmt: skip
def test_every_field_that_is_written_is_documented(struct: Any, section: str) -> None:
    """In docs/formats.md, where the blob stands."""
    text = doc("docs/formats.md")
    found = text.split(section, 1)[1].split("\n## " if section.startswith("##") else "\n", 1)[0]
    assert [name for name in struct.__struct_encode_fields__ if f"`{name}`" not in found] == []


def test_every_folder_of_the_store_is_documented() -> None:
    """Those that have a bound, and those that are signed."""
    text = doc("docs/formats.md")
    assert [one for one in {*FOLDERS, *(name for name, _ in BEGINNINGS)} if f"| `{one}" not in text] == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """``make docs``: every link leads somewhere, every page is in the contents, and nothing comes from elsewhere."""
    pytest.importorskip("sphinx", reason="the site wants the extra docs")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "-c",
        "docs/site",
        "docs",
    ]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path).with_suffix("").as_posix() for path in tmp_path.rglob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= pages
    loaded = re.findall(
        r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', (tmp_path / "site/index.html").read_text()
    )
    assert loaded == []
