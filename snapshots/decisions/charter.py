"""The charter of a lineage: what it is, fixed when its store is first used (``lineage.json``)."""

import secrets

import msgspec

from snapshots.decisions.head import FOLDER, begun, remembered
from snapshots.errors import DamagedError, RefusedError, WrongSignatureError
from snapshots.store.signed import SignedStore
from snapshots.store.store import Store, claim

_RESTORE = "Restore it from a copy of the store; until then nothing else can be checked"


class Charter(msgspec.Struct, frozen=True):
    """What a lineage is, fixed when its store is first used. ``key`` (hex, 32 bytes) decides holdout membership."""

    name: str
    task: str
    key: str
    created: float


def decoded(data: bytes) -> Charter:
    """The charter in the bytes of ``lineage.json``; raise :class:`DamagedError` when it is none."""
    try:
        return msgspec.json.decode(data, type=Charter)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
        raise DamagedError(
            f"lineage.json in the store is damaged: {cause}. Restore it from a copy of the store: it says which "
            "lineage this is, and every signature is over it"
        ) from cause


def charter_trouble(store: Store) -> str:
    """What is wrong with ``lineage.json``; empty when it holds, or the store is new.

    It carries no signature: every other one is over it. Where none of several holds, it is the one that was changed.
    """
    data = store.get("lineage.json")
    signed = [name for folder in ("ledger/head/", "epochs/", "ledger/") for name in store.names(folder)]
    signed += [name for name in store.names("snapshots/") if name.endswith("/manifest.json")]
    if data is None:
        return f"it is gone, and {len(signed)} blobs of a lineage are there. {_RESTORE}" if signed else ""
    try:
        decoded(data)
    except DamagedError as cause:
        return str(cause)
    wrong = [found for name in signed if (found := _wrongly_signed(store, name)) is not None]
    if len(wrong) > 1 and all(wrong):
        return f"no signature in the store holds, and all are over it: it was changed. {_RESTORE}"
    return ""


def _wrongly_signed(store: Store, name: str) -> bool | None:
    """Whether its signature is wrong; None when it has none that counts."""
    try:
        return None if store.get(name) is None else False
    except WrongSignatureError:
        return True
    except DamagedError:
        return None


def taken(store: Store, name: str, task: str, now: float, *, anew: bool = False) -> Charter:
    """Return the charter, writing it when the store is new; refuse a store that holds another lineage.

    Where a signed lineage was seen before, an empty store is a new one only when that is meant (``anew``).
    """
    fresh = Charter(name=name, task=task, key=secrets.token_hex(32), created=now)
    data = store.get("lineage.json")
    if data is None:
        if not anew:
            _refuse_emptied(store)
        claim(store, "lineage.json", msgspec.json.encode(fresh) + b"\n")
        data = store.get("lineage.json") or b""
    found = decoded(data)
    if (found.name, found.task) != (name, task) and not _begun(store):
        for left in (*store.names("epochs/"), *store.names(FOLDER)):  # of a start that came to nothing, signed over it
            store.delete(left)
        store.delete("lineage.json")
        claim(store, "lineage.json", msgspec.json.encode(msgspec.structs.replace(fresh, key=found.key)) + b"\n")
        return taken(store, name, task, now)
    if (found.name, found.task) != (name, task):
        raise RefusedError(
            f"the store holds lineage {found.name!r} (task {found.task}), not {name!r} (task {task}). "
            "Set store.url to a directory of its own"
        )
    return found


def _refuse_emptied(store: Store) -> None:
    """Refuse to begin in silence where a signed lineage was."""
    if isinstance(store, SignedStore) and store.verifies and remembered(store.seen):
        raise RefusedError(
            "the store holds no lineage, and one was seen from here before: it was emptied, or store.url is "
            "another. Restore it from a copy. If it was you: holdfast train --new-lineage begins anew (or remove "
            f"{store.seen})"
        )


def _begun(store: Store) -> bool:
    """Tell whether there is a snapshot, a decision or an archive; a start that came to nothing leaves none."""
    return bool(begun(store) or store.names("archive/"))
