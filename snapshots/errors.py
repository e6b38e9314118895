"""Errors of the package ``snapshots``.

::

    SnapshotsError
    ├── StoreError              the store cannot be read or written just now (full, read-only, gone)
    ├── DamagedError            bytes that are not what their digest says: torn, flipped, truncated, foreign
    │   └── WrongSignatureError  a signature that does not fit
    ├── VersionMismatchError    written by other versions of the libraries than those installed
    ├── LineageTakenError       another trainer took over the lineage; this one has ended
    ├── NumberTakenError        a snapshot's number exists with other bytes
    ├── KeyRefusedError         [signing] names a file that is no key, or is not there
    ├── LedgerBrokenError       the chain of digests in the ledger does not hold
    ├── LeaseLostError          somebody else took a lease; what was done under it does not count
    └── RefusedError            a decision that cannot be taken; nothing was changed
        ├── ElsewhereError      somebody else does it just now, or has done it
        ├── TooMuchError        a decision that is larger than an entry of the ledger may be
        └── NothingToLearnError a retrain that has no data, or none that is new: no failure
"""


class SnapshotsError(Exception):
    """Base of every error that this package raises on purpose."""


class StoreError(SnapshotsError):
    """The store cannot be read or written; the message names the path and the reason."""


class DamagedError(SnapshotsError):
    """Bytes in the store are not what they should be; the message names the file and what is wrong."""


class WrongSignatureError(DamagedError):
    """A signature by a key that counts does not fit: what is signed was changed, or the lineage that it is over."""


class VersionMismatchError(SnapshotsError):
    """A snapshot was written by other versions; the message says the way out."""


class LineageTakenError(SnapshotsError):
    """Another trainer took over; the message says which."""


class NumberTakenError(SnapshotsError):
    """A snapshot of this number was written by somebody else."""


class KeyRefusedError(SnapshotsError):
    """The configuration names a key that cannot be used; the message names the setting."""


class LedgerBrokenError(SnapshotsError):
    """An entry of the ledger is missing or was changed; the message names it."""


class RefusedError(SnapshotsError):
    """A decision that cannot be taken; the message says why. Nothing was changed."""


class ElsewhereError(RefusedError):
    """Somebody else does this just now, or has done it; the message says who."""


class LeaseLostError(SnapshotsError):
    """Somebody else took the lease: what is done under it counts no more."""


class TooMuchError(RefusedError):
    """A decision is larger than an entry of the ledger may be; the message says how large."""


class NothingToLearnError(RefusedError):
    """There is nothing that a retrain could learn, or nothing new; the message says what there is."""
