"""One delivered record, before anything was made of it."""

import msgspec


class Record(msgspec.Struct, gc=False):
    """``offset`` is where it was read, ``following`` where reading resumes; ``time`` is in Unix seconds, or None."""

    topic: str
    partition: str
    offset: int
    following: int
    value: bytes | None
    time: float | None = None
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] | None = None
