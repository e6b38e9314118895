"""The guard end to end: real trainer, guard and serving; forgetting is caught, reverted, and explained."""

import random
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from support.guarded import LEARNERS, SETTINGS, Stream, event, flip, flip_br, settled
from support.lineages import Folder, accounted, wait_for

from snapshots.moved import jumps
from snapshots.records.held_rows import read_version
from stream.guard.watch import Guarding, looks_a_year


@pytest.fixture
def steady(folder: Callable[..., Folder]) -> Callable[..., Stream]:
    """A lineage that learns, is guarded, serves, and has levels to hold."""

    def build(**settings: Any) -> Stream:
        here = folder(learners=LEARNERS, **(SETTINGS | settings))
        stream = Stream(here)
        for role in ("train", "guard", "serve"):
            here.start(role)
        stream.until(lambda: here.status()["holdout"]["version"] == 2, None)
        stream.until(lambda: settled(here), None)
        return stream

    return build


def reverts(here: Folder, learner: str = "linear") -> list[dict[str, Any]]:
    return [e for e in here.json("ledger") if e["action"] == "revert" and e["learner"] == learner]


def stuck(made: dict[str, Any]) -> None:
    made["x"]["a"] = 1000.0


def test_poison_is_held_back_undone_and_explained(steady: Callable[..., Stream]) -> None:
    """Labels flipped in one country: nothing is promoted, it is reverted with the slice named, serving answers on."""
    stream = steady(guard__moved="revert")
    here = stream.here
    before = here.status()["learners"]["linear"]
    entry = stream.until(lambda: reverts(here), flip_br)[0]
    assert entry["by"] == "guard"
    assert entry["cause"] in ("forgetting", "moved", "diverged", "broken")
    assert entry["slices"]  # br, or a slice that shares its weights and was harmed without a gain on fresh events
    assert any(f"holdout rows with {name}" in entry["why"] for name in entry["slices"] if name) or "" in entry["slices"]
    assert entry["snapshot"] <= before["snapshot"]
    lineage = here.lineage
    failed = [n for n in lineage.numbers if (v := lineage.verdict(n, "linear")) and v.verdict == "fail"]
    before_it = [v for n in lineage.numbers if n < failed[0] and (v := lineage.verdict(n, "linear"))]
    judged = [verdict for verdict in before_it if verdict.verdict != "skipped"]
    condemned = lineage.verdict(failed[0], "linear")
    assert condemned is not None
    assert condemned.details["country=br"]["holdout"] in ("above", "worse", "far")
    assert judged[-1].verdict == "suspect"  # held back at the first sign, and reverted on evidence
    wait_for(lambda: here.learner("linear")["line"] == entry["seq"] and here.learner("linear")["events"]["quarantined"])
    assert accounted(here.learner("linear")["events"])
    rows = [row for row in here.json("quarantine", "list") if row["learner"] == "linear"]
    assert rows[0]["id"] == str(entry["seq"])
    done = here.run("guard", "--explain", str(failed[0]), code=None)
    assert "the same as was given" in done.stdout
    assert "NOT what was given" not in done.stdout
    with here.http() as client:
        assert client.post("/predict", json={"x": {"a": 1.0, "country": "de"}}).status_code == 200
        assert "unjudged" in client.get("/ready").json()
    here.run("quarantine", "drop", str(entry["seq"]), "--learner", "linear", "--why", "lies")
    assert next(r["state"] for r in here.json("quarantine", "list") if r["learner"] == "linear") == "dropped"
    assert "already" in here.run("quarantine", "drop", str(entry["seq"]), "--learner", "linear", code=3).stderr
    assert '"action": "revert"' in here.run("quarantine", "show", str(entry["seq"])).stdout


