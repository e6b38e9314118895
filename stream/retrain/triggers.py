"""When a full retrain is due, and whether it may be done now: functions of ledger, archive, baseline and clock."""

from datetime import UTC, datetime
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from learners import drift
from learners.event import Features
from snapshots import Lineage
from snapshots.decisions.decided import Decided, decided
from snapshots.decisions.ledger import Entry
from snapshots.records import baselines
from snapshots.records.baselines import BaselineManifest
from stream.archive.files import Archive
from stream.errors import ConfigError
from stream.record import Record
from stream.refusal import Refusal
from stream.retrain.dataset import DRIFT_ROWS
from stream.retrain.regret import Regret
from stream.settings import RetrainConfig
from stream.source.codec import Codec

_DAY_SECONDS = 86_400.0
_FEWEST_ROWS = 500
#: so much loss is taken to have been hoped for, and to have come true, before there is any experience
_PRIOR = 0.02
_FIELDS = 5
#: a number that moved has moved by more than chance explains, less than so often
_CHANCE = 1e-6


#: what can ask for a retrain; ``by hand`` is the command
Kind: TypeAlias = Literal["schedule", "labels", "drift", "performance", "breaker", "forget", "regret", "by hand"]


class Trigger(msgspec.Struct, frozen=True):
    """Why a retrain is due.

    ``since``: when something drifted (Unix seconds), so that the gates look at what came later; None: nothing did.
    ``expected``: the loss that may be won back.
    """

    kind: Kind
    why: str
    asked: int = 0
    since: float | None = None
    expected: float = 0.0


class Order(msgspec.Struct, frozen=True):
    """What the scheduler tells the retrain that it starts: what asked for it, and why.

    ``after`` is the newest outcome that it knew of: when there is a newer one, somebody was faster. ``most_seconds`` of
    training are left of the budget (0: no limit); ``since`` and ``expected`` are the trigger's. ``again``: also when
    nothing is new.
    """

    kind: Kind
    why: str = ""
    after: int | None = None
    since: float | None = None
    expected: float = 0.0
    most_seconds: float = 0.0
    again: bool = False

    @property
    def words(self) -> str:
        """As the baseline's manifest and the ledger say it."""
        return f"{self.kind}: {self.why}" if self.why else self.kind


class Facts(msgspec.Struct):
    """What is known: labelled events since the last retrain, and how far the data moved since.

    ``events`` are those since the newest baseline, ``erased`` the last request of an erasure that the baseline that
    counts knew of (None: none counts), ``lost`` how much more the champion loses lately than the best that it held.
    ``regret`` is what was lost since the last retrain, where ``retrain.rule`` asks for it.
    """

    events: int
    moved: list[drift.Moved]
    manifest: BaselineManifest | None
    lost: float = 0.0
    erased: int | None = None
    regret: Regret | None = None

    def expected(self) -> float:
        """The loss that a retrain may win back, before experience is asked."""
        return max(self.lost, 0.1 * min(1.0, self.moved[0].psi) if self.moved else 0.0)


def schedule_of(rules: RetrainConfig, moment: float) -> float | None:
    """When the schedule was due last, at or before ``moment`` (Unix seconds); None without one.

    Daylight-saving changes are treated as cron does: an hour that does not exist is made up for, one that comes twice
    counts once.
    """
    if not rules.schedule:
        return None
    fields = len(rules.schedule.split())
    if fields != _FIELDS:
        raise ConfigError(f'retrain.schedule {rules.schedule!r} has {fields} fields. Write five fields, as "0 3 * * *"')
    try:
        zone = ZoneInfo(rules.timezone)
        minute = moment - moment % 60 + 1  # what is due in this very minute is due
        now = datetime.fromtimestamp(minute, UTC).astimezone(zone)
        return next(CronSim(rules.schedule, now, reverse=True)).timestamp()
    except (CronSimError, ZoneInfoNotFoundError, ValueError) as cause:
        raise ConfigError(
            f"retrain.schedule {rules.schedule!r} in {rules.timezone!r}: {cause or 'not a cron expression'}. Write "
            'five fields, as "0 3 * * *", and a zone as "Europe/Berlin"'
        ) from None


