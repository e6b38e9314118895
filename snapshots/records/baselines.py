"""Baselines: what full retrains made, each a folder of the store with a manifest that is created last.

``baselines/N/`` holds the model as it is served, the state that a warm start goes on from, and ``manifest.json`` with
the digests of both. That one exists says nothing about whether it counts: the ledger does.
"""

import hashlib
from typing import Any

import msgspec

from snapshots.errors import DamagedError, NumberTakenError
from snapshots.records import manifest as manifests
from snapshots.records.manifest import Part, sealed
from snapshots.store.numbers import number_in
from snapshots.store.store import Store, claim

_FORMAT = 1


class BaselineManifest(msgspec.Struct, frozen=True):
    """One baseline. ``created``, ``first_time`` and ``last_time`` are Unix seconds, UTC.

    ``data_version`` is the digest over the files and exclusions that were read, ``excluded`` counts what was left out,
    by reason; ``sample`` holds features of some of the rows, to tell drift by; ``trained`` says how training went
    (losses on the newest rows, seconds, rows a second, device).
    """

    format: int
    number: int
    created: float
    task: str
    trigger: str
    data_version: str
    recipe: dict[str, Any]
    rows: int
    excluded: dict[str, int]
    first_time: float
    last_time: float
    trained: dict[str, Any]
    warm_from: int | None
    model: Part
    state: Part
    versions: dict[str, str]
    sample: Part | None = None
    sha256: str = ""

    def encode(self) -> bytes:
        """As indented JSON, with the digest of itself."""
        return sealed(self)


def _name(number: int) -> str:
    return f"baselines/{number:06d}/manifest.json"


def numbers(store: Store) -> list[int]:
    """Every baseline that is whole enough to have a manifest, oldest first."""
    found = (number_in(name, "baselines/", "/manifest.json", 6) for name in store.names("baselines/"))
    return sorted(number for number in found if number is not None)


def put(store: Store, number: int, what: str, data: bytes) -> Part:
    """Write a part of a baseline, named by its digest."""
    digest = hashlib.sha256(data).hexdigest()
    part = Part(f"baselines/{number:06d}/{what}-{digest[:16]}", len(data), digest)
    if not claim(store, part.name, data):
        raise DamagedError(f"{part.name} exists with other bytes; remove it, it belongs to no baseline")
    return part


def write(store: Store, manifest: BaselineManifest) -> None:
    """Write the manifest, by which the baseline exists."""
    if not claim(store, _name(manifest.number), manifest.encode()):
        raise NumberTakenError(f"baseline {manifest.number} is there already")


def read(store: Store, number: int) -> BaselineManifest | None:
    """Return a baseline's manifest; :class:`DamagedError` when it is not as it was written."""
    data = store.get(_name(number))
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=BaselineManifest)
    except (msgspec.DecodeError, RecursionError, msgspec.ValidationError, UnicodeDecodeError) as cause:
        raise DamagedError(f"{_name(number)} is not a manifest: {cause}") from cause
    if not manifests.holds(data) or manifest.number != number:
        raise DamagedError(f"{_name(number)} was changed after it was written: its digest does not hold")
    return manifest


def read_part(store: Store, part: Part) -> bytes:
    """Return a part, verified before anything is made of it."""
    return manifests.read(store, part)


def model_of(store: Store, number: int) -> tuple[BaselineManifest, bytes]:
    """Return a baseline's manifest and its model, verified; raise :class:`DamagedError` when one is not there."""
    manifest = read(store, number)
    if manifest is None:
        raise DamagedError(f"baseline {number} does not exist. See: holdfast retrain list")
    return manifest, read_part(store, manifest.model)


def remove(store: Store, number: int) -> None:
    """Delete a baseline, manifest first, so that it stops existing before its parts do."""
    store.delete(_name(number))
    for name in store.names(f"baselines/{number:06d}/"):
        store.delete(name)
