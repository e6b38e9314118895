"""Places in the stream, and ranges between them."""

#: topic → partition → next offset
Place = dict[str, dict[str, int]]
#: topic → partition → [from, to), ``to`` exclusive, None while open
Ranges = dict[str, dict[str, tuple[int, int | None]]]


def between(earlier: Place, later: Place) -> Ranges:
    """The ranges of offsets from one place to another, per partition."""
    ranges: Ranges = {}
    for topic, partitions in later.items():
        for partition, offset in partitions.items():
            begin = earlier.get(topic, {}).get(partition, 0)
            if begin < offset:
                ranges.setdefault(topic, {})[partition] = (begin, offset)
    return ranges


def within(ranges: Ranges, topic: str, partition: str, offset: int) -> bool:
    """Tell whether an offset lies in the ranges."""
    found = ranges.get(topic, {}).get(partition)
    return found is not None and found[0] <= offset and (found[1] is None or offset < found[1])


def copy_place(place: Place) -> Place:
    """A place that does not change when the trainer goes on."""
    return {topic: dict(partitions) for topic, partitions in place.items()}


def is_before(earlier: Place, later: Place) -> bool:
    """Tell whether a place is nowhere beyond another."""
    return all(
        later.get(topic, {}).get(partition, 0) >= offset
        for topic, partitions in earlier.items()
        for partition, offset in partitions.items()
    )
