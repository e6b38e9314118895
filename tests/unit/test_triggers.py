"""Triggers of a retrain: each fires when it should and not otherwise; drift on known answers; changes of the clock."""

import itertools
import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from support.archived import RULES, archived, mixed
from support.lineages import Folder, wait_for

from learners import drift
from learners.drift import Moved
from snapshots.decisions.decided import decided
from snapshots.decisions.ledger import Entry
from snapshots.history.rows import LearnerRow, Row
from stream.errors import ConfigError
from stream.retrain import triggers
from stream.retrain.regret import arm_of, regret_of
from stream.retrain.triggers import Facts, Trigger
from stream.settings import RetrainConfig

pytest.importorskip("torch")


def entry(seq: int, action: str, time: float = 0.0, **more: Any) -> Entry:
    fields = {"learner": None, "snapshot": None, "by": "gate", "why": "", "previous": "", **more}
    return Entry(seq=seq, time=time, action=action, **fields)


def due(rules: RetrainConfig, entries: list[Entry], now: float, facts: Facts | None = None) -> str | None:
    found = triggers.due(decided(entries), rules, facts or Facts(0, [], None), 0.0, now)
    return found.kind if found is not None else None


# Drift ---------------------------------------------------------------------------------------------------------------


def test_the_stability_index_on_known_answers() -> None:
    """By hand: (0.6 - 0.5)·ln(0.6/0.5) + (0.4 - 0.5)·ln(0.4/0.5) = 0.040547; no difference is 0."""
    assert drift.psi_of([0.5, 0.5], [0.6, 0.4]) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))
    assert drift.psi_of([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]) == 0.0
    before, now = ["a"] * 50 + ["b"] * 50, ["a"] * 60 + ["b"] * 40
    assert drift.psi(before, now) == pytest.approx(0.0405465, abs=1e-6)
    tenths = [float(i) for i in range(1000)]
    assert drift.psi(tenths, tenths) == 0.0
    moved = [float(i) for i in range(500)] * 2  # five tenths have 0.2, five have nothing
    by_hand = 5 * 0.1 * math.log(2) + 5 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert drift.psi(tenths, moved) == pytest.approx(by_hand, rel=0.02)
    assert drift.psi([None, 1.0] * 50, [None, 1.0] * 50) == 0.0
    assert drift.psi([1.0] * 100, [None] * 100) > 1.0


def test_kolmogorov_and_smirnov_on_known_answers() -> None:
    """The example of the statistician's table: the largest gap of two small samples, and its probability."""
    distance, chance = drift.ks([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0])
    assert distance == 0.5
    assert chance > 0.4
    rng = np.random.default_rng(1)
    same, chance = drift.ks(rng.normal(size=2000).tolist(), rng.normal(size=2000).tolist())
    assert same < 0.06
    assert chance > 0.001
    far, chance = drift.ks(rng.normal(size=2000).tolist(), rng.normal(0.3, 1, 2000).tolist())
    assert far == pytest.approx(0.119, abs=0.03)  # 2·Φ(0.15) - 1
    assert chance < 1e-6


def test_what_moved_furthest_comes_first() -> None:
    rng = random.Random(3)
    before: list[dict[str, Any]] = [{"a": rng.gauss(0, 1), "b": rng.choice("xyz")} for _ in range(800)]
    now = [{"a": rng.gauss(0, 1), "b": rng.choice("xxxy")} for _ in range(800)]
    found = drift.moved(before, now)
    assert [one.feature for one in found] == ["b", "a"]
    assert found[0].psi > 0.25 > found[1].psi
    assert found[1].chance is not None
    assert found[1].chance > 1e-6


