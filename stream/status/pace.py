"""How fast events are learnt, and how long what waits takes at that."""

from collections.abc import Sequence
from typing import Any

from snapshots import Lineage
from snapshots.records.manifest import Manifest
from stream.settings import Config

_UNITS = {"kafka": "offsets", "files": "bytes"}
#: the pace is that of the newest snapshots: of so many seconds, and at most so many
_PACE_SECONDS, _PACE_SNAPSHOTS = 10.0, 50


def pace(lineage: Lineage, config: Config, words: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How fast events are learnt (``rate``, events a second) and how long what waits takes at that (``seconds_left``).

    Over the newest snapshots, ten seconds of them where there are. None while nobody reads, or nothing came lately.
    """
    found: dict[str, Any] = {"unit": _UNITS[config.source.kind], "rate": None, "seconds_left": None}
    trainer = next((word for word in words if word["role"] == "trainer"), None)
    newest = lineage.newest()
    if newest is None or trainer is None or trainer["state"] != "reading":
        return found
    before = newest
    for number in reversed(lineage.numbers[-_PACE_SNAPSHOTS:]):
        before = lineage.manifest(number) or before
        if newest.created - before.created >= _PACE_SECONDS:
            break
    seconds = newest.created - before.created
    if seconds > 0 and newest.counts.consumed > before.counts.consumed:
        found["rate"] = round((newest.counts.consumed - before.counts.consumed) / seconds, 3)
        moved = _whole(newest) - _whole(before)
        if trainer["lag"] and moved > 0:
            found["seconds_left"] = round(trainer["lag"] * seconds / moved, 3)
    return found


def _whole(manifest: Manifest) -> int:
    """How far the source was read: the offsets of all partitions together."""
    return sum(offset for partitions in manifest.place.values() for offset in partitions.values())
