"""The ledger: the append-only record of decisions. Each entry is a file that names the digest of the one before."""

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from snapshots.decisions.head import Head, Heads, Present
from snapshots.errors import DamagedError, LedgerBrokenError, TooMuchError
from snapshots.store.signed import SignedStore
from snapshots.store.size_limits import SIGNATURE, most_bytes
from snapshots.store.store import Store, claim

_FIRST = "0" * 64
_ENTRY = re.compile(r"ledger/[0-9]+\.json")


#: everything that can be decided. What a newer version writes is not known here, and then nothing is decided from it.
Action: TypeAlias = Literal[
    "accept", "accept_baseline", "archive_drop", "archive_import", "await_approval", "close_breaker", "drop",
    "duel_end", "duel_start", "evict", "fall_back", "forget", "half_open", "hold", "letters_not_replayed",
    "letters_replayed", "lift", "lose", "new_lineage", "open_breaker", "pin", "policy_winner", "promote", "refresh",
    "refuse_baseline", "replay", "replay_failed", "replay_letters", "resume_learning", "retire_baseline", "retrain",
    "retrain_declined", "retrain_failed", "retrain_skipped", "return", "revert", "rollout_abort", "rollout_approve",
    "rollout_await", "rollout_pause", "rollout_resume", "rollout_start", "rollout_step", "stay_on_baseline",
    "stop_learning", "trust", "unpin",
]  # fmt: skip


class Decision(msgspec.Struct, frozen=True):
    """What somebody wants to write into the ledger.

    ``cause`` and ``slices`` say which finding of the guard it follows, or ``cause`` which quarantine it is about, and
    ``only`` and ``without`` which ranges of it; for ``replay_letters`` ``only`` names the letters.
    ``salt`` and ``hashes`` (hex) say what was forgotten, and ``salt`` by which key a roll-out's requests are spread;
    ``place`` how far checked labels were read, by a ``trust``. ``replaces`` is who was champion before a ``promote``,
    ``seconds`` what a retrain took, times its processes, and ``expected`` the loss that it was hoped to win back.
    ``candidate`` is what is rolled out, to ``share`` percent.
    """

    action: Action
    by: str
    why: str = ""
    learner: str | None = None
    snapshot: int | None = None
    stay: bool = False
    cause: str = ""
    slices: list[str] = []
    only: list[str] = []
    without: list[str] = []
    baseline: int | None = None
    gates: list[dict[str, Any]] = []
    replaces: str = ""
    seconds: float = 0.0
    expected: float = 0.0
    salt: str = ""
    hashes: list[str] = []
    place: dict[str, dict[str, int]] = {}
    candidate: str = ""
    share: float = 0.0


class Entry(Decision, frozen=True, kw_only=True):
    """One decision, and where it stands. ``time`` is Unix seconds, UTC; ``previous`` the SHA-256 of the entry before.

    ``nonce`` tells two equal decisions of one moment apart, so that only one of their writers thinks that it won.
    """

    seq: int
    time: float
    previous: str
    nonce: str = ""


def _name(seq: int) -> str:
    return f"ledger/{seq:012d}.json"