# When it is due ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "wanted"),
    [
        ("0 3 * * *", "UTC", "2026-05-01T03:00:30+00:00", "2026-05-01T03:00:00+00:00"),
        ("0 3 * * *", "UTC", "2026-05-01T02:59:30+00:00", "2026-04-30T03:00:00+00:00"),
        # the hour from 2 to 3 does not exist on 29 March: it is made up for at 3
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00+02:00", "2026-03-29T03:00:00+02:00"),
        # it comes twice on 25 October, and counts once
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T12:00:00+01:00", "2026-10-25T02:30:00+02:00"),
        ("0 0 1 * *", "America/New_York", "2026-07-20T00:00:00+00:00", "2026-07-01T00:00:00-04:00"),
    ],
)
def test_the_schedule_through_changes_of_the_clock(schedule: str, zone: str, now: str, wanted: str) -> None:
    rules = RetrainConfig(schedule=schedule, timezone=zone)
    found = triggers.schedule_of(rules, datetime.fromisoformat(now).timestamp())
    assert found == datetime.fromisoformat(wanted).timestamp()


def test_a_schedule_fires_once_a_day_through_a_year_of_changes() -> None:
    """Looked at every ten minutes for a year in Berlin: 365 times, whatever the clock does."""
    rules = RetrainConfig(schedule="30 2 * * *", timezone="Europe/Berlin")
    moment = datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    began, last, fired = moment, moment, 0
    while moment < began + 365 * 86_400:
        moment += 1800
        tick = triggers.schedule_of(rules, moment)
        if tick is not None and tick > last:
            last, fired = moment, fired + 1
    assert fired == 365


def test_missed_schedules_run_once() -> None:
    """A machine that was off for three days trains once when it is back, and then as planned."""
    rules = RetrainConfig(schedule="0 3 * * *", cooldown_seconds=0)
    day = datetime(2026, 5, 1, 4, tzinfo=UTC).timestamp()
    done = [entry(1, "accept_baseline", day)]
    assert due(rules, done, day + 3600) is None
    assert due(rules, done, day + 3 * 86_400) == "schedule"
    done.append(entry(2, "refuse_baseline", day + 3 * 86_400))
    assert due(rules, done, day + 3 * 86_400 + 60) is None
    assert due(rules, done, day + 4 * 86_400) == "schedule"
    for wrong in (RetrainConfig(schedule="at night"), RetrainConfig(schedule="0 3 * * *", timezone="Mars")):
        with pytest.raises(ConfigError, match="Write five fields"):
            triggers.schedule_of(wrong, day)


def test_labels_drift_requests_and_breaker_fire_each_for_itself() -> None:
    """And not again once a retrain has answered."""
    none = RetrainConfig()
    assert due(none, [], 1e9) is None
    assert due(RetrainConfig(after_labels=1000), [], 1e9, Facts(999, [], None)) is None
    assert due(RetrainConfig(after_labels=1000), [], 1e9, Facts(1000, [], None)) == "labels"
    far, near = Moved("amount", 0.4, 0.3, 1e-9), Moved("amount", 0.1, 0.05, 0.3)
    assert due(none, [], 1e9, Facts(0, [far], None)) == "drift"
    assert due(none, [], 1e9, Facts(0, [near], None)) is None
    assert due(none, [], 1e9, Facts(0, [Moved("amount", 0.4, 0.04, 0.2)], None)) is None  # chance explains it
    assert due(RetrainConfig(drift_psi=0), [], 1e9, Facts(0, [far], None)) is None
    asked = [entry(1, "retrain", by="guard", cause="world_changed", why="the world changed")]
    assert due(none, asked, 1e9) == "performance"
    assert due(RetrainConfig(on_request=False), asked, 1e9) is None
    assert due(none, [entry(1, "retrain", by="guard", cause="breaker")], 1e9) == "breaker"
    assert due(none, [*asked, entry(2, "accept_baseline", 5.0)], 1e9) is None
    assert due(none, [*asked, entry(2, "retrain_failed", 5.0, by="scheduler")], 1e9) == "performance"


def test_concept_drift_is_told_from_data_drift() -> None:
    asked = [entry(1, "retrain", by="guard", cause="world_changed", why="the older model loses more too")]
    still = triggers.due(decided(asked), RetrainConfig(), Facts(0, [Moved("amount", 0.03)], None), 0.0, 1e9)
    moved = triggers.due(decided(asked), RetrainConfig(), Facts(0, [Moved("amount", 0.5)], None), 0.0, 1e9)
    assert still is not None
    assert "the concept changed" in still.why
    assert moved is not None
    assert "The data moved as well: amount" in moved.why


