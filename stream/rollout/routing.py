"""Who answers a request: by a keyed hash of its id or of a feature, so that nobody changes sides but as shares grow."""

import hashlib

from learners.event import Features

_WHOLE = 2**64


def position_of(key: str, salt: bytes) -> float:
    """Where a key lies among all, in percent: evenly spread, and the same in every process.

    >>> 0 <= position_of("a", b"salt") < 100 and position_of("a", b"salt") == position_of("a", b"salt")
    True
    """
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), key=salt, digest_size=8).digest()
    return int.from_bytes(digest, "big") / _WHOLE * 100


def key_of(by: str, features: Features, identity: str | int) -> str:
    """What a request is routed by: a feature's value where it has that, else its id."""
    value = features.flat().get(by) if by else None
    return str(identity) if value is None else str(value)
