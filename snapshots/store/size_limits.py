"""How large a blob of a name may be: what is larger is none of ours, and is not read into memory to find that out.

A store may be written by others, and a sparse file of a terabyte takes no disk. Parts of snapshots
and models have no bound here: their size stands in the manifest that names them.
"""

from snapshots.errors import StoreError

_SMALL, _MEDIUM, _LARGE = 1 << 20, 16 << 20, 64 << 20
#: a file of the archive is written after some 32 MiB of events, and put together with others up to ARCHIVED / 2
ARCHIVED = 1 << 30
#: by how a name ends, or else begins
BEGINNINGS = (
    ("ledger/", _SMALL), ("epochs/", _SMALL), ("presence/", _SMALL), ("leases/", _SMALL), ("lineage.json", _SMALL),
    ("verdicts/", _MEDIUM), ("history/", _MEDIUM), ("archive/", ARCHIVED),
)  # fmt: skip
_ENDS = (("/manifest.json", _LARGE), (".sig", _SMALL), (".looks", _MEDIUM))
#: what a signature adds to a blob, at most
SIGNATURE = 1 << 10


def most_bytes(name: str) -> int | None:
    """The largest size in bytes that a blob of this name can have; None where there is none."""
    for end, most in _ENDS:
        if name.endswith(end):
            return most
    return next((most for beginning, most in BEGINNINGS if name.startswith(beginning)), None)


def refuse_unreadable(name: str, size: int) -> None:
    """Raise :class:`StoreError` for a blob that is larger than its name allows: nobody would read it again."""
    most = most_bytes(name)
    if most is not None and size > most:
        raise StoreError(f"{name} would have {size:,} bytes, and nothing of this name may have more than {most:,}")


def escaped(text: str) -> int:
    """How many bytes a text takes in an entry at most: as JSON a control character takes six."""
    return 6 * len(text)
