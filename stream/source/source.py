"""The protocol that every source keeps."""

from collections.abc import Collection
from typing import Protocol

from snapshots.records.place import Place
from stream.record import Record


class Source(Protocol):
    """Delivers records from a place on, in order within each partition.

    Contract, checked for every source by ``tests/contract/test_sources.py``:

    * ``resolve`` turns ``source.start`` into a place, once, before anything is learnt.
    * ``open`` begins at a place; partitions that it does not name begin at 0 (or where they now begin).
    * ``poll`` returns at most ``limit`` records, after at most about ``source.poll_seconds``; never a record twice,
      never past one that was not delivered.
    * ``ended`` tells, after ``mark_end``, whether everything that was there then has been delivered.

    With ``source.when_lost = "go_on"`` what is gone is passed over instead, and noted in ``losses``.

    Raises :class:`stream.errors.SourceAwayError` when it cannot be reached just now (it is tried again, the place
    stays), :class:`stream.errors.SourceLostError` when events from the place on are gone.
    """

    losses: list[str]

    def resolve(self) -> Place:
        """Return the place where a new lineage begins."""

    def open(self, place: Place, topics: dict[str, str]) -> Place:
        """Begin at a place, which belongs to the topics of these ids (empty: any); what was open before is left.

        Returns the place where it really begins: another only where something is lost.
        """

    def identities(self) -> dict[str, str]:
        """Return the id of each topic, by which one that was made anew under its name is known."""

    def cut(self) -> dict[str, str]:
        """A snapshot is cut at what was delivered; return what :meth:`open` has to know there, ids of topics included.

        The snapshot that was cut before this one is durable.
        """

    def poll(self, limit: int) -> list[Record]:
        """Return the next records, possibly none."""

    def whole(self) -> bool:
        """Tell whether a snapshot may be cut here: nothing of the last record is still to be delivered."""

    def mark_end(self) -> None:
        """Remember where the source ends now."""

    def ended(self) -> bool:
        """Tell whether everything up to the marked end has been delivered."""

    def commit(self, place: Place) -> None:
        """Tell lag tools where the newest snapshot stands. Never needed to resume."""

    def lag(self) -> int | None:
        """How many records are waiting, or None when that is not known."""

    def behind(self) -> Collection[tuple[str, str]]:
        """Topics and partitions that have records, or may have, which were not delivered yet."""

    def hold(self, partitions: Collection[tuple[str, str]]) -> None:
        """Deliver nothing of these topics and partitions until the next call; it need not be at once."""

    def close(self) -> None:
        """Let go of everything."""
