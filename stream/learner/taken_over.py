"""Models that were there before: files of others, and saved models whose module was changed."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from learners import Learner
from learners.event import Features
from snapshots.errors import RefusedError

if TYPE_CHECKING:
    from learners.river.learner import RiverLearner
    from learners.vw.learner import VwLearner

log = logging.getLogger("holdfast.learner")


def imported(learner: Learner, path: Path, name: str) -> tuple[Learner, dict[str, Any]]:
    """A learner like this one with the state of a file that somebody else wrote, and what to keep about the file.

    Raises :class:`RefusedError` when the file cannot be loaded, or not as this kind of learner, or when it answers
    otherwise here than in its own library. A River pickle passes through the allow-list, so that nothing else in it is
    run.
    """
    try:
        data = path.read_bytes()
        loaded = _adopted(learner, data)
        again = loaded.load(loaded.save())
    except Exception as cause:  # a file that somebody else wrote may be anything
        raise RefusedError(f"{path} cannot be taken for learners.{name}: {cause}; nothing was changed") from cause
    if again.state() != loaded.state() and learner.kind != "vw":  # that one's answers were compared
        raise RefusedError(f"{path}: the model comes back different from a save and a load; nothing was changed")
    if learner.kind == "river":
        from learners.river.structure import outline  # noqa: PLC0415  loaded only where it learns or serves

        river: Any = loaded
        here: Any = learner
        if others := [one for found in outline.differences(river.model, here.model) for one in found]:
            log.warning("%s goes on as it is, not as %s makes it: %s", path, here.factory, "; ".join(others))
    return loaded, {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}


def say_unweighted(learner: Learner, name: str, rows: Sequence[Features]) -> None:
    """Say which features of the first events an imported Vowpal Wabbit file knows nothing of."""
    from learners.vw import imported as of_vw  # noqa: PLC0415  loaded only where it learns or serves

    if found := of_vw.unweighted(cast("VwLearner", learner), rows):
        log.error(
            "learners.%s: the imported file has no weight for %s: it was taught with these under other names, or in "
            "other namespaces. An event's {\"country\": \"de\"} is what Vowpal Wabbit reads from JSON, and not "
            "country=de of its text (docs/learners.md)",
            name, ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else ""),
        )  # fmt: skip


def hold_against_module(name: str, learner: Learner) -> None:
    """Say where a saved River model, which goes on as it is, differs from the one that its module makes now.

    Raises :class:`RefusedError` where the two are of other parts: nothing that was learnt fits the new one.
    """
    from learners.river import factory  # noqa: PLC0415  loaded only where it learns or serves
    from learners.river.structure import outline  # noqa: PLC0415  the same

    river: Any = learner
    parts, parameters = outline.differences(river.model, factory.imported(river.factory)())
    if parts:
        raise RefusedError(
            f"learners.{name}: what was learnt does not fit the model that {river.factory} makes now: "
            f"{'; '.join(parts)}. Give the new model a name of its own, to learn beside the old one; or begin anew "
            "with --new-lineage"
        )
    if parameters:
        log.warning(
            "learners.%s goes on with the parameters that it was saved with: %s. What the module says now counts for a "
            "learner of another name, or with --new-lineage",
            name, "; ".join(parameters),
        )  # fmt: skip


def _adopted(learner: Learner, data: bytes) -> Learner:
    """The file's model in a learner like this one, once both were asked the same questions."""
    if learner.kind == "vw":
        from learners.vw import imported as of_vw  # noqa: PLC0415  loaded only where it learns or serves

        return of_vw.adopted(cast("VwLearner", learner), data)
    from learners.river import imported as of_river  # noqa: PLC0415  the same
    from learners.river.learner import loads  # noqa: PLC0415  the same

    river = cast("RiverLearner", learner)
    return of_river.adopted(river, lambda: loads(data, river.types))
