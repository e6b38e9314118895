"""One lineage as its store shows it: snapshots, verdicts, ledger, and what follows from them.

Everything read is immutable, so it is kept once read. Trainer, guard, serving and the commands all decide from
this view; no process asks another.
"""

import logging
from collections.abc import Container
from typing import TYPE_CHECKING

from snapshots.decisions import epochs as epochs_
from snapshots.decisions.charter import Charter, taken
from snapshots.decisions.decided import Decided, decided
from snapshots.decisions.epochs import Epoch
from snapshots.decisions.head import Present
from snapshots.decisions.ledger import Entry, Ledger
from snapshots.errors import DamagedError, LedgerBrokenError
from snapshots.records import cut as snapshots
from snapshots.records import verdict as verdicts
from snapshots.records.manifest import LearnerPart, Manifest, Quarantined
from snapshots.records.place import Place, is_before
from snapshots.records.verdict import Verdict
from snapshots.store.spans import numbers_of
from snapshots.store.store import Store

if TYPE_CHECKING:
    from snapshots.records.place import Ranges

log = logging.getLogger("holdfast.snapshots")
#: no trainer leaves so many numbers out
_REACH = 1000
_UNTIL_COPY = ". Restore it from a copy of the store; if it was you: holdfast verify --adopt"


class Lineage:
    """A view of the store. ``refresh`` looks for what is new; the other methods answer from what was seen.

    ``numbers`` are the snapshots that count; ``void`` those that a trainer wrote after another had taken over;
    ``highest`` is the largest number of either. ``decisions`` are all entries of the ledger, ``entries`` those of the
    present lineage, ``decided`` what they come to. ``looking``: a ledger that does not hold is noted in ``broken``, and
    what holds of it is shown; else :class:`LedgerBrokenError` is raised. ``cut_back``: the newest snapshots that were
    signed for are gone.
    """

    def __init__(self, store: Store, *, looking: bool = False) -> None:
        self.store = store
        self._looking = looking
        self.broken = ""
        self.cut_back = False
        self.ledger = Ledger(store)
        self.numbers: list[int] = []
        self.void: list[int] = []
        self.highest = -1
        self.epochs: list[Epoch] = []
        self.damaged: dict[int, str] = {}
        self.decisions: list[Entry] = []
        self.entries: list[Entry] = []
        self.decided = Decided()
        self._folded = (0, 0)
        self._manifests: dict[int, Manifest] = {}
        self._verdicts: dict[tuple[int, str], Verdict] = {}

    def copy(self) -> "Lineage":
        """Return a view for another thread that knows what this one has read; what was read never changes."""
        twin = Lineage(self.store)
        twin._manifests, twin._verdicts = dict(self._manifests), dict(self._verdicts)
        twin.epochs = list(self.epochs)
        return twin

    def charter(self, name: str, task: str, now: float, *, anew: bool = False) -> Charter:
        """Return the charter, as :func:`snapshots.decisions.charter.taken` does."""
        return taken(self.store, name, task, now, anew=anew)

    def refresh(self) -> "Lineage":
        """Look for new snapshots, verdicts, epochs and entries."""
        epochs_.follow(self.store, self.epochs)
        self.refresh_entries()
        found = set(snapshots.numbers(self.store))
        for gone in self._manifests.keys() - found:
            del self._manifests[gone]
        found = self._within_reach(found)
        self.highest = max(found, default=-1)
        signed = self.ledger.heads.newest.snapshot if self.ledger.heads and self.ledger.heads.newest else -1
        self.cut_back = self.highest < signed
        if self.cut_back:
            self._note_broken(
                LedgerBrokenError(
                    f"the head of the ledger was signed for snapshot {signed}, and the newest in the store is "
                    f"{self.highest}: the last ones were taken away. Restore them from a copy of the store"
                )
            )
        self.void = sorted(number for number in found if self._is_void(number))
        self.numbers = sorted(found.difference(self.void))
        for key in [key for key in self._verdicts if key[0] not in found]:
            del self._verdicts[key]
        self._read_verdicts(set(self.numbers))
        return self

    def present(self, *, anew: bool = False) -> Present:
        """What the head of the ledger can be signed for: snapshots that are there, judged ones, epochs."""
        kept = {number for number in self.numbers if self.manifest(number) is not None}
        judged = {number for number in kept if not self.waiting(number)}
        return Present(kept, judged, len(self.epochs), anew=anew)

    def missing(self) -> list[str]:
        """What the head is signed for and the last refresh did not find, a sentence for each.

        Retention has a head signed without a snapshot before it deletes it, and a trainer one with it after it was
        written: what the heads before and after the refresh both speak for has to be there.
        """
        heads = self.ledger.heads
        if heads is None or (before := heads.newest) is None:
            return []
        try:
            after = heads.read() or before
        except LedgerBrokenError:  # said by whoever checks the ledger
            after = before
        there, void = set(self.numbers), set(self.void)
        kept = numbers_of(before.kept) & numbers_of(after.kept)
        judged = numbers_of(before.judged) & numbers_of(after.judged) & there
        found = [f"snapshot {number} was taken away{_UNTIL_COPY}" for number in sorted(kept - there - void)]
        found += [
            f"the verdict on {', '.join(waiting)} in snapshot {number} was taken away{_UNTIL_COPY}"
            for number in sorted(judged)
            if (waiting := self.waiting(number))
        ]
        return found + self._missing_epochs(before.epochs)

    def _missing_epochs(self, taken: int) -> list[str]:
        gone = [number for number in range(1, taken + 1) if self.store.get(epochs_.name_of(number)) is None]
        return [f"{epochs_.name_of(one)} was taken away; it says which snapshots count{_UNTIL_COPY}" for one in gone]

    def _within_reach(self, found: set[int]) -> set[int]:
        """Numbers of snapshots without those far beyond the newest that holds: nobody counted on to them."""
        newest = next((number for number in sorted(found, reverse=True) if self.manifest(number) is not None), -1)
        return {number for number in found if number <= newest + _REACH}

    def refresh_entries(self) -> None:
        """Look for new decisions only; those from before the present lineage began are left out."""
        began = max((epoch.ledger for epoch in self.epochs if epoch.start is None), default=0)
        self.broken = ""
        try:
            self.decisions = self.ledger.entries()
        except LedgerBrokenError as cause:
            self._note_broken(cause)
            self.decisions = self.ledger.known()
        self.entries = self.decisions[began:]
        if (len(self.decisions), began) != self._folded:
            self._folded = len(self.decisions), began
            self.decided = decided(self.decisions, began)

    def _note_broken(self, cause: LedgerBrokenError) -> None:
        if not self._looking:
            raise cause
        self.broken = self.broken or str(cause)

    def _is_void(self, number: int) -> bool:
        if len(self.epochs) < 2:
            return False
        manifest = self.manifest(number)
        return manifest is not None and epochs_.is_void(self.epochs, number, manifest.epoch)

    def begin_epoch(self, start: int | None, now: float, by: str) -> Epoch:
        """Take the next epoch for a trainer that resumed from ``start`` (None: from nothing), and look again.

        Raises :class:`DamagedError` when one that the head is signed for is gone: the next would stand in its place.
        """
        entries = len(self.ledger.entries()) if start is None else 0
        head = self.ledger.heads.newest if self.ledger.heads is not None else None
        if gone := self._missing_epochs(head.epochs if head is not None else 0):
            raise DamagedError(gone[0])
        taken = epochs_.take(self.store, self.epochs, start, ledger=entries, now=now, by=by)
        self.refresh()
        return taken

    def _read_verdicts(self, present: set[int]) -> None:
        """Look only into the folders of snapshots that still wait for a verdict."""
        waiting = {number for number in present if self.waiting(number)}
        for folder in sorted({verdicts.shard(number) for number in waiting}):
            for name in self.store.names(folder):
                key = verdicts.key_of(name)
                if key is not None and key[0] in waiting and key not in self._verdicts:
                    found = verdicts.read(self.store, *key)
                    if found is not None:
                        self._verdicts[key] = found

    def waiting(self, number: int) -> list[str]:
        """Return the learners of a snapshot that have no verdict yet."""
        manifest = self.manifest(number)
        return [name for name in manifest.learners if (number, name) not in self._verdicts] if manifest else []

    def manifest(self, number: int) -> Manifest | None:
        """Return a manifest, or None when there is none or it is damaged (said once, and noted in ``damaged``)."""
        found = self._manifests.get(number)
        if found is None and number not in self.damaged:
            try:
                found = snapshots.read_manifest(self.store, number)
            except DamagedError as cause:
                self.damaged[number] = str(cause)
                log.error("snapshot %d is refused: %s", number, cause)
            if found is not None:
                self._manifests[number] = found
        return found

    def newest(self) -> Manifest | None:
        """Return the newest manifest that is whole."""
        for number in reversed(self.numbers):
            found = self.manifest(number)
            if found is not None:
                return found
        return None

    def newest_before(self, place: Place) -> Manifest | None:
        """The newest snapshot that is nowhere beyond a place."""
        found = (manifest for number in reversed(self.numbers) if (manifest := self.manifest(number)) is not None)
        return next((manifest for manifest in found if is_before(manifest.place, place)), None)

    def newest_good(self) -> Manifest | None:
        """Return the newest manifest all of whose parts are what they should be; say loudly what was passed over.

        None when there is no snapshot at all; :class:`DamagedError` when there are some and none is whole.
        """
        for number in reversed(self.numbers):
            found = self.manifest(number)
            try:
                if found is not None:
                    snapshots.verify_all(self.store, found)
                    return found
            except DamagedError as cause:
                self.damaged[number] = str(cause)
                log.error("snapshot %d is refused, the one before it is tried: %s", number, cause)
        if self.numbers:
            raise DamagedError(
                f"none of the {len(self.numbers)} snapshots is whole, and beginning anew would forget what was learnt. "
                "Restore the store from a copy, or begin a new lineage with another name and store"
            )
        return None

    def part(self, number: int, learner: str) -> LearnerPart | None:
        """Return a learner's part of a snapshot."""
        manifest = self.manifest(number)
        return manifest.learners.get(learner) if manifest else None

    def verdict(self, number: int, learner: str) -> Verdict | None:
        """Return the verdict on a learner's part of a snapshot."""
        return self._verdicts.get((number, learner))

    def newest_verdict(self, learner: str) -> Verdict | None:
        """Return the verdict on the newest snapshot of a learner that has one."""
        found = (self.verdict(number, learner) for number in reversed(self.numbers))
        return next((verdict for verdict in found if verdict is not None), None)

    def passed(self, number: int, learner: str) -> bool:
        """Tell whether the verdict is pass."""
        found = self.verdict(number, learner)
        return found is not None and found.verdict == "pass"

    def champion(self) -> str | None:
        """Return the name of the champion: who was last promoted, else as the newest snapshot says."""
        newest, promoted = self.newest(), self.decided.promoted
        if newest is not None and promoted in newest.learners:
            return promoted
        names = [name for name, part in newest.learners.items() if part.role == "champion"] if newest else []
        return names[0] if names else None

    def serving(self, learner: str, without: Container[int] = ()) -> int | None:
        """Return the snapshot that answers for a learner: what the newest verdict of its line names, or the target.

        Promise 3 and 8: a snapshot of another line never answers, whatever verdict it gets. ``without`` leaves out
        what could not be loaded.
        """
        line = self.decided.line(learner)
        if line.stay:
            return line.target
        for number in reversed(self.numbers):
            verdict = self.verdict(number, learner)
            answers = verdict.answers if verdict is not None else None
            if answers is None or answers in without:
                continue
            part = self.part(answers, learner)
            if part is not None and part.line == line.number:
                return answers
            if part is not None and part.line < line.number:
                break
        return line.target

    def quarantine(self, learner: str) -> list[Quarantined]:
        """Return the learner's quarantined ranges; one that no cut has ended yet is ``open``."""
        newest = self.newest()
        part = newest.learners.get(learner) if newest else None
        found = list(part.quarantine) if part else []
        line = self.decided.line(learner)
        if part is not None and part.line < line.number and line.target is not None:
            target = self.manifest(line.target)
            cause = next(e.why or "revert" for e in self.entries if e.seq == line.number)
            base = list(target.learners[learner].quarantine) if target else []
            ranges: Ranges = {
                topic: {partition: (offset, None) for partition, offset in partitions.items()}
                for topic, partitions in (target.place if target else {}).items()
            }
            found = [
                *base,
                Quarantined(id=str(line.number), cause=cause, ranges=ranges, events=0, state="open", kind="revert"),
            ]
        return found