def hindrance(rules: RetrainConfig, entries: list[Entry], now: float, spent: float = 0.0, facts: Facts | None = None,
              kind: str = "schedule", expected: float = 0.0) -> str:  # fmt: skip
    trigger = Trigger(kind, "", expected=expected)
    return triggers.hindrance(decided(entries), rules, trigger, facts or Facts(0, [], None), spent, now)


def test_cool_down_budget_and_backoff() -> None:
    """Each with its reason."""
    done = [entry(1, "accept_baseline", 1000.0, seconds=40.0)]
    rules = RetrainConfig(cooldown_seconds=600, budget_seconds=100, backoff_seconds=60)
    assert "cooldown" in hindrance(rules, done, 1100.0)
    assert hindrance(rules, done, 1700.0) == ""
    assert "budget_seconds is 100" in hindrance(rules, done, 1700.0, spent=100.0)
    assert "the last took 40 s, more than is left" in hindrance(rules, done, 1700.0, spent=61.0)
    failed = [*done, *(entry(n, "retrain_failed", 2000.0, by="scheduler", seconds=7.0) for n in (2, 3, 4))]
    assert "the last 3 failed" in hindrance(rules, failed, 2200.0)
    assert hindrance(rules, failed, 2241.0) == ""
    assert triggers.spent(decided(failed), 2241.0) == 61.0  # what failed was trained as well
    assert triggers.spent(decided(failed), 2241.0 + 86_400) == 0.0


def test_a_budget_in_money() -> None:
    """Two of it a day, at four an hour: half an hour."""
    rules = RetrainConfig(budget=2.0, price_per_hour=4.0, cooldown_seconds=0)
    assert triggers.budget_of(rules) == 1800.0
    assert triggers.budget_of(RetrainConfig(budget=2.0, price_per_hour=4.0, budget_seconds=60.0)) == 60.0
    assert triggers.budget_of(RetrainConfig()) is None
    said = hindrance(rules, [], 1e6, spent=1800.0)
    assert "retrain.budget is 2 at 4 an hour" in said


def test_cost_is_weighed_against_what_may_be_gained() -> None:
    """And the reason says how; what was hoped for before and did not come true makes it hope for less."""
    from snapshots.records.baselines import BaselineManifest
    from snapshots.records.manifest import Part

    part = Part("", 0, "")
    manifest = BaselineManifest(1, 1, 0.0, "binary", "", "", {}, 1, {}, 0.0, 0.0, {"archived": 0}, None, part, part, {})
    facts = Facts(86_400, [Moved("amount", 0.5)], manifest)
    rules = RetrainConfig(cost=40.0, gain=0.001)
    assert facts.expected() == 0.05
    assert Facts(0, [Moved("amount", 0.5)], manifest, lost=0.2).expected() == 0.2
    said = hindrance(rules, [], 86_400.0, facts=facts, kind="drift", expected=0.05)
    assert "costs 40.00" in said
    assert "may gain 30.24 within 7 days" in said  # 0.05 · 86,400 · 0.001 · 7
    assert "1.00 comes true after 0 retrains" in said
    gained = RetrainConfig(cost=40.0, gain=0.002)
    assert hindrance(gained, [], 86_400.0, facts=facts, kind="drift", expected=0.05) == ""
    assert hindrance(rules, [], 86_400.0, facts=facts, kind="schedule") == ""
    gates = [{"name": "holdout", "figure": 0.0}]
    vain = [entry(1, "refuse_baseline", expected=0.06, gates=gates)]
    assert triggers.experience(decided(vain)) == (0.25, 1)
    assert "0.25 comes true after 1 retrains" in hindrance(gained, vain, 86_400.0, facts=facts, kind="drift",
                                                           expected=0.05)  # fmt: skip
    priced = RetrainConfig(price_per_hour=3600.0, gain=0.001, cooldown_seconds=0)
    took = [entry(1, "accept_baseline", seconds=40.0)]
    assert "it costs 40.00" in hindrance(priced, took, 86_400.0, facts=facts, kind="performance", expected=0.05)


def outcomes(here: Folder) -> list[str]:
    return [e["action"] for e in here.json("ledger") if "baseline" in e["action"] or e["action"].startswith("retrain")]


