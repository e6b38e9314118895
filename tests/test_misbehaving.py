"""Learners that raise, learners that were changed, learners brought from elsewhere."""

import pickle
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from river import linear_model, optim, preprocessing
from support.lineages import Folder, accounted, wait_for
from support.samples import numbers
from vowpalwabbit import Workspace

from learners.river.factory_digest import digest
from snapshots.decisions.ledger import Decision

#: a scaler raises at a text where numbers are expected, after it has changed some of its counts
BESIDE = {
    "sturdy": {"kind": "vw", "args": "--loss_function logistic", "role": "champion"},
    "fragile": {"kind": "river", "factory": "model:logreg"},
}
ALONE = {"fragile": {"kind": "river", "factory": "model:logreg", "role": "champion"}}


def spoilt(count: int, bad: set[int], first: int = 0) -> list[dict[str, Any]]:
    """Events of which some have a text where numbers are expected."""
    events = numbers(count, first=first)
    for i in bad:
        events[i]["x"]["f3"] = "none"
    return events


def refused(here: Folder, learner: str = "fragile") -> list[dict[str, Any]]:
    return [row for row in here.json("quarantine", "list") if row["learner"] == learner and row["cause"] == "refused"]


def test_an_event_that_a_learner_raises_at_is_quarantined_for_it_alone(folder: Callable[..., Folder]) -> None:
    """It is tried twice; then it is out of that learner, which ends as one that was never given it."""
    bad = {41, 700, 701, 999}
    here = folder(learners=BESIDE, source__batch=50)
    here.write(spoilt(1000, bad))
    done = here.run("train", "--until-end")
    assert done.stderr.count("for the second time") == len(bad)
    assert "learner fragile raised at events[a.jsonl] offset" in done.stderr
    learners = here.status()["learners"]
    assert (learners["fragile"]["events"]["learnt"], learners["fragile"]["events"]["quarantined"]) == (996, 4)
    assert (learners["sturdy"]["events"]["learnt"], learners["sturdy"]["events"]["quarantined"]) == (1000, 0)
    assert accounted(learners["fragile"]["events"])
    rows = refused(here)
    assert [row["events"] for row in rows] == [1] * 4
    assert all("TypeError" in row["error"] for row in rows)
    lines = (here.events / "a.jsonl").read_bytes().splitlines(keepends=True)
    offsets = [sum(map(len, lines[:i])) for i in sorted(bad)]
    assert [row["ranges"]["events"]["a.jsonl"][0] for row in rows] == offsets

    never = folder("never-given", BESIDE)
    never.write([event for i, event in enumerate(spoilt(1000, bad)) if i not in bad])
    never.train()
    assert here.state("fragile") == never.state("fragile")
    assert here.learner("fragile")["metrics"] == never.learner("fragile")["metrics"]
    again = folder("sturdy-alone", {"sturdy": BESIDE["sturdy"]})
    again.write(spoilt(1000, bad))
    again.train()
    assert here.state("sturdy") == again.state("sturdy")


def test_killed_in_between_it_ends_the_same(folder: Callable[..., Folder]) -> None:
    """Refusing an event is part of a snapshot, or happens again."""
    draw = random.Random(4)
    bad = set(draw.sample(range(6000), 15))
    here = folder("killed", BESIDE, source__batch=50, snapshots__every_seconds=0.05)
    never = folder("never", BESIDE)
    never.write(spoilt(6000, bad))
    never.train()
    events = spoilt(6000, bad)
    for part in range(6):
        here.write(events[part * 1000 : (part + 1) * 1000])
        process = here.start("train")
        before = len(here.lineage.epochs)
        wait_for(lambda was=before: len(here.lineage.epochs) > was)
        time.sleep(draw.random() * 0.5)
        process.kill()
        process.wait()
    here.train()
    assert here.learner("fragile")["events"] == never.learner("fragile")["events"]
    assert here.state("fragile") == never.state("fragile")
    assert [row["ranges"] for row in refused(here)] == [row["ranges"] for row in refused(never)]


