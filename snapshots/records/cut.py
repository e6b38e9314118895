"""Writing and reading one cut: shared part, a part per learner, manifest last."""

import hashlib
import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from learners import Learner, Metrics
from learners.evidence.against_baseline import Evidence
from learners.labels import Labels
from learners.restore import restore
from snapshots.errors import DamagedError, NumberTakenError, VersionMismatchError
from snapshots.records import manifest as manifests
from snapshots.records.held_rows import HeldRow, rows_of
from snapshots.records.holdout import Tails
from snapshots.records.manifest import FORMAT, Counts, Durations, HoldoutState, LearnerPart, Manifest, Part
from snapshots.records.place import Place
from snapshots.store.numbers import number_in
from snapshots.store.store import Store, claim

_WIDTH = 12


class Shared(msgspec.Struct):
    """What belongs to the place and to no learner.

    ``recent_ids``: 8 bytes each, the keyed hashes of recent ids, oldest first. ``labels``: the multi-class map.
    ``rows``: the newest valid labelled events' features, for the guard's fast lane.
    ``start``: where the lineage began. ``held``: rows of the holdout's candidate. ``rivalry``: the evidence of
    challengers against the champion. ``matching``: for each configured name, how many events were looked at for it and
    how many matched. ``arrivals``: the scores of what was answered, and of what was predicted when events came.
    """

    recent_ids: bytes = b""
    labels: list[str | int | float | bool] = []
    rows: list[bytes] = []
    start: Place = {}
    held: Tails = msgspec.field(default_factory=Tails)
    rivalry: bytes = b""
    matching: dict[str, list[int]] = {}
    arrivals: bytes = b""


class Cut(msgspec.Struct):
    """Everything at one place but the learners' parts, already serialised; writing it needs no lock on the trainer."""

    lineage: str
    task: str
    epoch: int
    created: float
    place: Place
    topics: dict[str, str]
    newest_event: float
    counts: Counts
    holdout: HoldoutState
    written: Durations
    shared: bytes
    delays: dict[str, Any] = {}
    rollout: dict[str, Any] = {}
    weights: dict[str, float] = {}
    duel: dict[str, Any] = {}
    rewards: dict[str, Any] = {}


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


def numbers(store: Store) -> list[int]:
    """Every snapshot that has a manifest, whether it holds or not; foreign names are none."""
    found = (number_in(name, "snapshots/", "/manifest.json", _WIDTH) for name in store.names("snapshots/"))
    return sorted(number for number in found if number is not None)


def manifest_name(number: int) -> str:
    """The name of a snapshot's manifest in the store."""
    return folder(number) + "manifest.json"


def write(store: Store, number: int, cut: Cut, learners: Mapping[str, LearnerPart]) -> Manifest:
    """Write a cut as snapshot ``number``: the shared part, then the manifest. It exists only once the manifest does.

    The learners' parts are there already (:func:`put`). Parts are named by their digest, so that what a killed trainer
    left behind is never mistaken for a part of this one. Raises :class:`NumberTakenError` when the number exists with
    other bytes.
    """
    manifest = Manifest(
        format=FORMAT,
        lineage=cut.lineage,
        task=cut.task,
        snapshot=number,
        epoch=cut.epoch,
        created=cut.created,
        place=cut.place,
        topics=cut.topics,
        newest_event=cut.newest_event,
        counts=cut.counts,
        holdout=cut.holdout,
        written=cut.written,
        shared=put(store, number, "shared", cut.shared),
        learners=dict(learners),
        versions=versions(),
        delays=cut.delays,
        rollout=cut.rollout,
        weights=cut.weights,
        duel=cut.duel,
        rewards=cut.rewards,
    )
    if not claim(store, manifest_name(number), manifest.encode()):
        raise NumberTakenError(f"snapshot {number} is there already")
    return manifest


def put(store: Store, number: int, what: str, data: bytes) -> Part:
    """Write one part of snapshot ``number``, named by its digest; it belongs to nothing until a manifest names it."""
    digest = hashlib.sha256(data).hexdigest()
    name = f"{folder(number)}{what}-{digest[:16]}"
    if not claim(store, name, data):
        raise DamagedError(f"{name} exists with other bytes; remove it, it belongs to no snapshot")
    return Part(name=name, bytes=len(data), sha256=digest)


def rehome(store: Store, number: int, part: Part) -> Part:
    """Write a part that is there under another snapshot's number again under this one's."""
    what = part.name.rsplit("/", 1)[1].rsplit("-", 1)[0]
    return put(store, number, what, manifests.read(store, part))


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
    data = manifests.read(store, manifest.shared)
    try:
        return msgspec.msgpack.decode(data, type=Shared)
    except (msgspec.DecodeError, RecursionError) as cause:
        raise DamagedError(f"{manifest.shared.name} does not decode: {cause}") from cause


def read_learner(
    store: Store,
    manifest: Manifest,
    name: str,
    labels: Labels,
    types: Collection[str] = (),
    built_from: Mapping[str, Any] | None = None,
) -> tuple[Learner, Metrics]:
    """Return one learner and its metrics, every byte verified before any is deserialised.

    ``built_from`` stands in for what the manifest says, when an operator accepted a change.
    """
    part = manifest.learners[name]
    model = manifests.read(store, part.model)
    metrics = manifests.read(store, part.metrics)
    check_versions(manifest, part.kind)
    return restore(part.kind, built_from or part.built_from, labels, model, types), Metrics.load(metrics)


def read_evidence(store: Store, manifest: Manifest, name: str) -> Evidence:
    """Return the evidence on a learner, verified before it is decoded."""
    part = manifest.learners[name].evidence
    return Evidence.load(manifests.read(store, part))


def rows_of_part(store: Store, part: Part) -> list[HeldRow]:
    """The held-out rows of a blob, verified before they are decoded."""
    return rows_of(manifests.read(store, part), part.name)


def collected(store: Store, manifest: Manifest) -> list[HeldRow]:
    """The held-out rows that wait to be sealed at a snapshot; those kept aside first, each oldest first."""
    tails = read_shared(store, manifest).held
    kept, recent = list[HeldRow](), list[HeldRow]()
    for part in manifest.holdout.chunks:
        rows = rows_of_part(store, part)
        (kept if part.name.startswith("holdout/kept-") else recent).extend(rows)
    return [*kept, *tails.kept, *recent, *tails.recent]


def verify_all(store: Store, manifest: Manifest) -> None:
    """Verify every part of a snapshot; raise :class:`DamagedError` for the first that is wrong."""
    parts = [manifest.shared]
    for learner in manifest.learners.values():
        parts += [learner.model, learner.metrics, learner.evidence]
    for part in parts:
        manifests.read(store, part)


def remove(store: Store, number: int) -> None:
    """Delete a snapshot, manifest first, so that it stops existing before its parts do."""
    store.delete(manifest_name(number))
    for name in store.names(folder(number)):
        store.delete(name)
