"""Tokens: from the environment or from files that may change while the service runs."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from stream.serve.http.bearer import Token, tokens_of
from stream.settings import Config, Serve


@pytest.fixture
def clock() -> SimpleNamespace:
    """A clock that is set by hand."""
    return SimpleNamespace(now=100.0)


def _write(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """The environment wins; with neither there is none; an empty variable is none."""
    config = Config(name="x", task="binary", learners={}, base=tmp_path)
    assert tokens_of(config, {}, lambda: 0.0).changes.current() is None
    _write(tmp_path / "token", "secret\n")
    assert tokens_of(config, {}, lambda: 0.0).changes.current() == "secret"
    assert tokens_of(config, {"HOLDFAST_TOKEN": ""}, lambda: 0.0).changes.current() == "secret"
    tokens = tokens_of(config, {"HOLDFAST_TOKEN": "other", "HOLDFAST_READ_TOKEN": "look"}, lambda: 0.0)
    assert tokens.changes.fits(b"other")
    assert tokens.read is not None
    assert tokens.read.fits(b"look")


def test_looking_is_open_unless_a_token_for_it_is_named(tmp_path: Path) -> None:
    """And shut while the named file is not there."""
    config = Config(name="x", task="binary", learners={}, base=tmp_path)
    assert tokens_of(config, {}, lambda: 0.0).read is None
    config.serve = Serve(read_token_file="read-token")  # noqa: S106  a file's name
    read = tokens_of(config, {}, lambda: 0.0).read
    assert read is not None
    assert read.current() is None
    assert not read.fits(b"")


def test_a_token_rotates_without_a_restart(tmp_path: Path, clock: SimpleNamespace) -> None:
    """Written anew, put in its place, taken away, and back; looked at once a second at most."""
    path = tmp_path / "token"
    _write(path, "first")
    token = Token(path, None, lambda: clock.now)
    _write(path, "second")
    assert token.fits(b"first")
    clock.now += 1.0
    assert token.fits(b"second")
    assert not token.fits(b"first")
    _write(tmp_path / "new", "third!")
    (tmp_path / "new").replace(path)
    clock.now += 1.0
    assert token.fits(b"third!")
    path.unlink()
    clock.now += 1.0
    assert token.current() is None
    _write(path, "fourth")
    clock.now -= 50.0  # clocks may be set back
    assert token.fits(b"fourth")


def test_a_file_that_others_can_read_is_said_once_and_when_it_changes(
    tmp_path: Path, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do; and not when it is nobody else's."""
    path = tmp_path / "token"
    _write(path, "secret", 0o644)
    with caplog.at_level(logging.WARNING):
        token = Token(path, None, lambda: clock.now)
        for _ in range(3):
            clock.now += 1.0
            token.current()
        assert [record.getMessage() for record in caplog.records] == [
            f"{path} can be read by others than its owner: chmod 600 {path}"
        ]
        path.chmod(0o600)
        clock.now += 1.0
        assert token.fits(b"secret")
        path.chmod(0o640)
        clock.now += 1.0
        assert token.fits(b"secret")
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


ODD: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: _write(path, " \n"),
    "two words": lambda path: _write(path, "a b"),
    "not text": lambda path: _write(path, b"\xff\xfe"),
    "endless": lambda path: _write(path, "a" * 10_000),
    "a directory": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path, 0o600),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("what", ODD)
def test_what_holds_no_token_shuts_the_door(tmp_path: Path, clock: SimpleNamespace, what: str) -> None:
    """And a good file in its place opens it."""
    path = tmp_path / "token"
    ODD[what](path)
    token = Token(path, None, lambda: clock.now)
    assert token.current() is None
    assert not token.fits(b"")
    path.rename(tmp_path / "away")
    _write(path, "good")
    clock.now += 1.0
    assert token.fits(b"good")
