"""Which events are held out: a keyed hash of the id, and nothing else (promise 6)."""

import hashlib

from learners.event import Event

_DIGEST = 16


class Membership:
    """Hashes ids with the lineage's key (32 bytes). ``rate`` is the share of labelled events set aside.

    ``by`` names the feature whose value decides, so that whole entities are set aside; ``id``: each event for itself.
    The key keeps producers from choosing what is scored. One hash serves both uses: its first half decides
    membership, its second finds duplicates.
    """

    def __init__(self, key: bytes, rate: float, by: str = "id") -> None:
        self.key, self.rate, self.by = key, rate, by
        self._seed = hashlib.blake2b(key=key, digest_size=_DIGEST)
        self._below = int(rate * 2**64)

    def digest(self, identity: str) -> bytes:
        """Return the keyed hash of an id (16 bytes)."""
        seeded = self._seed.copy()
        seeded.update(identity.encode("utf-8", "surrogatepass"))
        return seeded.digest()

    def owner(self, event: Event, digest: bytes) -> bytes:
        """The hash that decides: of the event's id (``digest``), or of the feature ``by``, where the event has it."""
        value = None if self.by == "id" else event.features.flat().get(self.by)
        return digest if value is None else self.digest(f"{self.by}={value}")

    def claims(self, digest: bytes) -> bool:
        """Tell whether the owner with this hash is held out."""
        return int.from_bytes(digest[:8], "big") < self._below
