"""Building a learner again from what a snapshot says it was built from."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from learners.errors import StateRefusedError
from learners.labels import Labels
from learners.learner import Learner
from learners.vw.arguments import Trial


def restore(
    kind: str, built_from: Mapping[str, Any], labels: Labels, data: bytes, types: Collection[str] = ()
) -> Learner:
    """Return a learner of ``kind`` with the saved ``data`` in it. The caller has verified the data's digest.

    Raises :class:`StateRefusedError` or :class:`learners.errors.UnsafeStateError` when it cannot be loaded. The
    libraries are imported here, so that a process loads only those its learners need.
    """
    if kind == "river":
        from learners.river.learner import RiverLearner, loads  # noqa: PLC0415  two seconds saved without River

        return RiverLearner(
            loads(data, types),
            labels,
            factory=built_from.get("factory", ""),
            types=types,
            weighted=built_from.get("weighted", True),
            classes=built_from.get("classes", ()),
            whole=built_from.get("whole", False),
        )
    if kind == "vw":
        from learners.vw.learner import VwLearner  # noqa: PLC0415  the same for Vowpal Wabbit

        trial = msgspec.convert(built_from["trial"], Trial)
        return VwLearner(trial, labels, namespaces=built_from["namespaces"], data=data)
    raise StateRefusedError(f"a learner of kind {kind!r} is unknown to this version of holdfast")
