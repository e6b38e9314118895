"""Signed decisions: a store that signs what it creates, and gives nothing that is not signed.

A manifest names the digest of every part, so its signature covers the whole snapshot; files of the archive are signed
in the same way, by ``NAME-DIGEST.sig``. Ed25519 (RFC 8032) over
``holdfast-manifest-2``, the SHA-256 of ``lineage.json`` in hex, the manifest's name in the store, and its bytes, a
newline between each two: a signature of another snapshot, of another lineage or of another format is worth nothing. It
is kept beside the manifest as ``manifest-DIGEST.sig``, JSON with the id of the key (first 16 hex digits of the SHA-256
of the raw public key) and the signature in hex.

Entries of the ledger, its head, epochs, verdicts and looks carry theirs as their last field, ``signed`` (what is no
JSON, behind their last byte), over ``holdfast-blob-1`` and the rest as above; who reads through the store sees them
without.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from learners.extras import install
from snapshots.errors import DamagedError, KeyRefusedError, StoreError, WrongSignatureError
from snapshots.store.local import LocalStore
from snapshots.store.private_files import said_if_readable
from snapshots.store.store import Store, claim

#: what is signed in a file beside it: manifests, and files of the archive
_BESIDE = re.compile(r"(snapshots|baselines)/[0-9]+/manifest\.json|archive/.+\.parquet")
_FORMAT = b"holdfast-manifest-2"
_BLOB = re.compile(
    r"ledger/(head/)?[0-9]+\.json|epochs/[0-9]+\.json|verdicts/[0-9]+/[^/]+|snapshots/[0-9]+/[^/]+\.looks"
    r"|baselines/[0-9]+/verdict-[0-9]+\.json"
)
_BLOB_FORMAT = b"holdfast-blob-1"
_SIGNED = re.compile(rb',?("signed":)?(\{"key":"[0-9a-f]{16}","signature":"[0-9a-f]{128}"\})(\}?\n?)')
#: no signature with what is around it is longer
_END_BYTES = 200
#: what is signed as a whole: everything of a lineage that says what counts
FOLDERS = ("ledger/", "epochs/", "verdicts/", "snapshots/", "baselines/", "archive/")
NO_LINEAGE = "none"
_CHARTER = "lineage.json"
_FROM_BEFORE = ". If it is from before it was signed: holdfast verify --adopt"
_MISSING = f"signing needs the package cryptography: {install('signing')}"


class Signature(msgspec.Struct, frozen=True):
    """What stands in a ``.sig`` file."""

    key: str
    signature: str


class SignedStore:
    """Wraps a store. ``private`` signs (its writer's); ``trusted`` are the public keys whose signatures count.

    Raises :class:`DamagedError` for what is unsigned, wrongly signed, or signed by somebody else. With no key at all it
    only takes the signatures off. ``seen`` remembers the newest head of the ledger; one expires after ``head_seconds``.
    """

    def __init__(
        self,
        inner: Store,
        private: Path | None,
        trusted: Sequence[Path],
        *,
        seen: Path | None = None,
        head_seconds: float = 86_400.0,
    ) -> None:
        self.inner, self.seen, self.head_seconds = inner, seen, head_seconds
        self._private = _load(private, private=True) if private is not None else None
        public = [_load(path, private=False) for path in trusted]
        if self._private is not None:
            public.append(self._private.public_key())
        self._trusted = {_id_of(key): key for key in public}
        self._lineage: bytes | None = None

    def get(self, name: str, most: int | None = None) -> bytes | None:
        """Return the blob; a manifest only with a good signature."""
        data = self.inner.get(name, most)
        if data is not None and _BLOB.fullmatch(name) is not None:
            return self._opened(name, data)
        if data is None or not self.verifies or _BESIDE.fullmatch(name) is None:
            return data
        signed = self.inner.get(_signature_name(name, data))
        if signed is None:
            raise DamagedError(f"{name} is not signed, and [signing] wants it to be; it is not used{_FROM_BEFORE}")
        try:
            found = msgspec.json.decode(signed, type=Signature)
            key = self._trusted[found.key]
        except (msgspec.DecodeError, RecursionError, KeyError):
            raise DamagedError(f"{name} is signed by a key that [signing] does not name; it is not used") from None
        if not _verifies(key, found.signature, self._message(name, data)):
            raise WrongSignatureError(
                f"{name} has a wrong signature: it, or the signature, was changed; it is not used"
            )
        return data

    @property
    def verifies(self) -> bool:
        """Whether signatures are asked for."""
        return bool(self._trusted)

    @property
    def signs(self) -> bool:
        """Whether this process has a key to sign with."""
        return self._private is not None

    def lineage(self) -> str:
        """Which lineage the store holds: the digest of ``lineage.json`` in hex, or ``none``."""
        self._message("", b"")
        return (self._lineage or NO_LINEAGE.encode()).decode()

    def _opened(self, name: str, data: bytes) -> bytes:
        """A blob without its signature, once that holds."""
        blob, signature = _apart(data)
        if not self.verifies:
            return blob
        if signature is None:
            raise DamagedError(f"{name} is not signed, and [signing] wants it to be; it does not count")
        found = msgspec.json.decode(signature, type=Signature)
        key = self._trusted.get(found.key)
        if key is None:
            raise DamagedError(f"{name} is signed by a key that [signing] does not name; it does not count")
        if not _verifies(key, found.signature, self._message(name, blob, _BLOB_FORMAT)):
            raise WrongSignatureError(
                f"{name} has a wrong signature: it, or the signature, was changed; it does not count"
            )
        return blob

    def adopt(self, name: str) -> bool:
        """Sign a blob that nobody signed; tell whether it was one. For stores from before their blobs were signed.

        Raises :class:`StoreError`, before anything is touched, when there is no key to sign with.
        """
        if self._private is None:
            raise StoreError("nothing can be signed: set signing.private_key_file")
        data = self.inner.get(name)
        if data is not None and _BESIDE.fullmatch(name) is not None:
            return self._sign_beside(name, data)
        if data is None or _BLOB.fullmatch(name) is None or _apart(data)[1] is not None:
            return False
        self.inner.delete(name)
        return self.create(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Create the blob; a manifest after its signature, so that there never is one without."""
        self._note(name)
        if _BESIDE.fullmatch(name) is not None and self.verifies:
            if self._private is None:
                raise StoreError(f"{name} cannot be signed: set signing.private_key_file for the trainer")
            self._sign_beside(name, data)
        elif _BLOB.fullmatch(name) is not None and self.verifies:
            if self._private is None:
                raise StoreError(f"{name} cannot be signed: set signing.private_key_file for who decides and judges")
            signature = self._private.sign(self._message(name, data, _BLOB_FORMAT)).hex()
            found = Signature(_id_of(self._private.public_key()), signature)
            data = _together(data, msgspec.json.encode(found))
        return self.inner.create(name, data)

    def _sign_beside(self, name: str, data: bytes) -> bool:
        """Write the signature of a manifest beside it; False when there is one, or no key."""
        if self._private is None or self.inner.get(_signature_name(name, data)) is not None:
            return False
        found = Signature(_id_of(self._private.public_key()), self._private.sign(self._message(name, data)).hex())
        return claim(self.inner, _signature_name(name, data), msgspec.json.encode(found) + b"\n")

    def _message(self, name: str, data: bytes, form: bytes = _FORMAT) -> bytes:
        """What is signed: of which lineage, under which name, and the bytes."""
        if self._lineage is None:
            found = self.inner.get(_CHARTER)
            self._lineage = hashlib.sha256(found).hexdigest().encode() if found is not None else None
        return b"\n".join((form, self._lineage or NO_LINEAGE.encode(), name.encode(), data))

    def _note(self, name: str) -> None:
        """A charter that is written or taken away is another lineage: what was known of it is not signed over."""
        if name == _CHARTER:
            self._lineage = None

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix``, sorted."""
        return self.inner.names(prefix, after)

    def delete(self, name: str) -> None:
        """Delete the blob if it is there, and then the signature beside a file of the archive."""
        self._note(name)
        self.inner.delete(name)
        if name.startswith("archive/") and _BESIDE.fullmatch(name) is not None:
            folder = name.rpartition("/")[0] + "/"
            for beside in self.inner.names(folder, after=name):
                if beside.startswith(f"{name}-") and beside.endswith(".sig"):
                    self.inner.delete(beside)


def _together(blob: bytes, signature: bytes) -> bytes:
    """A blob with its signature: JSON stays JSON."""
    for end in (b"}\n", b"}"):
        if blob.startswith(b"{") and blob.endswith(end) and len(blob) > 3:
            return blob[: -len(end)] + b',"signed":' + signature + end
    return blob + signature


def _apart(data: bytes) -> tuple[bytes, bytes | None]:
    """A blob and its signature, None when it has none."""
    begin = max(0, len(data) - _END_BYTES)
    at = data.rfind(b',"signed":{"key":', begin)
    if at < 0:
        at = data.rfind(b'{"key":', begin)
    found = _SIGNED.fullmatch(data, at) if at >= 0 else None
    if found is None or bool(found[1]) != found[3].startswith(b"}"):
        return data, None
    return data[:at] + found[3], found[2]


def bare(store: Store) -> Store:
    """The store beneath the signatures."""
    return store.inner if isinstance(store, SignedStore) else store


def seen_directory(store: Store) -> str:
    """The directory of a store that is one and is there, or was; empty for another."""
    inner = bare(store)
    return str(inner.root) if isinstance(inner, LocalStore) and inner.there() else ""


def _signature_name(name: str, data: bytes) -> str:
    return f"{name.removesuffix('.json')}-{hashlib.sha256(data).hexdigest()[:16]}.sig"


def _id_of(public: Any) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _verifies(key: Any, signature: str, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra

    try:
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _load(path: Path, *, private: bool) -> Any:
    """Read an Ed25519 key in PEM; raise :class:`KeyRefusedError` with what is wrong and the setting that names it."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  the same
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  the same
    except ImportError as cause:
        raise KeyRefusedError(_MISSING) from cause
    setting = f"signing.{'private_key_file' if private else 'public_key_files'}"
    try:
        data = path.read_bytes()
        if private:
            said_if_readable(path)
        key: Any = (
            serialization.load_pem_private_key(data, None) if private else serialization.load_pem_public_key(data)
        )
    except OSError as cause:  # what is no file may be the key itself, so it is not said
        raise KeyRefusedError(
            f"{setting} names no file that can be read ({cause.strerror}): write a path there"
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
        raise KeyRefusedError(f"{setting} names no key in PEM without a password: {cause}") from None
    if not isinstance(key, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)):
        raise KeyRefusedError(
            f"{setting}: {path} is no Ed25519 key; make one with: openssl genpkey -algorithm ed25519 -out {path}"
        )
    return key


def new_key() -> bytes:
    """A new private key, Ed25519 in PEM."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  imported only where keys are
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415  the same

    made: bytes = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made
