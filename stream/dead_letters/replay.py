"""``holdfast dead-letters replay``: letters back into the source, each at most once.

The ledger decides: an entry ``replay_letters`` names the letters (``only``, by their origin) before one is sent, and
``letters_replayed`` says that they are there. Whoever finds the first without the second looks whether the letters
arrived: they arrive all or none, as a transaction or as a file that is linked to its name. None arrived: the entry
``letters_not_replayed`` sets them free.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from snapshots import Lineage
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import RefusedError
from snapshots.store.size_limits import escaped
from stream.dead_letters.reader import Letter
from stream.errors import CommandError
from stream.record import Record
from stream.refusal import Refusal
from stream.settings import Config
from stream.source.codec import Codec

#: so many letters are named by one entry, and sent together
TOGETHER = 1000
#: how many bytes of an entry names may fill
_NAMED_BYTES = 500_000
#: a value that was mended, or None to leave the letter where it is
Fix = Callable[[bytes], bytes | None]


class Report(msgspec.Struct):
    """What became of the letters that were asked for. ``refused``: by the reason for which each still is no event."""

    sent: int = 0
    already: int = 0
    left: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    elsewhere: int = 0
    entries: list[int] = []


class Way(Protocol):
    """Sends letters into the source, all of a number's or none."""

    def send(self, number: int, letters: list[Letter]) -> None:
        """Return when they are durable; raise :class:`CommandError` when none of them is, or it is not known."""

    def arrived(self, number: int) -> bool:
        """Tell whether the letters of a number are there; when they are not, they never will be."""

    def close(self) -> None:
        """Let go of everything."""


def claimed(entries: Iterable[Entry]) -> dict[str, int]:
    """The letters that were sent, or are about to be, each with the entry that names it."""
    found: dict[str, int] = {}
    for entry in entries:
        if entry.action == "replay_letters":
            found |= dict.fromkeys(entry.only, entry.seq)
        elif entry.action == "letters_not_replayed":
            found = {letter: seq for letter, seq in found.items() if str(seq) != entry.cause}
    return found


def unsettled(entries: Iterable[Entry]) -> list[Entry]:
    """The entries of which nobody has said yet whether their letters arrived."""
    open_: dict[str, Entry] = {}
    for entry in entries:
        if entry.action == "replay_letters":
            open_[str(entry.seq)] = entry
        elif entry.action in ("letters_replayed", "letters_not_replayed"):
            open_.pop(entry.cause, None)
    return list(open_.values())


class Resending:
    """Sends back what is an event now. ``by`` and ``why`` stand in the ledger; ``now`` is in Unix seconds."""

    def __init__(
        self,
        config: Config,
        lineage: Lineage,
        codec: Codec,
        way: Way | None,
        *,
        by: str,
        why: str,
        now: Callable[[], float],
    ) -> None:
        self.config, self.lineage, self.codec, self._way = config, lineage, codec, way
        self.by, self.why, self.now = by, why, now

    @property
    def way(self) -> Way:
        """How letters are sent; whoever was built to look alone has none."""
        if self._way is None:
            raise CommandError("nothing can be sent by who only looks")
        return self._way

    def settle(self) -> None:
        """Find out what became of letters that were about to be sent when somebody was cut off."""
        for entry in unsettled(self.lineage.ledger.entries()):
            there = self.way.arrived(entry.seq)
            said = "they are there" if there else "none of them is, and they may be replayed again"
            self._say(
                "letters_replayed" if there else "letters_not_replayed",
                entry.seq,
                f"{len(entry.only)} letters, looked for afterwards: {said}",
            )

    def run(self, letters: Iterable[Letter], fix: Fix | None = None) -> Report:
        """Send those that are events now, in lots; the others stay where they are."""
        self.settle()
        report = Report()
        lot: list[Letter] = []
        named = 0
        for letter in self._events(letters, fix, report):
            lot.append(letter)
            named += escaped(letter.id)
            if len(lot) == TOGETHER or named > _NAMED_BYTES:
                self._send(lot, report)
                lot, named = [], 0
        if lot:
            self._send(lot, report)
        return report

    def look(self, letters: Iterable[Letter], fix: Fix | None = None) -> Report:
        """Tell what :meth:`run` would do; nothing is sent and nothing decided."""
        report = Report()
        report.sent = sum(1 for _ in self._events(letters, fix, report))
        return report

    def _events(self, letters: Iterable[Letter], fix: Fix | None, report: Report) -> Iterator[Letter]:
        """The letters that nobody has sent yet and that are events now, as they are to be sent."""
        known = claimed(self.lineage.ledger.entries())
        topics = self._topics()
        for letter in letters:
            if letter.id in known:
                report.already += 1
            elif letter.topic not in topics:
                report.elsewhere += 1
            elif (mended := self._mended(letter, fix)) is None:
                report.left += 1
            else:
                found = self.codec.decode(_record(mended))
                if isinstance(found, Refusal):
                    report.refused[found.reason.value] += 1
                else:
                    yield mended

    def _topics(self) -> set[str]:
        source = self.config.source
        return {Path(source.directory).name} if source.kind == "files" else set(source.topics)

    def _mended(self, letter: Letter, fix: Fix | None) -> Letter | None:
        if fix is None:
            return letter
        try:
            value = fix(letter.value or b"")
        except Exception as cause:
            raise CommandError(
                f"--fix raised at letter {letter.id}: {type(cause).__name__}: {cause}. Lots before it may have been "
                "sent, and are not sent again; return None for a letter that is to stay where it is"
            ) from cause
        if value is not None and not isinstance(value, bytes):
            raise CommandError(
                f"--fix returned {type(value).__name__} for letter {letter.id}: it returns bytes or None"
            )
        return None if value is None else msgspec.structs.replace(letter, value=value)

    def _send(self, lot: list[Letter], report: Report) -> None:
        names = [letter.id for letter in lot]

        def decide(entries: list[Entry]) -> Decision:
            if not claimed(entries).keys().isdisjoint(names):
                raise RefusedError("somebody else replays these letters just now; nothing of this lot was sent")
            return Decision("replay_letters", self.by, self.why, only=names)

        entry = self.lineage.ledger.append(self.now(), decide)
        self.way.send(entry.seq, lot)
        self._say("letters_replayed", entry.seq, f"{len(lot)} letters are back in the source")
        report.sent += len(lot)
        report.entries.append(entry.seq)

    def _say(self, action: Action, number: int, why: str) -> None:
        def decide(entries: list[Entry]) -> Decision:
            if all(entry.seq != number for entry in unsettled(entries)):
                raise RefusedError(f"somebody else has found out already what became of ledger entry {number}")
            return Decision(action, self.by, why, cause=str(number))

        self.lineage.ledger.append(self.now(), decide)


def _record(letter: Letter) -> Record:
    return Record(letter.topic, letter.partition, letter.offset, letter.offset + 1, letter.value, letter.time)