SOON: dict[str, Any] = {"retrain__check_seconds": 0.3, "retrain__cooldown_seconds": 0.0, "holdout__rate": 0.2}


# Regret --------------------------------------------------------------------------------------------------------------


PRICED = RetrainConfig(rule="regret", gain=0.01, price_per_hour=3600.0, attention=2.0, churn=3.0)


def told(losses: list[float], every: int = 1000, against: float = 0.0) -> list[Row]:
    """History in which the champion loses so much, and the baseline ``against`` less."""
    return [
        Row(number, float(number), 0.0, {"consumed": every * number}, {},
            {"one": LearnerRow(0, 0, 0, {}, loss, baseline=[against, 0.0, 0.0])})
        for number, loss in enumerate(losses)
    ]  # fmt: skip


def test_what_is_lost_adds_up_to_the_price() -> None:
    """By hand: 0.1 more over 3,000 events at 0.01 is 3.00; a retrain of 5 s costs 5 + 2 + 3 = 10."""
    found = regret_of(told([0.2, 0.3, 0.3, 0.3]), "one", PRICED, 5.0, lambda _: False)
    assert (found.lost, found.events, found.price) == (pytest.approx(3.0), 3000, 10.0)
    assert not found.due
    assert regret_of(told([0.2] + [0.3] * 11), "one", PRICED, 5.0, lambda _: False).due
    assert "costs 10.00" in found.words(0.01)
    assert "+0.1000 an event" in found.words(0.01)


def test_a_good_time_is_no_credit_and_noise_adds_up_to_nothing() -> None:
    after_good = regret_of(told([0.2] + [0.1] * 50 + [0.3] * 12), "one", PRICED, 5.0, lambda _: False)
    assert after_good.due
    rng = random.Random(1)
    noisy = [0.2, *(0.2 + rng.gauss(0, 0.02) for _ in range(200))]
    assert not regret_of(told(noisy), "one", PRICED, 5.0, lambda _: False).due
    assert regret_of([], "one", PRICED, 5.0, lambda _: False).lost == 0.0
    assert regret_of(told([0.2, 0.9]), "another", PRICED, 5.0, lambda _: False).events == 0


def test_it_is_the_loss_of_who_answered() -> None:
    """Fallen back, the champion's loss is not that of the answers."""
    rows = told([0.2] + [0.5] * 10, against=0.3)
    assert regret_of(rows, "one", PRICED, 5.0, lambda moment: moment >= 1).lost == 0.0
    assert regret_of(rows, "one", PRICED, 5.0, lambda _: False).due


def test_where_money_decides_nothing_else_does() -> None:
    """But the first baseline, a breaker, and what was erased."""
    moved, regret = Facts(10_000, [Moved("amount", 0.9)], None), regret_of([], "one", PRICED, 5.0, lambda _: False)
    assert due(PRICED, [], 0.0, moved) == "regret"  # there is no baseline yet
    accepted = [entry(1, "accept_baseline", baseline=1)]
    assert due(PRICED, accepted, 0.0, moved) is None
    moved.regret = regret
    assert due(PRICED, accepted, 0.0, moved) is None
    moved.regret = msgspec.structs.replace(regret, lost=1e6)
    assert due(PRICED, accepted, 0.0, moved) == "regret"
    asked = [*accepted, entry(2, "retrain", by="guard", cause="breaker", why="it opened")]
    assert due(PRICED, asked, 0.0, Facts(0, [], None)) == "breaker"
    assert due(RetrainConfig(rule="regret", schedule="* * * * *"), accepted, 1e9, Facts(10**9, [], None)) is None


def test_arms_are_tried_and_the_best_is_taken_and_every_tenth_compares() -> None:
    def outcome(seq: int, gain: float, seconds: float) -> Entry:
        gates = [{"name": "holdout", "figure": gain}]
        return entry(seq, "accept_baseline", baseline=seq, gates=gates, seconds=seconds)

    assert arm_of(decided([]), {}, 1000, PRICED) == "full"
    full = outcome(1, 0.01, 100.0)
    assert arm_of(decided([full]), {1: None}, 1000, PRICED) == "warm"
    both, made = [full, outcome(2, 0.009, 1.0)], {1: None, 2: 1}
    assert arm_of(decided(both), made, 1000, PRICED) == "warm"  # nearly as good, and a hundredth of the price
    assert arm_of(decided(both), made, 10_000_000, PRICED) == "full"
    nine = [outcome(number, 0.01, 1.0) for number in range(1, 10)]
    assert arm_of(decided(nine), dict.fromkeys(range(1, 10)), 1000, PRICED) == "compare"