def test_after_a_revert_the_guard_sees_as_well_as_before(steady: Callable[..., Stream]) -> None:
    """The second poison too is found by comparison, and undone to what the line began from, not to the last pass."""
    keep = {"last": 15, "minutely": 1, "hourly": 1, "daily": 1, "verdict_days": 1}
    stream = steady(guard__moved="revert", breaker__reverts=9, snapshots__keep=keep, guard__reference_events=400)
    here = stream.here
    first = stream.until(lambda: reverts(here), flip_br)[0]

    def compared() -> bool:
        """A snapshot of the new line is held against what the revert went back to, or a later reference."""
        newest = here.lineage.newest()
        part = newest.learners["linear"] if newest else None
        verdict = here.lineage.verdict(newest.snapshot, "linear") if newest else None
        if part is None or part.line != first["seq"] or verdict is None or part.reference is None:
            return False
        return verdict.verdict == "pass" and verdict.details[""]["fresh_events"] > 500

    stream.until(compared, None)
    newest = here.lineage.newest()
    assert newest is not None
    assert here.lineage.manifest(newest.learners["linear"].reference or -1) is not None  # it is there
    began = time.time()
    second = stream.until(lambda: reverts(here)[1:], flip)[0]
    target = here.lineage.manifest(second["snapshot"])
    assert target is None or target.created <= began
    failed = max(n for n in here.lineage.numbers if (v := here.lineage.verdict(n, "linear")) and v.verdict == "fail")
    assert here.lineage.part(failed, "linear").reference == second["snapshot"]  # type: ignore[union-attr]
    done = here.run("guard", "--explain", str(failed), code=None)
    assert "the same as was given" in done.stdout
    other = here.run("guard", "--explain", str(failed), code=None, HOLDFAST_GUARD__TOLERANCE="0.3")
    assert "NOT what was given" not in other.stdout  # the rules of then, not those of now


def test_labels_that_turn_for_good_are_held_for_somebody_to_decide(steady: Callable[..., Stream]) -> None:
    """Worse on the holdout and better on fresh events: the guard asks once, and a refresh is the answer."""
    stream = steady(guard__hold_events=10_000_000)
    here = stream.here
    stream.until(lambda: any(e["action"] == "hold" for e in here.json("ledger")), flip)
    assert "Either the world changed" in next(e["why"] for e in here.json("ledger") if e["action"] == "hold")
    assert here.learner("linear")["verdict"] == "suspect"
    serving = here.learner("linear")["serving"]
    stream.until(lambda: here.status()["holdout"]["candidate"] >= 600, flip)
    assert here.learner("linear")["serving"] == serving
    here.run("holdout", "refresh", "--approve", "the world changed")
    stream.until(lambda: here.status()["holdout"]["version"] == 3, flip)
    stream.until(lambda: here.learner("linear")["serving"] not in (None, serving), flip)
    assert not reverts(here)
    assert "holdout" in here.run("holdout", "show").stdout
    assert [one["version"] for one in here.json("holdout", "show")["versions"]][:3] == [1, 2, 3]


def test_the_world_that_moves_is_followed_when_the_guard_is_told_to(steady: Callable[..., Stream]) -> None:
    """``moved = "follow"``: promoted, and the holdout refreshed by the guard."""
    stream = steady(guard__moved="follow")
    here = stream.here
    stream.until(lambda: any(e["action"] == "refresh" and e["by"] == "guard" for e in here.json("ledger")), flip)
    stream.until(lambda: here.status()["holdout"]["version"] >= 3, flip)
    assert not reverts(here)


def test_repeated_reverts_open_the_breaker_and_it_is_tried_again(steady: Callable[..., Stream]) -> None:
    """Learning stops, events are quarantined, predictions go on, a retrain is asked for; then half open."""
    stream = steady(
        guard__moved="revert", breaker__reverts=1, breaker__half_open_seconds=2.0, breaker__half_open_events=500
    )
    here = stream.here
    stream.until(lambda: here.learner("linear")["breaker"] == "open", flip)
    actions = [(e["action"], e["learner"]) for e in here.json("ledger")]
    assert ("retrain", "linear") in actions
    stream.until(lambda: here.learner("linear")["learning"] == "stopped", None)
    stream.until(lambda: here.learner("linear")["breaker"] == "half_open", None)
    stream.until(lambda: here.learner("linear")["breaker"] == "closed", None)
    wait_for(lambda: accounted(here.learner("linear")["events"]))
    with here.http() as client:
        assert client.post("/predict", json={"x": {"a": 1.0}}).status_code == 200


