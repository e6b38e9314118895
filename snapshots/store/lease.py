"""One at a time, across machines: a lease with an expiry, by create-if-absent.

``NAME/000000000007.json`` says who holds it and until when; who holds it renews it by writing the next number, and
whoever finds the newest one expired takes it by writing the next. Two who try at once write the same name, and one of
them wins. Clocks of machines may differ by less than the time that a lease runs.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import msgspec

from snapshots.errors import DamagedError, ElsewhereError, LeaseLostError, SnapshotsError
from snapshots.store.numbers import number_in
from snapshots.store.store import Store, claim

#: no lease is taken for longer: what says so is none
_LONGEST_SECONDS = 7 * 86_400.0


class Word(msgspec.Struct, frozen=True):
    """Who holds the lease, until when (Unix seconds)."""

    by: str
    until: float


class Lease:
    """A lease of a name below ``leases/``. ``seconds``: how long it runs without being renewed.

    ``gone`` tells of a holder whether it has certainly ended: then nobody has to wait.
    """

    def __init__(
        self, store: Store, name: str, by: str, seconds: float, now: Callable[[], float],
        gone: Callable[[str], bool] = lambda _by: False,
    ) -> None:  # fmt: skip
        self._store, self._folder, self._by, self._gone = store, f"leases/{name}/", by, gone
        self._seconds, self._now = seconds, now
        self._number = 0
        self._lost = False

    def holder(self) -> Word | None:
        """Who holds it now; None when nobody does."""
        word = self._newest()[1]
        return word if word is not None and self._holds(word) else None

    def _holds(self, word: Word) -> bool:
        return word.until > self._now() and not self._gone(word.by)

    def _newest(self) -> tuple[int, Word | None]:
        found = (number_in(name, self._folder, ".json", 12) for name in self._store.names(self._folder))
        number = max((one for one in found if one is not None), default=0)
        if not number:
            return 0, None
        name = f"{self._folder}{number:012d}.json"
        data = self._store.get(name)
        if data is None:  # deleted while we looked: its successor is there
            return self._newest()
        try:
            word = msgspec.json.decode(data, type=Word)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as cause:
            raise DamagedError(f"{name} is no lease: {cause}. Remove it") from cause
        if word.until > self._now() + _LONGEST_SECONDS:
            raise DamagedError(f"{name} is no lease: nobody holds one for so long as until {word.until!r}. Remove it")
        return number, word

    def take(self) -> None:
        """Take it; :class:`ElsewhereError` says who holds it."""
        number, word = self._newest()
        if word is not None and self._holds(word):
            left = word.until - self._now()
            raise ElsewhereError(f"{word.by} does this just now (for {left:.0f} s more at least); nothing was changed")
        self._number = number
        if not self._write(self._now() + self._seconds):
            raise ElsewhereError("somebody else took this up at the same moment; nothing was changed")

    def _write(self, until: float) -> bool:
        name = f"{self._folder}{self._number + 1:012d}.json"
        if not claim(self._store, name, msgspec.json.encode(Word(self._by, until))):
            return False
        last, self._number = self._number, self._number + 1
        if last:
            self._store.delete(f"{self._folder}{last:012d}.json")
        return True

    def check(self) -> None:
        """Raise :class:`LeaseLostError` when somebody else took it."""
        if self._lost:
            raise LeaseLostError("somebody else took this up, since this process had not been heard of for too long")

    def renew(self) -> None:
        """Hold it for another while."""
        if not self._write(self._now() + self._seconds):
            self._lost = True

    @contextlib.contextmanager
    def held(self) -> Iterator["Lease"]:
        """Take it, renew it beside what is done, and give it back."""
        self.take()
        end = threading.Event()

        def keep() -> None:
            while not end.wait(self._seconds / 4) and not self._lost:
                with contextlib.suppress(SnapshotsError):  # a store that is away: tried again, until it has expired
                    self.renew()

        thread = threading.Thread(target=keep, name="lease", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            end.set()
            thread.join()
            if not self._lost:
                with contextlib.suppress(SnapshotsError):
                    self._write(0.0)
