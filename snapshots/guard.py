"""The guard's fast lane: does a snapshot load, and does it still predict? Pure but for reading the store.

The place of the whole guard (DESIGN section 4): for now only what can be told at once. The rows are the newest valid
events that the snapshot carries.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from learners import LearnersError, Prediction
from learners.event import Features
from learners.labels import Labels
from learners.learner import Learner
from snapshots import snapshot as snapshots
from snapshots.errors import DamagedError
from snapshots.lineage import Lineage
from snapshots.verdict import Finding, Verdict

ENOUGH_ROWS = 32


def judge(lineage: Lineage, number: int, learner: str, labels: Labels, types: Collection[str], now: float) -> Verdict:
    """Verify, load and try one learner of one snapshot; return the verdict, which is a value and not an exception."""
    manifest = lineage.manifest(number)
    if manifest is None:
        why = lineage.damaged.get(number, "the manifest is gone")
        return Verdict(learner, number, -1, "fail", why, {}, now, now)
    part = manifest.learners[learner]
    finding: Finding
    figures: dict[str, float] = {}
    try:
        if part.learnt == 0 and "imported" not in part.built_from:
            snapshots.verify_all(lineage.store, manifest)
            finding, why = "skipped", "nothing was learnt yet"
        else:
            shared = snapshots.read_shared(lineage.store, manifest)
            labels.restore(shared.labels)
            restored, _ = snapshots.read_learner(lineage.store, manifest, learner, labels, types)
            rows = [features(raw) for raw in shared.rows]
            finding, why, figures = fast_lane(restored, rows, _reference(lineage, number, learner))
    except (DamagedError, LearnersError) as cause:  # a store or a library that is away is no fault of the snapshot
        finding, why = "fail", str(cause)
    return Verdict(learner, number, part.line, finding, why, figures, manifest.created, now)


def features(raw: bytes) -> Features:
    """Features of a row that a snapshot carries; the codec has checked them before they came there."""
    return Features(raw)


def _reference(lineage: Lineage, number: int, learner: str) -> Mapping[str, float] | None:
    """Figures of the newest older snapshot that passed."""
    for earlier in reversed(lineage.numbers):
        found = lineage.verdict(earlier, learner)
        if earlier < number and found is not None and found.verdict == "pass":
            return found.figures
    return None


def fast_lane(
    learner: Learner, rows: Sequence[Features], reference: Mapping[str, float] | None
) -> tuple[Finding, str, dict[str, float]]:
    """Predict every row: fail when that raises, is not finite, or is constant where the reference was not."""
    try:
        predictions = [learner.predict(row) for row in rows]
    except Exception as cause:
        return "fail", f"it raises {type(cause).__name__} when it predicts: {cause}", {}
    numbers = [number for prediction in predictions for number in _numbers(prediction)]
    broken = sum(not math.isfinite(number) for number in numbers)
    figures = {"rows": float(len(rows)), "not_finite": float(broken)}
    if broken:
        return "fail", f"{broken} of {len(numbers)} predicted numbers are not finite", figures
    distinct = len({row.raw for row in rows})
    figures["spread"] = _spread(predictions)
    figures["distinct_rows"] = float(distinct)
    varied = reference is not None and reference.get("spread", 0.0) > 0
    if varied and distinct >= ENOUGH_ROWS and figures["spread"] == 0:
        return "fail", f"it predicts the same for all of {distinct} different rows, and its reference did not", figures
    return "pass", f"loads, and predicts finite numbers on {len(rows)} recent events (fast lane only)", figures


def _numbers(prediction: Prediction) -> list[float]:
    if prediction.probabilities is not None:
        return list(prediction.probabilities.values())
    chosen = prediction.value if prediction.probability is None else prediction.probability
    return [] if chosen is None else [float(chosen)]


def _spread(predictions: Sequence[Prediction]) -> float:
    """The widest range over the rows of any number predicted."""
    columns: dict[int, list[float]] = {}
    for prediction in predictions:
        for column, number in enumerate(_numbers(prediction)):
            columns.setdefault(column, []).append(number)
    return max((max(column) - min(column) for column in columns.values()), default=0.0)