def test_a_feature_that_jumps_opens_the_breaker_before_much_is_learnt(steady: Callable[..., Stream]) -> None:
    """Where ``breaker.jump`` is set: learning stops, the feature is named, what answered goes on answering."""
    stream = steady(breaker__half_open_seconds=3600.0, breaker__jump=0.4)
    here = stream.here

    def comparable() -> bool:
        lineage = here.lineage
        newest = lineage.newest()
        parts = newest.learners.values() if newest else []
        bases = [found for part in parts if (found := lineage.manifest(part.reference or -1)) is not None]
        return len(bases) == 2 and all(len(jumps.window(lineage.store, base)) >= 100 for base in bases)

    stream.until(comparable, None)
    before = stream.number
    stream.until(lambda: here.learner("linear")["learning"] == "stopped", stuck)
    entry = next(e for e in here.json("ledger") if (e["action"], e["learner"]) == ("open_breaker", "linear"))
    assert entry["cause"] == "jump"
    assert "a is distributed otherwise" in entry["why"]
    assert ("retrain", "linear") in [(e["action"], e["learner"]) for e in here.json("ledger")]
    stream.lots(3, stuck)
    wait_for(lambda: here.learner("linear")["events"]["quarantined"] > 0)
    assert accounted(here.learner("linear")["events"])
    assert stream.number - before < 100 * 120
    with here.http() as client:
        assert client.post("/predict", json={"x": {"a": 1.0, "country": "de"}}).status_code == 200


def test_a_steady_stream_is_left_alone(steady: Callable[..., Stream]) -> None:
    """No revert, hold or refresh; what is held out is never learnt, and what is sealed is what was held out."""
    stream = steady()
    here = stream.here
    stream.lots(15)
    assert not [e for e in here.json("ledger") if e["action"] != "retrain"]
    lineage = here.lineage
    newest = lineage.newest()
    assert newest is not None
    rows = read_version(lineage.store, newest.holdout.versions[-1])
    assert len(rows) == 600
    sealed = {row.features for row in rows}
    held = {orjson.dumps(event(n)["x"]) for n in range(stream.number)}
    assert sealed <= held
    counts = here.learner("linear")["events"]
    assert accounted(counts)
    assert 0.1 < counts["held_out"] / counts["consumed"] < 0.2


def test_labels_that_lie_for_a_while_are_neither_served_nor_reverted(steady: Callable[..., Stream]) -> None:
    """By the defaults: one from before the lies answers while they last, and the newest again when they are over."""
    stream = steady()
    here = stream.here
    began = time.time()

    def lies() -> bool:
        lineage = here.lineage
        return any(v.serves is not None for n in lineage.numbers if (v := lineage.verdict(n, "linear")) is not None)

    stream.until(lies, flip)
    stream.lots(10, flip)
    lineage = here.lineage
    serving = lineage.manifest(lineage.serving("linear") or -1)
    assert serving is not None
    assert serving.created < began
    over = time.time()

    def fresh() -> bool:
        found = here.lineage
        manifest = found.manifest(found.serving("linear") or -1)
        return manifest is not None and manifest.created > over

    stream.until(fresh, None)
    assert not reverts(here)
    assert here.learner("linear")["learning"] != "stopped"