def test_a_challenger_that_refuses_too_much_is_set_aside(folder: Callable[..., Folder]) -> None:
    """By a ledger entry that says why; the champion goes on, and an operator may let the challenger learn again."""
    here = folder(learners=BESIDE, source__batch=50)
    here.write(spoilt(1000, set(range(500, 1000, 5))))
    here.train()
    (entry,) = here.json("ledger")
    assert (entry["action"], entry["learner"], entry["by"]) == ("stop_learning", "fragile", "trainer")
    assert "event.max_refused_share is 1.0%" in entry["why"]
    counts = here.learner("fragile")["events"]
    assert accounted(counts)
    assert counts["learnt"] < 700
    assert here.learner("sturdy")["events"]["learnt"] == 1000
    aside = [row for row in here.json("quarantine", "list") if row["cause"] == "set_aside"]
    assert aside[0]["events"] == 1000 - counts["learnt"] - len(refused(here))
    assert here.status()["learners"]["fragile"]["learning"] == "stopped"

    here.write(numbers(300, first=1000))
    here.train()
    assert here.learner("fragile")["events"]["learnt"] == counts["learnt"]
    assert len([row for row in here.json("quarantine", "list") if row["cause"] == "set_aside"]) == 1
    here.run("learning", "resume", "fragile", "--why", "the producer is mended")
    here.run("learning", "resume", "fragile", code=3)
    here.write(numbers(200, first=1300))
    here.train()
    assert here.learner("fragile")["events"]["learnt"] == counts["learnt"] + 200
    assert accounted(here.learner("fragile")["events"])


def test_a_champion_that_refuses_too_much_learns_no_more_and_the_stream_goes_on(folder: Callable[..., Folder]) -> None:
    """The ledger says why and the log what to do; the rest is in its quarantine; it learns again when it is told to."""
    here = folder(learners=ALONE, source__batch=50)
    here.write(spoilt(1000, set(range(500, 1000, 5))))
    done = here.run("train", "--until-end")
    assert "serving goes on from what it was. Mend its model" in done.stderr
    assert 1 <= len(refused(here)) <= 20
    (entry,) = here.json("ledger")
    assert (entry["action"], entry["by"], entry["learner"]) == ("stop_learning", "trainer", "fragile")
    counts = here.learner("fragile")["events"]
    assert counts["consumed"] == 1000 == counts["learnt"] + counts["quarantined"]
    here.config_path.write_text(here.config_path.read_text() + "event.max_refused_share = 0.5\n")
    here.run("learning", "resume", "fragile")
    here.write(spoilt(1100, set())[1000:])
    here.train()
    assert here.learner("fragile")["events"]["learnt"] == counts["learnt"] + 100


def test_a_champion_that_learns_no_more_is_said_where_it_answers(folder: Callable[..., Folder]) -> None:
    """By /ready and by status, with why; it answers from the snapshot that passed."""
    here = folder(learners=ALONE, source__batch=50)
    here.write(spoilt(1000, set(range(500, 1000, 5))))
    here.trained()
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        word = client.get("/ready").json()
        assert client.post("/predict", json={"x": {"f0": 1.0}}).status_code == 200
    assert word["learning"] == "stopped"
    assert "fragile learns nothing: fragile raised at" in word["learning_why"]
    assert "event.max_refused_share" in here.run("status").stdout


def test_a_learner_whose_process_dies_ends_the_trainer_with_its_name(folder: Callable[..., Folder]) -> None:
    """The program is wrong, or memory ran out: start again from the newest snapshot; nothing is lost."""
    here = folder(learners=BESIDE)
    here.write(numbers(2000))
    process = here.start("train")
    wait_for(lambda: here.lineage.numbers and here.learner("sturdy")["events"]["learnt"] == 2000)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(children) == 2
    subprocess.run(["kill", "-9", children[1]], check=True)
    assert process.wait(20) == 4
    assert "the process of learner fragile ended: killed by signal 9" in here.log("train")
    here.write(numbers(500, first=2000))
    here.train()
    never = folder("never", BESIDE)
    never.write(numbers(2500))
    never.train()
    assert here.state("fragile") == never.state("fragile")