def facts_of(archive: Archive, lineage: Lineage, codec: Codec) -> Facts:
    """Look at the archive and at the sample of the last retrain.

    One that was turned down for want of rows to judge it on tells nothing, so what asked for it is due still.
    """
    entries = lineage.ledger.entries()
    vain = {e.baseline for e in entries for g in e.gates if g["name"] == "holdout" and g["figure"] is None}
    numbers = [number for number in baselines.numbers(lineage.store) if number not in vain]
    manifest = baselines.read(lineage.store, numbers[-1]) if numbers else None
    events = archive.since(manifest.trained.get("ends", {}) if manifest is not None else {})
    counts = decided(entries).baseline
    counting = baselines.read(lineage.store, counts) if counts is not None else None
    facts = Facts(events, [], manifest, erased=counting.trained.get("erased", 0) if counting is not None else None)
    if manifest is None or manifest.sample is None or lineage.store.get(manifest.sample.name) is None:
        return facts  # holdfast forget may have deleted the sample
    before = msgspec.msgpack.decode(baselines.read_part(lineage.store, manifest.sample), type=list[bytes])
    now = newest(archive, codec, manifest.last_time)
    if min(len(before), len(now)) >= _FEWEST_ROWS:
        facts.moved = drift.moved([Features(raw).flat() for raw in before], [one.flat() for one in now])
    return facts


def lost_of(lineage: Lineage) -> float:
    """How much more the champion loses lately than the best that it held before (0: not known, or no more)."""
    newest_, champion = lineage.newest(), lineage.champion()
    part = newest_.learners.get(champion or "") if newest_ is not None else None
    own = (part.figures.get("own") if part is not None else None) or {}
    recent, level = own.get("recent"), own.get("level")
    return max(0.0, recent - level) if recent is not None and level is not None else 0.0


def newest(archive: Archive, codec: Codec, since: float) -> list[Features]:
    """Features of the newest archived events that are younger than ``since`` (Unix seconds)."""
    found: list[tuple[float, Features]] = []
    for file in sorted(archive.readable(), key=lambda one: -(archive.about(one).last_time or 0.0)):
        if (archive.about(file).last_time or 0.0) <= since or len(found) >= DRIFT_ROWS:
            break
        for row in archive.rows(file):
            if row.time > since:
                event = codec.decode(Record(file.part.topic, file.part.partition, row.offset, row.following, row.value))
                if not isinstance(event, Refusal):
                    found.append((row.time, event.features))
    return [features for _, features in sorted(found, key=lambda one: one[0])[-DRIFT_ROWS:]]


def due(found: Decided, rules: RetrainConfig, facts: Facts, began: float, now: float) -> Trigger | None:
    """The first trigger that is due. ``began``: when the lineage did (Unix seconds).

    One that failed answers nothing: what asked for it is due still, and :func:`hindrance` has it wait.
    """
    done = [entry for entry in found.outcomes if entry.action != "retrain_failed"]
    last = done[-1].seq if done else 0
    asked = [e for e in found.asked if e.seq > last]
    erase = [e for e in found.asked if e.cause == "forget"]
    if erase and facts.erased is not None and erase[-1].seq > facts.erased:
        return Trigger("forget", erase[-1].why, erase[-1].seq)  # until one counts that has not learnt them
    if rules.rule == "regret":
        return _by_regret(found, rules, facts, [e for e in asked if e.cause == "breaker"])
    asked = [e for e in asked if e.cause != "forget"]
    if rules.on_request and asked:
        newest_ = asked[-1]
        kind: Kind = "breaker" if newest_.cause == "breaker" else "performance"
        since = newest_.time if kind == "performance" else None
        return Trigger(kind, f"{newest_.why}. {_concept(facts)}", newest_.seq, since, facts.expected())
    return _by_rules(done, rules, facts, began, now)


def _by_rules(done: list[Entry], rules: RetrainConfig, facts: Facts, began: float, now: float) -> Trigger | None:
    """What is due by schedule, by labels, or by drift."""
    tick = schedule_of(rules, now)
    if tick is not None and tick > max((e.time for e in done), default=began):
        return Trigger("schedule", f"the schedule {rules.schedule!r} was due at {_moment(tick, rules.timezone)}")
    if rules.after_labels and facts.events >= rules.after_labels:
        return Trigger("labels", f"{facts.events:,} labelled events came since the last retrain")
    far = [one for one in facts.moved if one.psi >= rules.drift_psi and (one.chance is None or one.chance < _CHANCE)]
    if rules.drift_psi and far:
        said = ", ".join(f"{one.feature} (PSI {one.psi:.2f})" for one in far[:5])
        return Trigger("drift", f"the data moved since the last retrain: {said}", since=now, expected=facts.expected())
    return None


