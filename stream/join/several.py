"""Several sources as one: topics of Kafka beside directories."""

from collections.abc import Collection, Sequence

from snapshots.records.place import Place
from stream.record import Record
from stream.source.source import Source


class Several:
    """Sources whose topics have different names, read in turn. What each keeps beside the place has its own prefix."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self.losses: list[str] = []

    def resolve(self) -> Place:
        """Where each begins."""
        return {topic: parts for source in self._sources for topic, parts in source.resolve().items()}

    def open(self, place: Place, topics: dict[str, str]) -> Place:
        """Begin each at its part of the place."""
        found = place
        for number, source in enumerate(self._sources):
            found = source.open(found, _without(topics, f"{number}: "))
            self._note(source)
        return found

    def identities(self) -> dict[str, str]:
        """What each keeps."""
        return {
            f"{number}: {name}": value
            for number, source in enumerate(self._sources)
            for name, value in source.identities().items()
        }

    def cut(self) -> dict[str, str]:
        """Nothing is kept beside the place."""
        return self.identities()

    def poll(self, limit: int) -> list[Record]:
        """Records of all."""
        found = []
        for source in self._sources:
            found += source.poll(limit)
            self._note(source)
        return found

    def _note(self, source: Source) -> None:
        self.losses += source.losses
        source.losses.clear()

    def whole(self) -> bool:
        """Each record is delivered at once."""
        return True

    def mark_end(self) -> None:
        """Remember where each ends now."""
        for source in self._sources:
            source.mark_end()

    def ended(self) -> bool:
        """Tell whether all were read to their ends."""
        return all(source.ended() for source in self._sources)

    def commit(self, place: Place) -> None:
        """Tell each."""
        for source in self._sources:
            source.commit(place)

    def lag(self) -> int | None:
        """What waits in all of them."""
        found = [source.lag() for source in self._sources]
        return None if None in found else sum(one for one in found if one is not None)

    def behind(self) -> Collection[tuple[str, str]]:
        """What any of them is behind with."""
        return {one for source in self._sources for one in source.behind()}

    def hold(self, partitions: Collection[tuple[str, str]]) -> None:
        """Tell each."""
        for source in self._sources:
            source.hold(partitions)

    def close(self) -> None:
        """Let go of all."""
        for source in self._sources:
            source.close()


def _without(topics: dict[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in topics.items() if name.startswith(prefix)}