def test_learners_end_with_their_trainer(folder: Callable[..., Folder]) -> None:
    """A trainer that is killed leaves no process behind."""
    here = folder(learners=BESIDE)
    here.write(numbers(100))
    process = here.start("train")
    wait_for(lambda: here.lineage.numbers and here.learner("sturdy")["events"]["learnt"] == 100)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path("/proc", child).exists() for child in children), 5)


def test_changed_arguments_are_refused_with_two_ways_on(folder: Callable[..., Folder]) -> None:
    """--accept goes on from what was learnt, --new-lineage begins anew; both are in the ledger."""
    here = folder(learners={"v": {"kind": "vw", "args": "--loss_function logistic -l 0.5", "role": "champion"}})
    here.write(numbers(300))
    here.train()
    text = here.config_path.read_text()
    here.config_path.write_text(text.replace("-l 0.5", "-l 0.1"))
    done = here.run("train", "--until-end", code=3)
    assert "args was '--loss_function logistic -l 0.5' and is '--loss_function logistic -l 0.1'" in done.stderr
    assert "--new-lineage" in done.stderr
    assert "--accept" in done.stderr
    here.run("train", "--until-end", "--accept")
    assert here.learner("v")["events"]["learnt"] == 300
    assert here.json("ledger")[-1]["action"] == "accept"
    here.write(numbers(100, first=300))
    here.train()
    assert here.learner("v")["events"]["learnt"] == 400
    here.config_path.write_text(text.replace("-l 0.5", "-b 10"))
    here.run("train", "--until-end", "--new-lineage")
    assert here.learner("v")["events"]["learnt"] == 400
    assert here.json("ledger")[-1]["action"] == "new_lineage"


def test_a_changed_factory_is_refused_by_its_source(folder: Callable[..., Folder]) -> None:
    """Another function in the same file, comments and layout are no change; a helper that it uses is one."""
    here = folder(learners={"r": {"kind": "river", "factory": "model:mine", "role": "champion"}})
    model = here.path / "model.py"
    source = """
from river import linear_model, optim, preprocessing
RATE = 0.1
def scaled():
    return preprocessing.StandardScaler()
def mine():
    return scaled() | linear_model.LogisticRegression(optim.SGD(RATE))
"""
    model.write_text(source)
    here.write(numbers(200))
    here.train()
    model.write_text("# a comment\ndef other(): pass\n" + source.replace("def mine():", "def mine():  # mine"))
    here.train()
    for change in (("RATE = 0.1", "RATE = 0.2"), ("StandardScaler()", "MinMaxScaler()"), ("SGD(RATE)", "Adam(RATE)")):
        model.write_text(source.replace(*change))
        done = here.run("train", "--until-end", code=3)
        assert "learners.r was changed" in done.stderr
    here.run("train", "--until-end", "--accept")
    assert here.learner("r")["events"]["learnt"] == 200


def test_the_digest_of_a_source_is_empty_where_there_is_none() -> None:
    """A factory in C, or none at all."""
    assert digest("math:sin") == ""
    assert digest("nowhere:nothing") == ""
    assert digest("learners.river.factory_digest:digest") == digest("learners.river.factory_digest:digest") != ""


