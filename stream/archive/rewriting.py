"""Rewriting the archive: what is erased or dropped goes, small files become large ones, and old files are deleted.

Whoever rewrites holds the lease ``archive``. A crash in between leaves clear what counts: see the module beside this.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from snapshots.errors import DamagedError, RefusedError
from snapshots.store.lease import Lease
from snapshots.store.size_limits import ARCHIVED
from snapshots.store.store import Store
from stream.archive.files import IMPORTED, Archive, File, Part, Row, parsed
from stream.process.presence import has_ended, this_process

_LEASE, LEASE_SECONDS = "archive", 60.0
#: what a rewrite replaced is kept for so long: whoever reads the archive has listed it before
_READ_SECONDS = 6 * 3600.0


def lease_of(store: Store, now: Callable[[], float]) -> Lease:
    """The lease of whoever rewrites files of the archive: compaction and erasure never cross."""
    return Lease(store, _LEASE, this_process(), LEASE_SECONDS, now, has_ended)


def compact(archive: Archive, now: float, *, events: int, fewest: int = 8) -> int:
    """Put runs of small files of a partition into one, up to so many events each; return how many are gone."""
    gone = 0
    run: list[File] = []
    for file in [*archive.readable(), None]:
        small = file is not None and archive.about(file).events < events
        fits = (
            small and run and file is not None and file.part == run[-1].part
            and archive.about(run[-1]).next == file.begin
            and sum(archive.about(one).events for one in (*run, file)) <= events
            and sum(archive.size(one) for one in (*run, file)) <= ARCHIVED // 2
        )  # fmt: skip
        if fits and file is not None:
            run.append(file)
            continue
        if len(run) >= fewest:
            rows = [row for one in run for row in archive.rows(one)]
            gone += replace(archive, run, rows, now, keep=True)
        run = [file] if small and file is not None else []
    return gone


def drop(archive: Archive, name: str) -> tuple[int, int]:
    """Delete a file by its name, or everything that was imported under a name; return files and events.

    Whoever calls holds the lease ``archive``. Of a file that is damaged no events are counted.
    """
    chosen = [one for one in archive.files() if one.name == name or (one.part.topic, one.part.partition) == (
        IMPORTED, name)]  # fmt: skip
    if not chosen:
        raise RefusedError(f"the archive has no file and no import {name!r}; see holdfast archive show, or verify")
    events = 0
    for file in chosen:
        with contextlib.suppress(DamagedError):
            events += archive.about(file).events
        remove(archive, file)
    return len(chosen), events


def replace(archive: Archive, files: Sequence[File], rows: Sequence[Row], now: float, *, keep: bool = False) -> int:
    """Put one file with these rows in the place of a run of files; a crash in between leaves what counts clear.

    ``keep``: leave the replaced ones to :func:`sweep`, since a retrain may be reading them.
    """
    begin, following = files[0].begin, archive.about(files[-1]).next
    generation = max(file.generation for file in files) + 1
    if not archive.write(files[0].part, begin, following, rows, now, generation):
        raise RefusedError(f"{files[0].part.folder} is being rewritten by somebody else; nothing was changed")
    for file in () if keep else files:
        remove(archive, file)
    return len(files)


def remove(archive: Archive, file: File) -> None:
    """Delete a file, and before it what it had replaced and :func:`sweep` has left: it would count again."""
    end = file.next
    if end is None:
        archive.store.delete(file.name)
        return
    for name in archive.store.names(file.part.folder):
        left = parsed(name)
        if left is not None and left.generation < file.generation and file.begin <= left.begin < end:
            archive.store.delete(name)
    archive.store.delete(file.name)


def erase(
    archive: Archive, files: Sequence[File], erased: Callable[[Part, Row], bool], now: float,
    say: Callable[[int, int], None] = lambda _done, _whole: None,
) -> Iterator[tuple[File, list[Row]]]:  # fmt: skip
    """Rewrite those files that hold an event to be erased, and yield each with those events.

    Whoever calls holds the lease ``archive``. ``say`` is told how many files of how many were looked at. Damaged
    files are left as they are, and noted in ``damaged``.
    """
    for number, file in enumerate(files):
        try:
            rows = archive.rows(file)
        except DamagedError as cause:
            archive.damaged[file.name] = str(cause)
            continue
        gone = [row for row in rows if erased(file.part, row)]
        if gone:
            doomed = set(map(id, gone))
            replace(archive, [file], [row for row in rows if id(row) not in doomed], now)
            yield file, gone
        say(number + 1, len(files))


def sweep(archive: Archive, now: float, seconds: float = _READ_SECONDS) -> int:
    """Delete files that a rewrite replaced so long ago that nobody reads them any more; return how many."""
    counting = archive.files()
    names = {file.name for file in counting}
    gone = 0
    for name in archive.store.names("archive/"):
        left = parsed(name)
        if left is None or name in names:
            continue
        over = [one for one in counting if one.part == left.part and one.begin <= left.begin]
        if over and now - archive.about(over[-1]).created >= seconds:
            archive.store.delete(name)
            gone += 1
    return gone


def forget_old(archive: Archive, now: float, *, seconds: float, most_bytes: int) -> list[File]:
    """Delete the oldest files beyond an age or a size in total (0: no limit), never a partition's newest."""
    files = archive.readable()
    newest = {file.part: file for file in archive.files()}
    dated = [
        (archive.about(one).last_time or archive.about(one).created, one) for one in files if one != newest[one.part]
    ]
    gone = [file for moment, file in dated if seconds and moment < now - seconds]
    if most_bytes:
        sizes = {file: archive.size(file) for file in files}
        total = sum(sizes.values()) - sum(sizes[one] for one in gone)
        for _, file in sorted(dated, key=lambda one: (one[0], one[1])):
            if total <= most_bytes:
                break
            if file not in gone:
                gone.append(file)
                total -= sizes[file]
    for file in gone:
        remove(archive, file)
    return gone