class Ledger:
    """Reads and appends. Entries that were read are kept, since they never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.heads = Heads(store) if isinstance(store, SignedStore) and store.verifies else None
        self._entries: list[Entry] = []
        self._digests: list[str] = []
        self._last = _FIRST

    def entries(self) -> list[Entry]:
        """Every entry, oldest first.

        Raises :class:`LedgerBrokenError` when one does not follow the one before, is not signed as ``[signing]`` wants,
        or when there are fewer than the head says.
        """
        head = self.heads.read() if self.heads is not None else None
        while (data := self._signed(_name(len(self._entries) + 1))) is not None:
            self._take(data)
        if head is not None:
            self._hold_against(head)
        return list(self._entries)

    def known(self) -> list[Entry]:
        """The entries that were read and hold; for those who look although the ledger is broken."""
        return list(self._entries)

    def _signed(self, name: str) -> bytes | None:
        try:
            return self._store.get(name)
        except DamagedError as cause:
            raise LedgerBrokenError(f"{cause}; nothing is decided until the ledger holds") from cause

    def _hold_against(self, head: Head) -> None:
        """Refuse a ledger that is shorter than its head says, or another one."""
        if len(self._entries) < head.entries:
            raise LedgerBrokenError(
                f"the ledger has {len(self._entries)} entries, and its head was signed for {head.entries}: the last "
                "ones were taken away. Restore the ledger from a copy of the store; nothing is decided until it holds"
            )
        if head.entries and self._digests[head.entries - 1] != head.last:
            raise LedgerBrokenError(
                f"entry {head.entries} is not the one that the head of the ledger was signed for. Restore the ledger "
                "from a copy of the store; nothing is decided until it holds"
            )

    def expired(self, now: float) -> str:
        """Say that the head has expired; empty when it has not, or nothing is signed."""
        return self.heads.expired(now) if self.heads is not None else ""

    def renew_head(self, now: float) -> None:
        """Sign the head anew when it has lived for a while, so that it expires only when nobody is there."""
        if self.heads is not None and self.heads.is_old(now):
            self.sign_head(-1, now)

    def sign_head(self, snapshot: int, now: float, present: Present = Present()) -> None:  # noqa: B008  frozen
        """Sign how far the lineage has come, where there is a key; ``snapshot`` is the newest's number."""
        if self.heads is not None:
            self.heads.write(len(self._entries), self._last, snapshot, now, present)

    def _take(self, data: bytes) -> None:
        seq = len(self._entries) + 1
        try:
            entry = msgspec.json.decode(data, type=Entry)
        except (msgspec.DecodeError, RecursionError, msgspec.ValidationError, UnicodeDecodeError) as cause:
            raise LedgerBrokenError(f"{_name(seq)} is not an entry: {cause}") from cause
        if entry.seq != seq or entry.previous != self._last:
            raise LedgerBrokenError(
                f"{_name(seq)} does not follow the entry before it: one of the two was changed. "
                "Restore the ledger from a copy of the store; nothing is decided until it holds"
            )
        self._entries.append(entry)
        self._last = hashlib.sha256(data).hexdigest()
        self._digests.append(self._last)

    def append(self, now: float, decide: Callable[[list[Entry]], Decision]) -> Entry:
        """Append what ``decide`` makes of the entries so far.

        When somebody else's entry came first, ``decide`` is asked again with that entry among them; it may raise to
        change nothing. Raises :class:`TooMuchError` for what no entry holds.
        """
        while True:
            decision = decide(self.entries())
            fields: dict[str, Any] = msgspec.structs.asdict(decision)
            entry = Entry(
                seq=len(self._entries) + 1, time=now, previous=self._last, nonce=secrets.token_hex(8), **fields
            )
            data = msgspec.json.encode(entry) + b"\n"
            _refuse_too_much(entry, len(data))
            if self.heads is not None and self.heads.newest is None:
                self.sign_head(-1, now)
            if claim(self._store, _name(entry.seq), data):
                self._take(data)
                self.sign_head(-1, now)
                return entry

    def verify(self) -> int:
        """Check the whole chain, and that no entry is missing in the middle; return how many entries there are."""
        fresh = Ledger(self._store)
        count = len(fresh.entries())
        beyond = [name for name in self._store.names("ledger/") if _ENTRY.fullmatch(name) and name > _name(count)]
        if beyond:
            raise LedgerBrokenError(f"{_name(count + 1)} is missing, and {beyond[0]} comes after it")
        return count


def _refuse_too_much(entry: Entry, size: int) -> None:
    """Refuse an entry that nobody could read again, which would break the ledger for good."""
    most = (most_bytes(_name(entry.seq)) or size) - SIGNATURE
    if size > most:
        raise TooMuchError(
            f"the decision {entry.action!r} takes {size:,} bytes, and an entry of the ledger holds {most:,}; nothing "
            "was changed. Decide on less at a time"
        )
