"""Who belongs to the holdout: a keyed hash of the id, and nothing else (promise 6)."""

import hashlib

_DIGEST = 16


class Membership:
    """Hashes ids with the lineage's key (32 bytes). ``rate`` is the share of labelled events set aside.

    The key keeps producers from choosing what is scored. One hash serves both uses: its first half decides
    membership, its second finds duplicates.
    """

    def __init__(self, key: bytes, rate: float) -> None:
        self._seed = hashlib.blake2b(key=key, digest_size=_DIGEST)
        self._below = int(rate * 2**64)

    def digest(self, identity: str) -> bytes:
        """Return the keyed hash of an id (16 bytes)."""
        seeded = self._seed.copy()
        seeded.update(identity.encode("utf-8", "surrogatepass"))
        return seeded.digest()

    def claims(self, digest: bytes) -> bool:
        """Tell whether the id with this hash is held out."""
        return int.from_bytes(digest[:8], "big") < self._below