@pytest.mark.parametrize(("checked", "said"), [(None, "the stream's labels lie"), (flip, "the world changed")])
def test_checked_labels_decide_what_is_held(
    steady: Callable[..., Stream], checked: Callable[[dict[str, Any]], None] | None, said: str
) -> None:
    """``holdout trust``: a hundred labels tell lies from a change at once, and are never learnt."""
    stream = steady(guard__hold_events=10_000_000)
    here = stream.here
    stream.until(lambda: any(e["action"] == "hold" for e in here.json("ledger")), flip)
    file = here.path / "checked.jsonl"
    events = [event(number, checked) for number in range(2_000_000, 2_000_100)]
    file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in [*events, {"id": "none", "x": {}}]))
    told = here.run("holdout", "trust", str(file), "--why", "by hand").stdout
    assert "100 checked labels" in told
    assert "1 lines were not taken" in told

    def heard() -> bool:
        lineage = here.lineage
        verdicts = [v for n in lineage.numbers if (v := lineage.verdict(n, "linear")) is not None]
        return any(said in verdict.why for verdict in verdicts)

    stream.until(heard, flip)
    if checked is not None:
        stream.until(lambda: any(e["action"] == "refresh" and e["by"] == "guard" for e in here.json("ledger")), flip)
    assert not reverts(here)
    assert "no event" in here.run("holdout", "trust", str(here.path / "model.py"), code=2).stderr
    here.run("verify")


def test_checked_labels_come_by_the_directory_that_is_configured(steady: Callable[..., Stream]) -> None:
    """``[holdout.trusted]``: ``POST /labels?trusted`` appends to the directory, which the guard reads."""
    stream = steady(guard__hold_events=10_000_000, holdout__trusted__directory="checked")
    here = stream.here
    (here.path / "trusted-token").write_text("checker")
    stream.until(lambda: any(e["action"] == "hold" for e in here.json("ledger")), flip)
    headers = {"Authorization": "Bearer checker"}
    with here.http() as client:
        for number in range(2_000_000, 2_000_060):
            answer = client.post("/labels?trusted", json=event(number), headers=headers)
            assert answer.status_code == 202, answer.text

    def heard() -> bool:
        lineage = here.lineage
        verdicts = [v for n in lineage.numbers if (v := lineage.verdict(n, "linear")) is not None]
        return any("the stream's labels lie" in verdict.why for verdict in verdicts)

    stream.until(heard, flip)
    taken = [e for e in here.json("ledger") if e["action"] == "trust"]
    assert {e["by"] for e in taken} == {"holdout.trusted"}
    assert not reverts(here)
    here.run("verify")


def test_a_feature_that_jumps_stops_nothing_by_itself(steady: Callable[..., Stream]) -> None:
    """By the defaults: a figure that steps is learnt on and served, while the learner is no worse for it."""
    stream = steady()
    here = stream.here

    def stepped(made: dict[str, Any]) -> None:
        made["x"]["b"] += 30.0

    before = here.learner("linear")["snapshot"]
    stream.lots(25, stepped)
    stream.until(lambda: (here.learner("linear")["serving"] or 0) > before + 10, stepped)
    assert not [e for e in here.json("ledger") if e["action"] in ("open_breaker", "revert")]


def test_guard_that_only_looks_changes_nothing(steady: Callable[..., Stream]) -> None:
    """``guard.act = false``: what is suspect is written down, the newest answers all the same, the ledger is empty."""
    stream = steady(guard__act=False)
    here = stream.here
    stream.until(lambda: here.learner("linear")["verdict"] in ("suspect", "fail"), flip)
    stream.lots(20, flip)
    assert here.json("ledger") == []
    lineage = here.lineage
    serving = lineage.serving("linear")
    assert serving is not None
    verdict = lineage.verdict(serving, "linear")
    assert verdict is not None
    assert verdict.verdict in ("suspect", "fail")
    assert not [n for n in lineage.numbers if n > serving and (v := lineage.verdict(n, "linear")) and v.answers]
    wait_for(lambda: here.status()["serving"][0]["snapshot"] >= serving)


def newcomer(made: dict[str, Any]) -> None:
    """Every third event is of a country and, mostly, of a class that were not there before."""
    if made["x"]["country"] == "br":
        sign = made["x"]["a"] > 0
        made |= {"x": {"country": "new", "new_a": made["x"]["a"]}, "y": 2 if sign else 1}


def newcomer_scrambled(made: dict[str, Any]) -> None:
    newcomer(made)
    if made["x"]["country"] == "new":
        made["x"]["new_a"] *= -100.0


