"""The manifest of a snapshot: everything about it, as one JSON file that is created last.

The schema stands in ``manifest.schema.json``; ``docs/snapshots.md`` explains it field by field. A manifest carries
the digest of itself, so that a single flipped byte in it is found.
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from snapshots.errors import DamagedError, VersionMismatchError
from snapshots.store.numbers import whole_in

if TYPE_CHECKING:
    from snapshots.store.store import Store
from snapshots.records.place import Place, Ranges

FORMAT = 4
#: how sealed JSON ends, and how it does while its digest is made
_SEAL, _UNSEALED = re.compile(rb'"sha256": "([0-9a-f]{64})"\n\}\n\Z'), b'"sha256": ""\n}\n'
_SEAL_BYTES = 100


#: upper bounds, in seconds, of how long it took to write a snapshot
WRITE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Durations(msgspec.Struct):
    """How many snapshots took how long to write (by ``WRITE_BUCKETS``, the last for more), and the seconds of all."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(WRITE_BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(WRITE_BUCKETS, seconds)] += 1
        self.seconds += seconds


class Part(msgspec.Struct, frozen=True):
    """A blob of the snapshot: its name in the store, its length in bytes, its SHA-256 in hex."""

    name: str
    bytes: int
    sha256: str


class Quarantined(msgspec.Struct, frozen=True):
    """A range of offsets per partition that is not in the model, and why; ``error`` is what the learner raised.

    ``kind``: undone by a revert, passed over while learning was stopped or before the learner was new, or refused by
    the learner; empty in snapshots of before the field. The ``id`` of a revert's is the number of its ledger entry, and
    that of a piece of it, left behind by a replay, goes on with a dot.
    """

    id: str
    cause: str
    ranges: Ranges
    events: int
    state: str = "skipped"
    error: str = ""
    kind: Literal["", "revert", "stopped", "new", "refused"] = ""

    @property
    def reverted_by(self) -> int | None:
        """The ledger entry of the revert that undid it; None when it was no revert."""
        return whole_in(self.id.partition(".")[0]) if self.kind in ("", "revert") else None


#: what becomes of a label that comes by itself; ``early`` ones wait for their events
LABEL_CLASSES = ("joined", "early", "late", "orphan", "duplicate", "withdrawn", "rewarded", "dead_lettered")
_LABEL_MOVES = {f"labels.{name}": name for name in (*LABEL_CLASSES, "consumed", "evicted")}


class Counts(msgspec.Struct):
    """Classes of delivered records that belong to the place (promise 2); ``refused`` splits the dead-lettered.

    Where labels come later, events are ``pending`` until theirs is there or ``timed_out``, and ``labels`` counts the
    labels: ``consumed``, and what became of each.
    """

    consumed: int = 0
    dead_lettered: int = 0
    unlabelled: int = 0
    duplicate: int = 0
    held_out: int = 0
    refused: dict[str, int] = {}
    pending: int = 0
    timed_out: int = 0
    labels: dict[str, int] = {}

    def remaining(self) -> int:
        """Events of which each learner has learnt every one, or has it in quarantine."""
        waiting = self.pending + self.timed_out
        return self.consumed - self.dead_lettered - self.unlabelled - self.duplicate - self.held_out - waiting

    def move(self, moves: Mapping[str, int]) -> None:
        """Change classes by so much; ``labels.`` before a name: one of labels that come by themselves."""
        for name, by in moves.items():
            label = _LABEL_MOVES.get(name)
            if label is not None:
                self.labels[label] = self.labels.get(label, 0) + by
            else:
                setattr(self, name, getattr(self, name) + by)

    def labels_left(self) -> int:
        """Labels that are in no class, of those that came by themselves: 0 unless the program is wrong."""
        return self.labels.get("consumed", 0) - sum(self.labels.get(name, 0) for name in LABEL_CLASSES)

    def copy(self) -> "Counts":
        """Counts that do not change when the trainer goes on."""
        return msgspec.structs.replace(self, refused=dict(self.refused), labels=dict(self.labels))


class HoldoutVersion(msgspec.Struct, frozen=True):
    """A sealed holdout: its blob, its rows, when it was sealed (Unix seconds), and the labels' spread (regression)."""

    number: int
    part: Part
    rows: int
    sealed: float
    scale: float = 1.0


