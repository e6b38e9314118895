"""Writing and reading one cut: shared part, a part per learner, manifest last."""

import hashlib
import platform
from collections.abc import Collection
from importlib.metadata import version
from typing import Any

import msgspec

from learners import Learner, Metrics
from learners.labels import Labels
from learners.restore import restore
from snapshots import manifest as manifests
from snapshots.errors import DamagedError, LineageTakenError, VersionMismatchError
from snapshots.manifest import FORMAT, Counts, LearnerPart, Manifest, Part, Place, Quarantined
from snapshots.store import Store, claim

_WIDTH = 12


class Shared(msgspec.Struct):
    """What belongs to the place and to no learner.

    ``recent_ids``: 8 bytes each, the keyed hashes of recent ids, oldest first. ``labels``: the multi-class map.
    ``rows``: the newest valid labelled events' features, for the guard's fast lane.
    ``start``: where the lineage began.
    """

    recent_ids: bytes = b""
    labels: list[str | float | bool] = []
    rows: list[bytes] = []
    start: Place = {}


class LearnerCut(msgspec.Struct):
    """One learner at the moment of a cut, already serialised."""

    kind: str
    role: str
    line: int
    learnt: int
    quarantined: int
    quarantine: list[Quarantined]
    model: bytes
    metrics: bytes
    figures: dict[str, Any]
    built_from: dict[str, Any]


class Cut(msgspec.Struct):
    """Everything at one place, already serialised; writing it needs no lock on the trainer."""

    lineage: str
    task: str
    created: float
    place: Place
    newest_event: float
    counts: Counts
    shared: bytes
    learners: dict[str, LearnerCut]


def versions() -> dict[str, str]:
    """The versions that saved state depends on."""
    return {
        "holdfast": version("holdfast"),
        "python": platform.python_version(),
        "river": version("river"),
        "vowpalwabbit": version("vowpalwabbit"),
    }


def folder(number: int) -> str:
    """The folder of a snapshot in the store."""
    return f"snapshots/{number:0{_WIDTH}d}/"


def manifest_name(number: int) -> str:
    """The name of a snapshot's manifest in the store."""
    return folder(number) + "manifest.json"


def write(store: Store, number: int, cut: Cut) -> Manifest:
    """Write a cut as snapshot ``number``: every part, then the manifest. It exists only once the manifest does.

    Parts are named by their digest, so that what a killed trainer left behind is never mistaken for a part of this
    one. Raises :class:`LineageTakenError` when the number exists with other bytes.
    """
    shared = _put(store, number, "shared", cut.shared)
    learners = {
        name: LearnerPart(
            kind=part.kind,
            role=part.role,
            line=part.line,
            learnt=part.learnt,
            quarantined=part.quarantined,
            quarantine=part.quarantine,
            model=_put(store, number, f"{name}.model", part.model),
            metrics=_put(store, number, f"{name}.metrics", part.metrics),
            figures=part.figures,
            built_from=part.built_from,
        )
        for name, part in cut.learners.items()
    }
    manifest = Manifest(
        format=FORMAT,
        lineage=cut.lineage,
        task=cut.task,
        snapshot=number,
        created=cut.created,
        place=cut.place,
        newest_event=cut.newest_event,
        counts=cut.counts,
        shared=shared,
        learners=learners,
        versions=versions(),
    )
    data = manifest.encode()
    if not claim(store, manifest_name(number), data):
        raise LineageTakenError(
            f"snapshot {number} was written by another trainer of lineage {cut.lineage!r}. One lineage has one "
            "trainer: stop one of them, or give it a name and a store of its own"
        )
    return manifest


def _put(store: Store, number: int, what: str, data: bytes) -> Part:
    digest = hashlib.sha256(data).hexdigest()
    name = f"{folder(number)}{what}-{digest[:16]}"
    if not claim(store, name, data):
        raise DamagedError(f"{name} exists with other bytes; remove it, it belongs to no snapshot")
    return Part(name=name, bytes=len(data), sha256=digest)


def read_manifest(store: Store, number: int) -> Manifest | None:
    """Return the manifest of a snapshot, verified; None when there is none."""
    name = manifest_name(number)
    data = store.get(name)
    if data is None:
        return None
    manifest = manifests.decode(data, name)
    if manifest.snapshot != number:
        raise DamagedError(f"{name} is the manifest of snapshot {manifest.snapshot}")
    return manifest


def check_versions(manifest: Manifest, kind: str) -> None:
    """Refuse state of a learner kind that another version of its library wrote."""
    library = {"river": "river", "vw": "vowpalwabbit"}[kind]
    wrote, have = manifest.versions.get(library), versions()[library]
    if wrote != have:
        raise VersionMismatchError(
            f"snapshot {manifest.snapshot} was written with {library} {wrote}, and {have} is installed. "
            f"Install {library}=={wrote}, or rebuild by replay: set a new name and store, and start from earliest"
        )


def read_shared(store: Store, manifest: Manifest) -> Shared:
    """Return the shared part, verified before it is decoded."""
    data = manifests.verify(manifest.shared, store.get(manifest.shared.name))
    try:
        return msgspec.msgpack.decode(data, type=Shared)
    except msgspec.DecodeError as cause:
        raise DamagedError(f"{manifest.shared.name} does not decode: {cause}") from cause


def read_learner(
    store: Store, manifest: Manifest, name: str, labels: Labels, types: Collection[str] = ()
) -> tuple[Learner, Metrics]:
    """Return one learner and its metrics, every byte verified before any is deserialised."""
    part = manifest.learners[name]
    model = manifests.verify(part.model, store.get(part.model.name))
    metrics = manifests.verify(part.metrics, store.get(part.metrics.name))
    check_versions(manifest, part.kind)
    return restore(part.kind, part.built_from, labels, model, types), Metrics.load(metrics)


def verify_all(store: Store, manifest: Manifest) -> None:
    """Verify every part of a snapshot; raise :class:`DamagedError` for the first that is wrong."""
    parts = [manifest.shared]
    for learner in manifest.learners.values():
        parts += [learner.model, learner.metrics]
    for part in parts:
        manifests.verify(part, store.get(part.name))


def remove(store: Store, number: int) -> None:
    """Delete a snapshot, manifest first, so that it stops existing before its parts do."""
    store.delete(manifest_name(number))
    for name in store.names(folder(number)):
        store.delete(name)
