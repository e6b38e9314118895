"""What lasts: snapshots, verdicts and the ledger, in a store. Owns the store's layout."""

from snapshots.decisions.ledger import Ledger
from snapshots.errors import SnapshotsError
from snapshots.lineage import Lineage
from snapshots.records import manifest
from snapshots.store.local import LocalStore
from snapshots.store.store import Store

__all__ = ["Ledger", "Lineage", "LocalStore", "SnapshotsError", "Store", "manifest"]