class HoldoutState(msgspec.Struct):
    """The holdout at a place: sealed versions, oldest first, and the candidate for the next one.

    ``chunks`` are blobs of candidate rows, oldest first; the newest rows are in the shared part. ``candidate`` counts
    both. ``followed`` is the last ``refresh`` of the ledger that was sealed.
    """

    versions: list[HoldoutVersion] = []
    chunks: list[Part] = []
    candidate: int = 0
    followed: int = 0


class LearnerPart(msgspec.Struct, frozen=True):
    """One learner at the place of the snapshot; ``reference`` is the snapshot that it is compared with."""

    kind: str
    role: str
    line: int
    learnt: int
    quarantined: int
    quarantine: list[Quarantined]
    model: Part
    metrics: Part
    evidence: Part
    reference: int | None
    figures: dict[str, Any]
    built_from: dict[str, Any]


class Manifest(msgspec.Struct, frozen=True):
    """One snapshot. ``created`` and ``newest_event`` are Unix seconds, UTC.

    ``epoch`` is that of the trainer that wrote it; ``topics`` maps each topic to the id that the broker gave it;
    ``written`` tells how long earlier snapshots took to write, ``delays`` how long labels took that came later,
    ``rollout`` how the candidate of a roll-out does against the champion, and ``weights`` how much each learner is
    to be believed (``routing.policy`` ``hedge`` or ``thompson``), ``duel`` how challengers do since a duel began, and
    ``rewards`` what each learner's answers earned.
    """

    format: int
    lineage: str
    task: str
    snapshot: int
    epoch: int
    created: float
    place: Place
    topics: dict[str, str]
    newest_event: float
    counts: Counts
    holdout: HoldoutState
    written: Durations
    shared: Part
    learners: dict[str, LearnerPart]
    versions: dict[str, str]
    delays: dict[str, Any] = {}
    rollout: dict[str, Any] = {}
    weights: dict[str, float] = {}
    duel: dict[str, Any] = {}
    rewards: dict[str, Any] = {}
    sha256: str = ""

    def encode(self) -> bytes:
        """The manifest as indented JSON, with the digest of itself."""
        return sealed(self)


def sealed(manifest: msgspec.Struct) -> bytes:
    """A struct with a field ``sha256`` as indented JSON, the field being the digest of the rest."""

    def encoded(digest: str) -> bytes:
        return (
            msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, sha256=digest)), indent=1) + b"\n"
        )

    return encoded(hashlib.sha256(encoded("")).hexdigest())


def holds(data: bytes) -> bool:
    """Tell whether sealed bytes are as they were written, whatever fields another version knows."""
    found = _SEAL.search(data, max(0, len(data) - _SEAL_BYTES))
    return found is not None and hashlib.sha256(data[: found.start()] + _UNSEALED).hexdigest() == found[1].decode()


def decode(data: bytes, name: str) -> Manifest:
    """Decode and verify a manifest; raise :class:`DamagedError` when a byte of it is not as it was written."""
    try:
        form = msgspec.json.decode(data)["format"]
        manifest = msgspec.json.decode(data, type=Manifest)
    except (
        msgspec.DecodeError,
        RecursionError,
        msgspec.ValidationError,
        KeyError,
        TypeError,
        UnicodeDecodeError,
    ) as cause:
        raise DamagedError(f"{name} is not a manifest: {cause}") from cause
    if form != FORMAT:
        raise VersionMismatchError(
            f"{name} has format {form}; this holdfast reads format {FORMAT}. Use the version that wrote it"
        )
    if not holds(data):
        raise DamagedError(f"{name} was changed after it was written: its digest does not hold")
    return manifest


def schema() -> dict[str, Any]:
    """The JSON schema of a manifest, as in ``manifest.schema.json``."""
    return msgspec.json.schema(Manifest)


def read(store: "Store", part: Part) -> bytes:
    """Return the bytes of a part, verified; what is larger than the manifest says is not read to find that out."""
    return verify(part, store.get(part.name, part.bytes))


def verify(part: Part, data: bytes | None) -> bytes:
    """Return the bytes of a part when they are what the manifest says; raise :class:`DamagedError` otherwise."""
    if data is None:
        raise DamagedError(f"{part.name} is missing")
    if len(data) != part.bytes:
        raise DamagedError(f"{part.name} has {len(data)} bytes instead of {part.bytes}")
    found = hashlib.sha256(data).hexdigest()
    if found != part.sha256:
        raise DamagedError(f"{part.name} was changed: sha256 {found[:12]}… instead of {part.sha256[:12]}…")
    return data
