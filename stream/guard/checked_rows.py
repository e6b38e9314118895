"""Events whose labels somebody checked, as rows for the guard."""

import gzip
import zlib
from pathlib import Path

from learners.event import slices_of
from snapshots.records.held_rows import HeldRow
from snapshots.records.membership import Membership
from stream.errors import CommandError
from stream.record import Record
from stream.refusal import Reason, Refusal
from stream.source import lines
from stream.source.codec import Codec

_TOPIC = "trusted"
_MOST = 1_000_000


class Checking:
    """Decodes as the trainer does; ``slices`` are the features by which rows are told apart."""

    def __init__(self, codec: Codec, membership: Membership, slices: list[str]) -> None:
        self._codec, self._membership, self._slices = codec, membership, slices

    def rows(self, path: Path) -> tuple[list[HeldRow], list[str]]:
        """The rows of JSON lines (also .gz), and for each line that is none the reason.

        Raises :class:`CommandError` for a file that cannot be read, or holds more than a million lines.
        """
        rows: list[HeldRow] = []
        refused: list[str] = []
        try:
            if not path.is_file():
                raise CommandError(f"{path} is no file")
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                longest = self._codec.most_bytes + 1
                for number, line in enumerate(lines.bounded(file, longest)):
                    if number >= _MOST:
                        raise CommandError(f"{path} holds more than {_MOST:,} lines: give the newest")
                    if line.strip():
                        found = self.row(Record(_TOPIC, "0", number, number + 1, line.strip()))
                        (rows if isinstance(found, HeldRow) else refused).append(found)  # type: ignore[arg-type]
        except (OSError, EOFError, zlib.error) as cause:
            raise CommandError(f"{path} cannot be read: {cause}") from cause
        return rows, refused

    def row(self, record: Record) -> HeldRow | str:
        """The row of a record, or the reason why it is none."""
        event = self._codec.decode(record)
        if isinstance(event, Refusal):
            return event.reason.value
        if event.label is None:
            return Reason.UNKNOWN_LABEL.value
        slices = slices_of(event.features, self._slices)
        digest = self._membership.digest(event.id)
        return HeldRow(_TOPIC, digest.hex(), record.offset, event.features.raw, event.label, event.time, slices, digest)