@pytest.mark.parametrize("wrong", [{"gain": 0.0}, {"price_per_hour": 0.0, "attention": 0.0, "churn": 0.0}])
def test_regret_wants_both_sides_of_the_sum(folder: Callable[..., Folder], wrong: dict[str, float]) -> None:
    given = {"gain": 0.01, "price_per_hour": 1.0, "attention": 1.0, "churn": 1.0} | wrong
    here = folder(retrain__rule="regret", **{f"retrain__{name}": value for name, value in given.items()})
    assert "set retrain.gain, and a price" in here.run("status", code=2).stderr


@pytest.mark.timeout(240)
def test_the_scheduler_retrains_for_regret(folder: Callable[..., Folder]) -> None:
    """The first by itself; then the entry prints the sum when what answers has become worse."""
    here = folder(
        **RULES, **SOON, learners={"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}},
        archive__enabled=True, archive__every_seconds=0.5, retrain__rule="regret", retrain__gain=1.0,
        retrain__attention=20.0, guard__sample=1.0, guard__act=False,
    )  # fmt: skip
    flat = [{**event, "x": {"a": event["x"]["a"] or 0.0, "country": event["x"]["country"]}} for event in mixed(16_000)]
    here.write(flat[:6000])
    for words in (("train",), ("archive", "run"), ("retrain", "watch")):
        here.start(*words)
    wait_for(lambda: len(outcomes(here)) == 1, 90)
    assert here.json("retrain", "list")[0]["trigger"] == "regret: there is no baseline yet"
    here.write(flat[6000:7000])  # how it was right after the retrain is known by what comes then
    wait_for(lambda: here.learner()["events"]["consumed"] == 7000)
    chunks = itertools.cycle(range(7000, 16_000, 500))

    def lied_to() -> bool:
        """Labels are the other way round now, again and again, so that the learner is always behind."""
        begin, flip = next(chunks), random.random() < 0.5
        here.write(
            [{**one, "id": f"{one['id']}-{time.time()}", "y": one["y"] ^ flip} for one in flat[begin : begin + 500]]
        )
        time.sleep(0.3)
        return len(outcomes(here)) == 2

    wait_for(lied_to, 120)
    newest = here.json("retrain", "list")[0]["trigger"]
    assert newest.startswith("regret: what answers lost")
    assert "a retrain costs" in newest


# The scheduler -------------------------------------------------------------------------------------------------------


def test_two_schedulers_one_retrain(folder: Callable[..., Folder]) -> None:
    """The lease lets one through, and the other sees that it is done."""
    here = folder(**RULES, **SOON, retrain__after_labels=500)
    archived(here, mixed(900))
    for _ in range(2):
        here.start("retrain", "watch")
    wait_for(lambda: len(outcomes(here)) == 1, 60)
    with pytest.raises(AssertionError):
        wait_for(lambda: len(outcomes(here)) > 1, 4)
    assert here.json("retrain", "list")[0]["trigger"].startswith("labels: 900 labelled events")


def test_what_fails_changes_nothing_but_the_ledger_and_is_tried_again(folder: Callable[..., Folder]) -> None:
    here = folder(**RULES, **SOON, retrain__after_labels=500, retrain__backoff_seconds=0.5,
                  retrain__factory="mine:bad")  # fmt: skip
    (here.path / "mine.py").write_text("def bad(shape): raise ValueError('broken on purpose')\n")
    archived(here, mixed(900))
    here.start("retrain", "watch")
    wait_for(lambda: outcomes(here).count("retrain_failed") >= 2, 140)
    assert "broken on purpose" in next(e["why"] for e in here.json("ledger") if e["action"] == "retrain_failed")
    assert here.json("retrain", "list") == []
    (here.path / "mine.py").write_text(
        "from learners.baseline.networks import Linear\ndef bad(shape): return Linear(shape)\n"
    )
    wait_for(lambda: "accept_baseline" in outcomes(here), 140)


def test_a_budget_that_is_used_up_is_said_once(folder: Callable[..., Folder]) -> None:
    here = folder(**RULES, **SOON, retrain__after_labels=100, retrain__budget_seconds=0.001)
    archived(here, mixed(900))
    here.run("retrain", "--now", code=None)
    archived(here, mixed(200, first=2000), "more.jsonl")
    here.start("retrain", "watch")
    wait_for(lambda: "retrain_declined" in outcomes(here), 30)
    said = here.json("ledger")[-1]
    assert "budget_seconds" in said["why"]
    assert said["cause"] == "labels"
    assert "With --now" in here.run("retrain", code=3).stderr
    with pytest.raises(AssertionError):
        wait_for(lambda: outcomes(here).count("retrain_declined") > 1, 2)


def test_drift_is_gated_on_rows_that_are_younger_than_it(folder: Callable[..., Folder]) -> None:
    """The scheduler sees the data move, trains, and waits for held-out rows from after that moment; older are floors.

    Where none come the gate fails closed.
    """
    here = folder(
        learners={"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}},
        **RULES | SOON | {"archive__every_events": 500, "archive__every_seconds": 0.5, "gates__fresh_rows": 150,
                          "gates__wait_seconds": 30.0, "holdout__rows": 300, "gates__tolerance": 0.5,
                          "gates__max_slice_loss": 1.0},
    )  # fmt: skip
    here.write(mixed(3000))
    here.train()
    here.run("archive", "run", "--until-end")
    here.run("retrain", "--now")
    here.config_path.write_text(here.config_path.read_text() + "gates.floor_tolerance = 1.0\n")
    order = '{"kind": "drift", "why": "by hand", "since": 99999999999}'
    impatient = {"HOLDFAST_GATES__WAIT_SECONDS": "0.5"}
    refused = here.run("retrain", "--now", "--again", "--order", order, code=1, **impatient).stdout
    assert "only 0 rows" in refused or "no rows" in refused

    for role in ("train", "archive"):
        here.start(role, *(["run"] if role == "archive" else []))
    here.start("retrain", "watch")
    number = 3000

    def more() -> bool:
        nonlocal number
        events = mixed(100, first=number)
        for one in events:
            one["x"]["user"]["age"] += 40
            one["ts"] += 1e6
        here.write(events)
        number += 100
        return outcomes(here).count("accept_baseline") == 2

    wait_for(more, 90)
    done = here.json("retrain", "list")[0]
    assert done["trigger"].startswith("drift: the data moved since the last retrain: user.age")
    gate = {one["name"]: one for one in here.json("retrain", "show", str(done["baseline"]))["gates"]}
    assert f"baselines/{done['baseline']:06d}/holdout-" in gate["holdout"]["why"]
    assert "all younger than the trigger" in gate["holdout"]["why"]
    assert any(name.startswith("floor: holdout") for name in gate)
    entry = [e for e in here.json("ledger") if e["action"] == "accept_baseline"][-1]
    assert entry["seconds"] > 0
    assert entry["expected"] > 0.01


def test_nothing_to_learn_is_no_failure(folder: Callable[..., Folder]) -> None:
    """By hand exit 0 and no word in the ledger; to the scheduler's order it is an answer, and not a failure."""
    here = folder(**RULES)
    for arguments in (("retrain", "--now"), ("retrain", "--dry-run")):
        assert "nothing to learn: the archive holds no event" in here.run(*arguments).stdout
    assert here.json("retrain", "--now")["state"] == "nothing_to_learn"
    assert here.json("ledger") == []
    order = msgspec.json.encode(triggers.Order("labels", "many", after=0)).decode()
    here.run("retrain", "--now", "--order", order)
    (said,) = here.json("ledger")
    assert (said["action"], said["cause"]) == ("retrain_skipped", "labels")
    entries = here.lineage.ledger.entries()
    assert triggers.hindrance(
        decided(entries), RetrainConfig(cooldown_seconds=1e9), None, Facts(0, [], None), 0.0, said["time"]
    )
