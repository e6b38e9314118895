"""The archive: every valid labelled event with its own bytes, as Parquet files in the store.

``archive/TOPIC/ID/PARTITION/BEGIN.parquet`` holds what lies between ``BEGIN`` and the ``next`` of its own metadata, and
the next file begins there. A file is created if absent, so that of two archivers one wins, and a crash leaves either
the whole file or none: each event is there exactly once. What rewrites files (compaction, forgetting) creates
``BEGIN-NEXT.GENERATION.parquet`` first and deletes what it replaces then; where both are there, the higher generation
counts. No disposition is stored: what a learner made of an event changes later.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgspec

from learners.extras import install
from snapshots.errors import DamagedError
from snapshots.records.place import Place
from snapshots.store.store import Store, claim
from stream.errors import CommandError

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"archive/([^/]+)/([^/]+)/([^/]+)/(\d{20})(?:-(\d{20})\.(\d+))?\.parquet")
_META = b"holdfast"
#: stands for the id of a topic that has none
NO_ID = "-"
#: the topic of what was brought in with ``holdfast archive import``
IMPORTED = "import"
COLUMNS = ("topic", "partition", "offset", "following", "time", "id", "value")


class Part(msgspec.Struct, frozen=True, order=True):
    """One partition of one topic, as the broker made it (``id`` is ``-`` where topics have none)."""

    topic: str
    id: str
    partition: str

    @property
    def folder(self) -> str:
        """Where its files are."""
        return "archive/" + "".join(_quoted(one) + "/" for one in (self.topic, self.id, self.partition))


class File(msgspec.Struct, frozen=True, order=True):
    """One file: from ``begin`` on, and where a rewrite made it, up to ``next``."""

    part: Part
    begin: int
    generation: int
    next: int | None
    name: str


class About(msgspec.Struct, frozen=True):
    """What a file's own metadata say: its range of offsets, its events, their times (Unix seconds; None: no event)."""

    begin: int
    next: int
    events: int
    first_time: float | None
    last_time: float | None
    created: float


class Row(msgspec.Struct, gc=False):
    """One event: where it was read and where reading goes on, its time in Unix seconds, its id, its own bytes."""

    offset: int
    following: int
    time: float
    id: str
    value: bytes


