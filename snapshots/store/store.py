"""The store: named, immutable blobs, created once. A directory here; an object store keeps the same four methods."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from snapshots.store.confined import flush_directory
from snapshots.store.local import LocalStore

__all__ = ["LocalStore", "Store", "claim", "flush_directory", "open_store"]


class Store(Protocol):
    """Names are paths with ``/``; blobs are never changed.

    Contract, checked for every store by ``tests/contract/test_stores.py``:

    * ``create`` is atomic and durable: when it returns, the blob survives a loss of power, whole; when two create
      the same name, exactly one is told True.
    * ``get`` returns None for a name that is not there; never part of a blob. What is larger than a blob of its name
      can be (:mod:`snapshots.store.size_limits`), or than ``most``, is a :class:`DamagedError`, and is not read.
    * ``create`` raises :class:`StoreError` for what ``get`` would then refuse as too large, and writes nothing.
    * ``names`` lists what is below a prefix, sorted; with ``after``, only what sorts after it.
    * No name leads out of the store: one with ``..``, an empty or a hidden step is refused, by ``get`` as
      :class:`DamagedError`, since it stands in something that was read, and else as :class:`StoreError`.
    * Every method raises :class:`StoreError` when the store cannot be reached, and changes nothing then.
    """

    def get(self, name: str, most: int | None = None) -> bytes | None:
        """Return the blob, or None; of more than ``most`` bytes it is a :class:`DamagedError`."""

    def create(self, name: str, data: bytes) -> bool:
        """Create the blob unless the name exists; tell whether it was created."""

    def names(self, prefix: str, after: str = "") -> list[str]:
        """Names below ``prefix`` (which ends in ``/``), relative to the store's root, sorted."""

    def delete(self, name: str) -> None:
        """Delete the blob if it is there."""


def claim(store: Store, name: str, data: bytes) -> bool:
    """Create, and when told that the name exists, read it back: one's own bytes mean that one has won.

    An answer that is lost on its way makes a retry find its own blob (DESIGN section 2, promise 7).
    """
    return store.create(name, data) or store.get(name) == data


def open_store(url: str, base: Path, options: Mapping[str, Any] | None = None) -> Store:
    """Open the store that ``store.url`` names; a relative path is relative to the configuration file."""
    if "://" in url:
        from snapshots.store.object_store import ObjectStore  # noqa: PLC0415  only where there is one

        return ObjectStore(url, options)
    return LocalStore((base / url).resolve())
