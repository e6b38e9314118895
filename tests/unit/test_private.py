"""Files that hold secrets or people's data are for their owner (snapshots/store/private_files.py)."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from snapshots.store.local import LocalStore
from snapshots.store.private_files import said_if_readable
from snapshots.store.signed import SignedStore
from stream.archive.eraser import _address
from stream.config import check
from stream.dead_letters.writer import FileDeadLetters
from stream.demo.starter import write_starter
from stream.errors import CommandError
from stream.join.waiting import Waiting
from stream.record import Record
from stream.refusal import Reason, Refusal
from stream.source import lines
from stream.status.status import exposed


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _usual_umask() -> Any:
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.mark.parametrize(("of", "said"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_secret_that_everybody_may_read_is_said(
    of: int, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do, once."""
    path = tmp_path / "token"
    path.write_text("open-sesame")
    path.chmod(of)
    assert said_if_readable(path) == said_if_readable(path) == said
    assert caplog.text.count(f"chmod 600 {path}") == int(said)
    assert "sesame" not in caplog.text


def test_a_file_that_is_not_there_holds_no_secret(tmp_path: Path) -> None:
    """Tokens are optional."""
    assert not said_if_readable(tmp_path / "token")


def test_a_private_key_that_everybody_may_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is used all the same; a public key may be read."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    pem = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    SignedStore(LocalStore(tmp_path / "store"), private, [public])
    assert f"chmod 600 {private}" in caplog.text
    assert str(public) not in caplog.text


FILES = {"source": {"kind": "files", "directory": "events"}}
SECRETS = (
    "serve.token_file",
    "serve.events_token_file",
    "serve.read_token_file",
    "holdout.trusted.token_file",
    "signing.private_key_file",
)


@pytest.mark.parametrize("setting", SECRETS)
@pytest.mark.parametrize(("of", "said"), [(0o600, False), (0o640, False), (0o644, True), (None, False)])
def test_status_says_every_secret_that_everybody_may_read(
    setting: str, of: int | None, said: bool, tmp_path: Path
) -> None:
    """By its setting, with what to do; not what is in it, nor a name that is no file's: it may be the secret."""
    if of is not None:
        (tmp_path / "secret").write_text("open-sesame")
        (tmp_path / "secret").chmod(of)
    *tables, key = setting.split(".")
    table: dict[str, Any] = {key: "secret"}
    for one in reversed(tables):
        table = {one: table}
    config = check({"name": "x", "task": "binary", "learners": {"a": {"kind": "vw"}}, **FILES, **table}, tmp_path)
    found = exposed(config)
    assert len(found) == int(said)
    assert all(setting in one and f"chmod 600 {tmp_path / 'secret'}" in one and "sesame" not in one for one in found)


def test_what_init_writes_has_the_modes_it_should(tmp_path: Path) -> None:
    """Tokens and the key for the owner; a link that leads elsewhere is in the way, and not written through."""
    folder = tmp_path / "new"
    for path in write_starter(folder, "payments", sample=3):
        assert mode(path) == (0o600 if path.name.endswith(("token", ".pem")) else 0o644), path
    other = tmp_path / "other"
    other.mkdir()
    (other / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandError, match="already there"):
        write_starter(other, "payments")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("folder", "file"), [(None, 0o600), (0o700, 0o600), (0o750, 0o640)])
def test_dead_letters_are_not_for_everybody(tmp_path: Path, folder: int | None, file: int) -> None:
    """They hold what people sent."""
    there = tmp_path / "events.dead-letter"
    if folder is not None:
        there.mkdir(mode=folder)
    letters = FileDeadLetters(tmp_path / "events")
    letters.send(Record("events", "a.jsonl", 0, 5, b"bad", 0.0), Refusal(Reason.NOT_JSON, "", "no JSON"))
    letters.flush(lambda _: False)
    assert mode(there) == (folder or 0o700)
    assert mode(there / "a.jsonl") == file


@pytest.mark.parametrize(
    ("header", "name"),
    [(b"dead-letters/" + b"a" * 64, "dead-letters/" + "a" * 64), (b"snapshots/000000000001/manifest.json", None),
     (b"dead-letters/../lineage.json", None), (b"/etc/passwd", None), (b"\xff", None), (b"", None), (None, None)],
)  # fmt: skip
def test_a_header_names_no_other_blob_than_a_letter(header: bytes | None, name: str | None) -> None:
    """Whoever may write the topic of dead letters could have a snapshot deleted."""
    assert _address(header) == name


def test_what_people_are_asked_about_and_say_is_their_owners(tmp_path: Path) -> None:
    """Files of predictions and labels, and what waits for labels with SQLite's own files beside it."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = lines.taken(folder / "a.jsonl")
    assert file is not None
    file.close()
    waiting = Waiting(folder / "waiting.sqlite")
    for path in folder.iterdir():
        assert mode(path) & 0o077 == 0, path
    waiting.close()
