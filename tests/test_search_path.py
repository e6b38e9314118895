"""Whose code is run: ours, the libraries', and what the configuration names; nothing else that lies about."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import ROOT
from support.lineages import Folder
from support.samples import numbers

from stream.process import interpreter

HOLDFAST = Path(sys.executable).with_name("holdfast")
VW = {"linear": {"kind": "river", "factory": "model:logreg", "role": "champion"}, "hashed": {"kind": "vw"}}
#: modules that some process of ours imports, early and late; ``stream`` and ``learners`` are our own
TRAPS = (
    "click", "json", "pickle", "struct", "signal", "tomllib", "msgspec", "orjson", "numpy", "river", "vowpalwabbit",
    "pylibvw", "rich", "fastapi", "uvicorn", "multiprocessing", "logging", "socket", "learners", "snapshots",
    "sitecustomize", "usercustomize",
)  # fmt: skip


def lay(folder: Path, owned: Path, names: tuple[str, ...] = TRAPS) -> None:
    """Files that say that they were run."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(f"open({str(owned)!r}, 'a').write({name + ' '!r})\nraise SystemExit(9)\n")


def holdfast(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(HOLDFAST), *arguments], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(not HOLDFAST.exists(), reason="holdfast is not installed beside this interpreter")
def test_nothing_of_the_current_directory_is_run(tmp_path: Path) -> None:
    """By the command, its trainer, learners, Vowpal Wabbit's trial and guard, wherever they are started from."""
    here, owned = Folder(tmp_path / "here", VW), tmp_path / "owned"
    here.write(numbers(200))
    lay(tmp_path / "downloads", owned)
    for command in (("train", "--until-end"), ("guard", "--once"), ("status",)):
        done = holdfast(
            "--config", str(here.config_path), *command, cwd=tmp_path / "downloads", PYTHONPATH="", PYTHONSAFEPATH=""
        )
        assert not owned.exists(), owned.read_text()
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not HOLDFAST.exists(), reason="holdfast is not installed beside this interpreter")
def test_a_file_beside_the_configuration_replaces_no_library(tmp_path: Path) -> None:
    """The modules that the configuration names are found there before any other, and their neighbours."""
    here, owned = Folder(tmp_path / "here", VW), tmp_path / "owned"
    here.write(numbers(200))
    lay(here.path, owned)
    model = here.path / "model.py"
    model.write_text("from neighbour import STEP\n" + model.read_text().replace("0.005", "STEP"))
    (here.path / "neighbour.py").write_text("STEP = 0.004\n")
    for command in (("train", "--until-end"), ("guard", "--once")):
        done = holdfast("--config", str(here.config_path), *command, cwd=here.path)
        assert not owned.exists(), owned.read_text()
        assert done.returncode == 0, done.stderr


def test_every_interpreter_is_started_in_one_place() -> None:
    """Which leaves the current directory out; a trial of Vowpal Wabbit does so by itself."""
    for package in ("stream", "snapshots", "learners"):
        for path in (ROOT / package).rglob("*.py"):
            lines = path.read_text().splitlines()
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.Attribute) and node.attr == "executable":
                    assert '"-P"' in lines[node.lineno - 1], f"{path}:{node.lineno}"


@pytest.mark.parametrize("entry", ["", ".", "HERE", "LINK", "src"])
def test_what_is_handed_on_never_holds_the_current_directory(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever way it is written."""
    (tmp_path / "link").symlink_to(tmp_path)
    entry = {"HERE": str(tmp_path), "LINK": str(tmp_path / "link")}.get(entry, entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry, *sys.path])
    given = interpreter.environment({"PYTHONPATH": entry})
    assert entry not in given["PYTHONPATH"].split(os.pathsep)
    assert all(Path(path).is_absolute() for path in given["PYTHONPATH"].split(os.pathsep))
    assert given["PYTHONSAFEPATH"] == "1"


def test_a_current_directory_that_is_gone_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service goes on whose directory was removed."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert interpreter.environment({})["PYTHONPATH"]


def test_a_program_of_the_operators_has_the_operators_environment(tmp_path: Path) -> None:
    """``notify.command`` may be a script in Python that imports what lies beside it."""
    (tmp_path / "beside.py").write_text("NAME = 'told'\n")
    script = tmp_path / "tell.py"
    script.write_text(f"import beside, pathlib\npathlib.Path({str(tmp_path / 'out')!r}).write_text(beside.NAME)\n")
    program = f"""
import time
from pathlib import Path
from stream.config import check
from stream.guard.notify import Notifier
table = {{"name": "x", "task": "binary", "source": {{"kind": "files"}}, "learners": {{"a": {{"kind": "vw"}}}},
          "notify": {{"command": [{sys.executable!r}, {str(script)!r}]}}}}
notifier = Notifier(check(table, Path()), time.time)
notifier.tell({{"a": 1}})
notifier.close()
"""
    environment = interpreter.environment({**os.environ, "PYTHONPATH": "/opt/own"})
    subprocess.run([sys.executable, "-P", "-c", program], env=environment, check=True)
    assert (tmp_path / "out").read_text() == "told"
    assert interpreter.foreign(environment)["PYTHONPATH"] == "/opt/own"
    assert interpreter.foreign({"PYTHONPATH": "/opt/own"}) == {"PYTHONPATH": "/opt/own"}
