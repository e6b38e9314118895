"""Online against baseline: evidence to fall back and to return, and what the guard makes of it."""

from typing import Any

import msgspec
import numpy as np
import pytest

from learners.errors import StateRefusedError
from learners.evidence.against_baseline import AgainstBaseline, Evidence
from learners.evidence.lane import alarm_at
from learners.evidence.paired import Paired
from snapshots.decisions.decided import Decided, decided
from snapshots.decisions.ledger import Entry
from snapshots.judging import fallback
from snapshots.judging.baseline_standing import Standing
from snapshots.judging.fallback import Switching
from snapshots.records.manifest import HoldoutState, HoldoutVersion, Part

ALARM = alarm_at(31_536_000, 1, 1, 1.0)
RULES = Switching(return_events=5000)


def feed(versus: AgainstBaseline, rng: np.random.Generator, looks: int, worse: float, events: int = 100) -> int:
    """Let the online model be worse by so much; return after how many looks it falls back or returns, or -1."""
    for number in range(looks):
        d = np.clip(rng.normal(worse, 0.2, events), -1, 1)
        versus.update((1 + d) / 2, (1 - d) / 2, [["country=de"]] * events)
        versus.close_look()
        figures = versus.figures()
        returned = figures["return"] >= ALARM and figures["return_events"] >= RULES.return_events
        if figures["fall_back"] >= ALARM or returned:
            return number
    return -1


def test_nothing_changes_and_nothing_happens() -> None:
    """Twenty thousand looks of two equals: no fall, and no return although that is looked at as well."""
    versus = AgainstBaseline(1, 0.01)
    assert feed(versus, np.random.default_rng(1), 20_000, 0.0) == -1
    figures = versus.figures()
    assert figures["low"] < 0 < figures["high"]
    assert figures["slices"]["country=de"][3] == 2_000_000


@pytest.mark.parametrize(("worse", "most"), [(0.2, 5), (0.05, 20), (0.02, 150)])
def test_a_loss_is_seen_in_time_after_a_long_good_time(worse: float, most: int) -> None:
    """Also when the online model was better for long: an average since the beginning would be blind."""
    versus, rng = AgainstBaseline(1, 0.005), np.random.default_rng(2)
    for _ in range(300):
        d = np.clip(rng.normal(-0.1, 0.2, 1000), -1, 1)
        versus.update((1 + d) / 2, (1 - d) / 2, None)
        versus.close_look()
    versus._returning = Paired(0.0, 1)  # it is about falling back here
    found = feed(versus, rng, 1000, worse)
    assert 0 <= found <= most
    assert versus.figures()["difference"] < 0  # on the whole it is still better


def test_returning_begins_at_the_fall_and_takes_its_events() -> None:
    versus, rng = AgainstBaseline(1, 0.01), np.random.default_rng(3)
    assert feed(versus, rng, 100, 0.2) >= 0
    versus.switched(7)
    assert versus.figures()["return_events"] == 0
    assert versus.figures()["switch"] == 7
    looks = feed(versus, rng, 1000, -0.05)
    assert 49 <= looks <= 80  # 5,000 events are 50 looks
    before = versus.figures()
    versus.switched(7)
    assert versus.figures() == before


def test_what_a_snapshot_carries_comes_back() -> None:
    evidence = Evidence(Paired(0.01, 3), AgainstBaseline(2, 0.02, switch=5))
    feed(evidence.versus, np.random.default_rng(4), 10, 0.1)  # type: ignore[arg-type]
    again = Evidence.load(evidence.dump())
    assert again.versus is not None
    assert again.versus.figures() == evidence.versus.figures()  # type: ignore[union-attr]
    assert (again.paired.reference, again.versus.margin) == (3, 0.02)
    assert Evidence.load(Evidence(Paired(0.01, None)).dump()).versus is None
    for wrong in (b"", b"nonsense", msgspec.msgpack.encode((b"x", b"y"))):
        with pytest.raises(StateRefusedError):
            Evidence.load(wrong)


# What follows from it ------------------------------------------------------------------------------------------------


class View:
    """A lineage as the rule sees it."""

    def __init__(
        self, figures: dict[str, Any], entries: list[Entry], breaker: str = "closed", judged: str = "pass"
    ) -> None:
        part = type("Part", (), {"figures": {"baseline": figures}})()
        holdout = HoldoutState([HoldoutVersion(3, Part("x", 0, ""), 500, 0.0)])
        self._newest = type("Manifest", (), {"learners": {"a": part}, "holdout": holdout})()
        self.entries, self._breaker = entries, breaker
        standing = Standing(1, 3, 500, 0.3, 0.2, judged, "", 0.0)  # type: ignore[arg-type]
        self.store = {"baselines/000001/verdict-000003.json": msgspec.json.encode(standing)}

    def newest(self) -> Any:
        return self._newest

    def serving(self, _: str) -> int:
        return 9

    @property
    def decided(self) -> Decided:
        states = {"open": "open_breaker", "half_open": "half_open", "closed": "close_breaker"}
        return decided([*self.entries, entry(97, "accept_baseline", baseline=1), entry(98, states[self._breaker])])


def figures(**more: Any) -> dict[str, Any]:
    return {
        "baseline": 1, "switch": 0, "events": 9000, "difference": 0.1, "low": 0.05, "high": 0.15, "fall_back": 0.0,
        "return": 0.0, "return_events": 9000, **more,
    }  # fmt: skip


def entry(seq: int, action: str, time: float = 0.0, by: str = "guard", **more: Any) -> Entry:
    return Entry(action, by, learner="a", seq=seq, time=time, previous="", **more)


def step(view: View, now: float = 100.0) -> str | None:
    found = fallback.next_switch(view, "a", RULES, 31_536_000, now)  # type: ignore[arg-type]
    return found.action if found is not None else None


def test_when_serving_falls_back() -> None:
    """On evidence about this baseline, or when the breaker is open; not on another's."""
    assert step(View(figures(), [])) is None
    assert step(View(figures(fall_back=2 * ALARM), [])) == "fall_back"
    assert step(View(figures(fall_back=2 * ALARM, baseline=2), [])) is None
    assert step(View(figures(), [], breaker="open")) == "fall_back"
    assert step(View(figures(), [], breaker="half_open")) is None
    assert step(View(figures(fall_back=2 * ALARM), [], judged="fail")) is None  # nothing unguarded is served
    assert step(View(figures(), [], breaker="open", judged="fail")) is None


def test_when_serving_returns() -> None:
    """On evidence since the fall, enough of it, with the breaker closed."""
    fell = [entry(4, "fall_back")]
    good = figures(**{"return": 2 * ALARM, "switch": 4})
    assert step(View(good, fell)) == "return"
    assert step(View(good | {"switch": 0}, fell)) is None  # from before the fall
    assert step(View(good | {"return_events": 4999}, fell)) is None
    assert step(View(good, fell, breaker="half_open")) is None
    assert step(View(good, [*fell, entry(5, "return")])) is None


def test_after_three_falls_in_a_day_it_stays_and_says_so_once() -> None:
    trips = [entry(n, "fall_back" if n % 2 else "return", float(n)) for n in range(1, 6)]
    good = figures(**{"return": 2 * ALARM, "switch": 5})
    assert step(View(good, trips)) == "stay_on_baseline"
    assert step(View(good, [*trips, entry(6, "stay_on_baseline", 6.0)])) is None
    assert step(View(good, trips), now=90_000.0) == "return"
