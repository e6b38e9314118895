"""Fixtures: a real broker, lineages in temporary folders, and the command as a process."""

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run beside each other, and each would take every core

from support import broker as brokers
from support import s3 as s3_servers
from support.lineages import Folder

_SKIPPED: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a broker where none can be run; under CI that is a failure."""
    if os.environ.get("HOLDFAST_TEST_KAFKA") or brokers.missing() is None:
        return
    for item in items:
        if "kafka" in item.keywords:
            _SKIPPED.append(item.nodeid)
            if not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason="no Kafka broker can be run here"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail under CI when the broker is missing."""
    if _SKIPPED and os.environ.get("CI"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    """Say last how many tests did not run for want of a broker, and what to install."""
    if _SKIPPED:
        print(f"{len(_SKIPPED)} Kafka tests did not run: {brokers.MISSING}, or set HOLDFAST_TEST_KAFKA=host:port")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker: that of HOLDFAST_TEST_KAFKA, or one started for this run."""
    given = os.environ.get("HOLDFAST_TEST_KAFKA")
    if given:
        yield given
        return
    lack = brokers.missing()
    if lack is not None:
        pytest.fail(lack)
    broker = brokers.Broker(tmp_path_factory.mktemp("kafka")).start()
    yield broker.address
    broker.stop()


@pytest.fixture
def s3(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_servers.Server]:
    """A real S3 server with a bucket; the environment points to it."""
    if (lack := s3_servers.missing()) is not None:
        pytest.skip(lack)
    try:
        s3_servers.program()
    except subprocess.CalledProcessError as cause:
        pytest.skip(f"no S3 server can be built here: {cause.stderr.decode()[-300:]}")
    server = s3_servers.Server(tmp_path_factory.mktemp("s3"))
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


_numbers = itertools.count()


@pytest.fixture
def topic() -> str:
    """A topic's name that nobody else uses."""
    return f"t{os.getpid()}-{random.SystemRandom().randrange(10**9)}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test imported from its folder is not found by another test whose module has the same name."""
    paths, modules = list(sys.path), set(sys.modules)  # what fixtures of a whole file brought stays
    yield
    base = str(tmp_path_factory.getbasetemp())
    sys.path[:] = [path for path in sys.path if path in paths or not path.startswith(base)]
    for name, module in list(sys.modules.items()):
        if name not in modules and str(getattr(module, "__file__", "")).startswith(base):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _own_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process, and lowers its priority, does not lower that of all tests to come."""
    monkeypatch.setattr("os.nice", lambda _: 0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Callable[..., Folder]]:
    """Make folders with a configuration and a model; their processes are ended afterwards."""
    made: list[Folder] = []

    def make(name: str = "lineage", learners: Any = None, **settings: Any) -> Folder:
        made.append(Folder(tmp_path / name, learners, **settings))
        return made[-1]

    yield make
    for one in made:
        one.end()
