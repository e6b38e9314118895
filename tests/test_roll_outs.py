"""Roll-outs through real processes: from shadow to champion, and taken back."""

import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from support.lineages import Folder, wait_for
from support.rollouts import FAST, TWO, flowing, running
from support.samples import numbers


class Caller:
    """Asks without end, and counts who answered; every ``odd``-th request has a text where others have a number."""

    def __init__(self, here: Folder, odd: int = 0) -> None:
        self._odd = odd
        self.here, self.routes, self.failed, self.by_id = here, Counter[str](), 0, dict[str, list[str]]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        events = numbers(400, seed=9)
        with self.here.http() as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                name, x = f"user-{number % 400}", events[number % 400]["x"]
                if self._odd and number % self._odd == 0:
                    x = {**x, "f0": "n/a"}
                try:
                    answer = client.post("/predict", json={"id": name, "x": x})
                except httpx.TransportError:
                    self.failed += 1
                    continue
                if answer.status_code != 200:
                    self.failed += 1
                    continue
                route = answer.json()["route"]
                self.routes[route] += 1
                self.by_id.setdefault(name, []).append(route)

    @contextmanager
    def asking(self) -> Iterator["Caller"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()


def sealed(here: Folder) -> bool:
    """Whether there is a holdout; learners are compared from then on."""
    newest = here.lineage.newest()
    return newest is not None and bool(newest.holdout.versions)


def state(here: Folder) -> dict[str, Any]:
    found: dict[str, Any] = here.json("rollout", "status")
    return found


def test_a_better_candidate_goes_from_shadow_to_champion_by_itself(folder: Callable[..., Folder]) -> None:
    """Every step by the guard, no failed request, who is in stays in, and the ledger says why."""
    here = running(folder, 6000)
    wait_for(lambda: sealed(here))
    with Caller(here).asking() as caller:
        here.run("rollout", "start", "quick", "--why", "it learns")
        with flowing(here, 6000):
            wait_for(lambda: state(here)["state"] == "champion", 60)
        wait_for(lambda: here.lineage.champion() == "quick")
        time.sleep(0.5)
    assert caller.failed == 0
    assert caller.routes["quick"] > 0
    for routes in caller.by_id.values():  # in once, in for good, until it is the champion itself
        inside = routes[routes.index("quick") :] if "quick" in routes else []
        assert "champion" not in inside[: inside.count("quick")]
    entries = [entry for entry in here.json("ledger") if entry["candidate"] == "quick"]
    assert [entry["share"] for entry in entries] == [0.0, 1.0, 5.0, 25.0, 50.0, 100.0, 100.0]
    assert entries[-1]["action"] == "promote"
    assert "loss" in entries[1]["why"]


@pytest.mark.parametrize("way", ["abort", "revert"])
def test_taking_back_is_at_once_and_nothing_fails(folder: Callable[..., Folder], way: str) -> None:
    """An abort, or a revert of the candidate, ends its share within half a second in every serving process."""
    here = running(folder, 3000, serve__workers=2)
    first = here.lineage.serving("quick") or 0
    here.write(numbers(500, first=3000))
    wait_for(lambda: (here.lineage.serving("quick") or 0) > first)
    with Caller(here).asking() as caller:
        here.run("rollout", "start", "quick")
        here.run("rollout", "pause")
        here.run("rollout", "step", "50")
        wait_for(lambda: caller.routes["quick"] > 50)
        assert state(here)["share"] == 50
        if way == "abort":
            here.run("rollout", "abort", "--why", "enough")
        else:
            here.run("snapshots", "revert", "quick")
        time.sleep(0.5)
        before = caller.routes["quick"]
        time.sleep(0.5)
        assert caller.routes["quick"] == before
    assert caller.failed == 0
    assert state(here)["state"] == "aborted"
    assert ("enough" if way == "abort" else "revert") in state(here)["why"]


def test_one_that_fails_on_a_tenth_is_taken_back_within_fifty_of_its_requests(folder: Callable[..., Folder]) -> None:
    """River raises at a text where numbers were; VW does not, and answers in its place: nobody notices."""
    here = running(folder, 3000)
    with Caller(here, odd=10).asking() as caller:
        here.run("rollout", "start", "quick")
        here.run("rollout", "step", "100", code=None)
        wait_for(lambda: state(here)["state"] == "aborted")
    assert caller.failed == 0
    assert caller.routes["quick"] <= 50
    assert "failed on" in state(here)["why"]
    assert state(here)["by"].startswith("serving")


def test_one_that_is_worse_or_slow_is_taken_back(folder: Callable[..., Folder]) -> None:
    """By its loss on labels, whatever share it has; by its own p99; each says which limit."""
    roles = {"slow": {**TWO["slow"], "role": "challenger"}, "quick": {**TWO["quick"], "role": "champion"}}
    here = running(folder, 6000, "slow", learners=roles)
    wait_for(lambda: sealed(here))
    with Caller(here).asking() as caller:
        here.run("rollout", "start", "slow")
        here.run("rollout", "step", "1")
        with flowing(here, 6000):
            wait_for(lambda: state(here)["state"] == "aborted", 60)
        assert "loses more than the champion" in state(here)["why"]
    assert caller.failed == 0
    here.end()
    here.config_path.write_text(here.config_path.read_text().replace("5000.0", "0.000001"))
    here.start("serve")
    here.wait_ready()
    with Caller(here).asking() as caller:
        here.run("rollout", "start", "slow")
        wait_for(lambda: state(here)["state"] == "aborted")
    assert "max_p99_ms" in state(here)["why"]


def test_what_may_not_be_rolled_out_is_refused(folder: Callable[..., Folder]) -> None:
    """Nothing is changed, exit code 3, and the sentence says what may."""
    here = folder(learners=TWO, holdout__rate=0.1)
    assert "no lineage" in here.run("rollout", "start", "quick", code=3).stderr
    here.write(numbers(500))
    here.trained()
    before = len(here.json("ledger"))
    for candidate, said in {
        "slow": "champion already", "nobody": "no learner 'nobody'", "baseline:1": "baseline 1 does not exist",
        "snapshot:99": "snapshot 99 does not exist", "snapshot:x": "is not a learner's name", "baseline:1:2": "is not",
    }.items():  # fmt: skip
        assert said in here.run("rollout", "start", candidate, code=3).stderr, candidate
    for what in ("step", "pause", "resume", "abort", "approve"):
        assert "there is no roll-out" in here.run("rollout", what, code=3).stderr
    assert len(here.json("ledger")) == before
    assert state(here)["state"] is None
    here.run("rollout", "start", "quick")
    assert "rolled out already" in here.run("rollout", "start", "quick", code=3).stderr
    here.run("learning", "stop", "quick")
    assert state(here)["state"] == "aborted"
    assert "may not answer" in state(here)["why"]


def test_learners_share_the_requests_under_a_policy(folder: Callable[..., Folder]) -> None:
    """``hedge`` lets the best answer, ``mean`` all, ``split`` as it is set; a roll-out is refused meanwhile."""
    here = folder(learners=TWO, snapshots__every_seconds=0.1, **FAST, routing__policy="hedge", guard__act=False)
    here.write(numbers(12_000))
    here.train()  # the holdout is sealed; what comes then is compared, and the newest snapshot answers
    here.write(numbers(3000, first=12_000))
    here.train()
    here.run("guard", "--once", code=None)
    written = here.config_path.read_text()

    def routes(**settings: Any) -> Counter[str]:
        text = written.replace('routing.policy = "hedge"', "".join(f"{k} = {v}\n" for k, v in settings.items()))
        here.config_path.write_text(text)
        here.start("serve")
        here.wait_ready()
        wait_for(lambda: here.lineage.serving("quick") is not None)
        with here.http() as client:
            time.sleep(0.5)
            body = {"instances": [{"id": f"u{number}", "x": numbers(1)[0]["x"]} for number in range(1000)]}
            answers = client.post("/predict/batch", json=body).json()["predictions"]
        here.end()
        assert all(0 < one["propensity"] <= 1 for one in answers)
        return Counter(one["route"] for one in answers)

    assert routes(**{"routing.policy": '"hedge"'}) == {"quick": 1000}
    assert routes(**{"routing.policy": '"hedge"', "routing.answer": '"mean"'}) == {"mean": 1000}
    shared = routes(**{"routing.policy": '"split"', "routing.shares.slow": 80, "routing.shares.quick": 20})
    assert shared["champion"] + shared["quick"] == 1000
    assert abs(shared["quick"] - 200) < 60
    assert 'wants "champion"' in here.run("rollout", "start", "quick", code=3).stderr
    here.run("learning", "stop", "quick")
    assert routes(**{"routing.policy": '"hedge"'}) == {"champion": 1000}
    for wrong, said in {"routing.shares.nobody": "is no learner", "routing.shares.quick": "sum to 20"}.items():
        text = written.replace('"hedge"', '"split"') + f"{wrong} = 20\n"
        here.config_path.write_text(text)
        assert said in here.run("status", code=2).stderr


def test_rewards_spread_the_requests_and_find_who_earns_most(folder: Callable[..., Folder]) -> None:
    """``thompson``: shares follow what answers earned, each keeps its floor, and the ledger says who wins."""
    log: dict[str, Any] = {"predictions__directory": "predictions", "labels__directory": "labels", "join__wait": "1h"}
    policy: dict[str, Any] = {"routing__policy": "thompson", "routing__floor": 0.2, "routing__rewards": [0.0, 10.0]}
    here = folder(learners=TWO, snapshots__every_seconds=0.1, **FAST, **log, **policy)
    here.write([{**one, "ts": time.time() - 1000 + number / 100} for number, one in enumerate(numbers(3000))])
    (here.path / "labels-token").write_text("say")
    here.start("up")
    here.wait_ready()
    wait_for(lambda: here.lineage.serving("quick") is not None)
    events, token = numbers(4000, first=50_000), {"Authorization": "Bearer say"}

    def asked(some: list[dict[str, Any]]) -> Counter[str]:
        """Ask, and pay ten for what quick says and nothing for what slow says; y is not known of half of them."""
        answers = client.post("/predict/batch", json={"instances": [{"id": e["id"], "x": e["x"]} for e in some]})
        found = answers.json()["predictions"]
        paid = [{"id": one["id"], "r": 10.0 * (one["route"] == "quick")} for one in found]
        for one, event in list(zip(paid, some, strict=True))[::2]:
            one["y"] = event["y"]
        assert client.post("/labels", json=paid, headers=token).json() == {"taken": len(some)}
        return Counter(one["route"] for one in found)

    with here.http() as client:
        wait_for(lambda: client.post("/predict", json={"id": "a", "x": events[0]["x"]}).json()["propensity"] == 0.5)
        first = asked(events[:500])
        assert abs(first["quick"] - 250) < 80
        wait_for(lambda: state(here)["weights"] == pytest.approx({"slow": 0.2, "quick": 0.8}, abs=0.01))
        wait_for(lambda: client.post("/predict", json={"id": "b", "x": events[0]["x"]}).json()["propensity"] != 0.5)
        second = asked(events[500:1500])
        assert abs(second["quick"] - 800) < 80
    wait_for(lambda: [one["action"] for one in here.json("ledger")] == ["policy_winner"])
    entry = here.json("ledger")[0]
    assert (entry["learner"], "earns most for certain" in entry["why"]) == ("quick", True)
    assert "policy thompson" in here.run("rollout", "status").stdout
    wait_for(lambda: here.status()["labels"]["consumed"] == 1500)
    labels = here.status()["labels"]
    assert (labels["rewarded"], labels["joined"], labels["accounting_difference"]) == (750, 750, 0)
    here.end()
    written = here.config_path.read_text()
    for name, value, said in (
        ("routing.rewards", "[1.0, 1.0]", "least and the greatest"), ("routing.floor", "0.6", "more than 1"),
        ("predictions.directory", '""', "set [predictions]"),
    ):  # fmt: skip
        here.config_path.write_text(re.sub(rf"(?m)^{re.escape(name)} = .*$", f"{name} = {value}", written))
        assert said in here.run("status", code=2).stderr


def test_any_two_are_compared_and_any_answer_is_found_again(folder: Callable[..., Folder]) -> None:
    """Learners by what they said in a roll-out, snapshots on what is new to them; and what answered an id, and why."""
    log: dict[str, Any] = {"predictions__directory": "predictions", "labels__directory": "labels", "join__wait": "1h"}
    here = folder(learners=TWO, snapshots__every_seconds=0.1, **FAST, **log, event__slices=["kind"])
    here.write([{**one, "ts": time.time() - 1000 + number / 100} for number, one in enumerate(numbers(6000))])
    (here.path / "labels-token").write_text("say")
    here.start("up")
    here.wait_ready()
    wait_for(lambda: here.lineage.serving("quick") is not None and sealed(here))
    early = here.lineage.serving("quick")
    assert "no labelled event that both" in here.run("compare", "quick", "slow", code=3).stderr
    here.run("rollout", "start", "quick", "--why", "try it")
    here.run("rollout", "pause")
    here.run("rollout", "step", "30")
    wait_for(lambda: (state(here)["serving"] or {}).get("trouble") == "" and state(here)["share"] == 30)
    events = numbers(600, first=50_000)
    for one in events:
        one["x"]["kind"] = 1.0 if one["id"].endswith("7") else 2.0
    with here.http() as client:
        time.sleep(0.5)
        answers = [client.post("/predict", json={"id": one["id"], "x": one["x"]}).json() for one in events]
        labels = [{"id": one["id"], "y": one["y"], "ts": time.time()} for one in events]
        token = {"Authorization": "Bearer say"}
        assert client.post("/labels", json=labels, headers=token).json() == {"taken": 600}
    wait_for(lambda: (here.status()["labels"] or {}).get("joined") == 600)
    by_hand = Counter(one["route"] for one in answers)
    assert by_hand["quick"] > 100
    found = here.json("compare", "quick", "slow")
    assert (found["events"], set(found["slices"])) == (600, {"kind=1.0", "kind=2.0"})
    assert found["difference"] == pytest.approx(found["loss_a"] - found["loss_b"])
    assert found["high"] < 0
    other = here.json("compare", "slow", "quick")
    assert other["difference"] == pytest.approx(-found["difference"])
    late = here.json("compare", "quick", "slow", "--since", str(time.time() + 5))
    assert (late["events"], late["labelled"]) == (0, 0)
    old = here.json("compare", f"snapshot:{early}:quick", "slow", "--by", "kind")
    assert old["events"] == 600
    assert "600 events" in here.run("compare", "quick", "slow").stdout
    assert "no learner 'nobody'" in here.run("compare", "nobody", "slow", code=3).stderr

    def logged() -> bool:
        newest = here.lineage.newest()
        return newest is not None and newest.rollout.get("logged", {}).get("events") == 600

    wait_for(logged)
    answer = next(one for one in answers if one["route"] == "quick")
    told = here.json("ledger", "--id", answer["id"])
    assert {name: told[name] for name in ("snapshot", "route", "propensity")} == {
        "snapshot": answer["snapshot"], "route": "quick", "propensity": 0.3
    }  # fmt: skip
    assert "the roll-out of quick answers 30 %" in told["why"]
    assert told["shadow"]["learner"] == "slow"
    assert "route quick with probability 0.3" in here.run("ledger", "--id", answer["id"]).stdout
    assert "no answer to 'nothing'" in here.run("ledger", "--id", "nothing", code=3).stderr
    assert "no answer" in here.run("ledger", "--id", answer["id"], "--at", "2020-01-01", code=3).stderr


@pytest.mark.parametrize("sign_off", [False, True])
def test_a_duel_has_a_winner_or_none(folder: Callable[..., Folder], *, sign_off: bool) -> None:
    """Over a fixed window; the winner is promoted, or named; the next duel begins, and nobody wins it."""
    here = folder(learners=TWO, snapshots__every_seconds=0.1, **FAST, duel__events=1000, duel__sign_off=sign_off)
    here.write(numbers(6000))
    here.start("up")
    wait_for(lambda: [entry["action"] for entry in here.json("ledger")] == ["duel_start"], 60)

    def ended(number: int) -> dict[str, Any]:
        """The entry that ended the duel of this number."""
        found = [entry for entry in here.json("ledger") if entry["action"] == "duel_end"]
        return dict(found[number]) if len(found) > number else {}

    with flowing(here, 6000):
        wait_for(lambda: ended(0), 60)
        assert (ended(0)["cause"], ended(0)["learner"]) == ("winner", "quick")
        assert "quick -0." in ended(0)["why"]
        if sign_off:
            time.sleep(1)
            assert here.lineage.champion() == "slow"
            return
        wait_for(lambda: here.lineage.champion() == "quick")
        wait_for(lambda: ended(1), 60)
    assert (ended(1)["cause"], ended(1)["learner"]) == ("no_winner", "quick")


def test_the_doors_say_the_same(folder: Callable[..., Folder]) -> None:
    """``GET /rollout`` is ``rollout status --json``; batches are routed one by one; metrics of both sides are there."""
    here = running(folder, 3000)
    here.run("rollout", "start", "quick")
    here.run("rollout", "pause")
    here.run("rollout", "step", "40")
    x = numbers(1)[0]["x"]
    with here.http() as client:
        time.sleep(0.5)
        body = {"instances": [{"id": f"u{number}", "x": x} for number in range(500)]}
        answers = client.post("/predict/batch", json=body).json()["predictions"]
        again = client.post("/predict/batch", json=body).json()["predictions"]
        routes = [one["route"] for one in answers]
        assert routes == [one["route"] for one in again]
        assert abs(routes.count("quick") - 200) < 60
        assert {one["propensity"] for one in answers} == {0.4, 0.6}
        wait_for(lambda: (state(here)["serving"] or {})["answered"]["candidate"] == 2 * routes.count("quick"))
        found, said = client.get("/rollout").json(), state(here)
        same = ("state", "candidate", "share", "entry", "step", "champion")
        assert {name: found[name] for name in same} == {name: said[name] for name in same}
        assert client.get("/status").json()["rollout"]["candidate"] == "quick"
        metrics = client.get("/metrics").text
    assert "holdfast_rollout_share 40.0" in metrics
    assert 'holdfast_rollout_state{state="paused"} 1.0' in metrics
    assert f'route="candidate"}} {2.0 * routes.count("quick")}' in metrics
    assert "roll-out of quick: paused, answers 40 %" in here.run("status").stdout
