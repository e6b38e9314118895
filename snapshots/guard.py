"""The guard's judgement: does a snapshot load, does it predict, and has it forgotten? Reads the store, changes nothing.

The fast lane tells at once what is damaged, not finite or dead. The holdout lane scores the frozen rows; the fresh lane
reads the paired evidence that the snapshot carries; :func:`learners.evidence.finding` puts the two together, for the
whole stream and for every slice, and the worst slice wins.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from learners import LearnersError, Prediction
from learners import evidence as facts
from learners.event import Event, Features, Task
from learners.evidence import WHOLE, Found, Lane, Paired
from learners.labels import Labels
from learners.learner import Learner
from learners.prequential import opinion
from snapshots import looks as looks_
from snapshots import snapshot as snapshots
from snapshots.errors import DamagedError
from snapshots.holdout import read_version
from snapshots.ledger import Entry
from snapshots.lineage import Lineage
from snapshots.looks import Looks, Wait
from snapshots.manifest import HoldoutVersion, LearnerPart, Manifest
from snapshots.store import Store
from snapshots.verdict import Finding, Verdict

ENOUGH_ROWS = 32
#: a regression whose root mean squared error is half as large again as the labels' deviation is worse than a constant
_CONSTANT_EVENTS, _CONSTANT_R2 = 500, 1 - 1.5**2
#: reverts for the same cause in the same slice after which a third is not believed
REPEATED = 2
REPEATED_SECONDS = 30 * 86_400.0
#: of the last 21 looks, how many have to pass before the reference moves
_EASY_LOOKS = 17
_UNEASY_SHARE, _RECENT_LOOKS = 0.2, 100


class Rules(msgspec.Struct, frozen=True):
    """How the guard judges; see ``[guard]`` and ``[holdout]`` in docs/configuration.md. Losses lie in [0, 1]."""

    tolerance: float = 0.01
    floor_tolerance: float = 0.1
    false_reverts_per_year: float = 1.0
    looks_a_year: float = 31_536_000.0
    min_slice_rows: int = 200
    look_events: int = 50
    reference_events: int = 10_000
    sample: float = 0.1
    wait_events: int = 5000
    wait_seconds: float = 900.0
    moved: Literal["hold", "revert", "follow"] = "hold"
    hold_events: int = 50_000
    hold_seconds: float = 900.0
    act: bool = True


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
        lost = facts.losses(task, [event.label for event in self.events], predictions, self.scale)
        return {name: float(lost[rows].mean()) for name, rows in self.slices.items()}


class Judge:
    """Judges one snapshot after the other; keeps only sealed holdouts in memory, which never change."""

    def __init__(self, lineage: Lineage, rules: Rules) -> None:
        self._lineage, self.rules = lineage, rules
        self._sealed: dict[str, Sealed] = {}

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
            return self._score(verdict, manifest, part, restored, known)
        except (DamagedError, LearnersError) as cause:  # a store or a library that is away is no fault of the snapshot
            return msgspec.structs.replace(blank, verdict="fail", why=str(cause), found="damaged"), None

    def _older(self, number: int, learner: str, labels: Labels, types: Collection[str]) -> Learner | None:
        """The learner of the newest older snapshot that passed; None when there is none that loads."""
        for earlier in reversed([one for one in self._lineage.numbers if one < number]):
            manifest = self._lineage.manifest(earlier)
            if manifest is not None and self._lineage.passed(earlier, learner):
                try:
                    return snapshots.read_learner(self._lineage.store, manifest, learner, labels, types)[0]
                except (DamagedError, LearnersError):
                    return None
        return None

    def _score(
        self, verdict: Verdict, manifest: Manifest, part: LearnerPart, restored: Learner, known: Looks | None
    ) -> tuple[Verdict, Looks]:
        versions = manifest.holdout.versions[-2:]
        newest = versions[-1].number
        tolerances = {one.number: self.rules.tolerance for one in versions}
        tolerances |= {one.number: self.rules.floor_tolerance for one in versions[:-1]}
        sealed = {one.number: self._read(one) for one in versions}
        losses = {number: one.score(manifest.task, restored) for number, one in sealed.items()}  # type: ignore[arg-type]
        if known is None:
            known = looks_.before(self._lineage, manifest.snapshot, verdict.learner, tolerances)
            if newest not in known.lanes:  # a new holdout begins new looks; the older one becomes a floor
                known = Looks(previous=known.previous, reference=known.reference)
            counted = part.learnt - known.learnt >= self.rules.look_events or not known.lanes
            known = msgspec.structs.replace(
                known, learnt=part.learnt if counted else known.learnt, losses=losses, counted=counted
            )
        lanes = msgspec.structs.replace(known, losses=losses).lanes_after(manifest.snapshot, tolerances)
        paired = snapshots.read_evidence(self._lineage.store, manifest, verdict.learner).paired
        case = _Case(
            self.rules, manifest, part, verdict, known, lanes, losses, paired,
            rows={name: len(rows) for name, rows in sealed[newest].slices.items()},
            entries=[entry for entry in self._lineage.entries if entry.time <= verdict.judged],
        )  # fmt: skip
        return case.decided()

    def _read(self, version: HoldoutVersion) -> Sealed:
        found = self._sealed.get(version.part.sha256)
        if found is None:
            found = Sealed(self._lineage.store, version, self.rules.min_slice_rows)
            self._sealed[version.part.sha256] = found
            while len(self._sealed) > 2:
                self._sealed.pop(next(iter(self._sealed)))
        return found


class _Case:
    """One snapshot's figures, and what follows from them."""

    def __init__(  # noqa: PLR0913  everything that a verdict depends on
        self,
        rules: Rules,
        manifest: Manifest,
        part: LearnerPart,
        verdict: Verdict,
        known: Looks,
        lanes: Mapping[int, Mapping[str, Lane]],
        losses: Mapping[int, Mapping[str, float]],
        paired: Paired,
        *,
        rows: Mapping[str, int],
        entries: Sequence[Entry],
    ) -> None:
        self.rules, self.manifest, self.part, self.verdict, self.known = rules, manifest, part, verdict, known
        self.lanes, self.losses, self.paired, self.rows, self.entries = lanes, losses, paired, rows, entries
        self.newest = manifest.holdout.versions[-1].number
        slices = len(rows)
        self.in_a_row = facts.looks_in_a_row(rules.looks_a_year, slices, rules.false_reverts_per_year)
        learners = len(manifest.learners)
        self.alarm = facts.alarm_at(rules.looks_a_year, slices, learners, rules.false_reverts_per_year)

    def decided(self) -> tuple[Verdict, Looks]:
        """The verdict, and the looks with what comes after them."""
        found: dict[str, Found] = {}
        details: dict[str, dict[str, Any]] = {}
        waits: dict[str, Wait] = {}
        for name in self._names():
            found[name], details[name], wait = self._slice(name)
            if wait is not None:
                waits[name] = wait
        worst = min(found.values(), key=facts.ORDER.index)
        where = [name for name, one in found.items() if one == worst] if worst != "pass" else []
        finding, why = self._answer(worst, where, details, waits)
        overall = self.losses[self.newest][WHOLE]
        passing = list(self.known.passing)
        if self.known.counted and finding == "pass":
            passing = [*passing, (self.manifest.snapshot, overall)][-facts.MEDIAN_LOOKS :]
        recent = list(self.known.recent)
        if self.known.counted:
            recent = [*recent, finding == "pass"][-facts.MEDIAN_LOOKS :]
        reference = self._wanted(passing, recent)
        verdict = msgspec.structs.replace(
            self.verdict, verdict=finding, why=why, found=worst, slices=where, holdout=self.newest,
            reference=reference, previous=self.known.previous, rules=msgspec.to_builtins(self.rules),
            details={name: one for name, one in details.items() if name == WHOLE or found[name] != "pass"},
            figures={**self.verdict.figures, "loss": overall, "in_a_row": float(self.in_a_row), "alarm": self.alarm},
        )  # fmt: skip
        looks = msgspec.structs.replace(
            self.known,
            waits_after=waits,
            passing_after=passing,
            recent_after=recent,
            reference_after=reference,
            taken_up_after=reference is not None and self.part.reference == reference,
        )
        return verdict, looks

    def _names(self) -> list[str]:
        """The whole stream, slices with enough rows, and slices that only fresh events are known of."""
        return list(dict.fromkeys([WHOLE, *self.rows, *self.paired.slices]))

    def _slice(self, name: str) -> tuple[Found, dict[str, Any], Wait | None]:
        """One slice: what is found, the figures, and since when it waits."""
        lane, floor = self.lanes[self.newest].get(name), self._floor(name)
        holdout = facts.holdout_finding(lane, self.in_a_row)
        if floor is not None and holdout in ("early", "same", "above"):
            lower = facts.holdout_finding(floor, self.in_a_row)
            holdout = lower if lower in ("worse", "far") else holdout
        fresh = facts.fresh_finding(self.paired, name, self.alarm)
        now = (self.part.learnt, self.manifest.created)
        before = self.known.waits.get(name)
        wait = (before or Wait(now)) if holdout == "worse" else None
        found = facts.finding(
            holdout, fresh,
            waited=wait is not None and self._past(wait.worse, self.rules.wait_events, self.rules.wait_seconds, any),
            world_changed=self.paired.world(name) >= self.alarm,
        )  # fmt: skip
        if found in ("forgetting", "diverged") and self._repeated(name, found):
            found = "moved"
        if wait is not None or found == "moved":
            since = before.moved if before is not None and before.moved is not None else now
            wait = msgspec.structs.replace(wait or before or Wait(now), moved=since if found == "moved" else None)
        interval = self.paired.interval(name)
        details: dict[str, Any] = {
            "found": found, "holdout": holdout, "fresh": fresh, "rows": self.rows.get(name, 0),
            "loss": self.losses[self.newest].get(name), "fresh_events": interval.n,
            "difference": interval.mean, "low": interval.low, "high": interval.high,
            "worse": self.paired.worse(name), "better": self.paired.better(name), "world": self.paired.world(name),
        }  # fmt: skip
        if lane is not None:
            details |= {
                "level": lane.level, "level_since": lane.level_since, "margin": lane.margin(self.rules.tolerance),
                "looks": lane.looks, "above": lane.above,
            }  # fmt: skip
        return found, details, wait

    def _floor(self, name: str) -> Lane | None:
        older = [number for number in self.lanes if number != self.newest]
        return self.lanes[older[-1]].get(name) if older else None

    def _repeated(self, name: str, cause: Found) -> bool:
        """The same slice was reverted twice for this already: from the stream alone nobody can tell what is right.

        A refresh of the holdout is somebody's answer, and a month is long enough ago.
        """
        learner, count = self.verdict.learner, 0
        for entry in self.entries:
            if entry.action == "refresh":
                count = 0
            same = (entry.action, entry.by, entry.learner, entry.cause) == ("revert", "guard", learner, cause)
            if same and name in entry.slices and self.manifest.created - entry.time < REPEATED_SECONDS:
                count += 1
        return count >= REPEATED

    def _past(self, since: tuple[int, float], events: int, seconds: float, how: Any) -> bool:
        learnt, time = since
        fresh = (self.part.learnt - learnt) * (self.rules.sample if how is any else 1.0)
        return bool(how((fresh >= events, self.manifest.created - time >= seconds)))

    def _answer(
        self, worst: Found, where: list[str], details: dict[str, dict[str, Any]], waits: dict[str, Wait]
    ) -> tuple[Finding, str]:
        lane = self.lanes[self.newest][WHOLE]
        if worst == "pass" and lane.level is None:
            return "pass", f"{self.verdict.why}; look {lane.looks} of {facts.MEDIAN_LOOKS} at holdout {self.newest}"
        if worst == "pass":
            return "pass", (
                f"loses {self.losses[self.newest][WHOLE]:.4f} on {self.rows[WHOLE]:,} holdout rows, level "
                f"{lane.level:.4f}; {self._fresh_words(details[WHOLE])}"
            )
        why = "; ".join(self._words(name, details[name]) for name in where[:3])
        if worst == "suspect":
            return "suspect", f"{why}; not promoted until that is settled"
        if worst == "world_changed":
            return "pass", f"{why}; the world changed for the older model too: a full retrain is asked for"
        if worst == "moved":
            return self._moved(where, why, waits, details)
        return "fail", f"{worst}: {why}"

    def _moved(
        self, where: list[str], why: str, waits: dict[str, Wait], details: dict[str, dict[str, Any]]
    ) -> tuple[Finding, str]:
        """What ``guard.moved`` makes of it. What fresh events say is worse is followed by nobody."""
        if self.rules.moved == "follow" and all(details[name]["fresh"] != "worse" for name in where):
            return "pass", f"moved: {why}; followed, as guard.moved says, and the holdout is refreshed"
        if self.rules.moved == "revert":
            return "fail", f"moved: {why}; reverted, as guard.moved says"
        since = [wait.moved for name in where if (wait := waits.get(name)) is not None and wait.moved is not None]
        if since and all(self._past(one, self.rules.hold_events, self.rules.hold_seconds, all) for one in since):
            return "fail", f"moved: {why}; held for long enough without an answer"
        return "suspect", (
            f"moved: {why}. Either the world changed (holdfast holdout refresh --approve WHY) or the labels lie "
            "(holdfast snapshots revert); nothing is promoted until somebody decides"
        )

    def _words(self, name: str, figures: dict[str, Any]) -> str:
        """One slice in a sentence."""
        rows = f"{figures['rows']:,} holdout rows" + (f" with {name}" if name else "")
        if figures["holdout"] in ("above", "worse", "far") and figures.get("level") is not None:
            more = (figures["loss"] or 0.0) - figures["level"]
            said = (
                f"worse by {more:.3f} on {rows} than its level since snapshot {figures['level_since']}, "
                f"{figures['above']} looks in a row"
            )
        else:
            said = f"not worse on {rows}" if figures["rows"] else f"no holdout rows with {name}"
        return f"{said}; {self._fresh_words(figures)}"

    def _fresh_words(self, figures: dict[str, Any]) -> str:
        count = figures["fresh_events"]
        if not count:
            return "no fresh events to compare"
        says = {"worse": "worse", "better": "better", "leans_better": "rather better"}.get(
            figures["fresh"], "no different for certain"
        )
        return (
            f"{says} on {count:,} fresh events than snapshot {self.paired.reference} "
            f"({figures['difference']:+.3f} [{figures['low']:+.3f}, {figures['high']:+.3f}])"
        )

    def _wanted(self, passing: list[tuple[int, float]], recent: list[bool]) -> int | None:
        """The reference from here on: the snapshot with the median loss of the last 21 passing looks, moved seldom.

        It never moves while many looks are suspect: what is condemned later must not be what it is compared with.
        """
        wanted = self.known.reference
        if len(passing) < facts.MEDIAN_LOOKS or not self.known.counted:
            return wanted
        taken_up = self.part.reference == wanted
        settled = sum(recent) >= _EASY_LOOKS
        gone = wanted is not None and self.part.reference is None and self.known.taken_up
        if wanted is None or gone or (taken_up and settled and self.paired.events() >= self.rules.reference_events):
            return sorted(passing, key=lambda one: one[1])[len(passing) // 2][0]
        return wanted


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
    ancestry = [number for number in lineage.ancestry(verdict.learner) if number < verdict.snapshot]
    if verdict.holdout is not None and compared in ancestry:  # the last pass may already hold poison
        return compared
    return ancestry[-1] if ancestry else None


def advice(lineage: Lineage, learner: str) -> str | None:
    """What ``status`` recommends: ``follow`` when over a fifth of the recent looks were suspect or moved.

    Only looks at the present line count: what led to a revert was harm, and no stream that moves.
    """
    line = lineage.line(learner).number
    recent = [v for n in lineage.numbers[-_RECENT_LOOKS:] if (v := lineage.verdict(n, learner)) is not None]
    found = [one for one in recent if one.line == line]
    uneasy = [one for one in found if one.verdict == "suspect" or one.found == "moved"]
    if len(found) < _RECENT_LOOKS // 2 or len(uneasy) <= _UNEASY_SHARE * len(found):
        return None
    share = f"{len(uneasy)} of the last {len(found)} looks were suspect"
    return f'{share}: this stream moves, and guard.moved = "follow" goes with it'
