"""Reading a quarantined range again: which events of it, from where, and what stays behind."""

import re
from collections.abc import Iterator, Sequence

import msgspec

from snapshots.records.manifest import Manifest, Quarantined
from snapshots.records.place import Place, Ranges, copy_place, within
from snapshots.store.numbers import whole_in
from stream.errors import CommandError, SourceLostError
from stream.record import Record
from stream.source.source import Source
from stream.terminal.safe_text import shown

_RANGE = re.compile(r"(?:(?P<topic>.+)\[(?P<partition>[^\]]+)\]:)?(?P<begin>\d+)-(?P<end>\d+)")


class Span(msgspec.Struct, frozen=True):
    """Offsets from ``begin`` up to and without ``end``; of every partition when none is named."""

    begin: int
    end: int
    topic: str | None = None
    partition: str | None = None

    def holds(self, record: Record) -> bool:
        """Tell whether a record lies in it."""
        named = self.topic is None or (self.topic, self.partition) == (record.topic, record.partition)
        return named and self.begin <= record.offset < self.end


def touches(span: Span, ranges: Ranges) -> bool:
    """Tell whether a span and quarantined ranges have any offset in common."""
    return any(
        (span.topic is None or (span.topic, span.partition) == (topic, partition))
        and span.begin < (span.end if end is None else end)
        and begin < span.end
        for topic, partitions in ranges.items()
        for partition, (begin, end) in partitions.items()
    )


class Selection(msgspec.Struct, frozen=True):
    """Which events of a range are wanted: those in ``only`` (all when empty) that are not in ``without``."""

    only: list[Span] = []
    without: list[Span] = []

    def holds(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        wanted = not self.only or any(span.holds(record) for span in self.only)
        return wanted and not any(span.holds(record) for span in self.without)


def span_of(text: str) -> Span:
    """Read ``FROM-TO`` or ``TOPIC[PARTITION]:FROM-TO``; raise :class:`CommandError` when it is neither."""
    found = _RANGE.fullmatch(text)
    begin, end = (whole_in(found[one]) if found else None for one in ("begin", "end"))
    if found is None or begin is None or end is None or begin >= end:
        raise CommandError(f"{shown(text, 100)!r} is no range: write FROM-TO or TOPIC[PARTITION]:FROM-TO, TO exclusive")
    return Span(begin, end, found["topic"], found["partition"])


def opened(source: Source, one: Quarantined, place: Place, topics: dict[str, str]) -> Source:
    """Open a source of its own at the beginning of a range; raise :class:`SourceLostError` when that is gone."""
    found = source.open(place_at(one, place), topics)
    for topic, partitions in one.ranges.items():
        for partition, (offset, _) in partitions.items():
            if found.get(topic, {}).get(partition) != offset:
                raise SourceLostError(f"{topic}[{partition}]: offset {offset} of quarantine {one.id} is gone")
    source.mark_end()
    return source


def opened_before(source: Source, one: Quarantined, before: Manifest | None) -> Source:
    """Open a source of events with later labels at a snapshot before a range, so that what waited there is known."""
    if before is None:
        raise SourceLostError(
            f"there is no snapshot any more from before quarantine {one.id}, to know what waited there"
        )
    source.open(before.place, before.topics)
    source.mark_end()
    return source


def place_at(one: Quarantined, now: Place) -> Place:
    """The place where a range begins; of partitions that it does not name, the present one."""
    begin = copy_place(now)
    for topic, partitions in one.ranges.items():
        for partition, (offset, _) in partitions.items():
            begin.setdefault(topic, {})[partition] = offset
    return begin


def records(source: Source, one: Quarantined, limit: int) -> Iterator[list[Record]]:
    """Read the records of a range in lots; it ends where every partition has reached the end of the range."""
    ends = {(t, p): end for t, parts in one.ranges.items() for p, (_, end) in parts.items() if end is not None}
    while ends:
        lot = source.poll(limit)
        inside = [record for record in lot if within(one.ranges, record.topic, record.partition, record.offset)]
        for record in lot:
            key = (record.topic, record.partition)
            if key in ends and record.following >= ends[key]:
                del ends[key]
        if inside:
            yield inside
        if not lot and source.ended():
            return


def left_behind(one: Quarantined, seen: Sequence[tuple[Record, bool]]) -> list[Quarantined]:
    """What stays in quarantine when part of a range is replayed: each unbroken run of events, with a name of its own.

    ``seen`` are the quarantined events of the range in the order read, and whether each was replayed.
    """
    rest: list[Quarantined] = []
    runs: dict[tuple[str, str], list[Record]] = {}

    def end(key: tuple[str, str]) -> None:
        run = runs.pop(key, [])
        if run:
            ranges: Ranges = {key[0]: {key[1]: (run[0].offset, run[-1].following)}}
            name = f"{one.id}.{len(rest) + 1}"
            rest.append(msgspec.structs.replace(one, id=name, ranges=ranges, events=len(run)))

    for record, replayed in seen:
        key = (record.topic, record.partition)
        if replayed:
            end(key)
        else:
            runs.setdefault(key, []).append(record)
    for key in list(runs):
        end(key)
    return rest
