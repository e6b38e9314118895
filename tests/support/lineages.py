"""A lineage in a folder of its own, driven through the command as an operator would."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import orjson
from click.testing import CliRunner

from learners.labels import Labels
from learners.restore import restore
from snapshots import Lineage
from stream.cli import main
from stream.config import load
from stream.parts import store_of
from stream.settings import Config
from support import forked

MODEL = """
from numbers import Number
from river import compose, linear_model, naive_bayes, optim, preprocessing, tree

def logreg():
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))

def alma():
    return preprocessing.StandardScaler() | linear_model.ALMAClassifier()

def mixed():
    numbers = compose.SelectType(Number) | preprocessing.StandardScaler()
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + texts) | linear_model.LogisticRegression(optim.SGD(0.03))

def bayes():
    return naive_bayes.GaussianNB()

def tree_():
    return tree.HoeffdingTreeClassifier(grace_period=50)

def linear():
    return preprocessing.StandardScaler() | linear_model.LinearRegression()
"""
TOKEN = "open-sesame"
Process: TypeAlias = "subprocess.Popen[str] | forked.Forked"


class Folder:
    """A folder with holdfast.toml and model.py; ``settings`` are keys with ``__`` for the dots."""

    def __init__(self, path: Path, learners: dict[str, dict[str, Any]] | None = None, **settings: Any) -> None:
        self.path = path
        path.mkdir(parents=True)
        (path / "model.py").write_text(MODEL)
        (path / "token").write_text(TOKEN)
        self.port = _free_port()
        self.processes: list[Process] = []
        learners = learners or {"linear": {"kind": "river", "factory": "model:logreg", "role": "champion"}}
        defaults = {
            "name": "test",
            "task": "binary",
            "source__kind": "files",
            "source__directory": "events",
            "serve__port": self.port,
            "console__enabled": False,
            "holdout__rate": 0.0,
            "snapshots__every_seconds": 0.2,
        }
        table = {**defaults, **settings}
        for name, learner in learners.items():
            for key, value in learner.items():
                table[f"learners__{name}__{key}"] = value
        self.config_path = path / "holdfast.toml"
        self.config_path.write_text("".join(f"{_key(key)} = {_toml(value)}\n" for key, value in table.items()))
        (path / "events").mkdir()
        self.events = path / "events"

    @property
    def config(self) -> Config:
        return load(self.config_path, {})

    @property
    def lineage(self) -> Lineage:
        return Lineage(store_of(self.config)).refresh()

    def write(self, events: Iterable[dict[str, Any] | bytes], name: str = "a.jsonl") -> int:
        """Append events to a file of the directory."""
        lines = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]
        with (self.events / name).open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
        return len(lines)

    def run(
        self, *arguments: str, code: int | None = 0, timeout: float = 200, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = self._process(arguments, environment, out.fileno(), err.fileno())
            try:
                code_found = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            for one in (out, err):
                one.seek(0)
            done = subprocess.CompletedProcess(process.args, code_found, out.read(), err.read())
        if code is not None:
            assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def _command(self, *arguments: str) -> list[str]:
        head, *rest = arguments
        return [sys.executable, "-m", "stream.cli", "--config", str(self.config_path), head, *rest]

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start the command and go on."""
        with (self.path / f"{arguments[0]}.log").open("a") as log:
            process = self._process(arguments, environment, log.fileno(), log.fileno())
        self.processes.append(process)
        return process

    def _process(self, arguments: tuple[str, ...], environment: dict[str, str], out: int, err: int) -> Process:
        """Fork the command; start it where torch is, or where the environment is for Python or libraries."""
        env = _environment() | environment
        if arguments[0] != "retrain" and all(name.startswith(("HOLDFAST_", "AWS_")) for name in environment):
            return forked.SERVER.start(
                ["--config", str(self.config_path), *arguments], cwd=self.path, env=env, out=out, err=err
            )
        return subprocess.Popen(self._command(*arguments), stdout=out, stderr=err, text=True, cwd=self.path, env=env)

    def log(self, role: str) -> str:
        path = self.path / f"{role}.log"
        return path.read_text() if path.exists() else ""

    def json(self, *arguments: str) -> Any:
        """What a looking command prints for scripts; run in this process, since a start takes a second."""
        done = CliRunner().invoke(main, ["--config", str(self.config_path), *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def copy(self, path: Path) -> "Folder":
        """The same lineage in another folder, on another port."""
        shutil.copytree(self.path, path)
        twin = object.__new__(Folder)
        twin.path, twin.port, twin.processes = path, _free_port(), []
        twin.config_path, twin.events = path / "holdfast.toml", path / "events"
        twin.config_path.write_text(self.config_path.read_text().replace(str(self.port), str(twin.port)))
        return twin

    def train(self) -> None:
        self.run("train", "--until-end")

    def trained(self) -> None:
        """Learn all there is, and judge it."""
        self.train()
        self.run("guard", "--once")

    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = self.json("status")
        return report

    def learner(self, name: str = "linear") -> dict[str, Any]:
        found: dict[str, Any] = self.status()["learners"][name]
        return found

    def state(self, name: str = "linear") -> bytes:
        """The canonical state of a learner in the newest snapshot."""
        lineage = self.lineage
        newest = lineage.newest()
        assert newest is not None
        part = newest.learners[name]
        data = lineage.store.get(part.model.name)
        assert data is not None
        return restore(part.kind, part.built_from, Labels(self.config.task, names=["0"]), data).state()

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until predictions are answered."""

        def ready() -> bool:
            with contextlib.suppress(httpx.TransportError), self.http() as client:
                return client.get("/ready").status_code == 200
            return False

        wait_for(ready, seconds)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(what: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until something holds; fail when it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")


def accounted(counts: dict[str, int]) -> bool:
    """The equation of promise 2."""
    classes = ("learnt", "held_out", "dead_lettered", "quarantined", "duplicate", "unlabelled", "pending", "timed_out")
    return counts["consumed"] == sum(counts.get(name, 0) for name in classes)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _key(key: str) -> str:
    return ".".join(part if part.replace("_", "").isalnum() else f'"{part}"' for part in key.split("__"))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_toml(v)}' for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