def test_an_exported_model_is_loaded_by_its_own_library(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """Plain Vowpal Wabbit, in a process without Holdfast; plain River by pickle; both predict what is served."""
    here = folder(learners=BESIDE)
    here.write(numbers(500))
    here.trained()
    newest = here.lineage.numbers[-1]
    done = here.run("snapshots", "export", str(newest), "model.vw")
    assert "vw --loss_function logistic" in done.stdout
    here.run("snapshots", "export", str(newest), "model.pkl", "--learner", "fragile")
    assert "already there" in here.run("snapshots", "export", str(newest), "model.vw", code=2).stderr
    script = (
        "import sys, vowpalwabbit\n"
        "w = vowpalwabbit.Workspace('--quiet -t --link logistic -i model.vw')\n"
        "print(w.predict('| f0:1.5 f1:-0.5'))\n"
        "assert 'learners' not in sys.modules\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=here.path, check=True)
    here.start("serve")
    here.wait_ready()
    with here.http() as client:
        served = client.post("/predict", json={"x": {"f0": 1.5, "f1": -0.5}}).json()["probability"]
    assert float(said.stdout) == pytest.approx(served, abs=1e-6)
    river = pickle.loads((here.path / "model.pkl").read_bytes())
    assert 0 < river.predict_proba_one({"f0": 1.5})[True] < 1


def test_a_lineage_begins_from_an_existing_model(folder: Callable[..., Folder]) -> None:
    """VW's own file, and a River pickle that is trusted; served as soon as the guard has passed it."""
    workspace = Workspace("--loss_function logistic --quiet")
    for event in numbers(500):
        features = " ".join(f"{name}:{value}" for name, value in event["x"].items())
        workspace.learn(f"{1 if event['y'] else -1} | {features}")
    here = folder(learners=BESIDE)
    workspace.save(str(here.path / "old.vw"))
    done = here.run("snapshots", "import", "old.vw")
    assert "snapshot 0 of sturdy begins from old.vw" in done.stdout
    here.run("guard", "--once")
    assert here.learner("sturdy")["serving"] == 0
    assert "has learnt already" in here.run("snapshots", "import", "old.vw", code=3).stderr
    here.write(numbers(100, first=500))
    here.train()
    assert here.learner("sturdy")["metrics"]["accuracy"] > 0.7  # a fresh one is at chance for the first events

    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    for event in numbers(500):
        model.learn_one(event["x"], bool(event["y"]))
    other = folder("river", ALONE)
    (other.path / "old.pkl").write_bytes(pickle.dumps(model))
    assert "--trust" in other.run("snapshots", "import", "old.pkl", code=3).stderr
    other.run("snapshots", "import", "old.pkl", "--trust")
    assert other.lineage.numbers == [0]
    (other.path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    third = folder("evil", ALONE)
    done = third.run("snapshots", "import", str(other.path / "evil.pkl"), "--trust", code=3)
    assert "not on the allow-list" in done.stderr
    assert not (third.path / "ran").exists()
    assert third.lineage.numbers == []


@pytest.mark.parametrize("options", ["--oaa 3 --loss_function logistic", "--ftrl --loss_function logistic"])
def test_a_model_of_another_make_is_not_imported(folder: Callable[..., Folder], options: str) -> None:
    """What it was trained with and the configuration does not name would go on unseen."""
    workspace = Workspace(f"{options} --quiet")
    workspace.learn("1 | a:1 b:2")
    here = folder(learners=BESIDE)
    workspace.save(str(here.path / "old.vw"))
    said = here.run("snapshots", "import", "old.vw", code=3).stderr
    assert options.split(maxsplit=1)[0] in said
    assert "args does not name" in said
    assert here.lineage.numbers == []


@pytest.mark.parametrize(
    "what", [b"junk", pickle.dumps(preprocessing.StandardScaler() | linear_model.LinearRegression())]
)
def test_what_is_no_model_of_this_kind_is_refused_in_a_sentence(folder: Callable[..., Folder], what: bytes) -> None:
    """No trace, whatever the file is."""
    here = folder(learners=ALONE)
    (here.path / "old.pkl").write_bytes(what)
    said = here.run("snapshots", "import", "old.pkl", "--trust", code=3).stderr
    assert "cannot be taken for learners." in said
    assert "Traceback" not in said


@pytest.mark.parametrize("when_open", ["score", "wait"])
def test_an_open_breaker_passes_over_or_waits(folder: Callable[..., Folder], when_open: str) -> None:
    """For all learners alike when it waits: nothing is read, and a run to the end says why it does not get there."""
    here = folder(learners=BESIDE, breaker__when_open=when_open)
    here.write(numbers(100))
    here.train()
    opened = Decision("open_breaker", "guard", "too many reverts", "sturdy", cause="breaker")
    here.lineage.ledger.append(time.time(), lambda _: opened)
    here.write(numbers(100, first=100))
    done = here.run("train", "--until-end", code=None)
    counts = here.learner("sturdy")["events"]
    if when_open == "wait":
        assert done.returncode == 1
        assert "a breaker is open" in done.stderr
        assert counts["consumed"] == 100
        closed = Decision("close_breaker", "guard", "tried", "sturdy", cause="breaker")
        here.lineage.ledger.append(time.time(), lambda _: closed)
        here.train()
        assert here.learner("sturdy")["events"]["learnt"] == 200
    else:
        assert done.returncode == 0
        assert (counts["learnt"], counts["quarantined"]) == (100, 100)
    assert accounted(here.learner("sturdy")["events"])


def test_a_slow_learner_still_counts_as_alive(folder: Callable[..., Folder]) -> None:
    """One batch of it takes longer than the ten seconds after which a word is stale; a stop is no trouble."""
    slow = {"kind": "river", "factory": "slow:slow", "role": "champion", "types": ["slow:Slow"]}
    here = folder(learners={"slow": slow}, source__batch=600)
    (here.path / "slow.py").write_text(SLOW)
    here.write(numbers(3000))
    process = here.start("train")
    wait_for(lambda: here.status()["source"]["state"] == "reading")
    time.sleep(12)
    here.run("alive", "train")
    process.terminate()
    assert process.wait(40) == 0
    assert "nothing is lost" in here.log("train")


SLOW = """
import time
from river import dummy

class Slow(dummy.NoChangeClassifier):
    def learn_one(self, x, y):
        time.sleep(0.03 if "f0" in x else 0.0)
        super().learn_one(x, y)

def slow():
    return Slow()
"""


@pytest.mark.parametrize("where", ["it learns", "it is made"])
def test_a_learner_that_hangs_is_named(where: str, folder: Callable[..., Folder]) -> None:
    """By status, as what is waited for; the trainer still ends when it is asked to."""
    hung = {"kind": "river", "factory": "hung:hung", "role": "champion", "types": ["hung:Hung"]}
    here = folder(learners={"hung": hung}, source__batch=10)
    making = "time.sleep(3600)" if where == "it is made" else "pass"
    (here.path / "hung.py").write_text(HUNG.replace("MAKING", making))
    here.write(numbers(200))
    process = here.start("train")
    wait_for(lambda: "learner hung has not answered for" in here.status()["source"]["why"], 40)
    assert here.status()["source"]["state"] == "waiting"
    process.terminate()
    assert process.wait(20) == 0


HUNG = """
import time
from river import dummy

class Hung(dummy.NoChangeClassifier):
    seen = 0

    def learn_one(self, x, y):
        self.seen += 1
        time.sleep(3600 if self.seen > 100 else 0)
        super().learn_one(x, y)

def hung():
    MAKING
    return Hung()
"""


def test_saving_that_takes_long_makes_snapshots_rarer(folder: Callable[..., Folder]) -> None:
    """At most a twentieth of the time goes into saving, and the log says what the interval became."""
    here = folder(learners={"slow": {"kind": "river", "factory": "model:slow", "role": "champion"}},
                  snapshots__every_seconds=0.05)  # fmt: skip
    (here.path / "model.py").write_text("""
import time
from river import linear_model
class Slow(linear_model.LogisticRegression):
    def __getstate__(self):
        time.sleep(0.05)
        return self.__dict__
def slow():
    return Slow()
""")
    text = here.config_path.read_text()
    here.config_path.write_text(text + 'learners.slow.types = ["model:Slow"]\n')
    process = here.start("train")
    for part in range(600):
        here.write(numbers(20, first=20 * part))
        time.sleep(0.1)
        if re.search(r"snapshots come every [1-9]", here.log("train")):
            break
    process.terminate()
    process.wait(20)
    assert re.search(r"snapshots come every [1-9]", here.log("train"))
    assert len(here.lineage.numbers) <= 9
