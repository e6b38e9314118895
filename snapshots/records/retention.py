"""Which passing snapshots are kept: the newest, then one a minute, an hour, a day."""

from collections.abc import Iterable
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class Keep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many passing snapshots to keep of each span, and for how long the verdicts on those that are gone."""

    last: Count = 50
    minutely: Count = 60
    hourly: Count = 48
    daily: Count = 30
    verdict_days: Annotated[float, msgspec.Meta(ge=0, le=10**12)] = 90


def kept(snapshots: Iterable[tuple[int, float]], keep: Keep) -> set[int]:
    """Return the numbers to keep of (number, created) pairs: the last ones, and the newest of each span.

    >>> sorted(kept([(n, n * 30.0) for n in range(10)], Keep(last=2, minutely=3, hourly=0, daily=0)))
    [5, 7, 8, 9]
    """
    newest_first = sorted(snapshots, reverse=True)
    chosen = {number for number, _ in newest_first[: keep.last]}
    for seconds, count in ((60, keep.minutely), (3600, keep.hourly), (86400, keep.daily)):
        spans: dict[int, int] = {}
        for number, created in newest_first:
            spans.setdefault(int(created // seconds), number)
        chosen.update(list(spans.values())[:count])
    return chosen
