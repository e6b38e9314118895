"""When a full retrain is due, and whether it may be done now: functions of ledger, archive, baseline and clock."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from learners import drift
from learners.event import Features
from snapshots import Lineage, baselines
from snapshots.baselines import DECLINED, BaselineManifest
from snapshots.erasure import FORGET
from snapshots.ledger import Entry
from stream.archive import Archive
from stream.codec import Codec
from stream.config import RetrainConfig
from stream.dataset import DRIFT_ROWS
from stream.errors import ConfigError
from stream.reasons import Refusal
from stream.record import Record

_DAY_SECONDS = 86_400.0
_FEWEST_ROWS = 500
#: a number that moved has moved by more than chance explains, less than so often
_CHANCE = 1e-6


class Trigger(msgspec.Struct, frozen=True):
    """Why a retrain is due: ``kind`` is one of schedule, labels, drift, performance, breaker, forget.

    ``since``: when something drifted (Unix seconds), so that the gates look at what came later; None: nothing did.
    """

    kind: str
    why: str
    asked: int = 0
    since: float | None = None


class Facts(msgspec.Struct):
    """What is known: labelled events in the archive, and how far the data moved since the last retrain."""

    events: int
    moved: list[drift.Moved]
    manifest: BaselineManifest | None


def schedule_of(rules: RetrainConfig, moment: float) -> float | None:
    """When the schedule was due last, at or before ``moment`` (Unix seconds); None without one.

    Daylight-saving changes are treated as cron does: an hour that does not exist is made up for, one that comes twice
    counts once.
    """
    if not rules.schedule:
        return None
    try:
        zone = ZoneInfo(rules.timezone)
        now = datetime.fromtimestamp(moment + 1, UTC).astimezone(zone)
        return next(CronSim(rules.schedule, now, reverse=True)).timestamp()
    except (CronSimError, ZoneInfoNotFoundError, ValueError) as cause:
        raise ConfigError(
            f"retrain.schedule {rules.schedule!r} in {rules.timezone!r}: {cause or 'not a cron expression'}. Write "
            'five fields, as "0 3 * * *", and a zone as "Europe/Berlin"'
        ) from None


def facts_of(archive: Archive, lineage: Lineage, codec: Codec) -> Facts:
    """Look at the archive and at the sample of the last retrain."""
    events = sum(archive.about(file).events for file in archive.files())
    numbers = baselines.numbers(lineage.store)
    manifest = baselines.read(lineage.store, numbers[-1]) if numbers else None
    if manifest is None or manifest.sample is None:
        return Facts(events, [], manifest)
    before = msgspec.msgpack.decode(baselines.read_part(lineage.store, manifest.sample), type=list[bytes])
    now = newest(archive, codec, manifest.last_time)
    if min(len(before), len(now)) < _FEWEST_ROWS:
        return Facts(events, [], manifest)
    return Facts(events, drift.moved([Features(raw).flat() for raw in before], [one.flat() for one in now]), manifest)


def newest(archive: Archive, codec: Codec, since: float) -> list[Features]:
    """Features of the newest archived events that are younger than ``since`` (Unix seconds)."""
    found: list[tuple[float, Features]] = []
    for file in sorted(archive.files(), key=lambda one: -(archive.about(one).last_time or 0.0)):
        if (archive.about(file).last_time or 0.0) <= since or len(found) >= DRIFT_ROWS:
            break
        for row in archive.rows(file):
            if row.time > since:
                event = codec.decode(Record(file.part.topic, file.part.partition, row.offset, row.following, row.value))
                if not isinstance(event, Refusal):
                    found.append((row.time, event.features))
    return [features for _, features in sorted(found, key=lambda one: one[0])[-DRIFT_ROWS:]]


def due(entries: Sequence[Entry], rules: RetrainConfig, facts: Facts, began: float, now: float) -> Trigger | None:
    """The first trigger that is due. ``began``: when the lineage did (Unix seconds).

    One that failed answers nothing: what asked for it is due still, and :func:`hindrance` has it wait.
    """
    done = [entry for entry in baselines.outcomes(list(entries)) if entry.action != baselines.FAILED]
    last = done[-1].seq if done else 0
    asked = [e for e in entries if e.action == "retrain" and e.seq > last]
    if rules.on_request and asked:
        newest_ = asked[-1]
        if any(e.cause == FORGET for e in asked):
            return Trigger(FORGET, newest_.why, newest_.seq)
        kind = "breaker" if newest_.cause == "breaker" else "performance"
        since = newest_.time if kind == "performance" else None
        return Trigger(kind, f"{newest_.why}. {_concept(facts)}", newest_.seq, since)
    tick = schedule_of(rules, now)
    if tick is not None and tick > max((e.time for e in done), default=began):
        return Trigger("schedule", f"the schedule {rules.schedule!r} was due at {_moment(tick, rules.timezone)}")
    known = facts.manifest.trained.get("archived", 0) if facts.manifest is not None else 0
    if rules.after_labels and facts.events - known >= rules.after_labels:
        return Trigger("labels", f"{facts.events - known:,} labelled events came since the last retrain")
    far = [one for one in facts.moved if one.psi >= rules.drift_psi and (one.chance is None or one.chance < _CHANCE)]
    if rules.drift_psi and far:
        said = ", ".join(f"{one.feature} (PSI {one.psi:.2f})" for one in far[:5])
        return Trigger("drift", f"the data moved since the last retrain: {said}", since=now)
    return None


def _concept(facts: Facts) -> str:
    """Tell data drift from concept drift."""
    if not facts.moved:
        return "Whether the data moved is not known yet"
    widest = facts.moved[0]
    if widest.psi >= 0.25:
        return f"The data moved as well: {widest.feature} has PSI {widest.psi:.2f}"
    return f"The data is distributed as before (largest PSI {widest.psi:.2f}, {widest.feature}): the concept changed"


def hindrance(
    entries: Sequence[Entry], rules: RetrainConfig, trigger: Trigger | None, facts: Facts, spent: float, now: float
) -> str:
    """Why a retrain may not be done now; empty when it may. ``spent``: seconds of training within a day."""
    done = baselines.outcomes(list(entries))
    failures = 0
    for entry in reversed(done):
        if entry.action != baselines.FAILED:
            break
        failures += 1
    if done and failures:
        wait = rules.backoff_seconds * 2 ** min(failures - 1, 10)
        if now - done[-1].time < wait:
            return f"the last {failures} failed; tried again {wait - (now - done[-1].time):.0f} s from now"
    elif done and now - done[-1].time < rules.cooldown_seconds:
        return f"the last was done {now - done[-1].time:.0f} s ago, and retrain.cooldown_seconds is not over"
    if rules.budget_seconds and spent >= rules.budget_seconds:
        return f"{spent:.0f} s were trained within a day, and retrain.budget_seconds is {rules.budget_seconds:.0f}"
    if trigger is not None and trigger.kind in ("drift", "performance") and rules.cost:
        return _weighed(rules, facts, now)
    return ""


def _weighed(rules: RetrainConfig, facts: Facts, now: float) -> str:
    """Whether what a retrain may gain is worth what it costs; both in the same money."""
    manifest = facts.manifest
    if manifest is None:
        return ""
    days = max((now - manifest.created) / _DAY_SECONDS, 1 / 24)
    a_day = max(0, facts.events - manifest.trained.get("archived", 0)) / days
    moved = min(1.0, facts.moved[0].psi) if facts.moved else 0.0
    worth = 0.1 * moved * a_day * rules.gain
    if worth >= rules.cost:
        return ""
    return (
        f"it costs {rules.cost:,.2f} (retrain.cost) and may gain {worth:,.2f} a day: {a_day:,.0f} events a day, at "
        f"{rules.gain:g} for a loss lower by 1, of which a tenth of the PSI ({moved:.2f}) is expected"
    )


def spent(lineage: Lineage, entries: Sequence[Entry], now: float) -> float:
    """Seconds of training within the last day."""
    numbers = {e.baseline for e in entries if e.baseline is not None and e.by == "gate" and now - e.time < _DAY_SECONDS}
    found = [baselines.read(lineage.store, number) for number in numbers]
    return sum(float(one.trained["seconds"]) for one in found if one is not None)


def declined(entries: Sequence[Entry], trigger: Trigger) -> bool:
    """Tell whether the ledger says already that this trigger was turned down."""
    last = baselines.last_outcome(list(entries))
    return any(e.action == DECLINED and e.cause == trigger.kind and e.seq > max(last, trigger.asked) for e in entries)


def _moment(seconds: float, zone: str) -> str:
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).isoformat(timespec="minutes")