def test_a_class_that_the_holdout_lacks_is_judged_on_fresh_events(folder: Callable[..., Folder]) -> None:
    """A new class is learnt and promoted; when what was learnt of it is lost, fresh events alone say so."""
    learners = {"classes": {"kind": "vw", "args": "--oaa 3 --probabilities --loss_function logistic --noconstant",
                            "role": "champion"}}  # fmt: skip
    here = folder(learners=learners, task="multiclass", event__labels=[0, 1, 2], breaker__jump=1.0,
                  **(SETTINGS | {"guard__reference_events": 2000}))  # fmt: skip
    stream = Stream(here)
    for role in ("train", "guard", "serve"):
        here.start(role)
    stream.until(lambda: here.status()["holdout"]["version"] == 2, None)
    stream.until(lambda: settled(here), None)

    first = here.lineage.newest()
    assert first is not None
    rows = read_version(here.lineage.store, first.holdout.versions[-1])
    assert {row.label for row in rows} == {0, 1}

    def knows() -> bool:
        """A snapshot that learnt the newcomer serves and is what the next ones are compared with."""
        newest = here.lineage.newest()
        reference = newest.learners["classes"].reference if newest else None
        return reference is not None and reference > first.snapshot + 20

    stream.until(knows, newcomer)
    assert reverts(here, "classes") == []
    began = time.time()
    stream.lots(3, newcomer_scrambled)
    entry = stream.until(lambda: reverts(here, "classes"), newcomer)[0]
    assert entry["cause"] in ("diverged", "forgetting"), entry
    assert "country=new" in entry["slices"]
    assert here.lineage.manifest(entry["snapshot"]).created <= began  # type: ignore[union-attr]


def test_a_champion_that_does_worse_than_it_did_asks_for_a_retrain(folder: Callable[..., Folder]) -> None:
    """By its own fresh losses alone; once, and again only when it does worse than since then."""
    here = folder(learners={"linear": LEARNERS["linear"]}, **(SETTINGS | {"snapshots__every_seconds": 0.02}))
    here.write(event(number) for number in range(12_000))
    here.train()
    guarding = Guarding(here.config, now=time.time, sleep=time.sleep, stopping=lambda: True)
    guarding.lineage.refresh()
    guarding.acting.answering.watch()
    assert here.json("ledger") == []
    own = here.learner()["own"]
    assert own["level"] > own["recent"] > 0

    def noise(made: dict[str, Any]) -> None:
        made["y"] = random.Random(made["id"]).randrange(2)

    here.write(event(number, noise) for number in range(12_000, 16_000))
    here.train()
    for _ in range(2):
        guarding.lineage.refresh()
        guarding.acting.answering.watch()
    (entry,) = here.json("ledger")
    assert (entry["action"], entry["cause"], entry["by"]) == ("retrain", "performance", "guard")
    assert "linear loses 0." in entry["why"]
    guarding.presence.close()


def test_the_error_budget_is_that_of_the_looks_that_are_made(folder: Callable[..., Folder]) -> None:
    """Snapshots that come faster than planned are more looks a year, in doublings; slower ones change nothing."""
    slow = {"snapshots__every_seconds": 5.0, "snapshots__every_events": 10**6}
    here = folder(learners={"linear": LEARNERS["linear"]}, **(SETTINGS | slow))
    planned = 31_536_000 / 5.0
    lineage = here.lineage
    for pace, wanted in ((5.0, 1), (10.0, 1), (4.5, 1), (2.5, 2), (0.7, 8)):
        lineage.numbers = list(range(60))
        lineage._manifests = {n: Manifested(n * pace) for n in range(60)}  # type: ignore[misc]
        assert looks_a_year(here.config, lineage) == wanted * planned, pace
    lineage.numbers = lineage.numbers[:20]
    assert looks_a_year(here.config, lineage) == planned


class Manifested:
    """A manifest as far as its time goes."""

    def __init__(self, created: float) -> None:
        self.created = created
