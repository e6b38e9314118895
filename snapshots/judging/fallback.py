"""When serving falls back to the baseline, and when it returns: from the newest snapshot's figures and the ledger."""

import msgspec

from learners.bounded import Count, Positive, Several
from learners.evidence.lane import alarm_at
from snapshots.decisions.ledger import Action
from snapshots.judging import baseline_standing
from snapshots.lineage import Lineage

_DAY_SECONDS = 86_400.0


class Switching(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What ``[fallback]`` says: the budget of false alarms, and after how many trips a day it stays."""

    false_switches_per_year: Positive = 1.0
    return_events: Count = 5000
    trips_per_day: Several = 3


class Switch(msgspec.Struct, frozen=True):
    """What to write into the ledger."""

    action: Action
    why: str
    cause: str = ""


def next_switch(lineage: Lineage, learner: str, rules: Switching, looks_a_year: float, now: float) -> Switch | None:
    """The switch that is due for the champion; None when serving stays where it is. ``now``: Unix seconds."""
    newest, baseline = lineage.newest(), lineage.decided.baseline
    part = newest.learners.get(learner) if newest is not None else None
    if part is None or baseline is None:
        return None
    versus = part.figures.get("baseline") or {}
    fresh = versus if versus.get("baseline") == baseline else {}
    last = lineage.decided.switch(learner)
    fallen = last is not None and last.action == "fall_back"
    if fresh and fresh["switch"] != (last.seq if last is not None else 0):
        fresh = {}  # from before the last switch
    alarm = alarm_at(looks_a_year, 1, 1, rules.false_switches_per_year)
    if not fallen:
        judged = baseline_standing.newest(lineage)
        if judged is not None and judged.verdict == "fail":
            return None  # nothing unguarded is served (promise 3)
        return _falls(lineage, learner, baseline, fresh, alarm)
    return _returns(lineage, learner, baseline, fresh, alarm, rules, now)


def _falls(lineage: Lineage, learner: str, baseline: int, fresh: dict[str, float], alarm: float) -> Switch | None:
    if lineage.decided.breaker(learner) == "open":
        return Switch("fall_back", f"the breaker of {learner} is open; baseline {baseline} answers", "breaker")
    if fresh and fresh["fall_back"] >= alarm:
        return Switch("fall_back", f"{learner} is worse than baseline {baseline} by {_words(fresh)}", "worse")
    return None


def _returns(
    lineage: Lineage, learner: str, baseline: int, fresh: dict[str, float], alarm: float, rules: Switching, now: float
) -> Switch | None:
    if not fresh or lineage.decided.breaker(learner) != "closed" or lineage.serving(learner) is None:
        return None
    if fresh["return_events"] < rules.return_events or fresh["return"] < alarm:
        return None
    made = [e for e in lineage.entries if e.learner == learner and e.by == "guard" and now - e.time < _DAY_SECONDS]
    trips = [entry for entry in made if entry.action == "fall_back"]
    if len(trips) >= rules.trips_per_day:
        said = [entry for entry in made if entry.action == "stay_on_baseline" and entry.time >= trips[-1].time]
        return None if said else Switch("stay_on_baseline", (
            f"serving fell back {len(trips)} times within a day; it stays on baseline {baseline} until somebody "
            "decides: holdfast retrain return"
        ))  # fmt: skip
    better = {**fresh, "difference": -fresh["difference"], "low": -fresh["high"], "high": -fresh["low"]}
    return Switch("return", f"{learner} is better than baseline {baseline} again, by {_words(better)}", "better")


def _words(fresh: dict[str, float]) -> str:
    return (
        f"{fresh['difference']:.4f} [{fresh['low']:.4f}, {fresh['high']:.4f}] on {int(fresh['events']):,} fresh events"
    )
