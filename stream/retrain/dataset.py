"""The data of a full retrain: the archive without what must not be learnt, encoded on disk, and the digest of it all.

Two passes over the files, one file in memory at a time: the first takes a sample, to choose features and to scale
numbers, and the digest of every file; the second decodes each event with the codec that the trainer uses and writes
arrays. They lie in a folder named by the data's version, so a run that was killed finds them again.
"""

import hashlib
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from learners.baseline import encoding as encodings
from learners.baseline.encoding import Encoder, Encoding, Layout
from learners.event import Event, Features, slices_of
from learners.labels import Labels, LabelValue
from snapshots import Lineage
from snapshots.errors import NothingToLearnError
from snapshots.records import cut as snapshots
from snapshots.records.held_rows import HeldRow
from snapshots.records.membership import Membership
from snapshots.records.place import Ranges, within
from snapshots.store.confined import make_folder
from stream.archive.files import NO_ID, Archive, File, Row, digest_of
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import RetrainConfig
from stream.source.codec import Codec

if TYPE_CHECKING:
    from snapshots.records.manifest import Quarantined

_SAMPLE_ROWS = 100_000
_CHUNK_ROWS = 1 << 17
#: a run that was killed is gone on with for so long
_RESUMED_SECONDS = 86_400.0
#: features of so many rows are kept, to tell by whether the data moved since
DRIFT_ROWS = 2000


#: how features become columns: the settings of [retrain] that other data are made by
_CHOSEN = ("numbers", "bins", "max_features", "min_count", "max_values")


class Exclusions(msgspec.Struct, frozen=True):
    """What is left out. ``quarantined``: ranges that a revert condemned, ``replayed`` those learnt after all.

    ``key`` is the digest of the membership's key, not the key.
    """

    key: str
    rate: float
    by: str
    quarantined: list[Ranges]
    replayed: list[Ranges]
    ids: dict[str, str]

    def condemned(self, file: File, offset: int) -> bool:
        """Tell whether a revert quarantined this event for any learner and nobody replayed it."""
        part = file.part
        if part.id != self.ids.get(part.topic, NO_ID):
            return False
        undone, learnt = (
            any(within(ranges, part.topic, part.partition, offset) for ranges in many)
            for many in (self.quarantined, self.replayed)
        )
        return undone and not learnt


def exclusions_of(lineage: Lineage, membership: Membership, by: str) -> Exclusions:
    """What the lineage says now."""
    newest = lineage.newest()
    found: list[Quarantined] = [
        one
        for name in (newest.learners if newest else {})
        for one in lineage.quarantine(name)
        if one.reverted_by is not None
    ]
    return Exclusions(
        hashlib.sha256(membership.key).hexdigest()[:16],
        membership.rate,
        by,
        [one.ranges for one in found if one.state != "replayed"],
        [one.ranges for one in found if one.state == "replayed"],
        {topic: one for topic, one in newest.topics.items() if topic in newest.place} if newest else {},
    )


class Warm(msgspec.Struct, frozen=True):
    """What a warm start goes on from: the baseline's number, its encoding, and the time of its newest event."""

    number: int
    encoding: Encoding
    since: float


class Dataset(msgspec.Struct):
    """Encoded rows, oldest first (see :class:`learners.baseline.training.Rows`), and what they are of.

    ``archived`` events were read, up to ``ends`` of the partitions' folders.
    """

    version: str
    encoding: Encoding
    names: list[LabelValue]
    rows: int
    excluded: dict[str, int]
    first_time: float
    last_time: float
    others: int
    layout: Layout
    outputs: int
    archived: int = 0
    ends: dict[str, int] = {}


class _Arrays:
    """Arrays on disk that grow, a file each: of a kind, and of so many columns (None: none, just values)."""

    def __init__(self, folder: Path, **kinds: tuple[Any, int | None]) -> None:
        self._kinds = kinds
        self._paths = {name: folder / f"{name}.bin" for name in kinds}
        self._files = {name: path.open("wb") for name, path in self._paths.items()}
        self._rows = 0

    def add(self, count: int, **columns: Any) -> None:
        self._rows += count
        for name, values in columns.items():
            self._files[name].write(np.ascontiguousarray(values, self._kinds[name][0]).tobytes())

    def close(self) -> dict[str, npt.NDArray[Any]]:
        """The whole arrays, mapped from disk."""
        for file in self._files.values():
            file.close()
        return {
            name: mapped(self._paths[name], kind, (self._rows,) if width is None else (self._rows, width))
            for name, (kind, width) in self._kinds.items()
        }


