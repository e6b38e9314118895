"""Erasure: somebody asked to be deleted. The ledger keeps a salted hash of the ids only, and every process follows it.

The hash is made of the keyed hash by which the holdout knows ids (:class:`snapshots.records.holdout.Membership`), so
that neither the ledger nor the holdout's rows hold an id, and nobody without the lineage's key can try ids out.
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence

import msgspec

from learners.event import Features
from snapshots.decisions.ledger import Decision, Entry
from snapshots.records.held_rows import HeldRow
from snapshots.records.membership import Membership

#: an erasure by the event's own id, and not by the value of a feature
BY_ID = "id"
_DIGEST = 16


class Erasure(msgspec.Struct, frozen=True):
    """What one entry of the ledger has erased: events by their id, or by a feature's value (``by``) up to ``time``.

    Somebody who comes back later is somebody new: what a feature names is erased only up to the request.
    """

    seq: int
    by: str
    salt: bytes
    hashes: frozenset[bytes]
    time: float

    def names(self, digest: bytes) -> bool:
        """Tell whether the id, or value, with this keyed hash is meant."""
        return _salted(self.salt, digest) in self.hashes


def decide(by: str, digests: Iterable[bytes], operator: str, why: str) -> Decision:
    """The decision to erase what has these keyed hashes."""
    salt = secrets.token_bytes(_DIGEST)
    hashes = sorted(_salted(salt, one).hex() for one in digests)
    return Decision("forget", operator, why, cause=by, salt=salt.hex(), hashes=hashes)


def erasures(entries: Sequence[Entry], after: int = 0) -> list[Erasure]:
    """The erasures that the ledger asks for beyond an entry."""
    return [
        Erasure(
            e.seq, e.cause, bytes.fromhex(e.salt), frozenset(bytes.fromhex(one) for one in e.hashes), e.time
        )
        for e in entries if e.action == "forget" and e.seq > after
    ]  # fmt: skip


class Erased:
    """Tells of events and of held-out rows whether an erasure means them."""

    def __init__(self, membership: Membership, found: Sequence[Erasure]) -> None:
        self._membership, self._found = membership, list(found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def event(self, identity: str, features: Features, time: float) -> bool:
        """An event with its id, its features and its time (Unix seconds; 0: unknown)."""
        return bool(self._found) and self._any(self._membership.digest(identity), features, time)

    def row(self, row: HeldRow) -> bool:
        """A held-out row."""
        return self._any(row.digest, Features(row.features), row.time)

    def _any(self, digest: bytes, features: Features, time: float) -> bool:
        for one in self._found:
            if one.by == BY_ID:
                if one.names(digest):
                    return True
            elif time <= one.time:
                value = features.flat().get(one.by)
                if value is not None and one.names(value_digest(self._membership, one.by, value)):
                    return True
        return False


def value_digest(membership: Membership, by: str, value: object) -> bytes:
    """The keyed hash of a feature's value; numbers are the same however they are written."""
    return membership.digest(f"{by}={float(value) if isinstance(value, int | float) else value}")


def _salted(salt: bytes, digest: bytes) -> bytes:
    return hashlib.blake2b(digest, salt=salt, digest_size=_DIGEST).digest()