def _by_regret(found: Decided, rules: RetrainConfig, facts: Facts, asked: list[Entry]) -> Trigger | None:
    """What is due where money decides: the first baseline, what a breaker asks for, and what is dearer to put off."""
    if asked and rules.on_request:
        return Trigger("breaker", asked[-1].why, asked[-1].seq)
    if found.baseline is None and not found.outcomes:
        return Trigger("regret", "there is no baseline yet") if facts.events >= rules.fewest_rows else None
    if facts.regret is not None and facts.regret.due:
        return Trigger("regret", facts.regret.words(rules.gain), expected=max(0.0, facts.regret.above))
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
    found: Decided, rules: RetrainConfig, trigger: Trigger | None, facts: Facts, spent: float, now: float
) -> str:
    """Why a retrain may not be done now; empty when it may. ``spent``: seconds of training within a day."""
    done, failures = found.outcomes, found.failures
    if failures:
        wait = rules.backoff_seconds * 2 ** min(failures - 1, 10)
        if now - done[-1].time < wait:
            return f"the last {failures} failed; tried again {wait - (now - done[-1].time):.0f} s from now"
    elif done and now - done[-1].time < rules.cooldown_seconds:
        return f"the last was done {now - done[-1].time:.0f} s ago, and retrain.cooldown_seconds is not over"
    if (limit := budget_of(rules)) is not None:
        took = max((entry.seconds for entry in done[-1:]), default=0.0)
        said = f"{spent:.0f} s were trained within a day, and {_budget_words(rules)}"
        if spent >= limit:
            return said
        if spent + took > limit:
            return f"{said}; the last took {took:.0f} s, more than is left"
    if trigger is not None and trigger.kind in ("drift", "performance") and rules.gain:
        return _weighed(found, rules, trigger, facts, now)
    return ""


def budget_of(rules: RetrainConfig) -> float | None:
    """How many seconds may be trained within a day, times processes; None: as many as it takes."""
    found = [rules.budget_seconds] if rules.budget_seconds else []
    if rules.budget and rules.price_per_hour:
        found.append(3600.0 * rules.budget / rules.price_per_hour)
    return min(found, default=None)


def _budget_words(rules: RetrainConfig) -> str:
    words = [f"retrain.budget_seconds is {rules.budget_seconds:.0f}"] if rules.budget_seconds else []
    if rules.budget:
        words.append(f"retrain.budget is {rules.budget:g} at {rules.price_per_hour:g} an hour")
    return ", ".join(words)


def _weighed(found: Decided, rules: RetrainConfig, trigger: Trigger, facts: Facts, now: float) -> str:
    """Whether what a retrain may gain is worth what it costs; both in the same money.

    What is hoped for is the loss that the champion has lost to its own past, or a tenth of the largest PSI; and of
    that, what came true of the hopes before, as the gates measured it.
    """
    manifest = facts.manifest
    if manifest is None:
        return ""
    came_true, times = experience(found)
    took = [entry.seconds for entry in found.outcomes if entry.seconds]
    cost = rules.cost or rules.price_per_hour * (took[-1] if took else 0.0) / 3600
    days = max((now - manifest.created) / _DAY_SECONDS, 1 / 24)
    a_day = facts.events / days
    worth = trigger.expected * came_true * a_day * rules.gain * rules.payback_days
    if worth >= cost:
        return ""
    return (
        f"it costs {cost:,.2f} and may gain {worth:,.2f} within {rules.payback_days:g} days (retrain.payback_days): "
        f"{a_day:,.0f} events a day, at {rules.gain:g} for a loss lower by 1; {trigger.expected:.4f} is hoped for, of "
        f"which {came_true:.2f} comes true after {times} retrains"
    )


def experience(found: Decided) -> tuple[float, int]:
    """The share of what was hoped for that came true, by the gates of retrains so far; and of how many of them."""
    hoped = realised = 0.0
    times = 0
    for entry in found.outcomes:
        gain = next((gate["figure"] for gate in entry.gates if gate["name"] == "holdout"), None)
        if entry.expected and gain is not None:
            hoped, realised, times = hoped + entry.expected, realised + max(0.0, gain), times + 1
    return (_PRIOR + realised) / (_PRIOR + hoped), times


def spent(found: Decided, now: float) -> float:
    """Seconds of training within the last day, times processes; also of those that failed."""
    return sum(e.seconds for e in found.outcomes if now - e.time < _DAY_SECONDS)


def declined(found: Decided, trigger: Trigger) -> bool:
    """Tell whether the ledger says already that this trigger was turned down."""
    last = max(found.last_outcome, trigger.asked)
    return any(e.cause == trigger.kind and e.seq > last for e in found.declined)


def _moment(seconds: float, zone: str) -> str:
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).isoformat(timespec="minutes")
