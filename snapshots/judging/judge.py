"""The guard's judgement: does a snapshot load, does it predict, and has it forgotten? Reads the store, changes nothing.

The fast lane tells at once what is damaged, not finite or dead. The holdout lane scores the frozen rows; the fresh lane
reads the paired evidence that the snapshot carries. What follows is decided by :mod:`snapshots.judging.auto`
(``guard.moved = "auto"``) or by the table of :mod:`snapshots.judging.table`, for the whole stream and for every slice;
the worst slice wins.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from learners import LearnersError, Prediction
from learners.event import Event, Features, Task
from learners.evidence.losses import WHOLE, losses
from learners.labels import Labels
from learners.learner import Learner
from learners.prequential import opinion
from snapshots.decisions.trusted import Trusted
from snapshots.errors import DamagedError
from snapshots.judging import looks as looks_
from snapshots.judging.auto import Moving
from snapshots.judging.looks import Looks
from snapshots.judging.reverts import ancestry
from snapshots.judging.table import Case, Rules
from snapshots.lineage import Lineage
from snapshots.moved.snapshot_view import HeldOut, Sight, UnreadableError
from snapshots.moved.yardsticks import Lagged
from snapshots.records import cut as snapshots
from snapshots.records.held_rows import HeldRow, read_version
from snapshots.records.manifest import HoldoutVersion, LearnerPart, Manifest
from snapshots.records.verdict import Finding, Verdict
from snapshots.store.store import Store

log = logging.getLogger("holdfast.guard")
ENOUGH_ROWS = 32
#: so many of the newest passing snapshots may be compared with
_PASSES = 2000
#: a regression whose root mean squared error is half as large again as the labels' deviation is worse than a constant
_CONSTANT_EVENTS, _CONSTANT_R2 = 500, 1 - 1.5**2
_UNEASY_SHARE, _RECENT_LOOKS = 0.2, 100


class Sealed:
    """A holdout version in memory: its rows, decoded once, and which of them belong to which slice."""

    def __init__(self, store: Store, version: HoldoutVersion, min_slice_rows: int) -> None:
        rows = read_version(store, version)
        self.scale = version.scale
        self.events: list[Event] = [row.event() for row in rows]
        places: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            for name in row.slices:
                places.setdefault(name, []).append(index)
        self.slices: dict[str, npt.NDArray[np.int64]] = {WHOLE: np.arange(len(rows))}
        self.slices |= {name: np.array(at) for name, at in places.items() if len(at) >= min_slice_rows}

    def score(self, task: Task, learner: Learner) -> dict[str, float]:
        """Mean loss of a learner on every slice that has enough rows."""
        predictions = [opinion(learner, event.features) for event in self.events]
        lost = losses(task, [event.label for event in self.events], predictions, self.scale)
        return {name: float(lost[rows].mean()) for name, rows in self.slices.items()}


class _Past:
    """See :class:`snapshots.moved.snapshot_view.Past`; the rows of the snapshot that was asked about last are kept."""

    def __init__(self, lineage: Lineage, held: HeldOut) -> None:
        self._lineage, self._held = lineage, held
        self._kept: tuple[int, list[HeldRow]] | None = None

    def rows(self, number: int) -> list[HeldRow]:
        if self._kept is None or self._kept[0] != number:
            self._kept = (number, self._held.at(self.manifest(number)))
        return self._kept[1]

    def held(self, number: int) -> int:
        return self.manifest(number).counts.held_out

    def manifest(self, number: int) -> Manifest:
        found = self._lineage.manifest(number)
        if found is None:
            raise DamagedError(f"snapshot {number} is gone")
        return found


class Judge:
    """Judges one snapshot after the other; keeps only sealed holdouts in memory, which never change."""

    def __init__(self, lineage: Lineage, rules: Rules) -> None:
        self._lineage, self.rules = lineage, rules
        self._sealed: dict[str, Sealed] = {}
        self._held = HeldOut(lineage.store)
        self._past = _Past(lineage, self._held)
        self._trusted = Trusted(lineage.store)

    def judge(
        self, number: int, learner: str, labels: Labels, types: Collection[str], now: float, known: Looks | None = None
    ) -> tuple[Verdict, Looks | None]:
        """Verify, load and score one learner of one snapshot.

        The verdict is a value and not an exception; the looks are to be written beside the snapshot first. ``known``
        are looks that were written before, when a verdict is computed again. Where the guard does not act, whatever is
        whole and finite answers.
        """
        verdict, looks = self._judged(number, learner, labels, types, now, known)
        if not self.rules.act and verdict.verdict != "pass" and verdict.figures.get("not_finite") == 0:
            verdict = msgspec.structs.replace(verdict, serves=number)
        return verdict, looks

    def _judged(
        self, number: int, learner: str, labels: Labels, types: Collection[str], now: float, known: Looks | None
    ) -> tuple[Verdict, Looks | None]:
        lineage = self._lineage
        manifest = lineage.manifest(number)
        if manifest is None:
            why = lineage.damaged.get(number, "the manifest is gone")
            return Verdict(learner, number, -1, "fail", why, {}, now, now, "damaged"), None
        part = manifest.learners[learner]
        blank = Verdict(learner, number, part.line, "skipped", "nothing was learnt yet", {}, manifest.created, now)
        try:
            if part.learnt == 0 and "imported" not in part.built_from:
                snapshots.verify_all(lineage.store, manifest)
                return blank, None
            shared = snapshots.read_shared(lineage.store, manifest)
            labels.restore(shared.labels)
            restored, _ = snapshots.read_learner(lineage.store, manifest, learner, labels, types)
            rows = [Features(raw) for raw in shared.rows]
            quick, why, figures = fast_lane(restored, rows, lambda: self._older(number, learner, labels, types))
            verdict = msgspec.structs.replace(
                blank, verdict=quick, why=why, figures=figures, found="broken" if quick == "fail" else "pass"
            )
            if quick == "fail" or not manifest.holdout.versions:
                return against_constant(verdict, manifest.task, part), None
            return self._score(
                verdict, manifest, part, restored, known,
                lambda older: self._load(older, learner, labels, types), shared.held.recent,
            )  # fmt: skip
        except (DamagedError, LearnersError) as cause:  # a store or a library that is away is no fault of the snapshot
            return msgspec.structs.replace(blank, verdict="fail", why=str(cause), found="damaged"), None

    def _older(self, number: int, learner: str, labels: Labels, types: Collection[str]) -> Learner | None:
        """The learner of the newest older snapshot that passed; None when there is none that loads."""
        for earlier in reversed([one for one in self._lineage.numbers if one < number]):
            if self._lineage.passed(earlier, learner):
                try:
                    return self._load(earlier, learner, labels, types)
                except (DamagedError, LearnersError):
                    return None
        return None

    def _load(self, number: int, learner: str, labels: Labels, types: Collection[str]) -> Learner:
        """A learner as a snapshot has it; raise :class:`DamagedError` when it is not there whole."""
        return snapshots.read_learner(self._lineage.store, self._past.manifest(number), learner, labels, types)[0]

    def _score(
        self, verdict: Verdict, manifest: Manifest, part: LearnerPart, restored: Learner, known: Looks | None,
        load: Callable[[int], Learner], newest_rows: Sequence[HeldRow],
    ) -> tuple[Verdict, Looks]:  # fmt: skip
        versions = manifest.holdout.versions[-1 if self.rules.moved == "auto" else -2 :]
        newest = versions[-1].number
        tolerances = {one.number: self.rules.tolerance for one in versions}
        tolerances |= {one.number: self.rules.floor_tolerance for one in versions[:-1]}
        sealed = {one.number: self._read(one) for one in versions}
        losses = {number: one.score(manifest.task, restored) for number, one in sealed.items()}  # type: ignore[arg-type]
        if known is None:
            known = looks_.before(self._lineage, manifest.snapshot, verdict.learner, tolerances)
            if newest not in known.lanes:  # a new holdout begins new looks; the older one becomes a floor
                known = Looks(previous=known.previous, reference=known.reference, memory=known.memory)
            counted = part.learnt - known.learnt >= self.rules.look_events or not known.lanes
            known = msgspec.structs.replace(
                known, learnt=part.learnt if counted else known.learnt, losses=losses, counted=counted
            )
        lanes = msgspec.structs.replace(known, losses=losses).lanes_after(manifest.snapshot, tolerances)
        paired = snapshots.read_evidence(self._lineage.store, manifest, verdict.learner).paired
        rows = {name: len(rows) for name, rows in sealed[newest].slices.items()}
        entries = [entry for entry in self._lineage.entries if entry.time <= verdict.judged]
        case = Case(
            self.rules, manifest, part, verdict, known, lanes, losses, paired, rows=rows, entries=entries
        )  # fmt: skip
        if self.rules.moved != "auto":
            return case.decided()
        return self._moving(case, restored, load, self._held.at(manifest, newest_rows)).decided()

    def _moving(
        self, case: Case, learner: Learner, load: Callable[[int], Learner], rows: Sequence[HeldRow]
    ) -> Moving:  # fmt: skip
        """The case with what the rule of ``guard.moved = "auto"`` says, and what that remembers from here on."""
        manifest, known, memory = case.manifest, case.known, case.known.memory.copy()
        passes = known.passes or self._passes(manifest.snapshot, case.verdict.learner)
        held = manifest.counts.held_out
        approved = [one.seq for one in case.entries if one.action == "refresh" and one.by != "guard"]
        if approved and memory.approved < approved[-1] <= manifest.holdout.followed:
            memory.approved = approved[-1]
            memory.follow(manifest.snapshot, held)
        gone: list[int] = []
        while True:
            usable = [one for one in passes if one[0] not in gone]
            if memory.trouble is not None and memory.trouble.yardstick in gone:
                memory.trouble = None
            sight = Sight(
                manifest.task, manifest.snapshot, case.part.learnt, held, rows,  # type: ignore[arg-type]
                case.paired, usable, learner, load, self._past,
                now=manifest.created, scale=manifest.holdout.versions[-1].scale,
                tolerance=self.rules.tolerance, alarm=case.alarm,
                hold_events=self.rules.hold_events, trusted=lambda moment: self._trusted.since(case.entries, moment),
            )  # fmt: skip
            tried = memory.copy()
            try:
                answer = Lagged(sight, tried).judge()
                break
            except UnreadableError as cause:
                log.warning("%s cannot be compared with snapshot %d: %s", case.verdict.learner, cause.number, cause)
                gone.append(cause.number)
        compared = [one for one in passes if one[0] == answer.yardstick]
        known = msgspec.structs.replace(known, passes=compared, memory_after=tried if known.counted else known.memory)
        return Moving.of(case, known, answer)

    def _passes(self, number: int, learner: str) -> list[tuple[int, int]]:
        """Snapshot and events learnt of those before that passed and that this one goes on from, oldest first."""
        own = [one for one in ancestry(self._lineage, learner) if one < number][-_PASSES:]
        return [(one, part.learnt) for one in own if (part := self._lineage.part(one, learner)) is not None]

    def _read(self, version: HoldoutVersion) -> Sealed:
        found = self._sealed.get(version.part.sha256)
        if found is None:
            found = Sealed(self._lineage.store, version, self.rules.min_slice_rows)
            self._sealed[version.part.sha256] = found
            while len(self._sealed) > 2:
                self._sealed.pop(next(iter(self._sealed)))
        return found


def fast_lane(
    learner: Learner, rows: Sequence[Features], older: Callable[[], Learner | None]
) -> tuple[Finding, str, dict[str, float]]:
    """Predict every row: fail when most raise, one is not finite, or all are alike where ``older``'s are not.

    That all are of one class is no fault: a stream may have long stretches of one. It takes a probability or a number
    that no longer depends on the features.
    """
    predictions, raised = _asked(learner, rows)
    if len(raised) > len(rows) / 2:
        kind = type(raised[0]).__name__
        return "fail", f"it raises {kind} when it predicts {len(raised)} of {len(rows)} rows: {raised[0]}", {}
    numbers = [number for prediction in predictions for number in _numbers(prediction)]
    broken = sum(not math.isfinite(number) for number in numbers)
    figures = {"rows": float(len(rows)), "not_finite": float(broken)}
    if broken:
        return "fail", f"{broken} of {len(numbers)} predicted numbers are not finite", figures
    distinct = len({row.raw for row in rows})
    figures["spread"] = _spread(predictions)
    figures["distinct_rows"] = float(distinct)
    if distinct >= ENOUGH_ROWS and figures["spread"] == 0 and not all(map(_bare, predictions)):
        before = older()
        if before is not None and _spread(_asked(before, rows)[0]) > 0:
            why = f"it predicts the same for all of {distinct} different rows, and the one before did not"
            return "fail", why, figures
    return "pass", f"loads, and predicts finite numbers on {len(rows)} recent events (fast lane only)", figures


def against_constant(verdict: Verdict, task: str, part: LearnerPart) -> Verdict:
    """Hold a regression back while nothing but the fast lane judges it and a constant would be far better.

    By its own error on the newest events, each predicted before it was learnt. It is suspect, not failed: a target far
    from 0 is learnt slowly, and nothing is lost by waiting.
    """
    recent = part.figures.get("recent") or {}
    explained, events = recent.get("r2"), recent.get("n") or 0
    if verdict.verdict != "pass" or task != "regression" or events < _CONSTANT_EVENTS:
        return verdict
    if explained is not None and math.isfinite(explained) and explained >= _CONSTANT_R2:
        return verdict
    times = "" if explained is None or not math.isfinite(explained) else f", {math.sqrt(1 - explained):,.1f} times it"
    why = (
        f"its error on the newest {events:,} events is far above that of always predicting their mean{times}; not "
        "promoted until that is better: scale the features and the target, or lower the learning rate"
    )
    return msgspec.structs.replace(verdict, verdict="suspect", why=why, found="suspect")


def _asked(learner: Learner, rows: Sequence[Features]) -> tuple[list[Prediction], list[Exception]]:
    """What a learner predicts, and what it raised; a row or two that it cannot take is no fault of what it learnt."""
    predictions: list[Prediction] = []
    raised: list[Exception] = []
    for row in rows:
        try:
            predictions.append(learner.predict(row))
        except Exception as cause:
            raised.append(cause)
    return predictions, raised


def _bare(prediction: Prediction) -> bool:
    """Tell whether it is a class without a probability."""
    chances = prediction.probability is not None or prediction.probabilities is not None
    return not chances and not isinstance(prediction.value, float)


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


def target_of(lineage: Lineage, verdict: Verdict, compared: int | None) -> int | None:
    """Where a revert goes: the reference of the comparison that failed, or else the newest passing snapshot before."""
    earlier = [number for number in ancestry(lineage, verdict.learner) if number < verdict.snapshot]
    if verdict.holdout is not None and compared in earlier:  # the last pass may already hold poison
        return compared
    return earlier[-1] if earlier else None


def advice(lineage: Lineage, learner: str) -> str | None:
    """What ``status`` recommends: ``auto`` when by the frozen holdout over a fifth of the looks were suspect or moved.

    Only looks at the present line count: what led to a revert was harm, and no stream that moves.
    """
    line = lineage.decided.line(learner).number
    recent = [v for n in lineage.numbers[-_RECENT_LOOKS:] if (v := lineage.verdict(n, learner)) is not None]
    found = [one for one in recent if one.line == line and one.rules.get("moved") != "auto"]
    uneasy = [one for one in found if one.verdict == "suspect" or one.found == "moved"]
    if len(found) < _RECENT_LOOKS // 2 or len(uneasy) <= _UNEASY_SHARE * len(found):
        return None
    share = f"{len(uneasy)} of the last {len(found)} looks were suspect"
    return f'{share}: this stream moves, and guard.moved = "auto" goes with it'
