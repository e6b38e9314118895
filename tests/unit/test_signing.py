"""Signed snapshots: unsigned, changed, signed by another, or with another's signature, each is refused."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from support.lineages import Folder
from support.samples import numbers

from snapshots import LocalStore
from snapshots.errors import DamagedError, KeyRefusedError, StoreError
from snapshots.store.signed import SignedStore

NAME, OTHER = "snapshots/000000000001/manifest.json", "snapshots/000000000002/manifest.json"


def key(folder: Path, name: str) -> tuple[Path, Path]:
    """A key as the documentation makes it."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key(tmp_path, "signing")


def signature_of(root: Path, number: int) -> Path:
    return next((root / f"snapshots/{number:012d}").glob("*.sig"))


def test_what_is_signed_is_given_and_what_is_not_is_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """Parts and other blobs need no signature: the manifest names their digests."""
    root = tmp_path / "store"
    trainer, reader = SignedStore(LocalStore(root), keys[0], []), SignedStore(LocalStore(root), None, [keys[1]])
    assert trainer.create(NAME, b"one")
    assert reader.get(NAME) == trainer.get(NAME) == b"one"
    assert not trainer.create(NAME, b"another")
    assert reader.get(NAME) == b"one"
    LocalStore(root).create(OTHER, b"two")
    with pytest.raises(DamagedError, match="is not signed"):
        reader.get(OTHER)
    assert reader.create("snapshots/000000000002/part", b"p")
    assert reader.get("snapshots/000000000002/part") == b"p"
    assert reader.get("snapshots/000000000009/manifest.json") is None
    with pytest.raises(StoreError, match="private_key_file"):
        reader.create("snapshots/000000000003/manifest.json", b"three")


def test_a_signature_fits_one_snapshot_of_one_key(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """Also where two manifests have the same bytes."""
    root = tmp_path / "store"
    trainer, reader = SignedStore(LocalStore(root), keys[0], []), SignedStore(LocalStore(root), None, [keys[1]])
    trainer.create(NAME, b"same")
    LocalStore(root).create(OTHER, b"same")
    shutil.copy(signature_of(root, 1), root / "snapshots/000000000002")
    with pytest.raises(DamagedError, match="wrong signature"):
        reader.get(OTHER)
    stranger = SignedStore(LocalStore(root), None, [key(tmp_path, "stranger")[1]])
    with pytest.raises(DamagedError, match="does not name"):
        stranger.get(NAME)


def test_a_snapshot_of_another_lineage_under_the_same_key_is_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """One key may sign several lineages; what one of them learnt is not what another serves."""
    for name in ("a", "b"):
        store = SignedStore(LocalStore(tmp_path / name), keys[0], [])
        store.create("lineage.json", name.encode())
        store.create(NAME, name.encode())
    mine, theirs = (tmp_path / name / "snapshots/000000000001" for name in ("a", "b"))
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    with pytest.raises(DamagedError, match="wrong signature"):
        SignedStore(LocalStore(tmp_path / "a"), None, [keys[1]]).get(NAME)


def test_every_flipped_byte_of_manifest_and_signature_is_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """One at a time."""
    root = tmp_path / "store"
    SignedStore(LocalStore(root), keys[0], []).create(NAME, b'{"a": 1}')
    reader = SignedStore(LocalStore(root), None, [keys[1]])
    for path in (root / NAME, signature_of(root, 1)):
        whole = path.read_bytes()
        for index in range(len(whole)):
            broken = bytes([*whole[:index], whole[index] ^ 1, *whole[index + 1 :]])
            path.write_bytes(broken)
            if path.name.endswith(".sig") and broken.strip() == whole.strip():
                continue
            with pytest.raises(DamagedError):
                reader.get(NAME)
        path.write_bytes(whole)
    assert reader.get(NAME) == b'{"a": 1}'


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PUBLIC KEY-----\n"])
def test_a_wrong_key_file_says_how_to_make_one(tmp_path: Path, content: bytes) -> None:
    """Not a stack trace."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(KeyRefusedError, match=r"signing.public_key_files names no key in PEM"):
        SignedStore(LocalStore(tmp_path), None, [path])


@pytest.mark.parametrize("setting", ["private_key_file", "public_key_files"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\x00\xff" * 50, "another kind"])
def test_a_key_that_is_none_is_a_wrong_configuration(
    folder: Callable[..., Folder], setting: str, content: bytes | str | None
) -> None:
    """Exit code 2 from whatever needs it, and the setting by its name: no retry mends it."""
    here = folder(**{f"signing__{setting}": ["key.pem"] if setting.endswith("s") else "key.pem"})
    if isinstance(content, str):
        curve = ec.generate_private_key(ec.SECP256R1())
        content = (
            curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) if setting == "private_key_file"
            else curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )  # fmt: skip
    if content is not None:
        (here.path / "key.pem").write_bytes(content)
    here.write(numbers(20))
    for command in (["verify"], ["train", "--until-end"], ["guard", "--once"], ["serve"], ["status"]):
        said = here.run(*command, code=2).stderr
        assert f"signing.{setting}" in said, command
        assert "Traceback" not in said


def test_a_lineage_that_is_signed(folder: Callable[..., Folder], tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """Learns, is judged and resumes; a snapshot whose signature is taken away is passed over and said."""
    here = folder(signing__private_key_file=str(keys[0]))
    here.write(numbers(400))
    here.trained()
    here.write(numbers(400, first=400))
    here.train()
    number = here.status()["snapshot"]
    signature_of(here.path / "store", number).unlink()
    done = here.run("snapshots", "verify", code=1)
    assert "is not signed" in done.stdout
    again = here.run("train", "--until-end")
    assert "the one before it is tried" in again.stderr or "is not signed" in again.stderr
    assert here.learner()["events"]["learnt"] == 800
