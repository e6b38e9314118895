"""Challengers against the champion, and a learner against its own past."""

import threading
from typing import Any

import msgspec
import numpy as np
import pytest

from learners.errors import StateRefusedError
from learners.evidence.against_champion import AgainstChampion
from learners.evidence.lane import alarm_at
from learners.evidence.own_loss import OwnLoss
from snapshots.decisions.decided import Decided
from snapshots.decisions.decided import decided as folded
from snapshots.decisions.ledger import Decision, Entry
from snapshots.records.manifest import HoldoutState
from stream.guard.succession import Answering
from stream.settings import Config

ALARM = alarm_at(31_536_000, 1, 1, 1.0)


def test_losses_meet_batch_by_batch_whoever_is_first() -> None:
    """A batch that one of them was not given whole is compared by nobody, and what nobody waits for is not kept."""
    rivalry = AgainstChampion("a")
    rng = np.random.default_rng(1)
    for number in range(1, 301):
        slices = [["country=de"], ["country=fr"]] * 10
        rivalry.expect(number, {"a", "b", "c"} if number % 3 else {"a", "b"}, slices)
        champion = rng.uniform(0.2, 0.4, 20)
        for name, losses in (("b", champion - 0.1), ("a", champion), ("c", champion + 0.1)):
            rivalry.note(number, name, losses.tolist() if number % 50 else None)
        rivalry.close_look()
    found = rivalry.figures()
    assert found["b"]["events"] == 20 * (300 - 6)
    assert found["c"]["events"] == 20 * (200 - 4)
    assert found["b"]["difference"] == pytest.approx(-0.1)
    assert found["b"]["high"] < 0 < found["c"]["low"]
    assert found["b"]["better"] > ALARM > found["c"]["better"]
    assert found["b"]["slices"]["country=fr"][3] == found["b"]["events"] / 2
    again = AgainstChampion()
    again.restore(rivalry.dump())
    assert (again.champion, again.figures()) == ("a", found)
    again.led_by("a")
    assert again.figures() == found
    again.led_by("b")
    assert again.figures() == {}
    for wrong in (b"nonsense", b"\x92\xa1a\x81\xa1b\xc4\x01x"):
        with pytest.raises(StateRefusedError):
            again.restore(wrong)


def test_two_equals_are_not_told_apart() -> None:
    """Twenty thousand looks: nobody is promoted."""
    rivalry, rng = AgainstChampion("a"), np.random.default_rng(2)
    for number in range(20_000):
        rivalry.expect(number, {"a", "b"}, None)
        d = np.clip(rng.normal(0, 0.2, 100), -1, 1)
        rivalry.note(number, "a", ((1 - d) / 2).tolist())
        rivalry.note(number, "b", ((1 + d) / 2).tolist())
        rivalry.close_look()
        assert rivalry.figures()["b"]["better"] < ALARM


def test_threads_that_tell_at_once_lose_nothing() -> None:
    """Each learner's replies come in a thread of their own."""
    rivalry = AgainstChampion("a")
    begin = threading.Barrier(3)

    def tell(name: str) -> None:
        begin.wait()
        for number in range(60):
            rivalry.note(number, name, [0.5] * 7)

    for number in range(60):
        rivalry.expect(number, {"a", "b", "c"}, None)
    threads = [threading.Thread(target=tell, args=(name,)) for name in "abc"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert {name: seen["events"] for name, seen in rivalry.figures().items()} == {"b": 420, "c": 420}


def looks(own: OwnLoss, rng: np.random.Generator, mean: float, count: int) -> int:
    """Hundred events a look; return after how many there is an alarm, or -1."""
    for number in range(count):
        own.update(rng.beta(2, 2 / mean - 2, 100))
        own.close_look()
        if float(own.figures()["alarm"] or 0.0) >= ALARM:
            return number
    return -1


def test_a_learner_that_does_worse_than_it_did_is_seen() -> None:
    """After a long good time as well; one that only gets better, or stays, is not."""
    own, rng = OwnLoss(0.01), np.random.default_rng(3)
    for mean in (0.4, 0.3, 0.2):
        assert looks(own, rng, mean, 200) == -1
    assert own.level == pytest.approx(0.2, abs=0.02)
    assert looks(own, rng, 0.2, 20_000) == -1
    again = OwnLoss.load(own.dump())
    assert again.figures() == own.figures()
    assert 0 <= looks(own, rng, 0.25, 200) <= 60
    assert OwnLoss(0.01).figures()["level"] is None
    with pytest.raises(StateRefusedError):
        OwnLoss.load(b"nonsense")


# What follows ------------------------------------------------------------------------------------------------------


class View:
    """A lineage as far as the rule looks at it: its entries, and the figures of the newest snapshot."""

    def __init__(self, entries: list[Entry], **seen: float) -> None:
        self.entries, self.decisions, self.store = entries, entries, {}
        against = {
            "champion": "a",
            "events": 9000,
            "difference": -0.1,
            "low": -0.2,
            "high": -0.05,
            "better": 1e12,
            **seen,
        }
        parts = {"a": part_of({}), "b": part_of({"against_champion": against})}
        self._newest = type("Manifest", (), {"learners": parts, "holdout": HoldoutState()})()

    def newest(self) -> Any:
        return self._newest

    def champion(self) -> str:
        return next((e.learner or "" for e in reversed(self.entries) if e.action == "promote"), "a")

    @property
    def decided(self) -> Decided:
        return folded(self.entries)

    def serving(self, _: str) -> int:
        return 4


def part_of(figures: dict[str, Any]) -> Any:
    return type("Part", (), {"figures": figures})()


def decided(entries: list[Entry], **seen: float) -> list[tuple[str, str | None]]:
    """What is appended."""
    view = View(list(entries), **seen)
    config = Config(name="t", task="binary", learners={}, champion="auto")

    def decide(decision: Decision, stands: Any) -> Entry | None:
        if not stands():
            return None
        fields = msgspec.structs.asdict(decision)
        view.entries.append(Entry(seq=len(view.entries) + 1, time=1.0, previous="", **fields))
        return view.entries[-1]

    answering = Answering(config, view, decide, lambda *_: None, lambda: 31_536_000.0, None, now=lambda: 2.0)  # type: ignore[arg-type]
    answering.watch()
    return [(e.action, e.learner) for e in view.entries[len(entries) :]]


def entry(action: str, learner: str | None = None, baseline: int | None = None) -> Entry:
    return Entry(action, "guard", learner=learner, seq=1, time=0.0, previous="", baseline=baseline)


def test_who_is_promoted() -> None:
    """One that is better for certain; behind a baseline that answers in the champion's place, it has to win as well."""
    assert decided([]) == [("promote", "b")]
    assert decided([], better=1e6) == []
    assert decided([], difference=0.01) == []
    assert decided([entry("promote", "b")]) == []  # the evidence is about another champion
    fallen = [entry("accept_baseline", baseline=1), entry("fall_back", "a", 1)]
    assert decided(fallen) == [("fall_back", "b"), ("promote", "b")]
    assert decided([*fallen, entry("fall_back", "b", 1)]) == [("promote", "b")]
