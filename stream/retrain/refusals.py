"""What a retrain is refused for: nothing new, weights that do not fit, events erased since."""

from collections.abc import Sequence

import msgspec

from learners.baseline.recipe import Recipe
from snapshots import Lineage
from snapshots.decisions.decided import decided
from snapshots.decisions.ledger import Entry
from snapshots.errors import NothingToLearnError, RefusedError
from snapshots.records import baselines
from snapshots.records.baselines import BaselineManifest
from stream.retrain.dataset import Dataset, Warm
from stream.retrain.triggers import Order


def refuse_nothing_new(lineage: Lineage, recipe: Recipe, order: Order, dataset: Dataset) -> None:
    """Refuse to make again, of the same data and by the same recipe, the baseline that counts."""
    number = lineage.decided.baseline
    manifest = baselines.read(lineage.store, number) if number is not None else None
    same = manifest is not None and manifest.data_version == dataset.version and manifest.warm_from is None
    if manifest is not None and same and not order.again and manifest.recipe == msgspec.to_builtins(recipe):
        raise NothingToLearnError(
            f"nothing is new since baseline {number}: the same data and recipe; nothing was changed. With --again "
            "it is made all the same"
        )


def refuse_unfit(lineage: Lineage, recipe: Recipe, start: Warm, dataset: Dataset) -> None:
    """Refuse to go on from a baseline whose weights do not fit what is to be trained."""
    manifest = baselines.read(lineage.store, start.number)
    wanted = msgspec.to_builtins(recipe)
    was = manifest.recipe if manifest is not None else {}
    changed = [key for key in ("kind", "factory", "rank") if was.get(key) != wanted[key]]
    outputs = manifest.trained.get("outputs", dataset.outputs) if manifest is not None else dataset.outputs
    if outputs != dataset.outputs:
        changed.append(f"the number of classes, {outputs} then and {dataset.outputs} now")
    if changed:
        raise RefusedError(
            f"baseline {start.number} cannot be gone on from, since this is another: {', '.join(changed)}. Leave "
            "out --warm"
        )


def refuse_erased(manifest: BaselineManifest, entries: Sequence[Entry]) -> None:
    """Refuse a baseline that may have learnt events that were erased since."""
    last = decided(entries).last_erasing_retrain
    if last > manifest.trained.get("erased", 0):
        raise RefusedError(
            f"baseline {manifest.number} may have learnt events that were erased since (ledger entry {last}); train "
            "anew"
        )