def mapped(path: Path, kind: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array as it lies on disk; what has no element cannot be mapped, and is made."""
    return np.memmap(path, kind, "r", shape=shape) if np.prod(shape) else np.zeros(shape, kind)


class Gathering:
    """Builds a dataset in ``work``. ``say`` is told how many events of how many were read, and in which pass.

    ``decoding`` is what else decides how bytes become rows.
    """

    def __init__(  # noqa: PLR0913  the composition root hands in every part
        self,
        archive: Archive,
        codec: Codec,
        labels: Labels,
        membership: Membership,
        exclusions: Exclusions,
        choice: RetrainConfig,
        work: Path,
        *,
        most_held: int = 5000,
        slices: Sequence[str] = (),
        decoding: bytes = b"",
        now: Callable[[], float] = time.time,
        warm: Warm | None = None,
        say: Callable[[str, int, int], None] = lambda _pass, _done, _all: None,
    ) -> None:
        self.archive, self.codec, self.labels, self.membership = archive, codec, labels, membership
        self.exclusions, self.choice, self.work, self.say = exclusions, choice, work, say
        self.slices, self.warm, self.now = slices, warm, now
        self.basis = hashlib.sha256(
            msgspec.json.encode(
                (
                    exclusions,
                    {one: getattr(choice, one) for one in _CHOSEN},
                    warm,
                    decoding,
                    labels.names,
                    list(slices),
                    most_held,
                )
            )
        ).hexdigest()
        self.held: deque[HeldRow] = deque(maxlen=most_held)

    def gather(self) -> tuple[Dataset, Path]:
        """Return the dataset and its folder; what an earlier run left there of the same version is used again."""
        for checkpoint in sorted(self.work.glob("*/checkpoint-*"), key=lambda one: -one.stat().st_mtime):
            found = self._cut_off(checkpoint.parent)
            if found is not None:
                return found, checkpoint.parent
        files = self.archive.files()
        total = sum(self.archive.about(file).events for file in files)
        if not total:
            raise NothingToLearnError(
                "the archive holds no event: set archive.enabled and run holdfast up, or bring history in with "
                "holdfast archive import FILE"
            )
        version, sample = self._look(files, total)
        folder = self.work / version[:24]
        about = folder / "dataset.json"
        if about.exists():
            return msgspec.json.decode(about.read_bytes(), type=Dataset), folder
        for old in self.work.glob("*"):
            shutil.rmtree(old, ignore_errors=True)
        make_folder(folder)
        (folder / "basis").write_text(self.basis)
        found = self._encode(files, total, version, sample, folder)
        (folder / "held.msgpack").write_bytes(msgspec.msgpack.encode(list(self.held)))
        few = sample[:: max(1, len(sample) // DRIFT_ROWS)][:DRIFT_ROWS]
        (folder / "sample.msgpack").write_bytes(msgspec.msgpack.encode([one.raw for one in few]))
        hidden = folder / ".dataset.json"
        hidden.write_bytes(msgspec.json.encode(found))
        hidden.rename(about)
        return found, folder

    def _cut_off(self, folder: Path) -> Dataset | None:
        """The data of a run that was killed within a day, when but for newer files of the archive nothing is another.

        It is ended first, with what it began with; whatever came since is for the next.
        """
        try:
            young = self.now() - (folder / "dataset.json").stat().st_mtime < _RESUMED_SECONDS
            if young and (folder / "basis").read_text() == self.basis:
                return msgspec.json.decode((folder / "dataset.json").read_bytes(), type=Dataset)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            pass
        return None

    def _look(self, files: list[File], total: int) -> tuple[str, list[Features]]:
        """The first pass: the digest of everything that is read, and a sample of the features."""
        digest = hashlib.sha256(self.basis.encode())
        sample: list[Features] = []
        stride, done = max(1, total // _SAMPLE_ROWS), 0
        for file in files:
            data = self.archive.bytes_of(file)
            digest.update(f"\n{file.name} {digest_of(data)}".encode())
            rows = self.archive.rows(file, data)
            for row in rows[-done % stride :: stride]:
                event = self._event(file, row)
                if event is not None:
                    sample.append(event.features)
            done += len(rows)
            self.say("looking", done, total)
        return digest.hexdigest(), sample

    def _event(self, file: File, row: Row) -> Event | None:
        record = Record(file.part.topic, file.part.partition, row.offset, row.following, row.value, row.time)
        event = self.codec.decode(record)
        return None if isinstance(event, Refusal) or event.label is None else event

    def _encode(self, files: list[File], total: int, version: str, sample: list[Features], folder: Path) -> Dataset:
        if self.warm is None:
            layout, others = encodings.layout_of(sample, self.choice.max_features)
        else:
            numbers = self.warm.encoding.numbers
            layout, others = Layout([one.name for one in numbers], self.warm.encoding.texts), 0
        raw = _Arrays(
            folder, numbers=(np.float32, len(layout.numbers)), hashes=(np.uint32, len(layout.texts)),
            labels=(np.float32, None), weights=(np.float32, None), times=(np.float64, None), ids=(np.uint64, None),
        )  # fmt: skip
        excluded: Counter[str] = Counter()
        done = 0
        for file in files:
            rows = self.archive.rows(file)
            events = list(self._learnable(file, rows, excluded))
            if events:
                pairs = [encodings.raw_of(layout, event.features) for event, _, _ in events]
                raw.add(
                    len(events),
                    numbers=[one for one, _ in pairs], hashes=[one for _, one in pairs],
                    labels=[event.label for event, _, _ in events], weights=[event.weight for event, _, _ in events],
                    times=[time for _, time, _ in events],
                    ids=np.frombuffer(b"".join(digest[8:] for _, _, digest in events), ">u8"),
                )  # fmt: skip
            done += len(rows)
            self.say("encoding", done, total)
        arrays = raw.close()
        _, first = np.unique(arrays["ids"], return_index=True)
        excluded["repeated"] = len(arrays["ids"]) - len(first)
        first.sort()
        order = first[np.argsort(arrays["times"][first], kind="stable")]
        if self.warm is None:
            sampled = np.asarray(arrays["numbers"][order[:: max(1, len(order) // _SAMPLE_ROWS)]])
            numbers = encodings.numbers_of(layout, sampled, self.choice.numbers, self.choice.bins)
        found = self._finish(arrays, order, layout, numbers, folder)
        times = arrays["times"][order[[0, -1]]] if len(order) else np.zeros(2)
        outputs = max(2, len(self.labels.names)) if self.labels.task == "multiclass" else 1
        return Dataset(
            version, found, list(self.labels.names), len(order), {k: v for k, v in excluded.items() if v},
            float(times[0]), float(times[1]), others, layout, outputs, total,
            {file.part.folder: self.archive.about(file).next for file in files},
        )  # fmt: skip

    def _learnable(self, file: File, rows: list[Row], excluded: Counter[str]) -> Iterable[tuple[Event, float, bytes]]:
        """Each event that may be learnt, with its time and the digest of its id."""
        for row in rows:
            event = self._event(file, row)
            if event is None:
                excluded["refused"] += 1
                continue
            digest = self.membership.digest(event.id)
            if self.warm is not None and row.time <= self.warm.since:
                excluded["older"] += 1
            elif self.membership.claims(self.membership.owner(event, digest)):
                excluded["held_out"] += 1
                self._hold(file, row, event)
            elif self.exclusions.condemned(file, row.offset):
                excluded["quarantined"] += 1
            elif event.weight == 0:
                excluded["weightless"] += 1
            else:
                yield event, row.time, digest

    def _hold(self, file: File, row: Row, event: Event) -> None:
        """Keep the newest held-out rows, for the gates of a first baseline: no holdout may be sealed yet."""
        slices = slices_of(event.features, self.slices)
        label = event.label if event.label is not None else 0
        part = file.part
        self.held.append(HeldRow(part.topic, part.partition, row.offset, event.features.raw, label, row.time, slices))

    def _finish(
        self, raw: dict[str, npt.NDArray[Any]], order: npt.NDArray[np.int64], layout: Layout,
        numbers: list[encodings.Number], folder: Path,
    ) -> Encoding:  # fmt: skip
        """Choose places for values, and write the rows as they are learnt, oldest first."""
        encoding = self.warm.encoding if self.warm is not None else self._places(raw, order, layout, numbers)
        encoder = Encoder(encoding)
        plain = [i for i, one in enumerate(numbers) if not one.edges]
        out = _Arrays(
            folder, x=(np.float32, encoding.width), p=(np.int32, encoding.fields), y=(np.float32, None),
            w=(np.float32, None), t=(np.float64, None),
        )  # fmt: skip
        for chunk in _chunks(order):
            hashes = _hashes(raw, chunk, layout, numbers)
            places = encoder.places_of(hashes) if hashes.shape[1] else np.zeros((len(chunk), 1), np.int64)
            out.add(
                len(chunk),
                x=encoder.standardised(raw["numbers"][chunk][:, plain]), p=places, y=raw["labels"][chunk],
                w=raw["weights"][chunk], t=raw["times"][chunk],
            )  # fmt: skip
        out.close()
        for name in ("numbers", "hashes", "labels", "weights", "times", "ids"):
            (folder / f"{name}.bin").unlink(missing_ok=True)
        return encoding

    def _places(
        self, raw: dict[str, npt.NDArray[Any]], order: npt.NDArray[np.int64], layout: Layout,
        numbers: list[encodings.Number],
    ) -> Encoding:  # fmt: skip
        """Give the values that are seen often enough a place each."""
        counts: Counter[int] = Counter()
        for chunk in _chunks(order):
            values, times = np.unique(_hashes(raw, chunk, layout, numbers), return_counts=True)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
        counts.pop(encodings.ABSENT, None)
        often = [(count, value) for value, count in counts.items() if count >= self.choice.min_count]
        chosen = sorted(often, key=lambda one: (-one[0], one[1]))[: self.choice.max_values]
        return Encoding(numbers, layout.texts, sorted(value for _, value in chosen))


def _chunks(order: npt.NDArray[np.int64]) -> Iterable[npt.NDArray[np.int64]]:
    return (order[begin : begin + _CHUNK_ROWS] for begin in range(0, len(order), _CHUNK_ROWS))


def _hashes(
    raw: dict[str, npt.NDArray[Any]], chunk: npt.NDArray[np.int64], layout: Layout, numbers: list[encodings.Number]
) -> npt.NDArray[np.uint32]:
    """Hashes of the texts, then of the bins of binned numbers."""
    columns = [raw["hashes"][chunk]] if layout.texts else []
    for index, one in enumerate(numbers):
        if one.edges:
            known = np.array(
                [encodings.ABSENT, *(encodings.hash_of(one.name, f"#{i}") for i in range(len(one.edges) + 1))]
            )
            values = raw["numbers"][chunk, index]
            bins = np.searchsorted(one.edges, values.astype(np.float64), side="right") + 1
            columns.append(known[np.where(np.isnan(values), 0, bins)][:, None])
    return np.concatenate(columns, axis=1).astype(np.uint32) if columns else np.zeros((len(chunk), 0), np.uint32)


def labels_for(lineage: Lineage, labels: Labels) -> Labels:
    """The labels with the class numbers of the newest snapshot, so that online model and baseline mean the same."""
    newest = lineage.newest()
    if newest is not None:
        labels.restore(snapshots.read_shared(lineage.store, newest).labels)
    return labels


def rows_of(folder: Path, dataset: Dataset) -> Any:
    """The rows for training, mapped from disk."""
    from learners.baseline.batches import Rows  # noqa: PLC0415  torch, an optional extra

    count, encoding = dataset.rows, dataset.encoding
    return Rows(
        mapped(folder / "x.bin", np.float32, (count, encoding.width)),
        mapped(folder / "p.bin", np.int32, (count, encoding.fields)),
        mapped(folder / "y.bin", np.float32, (count,)),
        mapped(folder / "w.bin", np.float32, (count,)),
        mapped(folder / "t.bin", np.float64, (count,)),
    )
