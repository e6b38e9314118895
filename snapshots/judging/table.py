"""What follows from one snapshot's figures: the table of holdout and fresh events, slice by slice (docs/guard.md)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from learners.bounded import Count, Positive, SecondsOrNone
from learners.evidence.findings import ORDER, Found, Fresh, Holdout, finding, fresh_finding, holdout_finding
from learners.evidence.lane import MEDIAN_LOOKS, Lane, alarm_at, looks_in_a_row
from learners.evidence.losses import WHOLE
from learners.evidence.paired import Paired
from snapshots.decisions.ledger import Entry
from snapshots.judging.looks import Looks, Wait
from snapshots.records.manifest import LearnerPart, Manifest
from snapshots.records.verdict import Finding, Verdict

#: reverts for the same cause in the same slice after which a third is not believed
REPEATED = 2
REPEATED_SECONDS = 30 * 86_400.0
#: of the last 21 looks, how many have to pass before the reference moves
_EASY_LOOKS = 17


class JudgingSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the guard judges, as ``[guard]`` in docs/configuration.md has it. Losses lie in [0, 1]."""

    tolerance: Positive = 0.01
    false_reverts_per_year: Positive = 1.0
    moved: Literal["auto", "hold", "revert", "follow"] = "auto"
    hold_events: Count = 50_000
    hold_seconds: SecondsOrNone = 900.0
    wait_events: Count = 5000
    wait_seconds: SecondsOrNone = 900.0
    look_events: Count = 50
    reference_events: Count = 10_000
    act: bool = True


class Rules(JudgingSettings, kw_only=True):
    """The same, with what it takes from elsewhere: ``[holdout]``, the pace of snapshots, and the share of events."""

    floor_tolerance: float
    looks_a_year: float
    min_slice_rows: int
    sample: float


class Case:
    """One snapshot's figures, and what follows from them by the table (``guard.moved`` other than ``"auto"``)."""

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
        self.in_a_row = looks_in_a_row(rules.looks_a_year, slices, rules.false_reverts_per_year)
        learners = len(manifest.learners)
        self.alarm = alarm_at(rules.looks_a_year, slices, learners, rules.false_reverts_per_year)

    def decided(self) -> tuple[Verdict, Looks]:
        """The verdict, and the looks with what comes after them."""
        found: dict[str, Found] = {}
        details: dict[str, dict[str, Any]] = {}
        waits: dict[str, Wait] = {}
        for name in self._names():
            found[name], details[name], wait = self._slice(name)
            if wait is not None:
                waits[name] = wait
        worst = min(found.values(), key=ORDER.index)
        where = [name for name, one in found.items() if one == worst] if worst != "pass" else []
        finding, why = self._answer(worst, where, details, waits)
        overall = self.losses[self.newest][WHOLE]
        passing = list(self.known.passing)
        if self.known.counted and finding == "pass":
            passing = [*passing, (self.manifest.snapshot, overall)][-MEDIAN_LOOKS:]
        recent = list(self.known.recent)
        if self.known.counted:
            recent = [*recent, finding == "pass"][-MEDIAN_LOOKS:]
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
        holdout = holdout_finding(lane, self.in_a_row)
        if floor is not None and holdout in ("early", "same", "above"):
            lower = holdout_finding(floor, self.in_a_row)
            holdout = lower if lower in ("worse", "far") else holdout
        fresh = fresh_finding(self.paired, name, self.alarm)
        now = (self.part.learnt, self.manifest.created)
        before = self.known.waits.get(name)
        wait = (before or Wait(now)) if holdout == "worse" else None
        found = finding(
            holdout, fresh,
            waited=wait is not None and self._past(wait.worse, self.rules.wait_events, self.rules.wait_seconds, any),
            world_changed=self.paired.world(name) >= self.alarm,
        )  # fmt: skip
        if found in ("forgetting", "diverged") and self._repeated(name, found):
            found = "moved"
        if wait is not None or found == "moved":
            since = before.moved if before is not None and before.moved is not None else now
            wait = msgspec.structs.replace(wait or before or Wait(now), moved=since if found == "moved" else None)
        return found, self._details(name, found, holdout, fresh), wait

    def _details(self, name: str, found: Found, holdout: Holdout, fresh: Fresh) -> dict[str, Any]:
        """The figures of a slice."""
        interval, lane = self.paired.interval(name), self.lanes[self.newest].get(name)
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
        return details

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
            return "pass", f"{self.verdict.why}; look {lane.looks} of {MEDIAN_LOOKS} at holdout {self.newest}"
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
        if len(passing) < MEDIAN_LOOKS or not self.known.counted:
            return wanted
        taken_up = self.part.reference == wanted
        settled = sum(recent) >= _EASY_LOOKS
        gone = wanted is not None and self.part.reference is None and self.known.taken_up
        if wanted is None or gone or (taken_up and settled and self.paired.events() >= self.rules.reference_events):
            return sorted(passing, key=lambda one: one[1])[len(passing) // 2][0]
        return wanted