def arrow() -> Any:
    """Pyarrow with Parquet; raises :class:`CommandError` where it is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415  an optional extra
        import pyarrow.parquet  # noqa: PLC0415  the same
    except ImportError:
        raise CommandError(f"the archive needs pyarrow: {install('archive')}") from None
    return pa


class Archive:
    """The files of a store. Reading and writing go file by file, so that no more than one is in memory.

    Raises :class:`CommandError` where pyarrow is not installed; for who only takes out, where there are files as well.
    """

    def __init__(self, store: Store, *, writes: bool = True) -> None:
        self.store = store
        if writes or self.files():
            arrow()
        self._about: dict[str, About] = {}
        self._sizes: dict[str, int] = {}
        self.damaged: dict[str, str] = {}

    @property
    def _pa(self) -> Any:
        return arrow()

    def files(self, folder: str = "archive/") -> list[File]:
        """The files that count, by topic, partition and offset."""
        found = [parsed(name) for name in self.store.names(folder)]
        return active([one for one in found if one is not None])

    def ends(self) -> dict[Part, int]:
        """Where each partition's archive ends, and so where it goes on."""
        last = {file.part: file for file in self.files()}
        return {part: file.next if file.next is not None else self.about(file).next for part, file in last.items()}

    def write(
        self, part: Part, begin: int, following: int, rows: Sequence[Row], now: float, generation: int = 0
    ) -> bool:
        """Create the file of a range; tell whether it was this one that created it.

        A rewrite deletes names, which somebody who is late could then create again. What the rewrite put in their place
        was there before, so whoever looks after creating a file sees it, and takes the file back.
        """
        name = f"{part.folder}{begin:020d}"
        name += f"-{following:020d}.{generation}.parquet" if generation else ".parquet"
        data = self._encoded(part, begin, following, rows, now)
        if not claim(self.store, name, data):
            return False
        if any(file.name == name for file in self.files(part.folder)):
            return True
        self.store.delete(name)
        return False

    def _encoded(self, part: Part, begin: int, following: int, rows: Sequence[Row], now: float) -> bytes:
        pa = self._pa
        times = [row.time for row in rows]
        about = About(begin, following, len(rows), min(times, default=None), max(times, default=None), now)
        short = pa.dictionary(pa.int32(), pa.string())
        kinds = (short, short, pa.int64(), pa.int64(), pa.float64(), pa.string(), pa.binary())
        columns = (
            [part.topic] * len(rows), [part.partition] * len(rows), [row.offset for row in rows],
            [row.following for row in rows], times, [row.id for row in rows], [row.value for row in rows],
        )  # fmt: skip
        schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)), metadata={_META: msgspec.json.encode(about)})
        table = pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], schema=schema)
        out = pa.BufferOutputStream()
        pa.parquet.write_table(table, out, compression="zstd", write_page_checksum=True, row_group_size=50_000)
        return bytes(out.getvalue())

    def about(self, file: File) -> About:
        """A file's metadata."""
        if file.name not in self._about:
            self._table(file, [])
        return self._about[file.name]

    def bytes_of(self, file: File) -> bytes:
        """A file as it is in the store; raise :class:`DamagedError` when it went away."""
        data = self.store.get(file.name)
        if data is None:
            raise DamagedError(
                f"{file.name} is missing: erased, dropped or too old by now. Try again; if it stays so, it is lost"
            )
        return data

    def size(self, file: File) -> int:
        """How many bytes a file has; asked of the store once, since files never change."""
        if file.name not in self._sizes:
            self._sizes[file.name] = len(self.bytes_of(file))
        return self._sizes[file.name]

    def rows(self, file: File, data: bytes | None = None) -> list[Row]:
        """The events of a file; raise :class:`DamagedError` when it is not as it was written."""
        table = self._table(file, list(COLUMNS[2:]), data)
        return [Row(*one) for one in zip(*(table[name].to_pylist() for name in COLUMNS[2:]), strict=True)]

    def _table(self, file: File, columns: Sequence[str], data: bytes | None = None) -> "pa.Table":
        pa = self._pa
        try:
            # Arrow's own buffer and this thread only: threads over a Python file may abort the process at its end
            # (https://github.com/apache/arrow/issues/33975)
            whole = data or self.bytes_of(file)
            self._sizes[file.name] = len(whole)
            source = pa.BufferReader(whole)
            reader = pa.parquet.ParquetFile(source, page_checksum_verification=True)
            self._about[file.name] = msgspec.json.decode(reader.schema_arrow.metadata[_META], type=About)
            return reader.read(columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as cause:
            raise DamagedError(
                f"{file.name} is damaged: {cause}. Put it back from a copy of the store, or leave it out for good: "
                f"holdfast archive drop {file.name}"
            ) from cause

    def verify(self) -> Iterator[tuple[File, About, str]]:
        """Every file with what is wrong with it (empty: nothing); a file that does not begin where the last ended."""
        last: File | None = None
        ended = 0
        for file in self.files():
            try:
                rows = self.rows(file)
                about = self.about(file)
            except DamagedError as cause:
                yield file, About(file.begin, file.begin, 0, None, None, 0.0), str(cause)
                last = None
                continue
            wrong = ""
            if last is not None and last.part == file.part and ended != file.begin:
                wrong = f"offsets {ended} to {file.begin} are not archived"
            offsets = [row.offset for row in rows]
            if offsets != sorted(offsets) or any(not about.begin <= one < about.next for one in offsets):
                wrong = "its offsets are out of order"
            if len(rows) != about.events:
                wrong = f"it holds {len(rows)} events instead of {about.events}"
            last, ended = file, about.next
            yield file, about, wrong

    def readable(self) -> list[File]:
        """The files whose metadata can be read; the others are noted in ``damaged``."""
        found = []
        for file in self.files():
            try:
                self.about(file)
                found.append(file)
            except DamagedError as cause:
                self.damaged[file.name] = str(cause)
        return found

    def since(self, ends: dict[str, int]) -> int:
        """How many events came after these ends of the partitions' folders."""
        count = 0
        for file in self.readable():
            end = ends.get(file.part.folder, 0)
            about = self.about(file)
            if file.begin >= end:
                count += about.events
            elif about.next > end:
                count += sum(row.offset >= end for row in self.rows(file))
        return count


def _quoted(name: str) -> str:
    """A name that is one step of a path, and not hidden."""
    found = quote(name, safe="")
    return "%2E" + found[1:] if found.startswith(".") else found


def parsed(name: str) -> File | None:
    """The file that a name in the store stands for; None for a foreign name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    topic, identity, partition, begin, following, generation = found.groups()
    part = Part(unquote(topic), unquote(identity), unquote(partition))
    return File(part, int(begin), int(generation or 0), int(following) if following else None, name)


def active(files: Iterable[File]) -> list[File]:
    """Of files that overlap, those of the highest generation; sorted by partition and offset."""
    kept: list[File] = []
    ranges: dict[Part, list[tuple[int, int]]] = {}
    for file in sorted(files, key=lambda one: (-one.generation, one)):
        covered = ranges.setdefault(file.part, [])
        if any(begin <= file.begin < following for begin, following in covered):
            continue
        kept.append(file)
        if file.next is not None:
            covered.append((file.begin, file.next))
    return sorted(kept)


def place_of(ends: dict[Part, int], ids: dict[str, str]) -> Place:
    """Where reading goes on, for topics of these ids."""
    place: Place = {}
    for part, end in ends.items():
        if part.topic != IMPORTED and part.id == ids.get(part.topic, NO_ID):
            place.setdefault(part.topic, {})[part.partition] = end
    return place


def digest_of(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
