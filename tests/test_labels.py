"""Labels that come later, through real processes: scores, classes, and the loop over HTTP."""

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from river import datasets, evaluate, metrics
from support.lineages import MODEL, Folder, accounted, wait_for
from support.samples import numbers

from stream.archive.files import Archive
from stream.parts import store_of

APART: dict[str, Any] = {"labels__directory": "labels", "join__wait": "1h", "holdout__rate": 0.0}
TASKS: dict[str, tuple[Any, str, Callable[[], Any], dict[str, Callable[[], Any]]]] = {
    "binary": (datasets.Phishing, "logreg", metrics.LogLoss, {"accuracy": metrics.Accuracy}),
    "multiclass": (datasets.ImageSegments, "bayes", metrics.LogLoss, {"accuracy": metrics.Accuracy}),
    "regression": (datasets.TrumpApproval, "linear", metrics.MAE, {"rmse": metrics.RMSE}),
}
MAIN = {"binary": "log_loss", "multiclass": "accuracy", "regression": "mae"}
DELAY = 50


def pipeline(name: str) -> Any:
    """The same pipeline as in the folder."""
    space: dict[str, Any] = {}
    exec(MODEL, space)  # noqa: S102  our own
    return space[name]()


def apart(here: Folder, rows: Iterator[tuple[dict[str, Any], Any]]) -> None:
    """Put the rows' features and labels into files of their own: event n at second n, its label ``DELAY`` later."""
    (here.path / "labels").mkdir()
    with (here.events / "a.jsonl").open("wb") as events, (here.path / "labels" / "a.jsonl").open("wb") as labels:
        for number, (x, y) in enumerate(rows):
            features = {name: float(value) if isinstance(value, bool | int) else value for name, value in x.items()}
            events.write(orjson.dumps({"id": str(number), "ts": 1000.0 + number, "x": features}) + b"\n")
            labels.write(orjson.dumps({"id": str(number), "ts": 1000.0 + number + DELAY - 0.5, "y": y}) + b"\n")


@pytest.mark.parametrize("task", TASKS)
def test_delayed_scores_are_those_of_river(folder: Callable[..., Folder], task: str) -> None:
    """``delayed`` is what ``progressive_val_score(delay=…)`` comes to, to 1e-12, on data sets of River's own."""
    data, factory, main, others = TASKS[task]
    here = folder(
        learners={"one": {"kind": "river", "factory": f"model:{factory}", "role": "champion"}}, task=task, **APART,
        snapshots__every_seconds=0.05, source__batch=97,
    )  # fmt: skip

    def rows() -> Iterator[tuple[dict[str, Any], Any]]:
        for x, y in itertools.islice(data(), 1500):
            yield {name: float(value) for name, value in x.items() if name != "ordinal_date"}, y

    apart(here, rows())
    here.train()
    found = here.learner("one")["delayed"]
    scores = {MAIN[task]: main, **others} if task != "multiclass" else others
    for name, metric in scores.items():
        expected = evaluate.progressive_val_score(rows(), pipeline(factory), metric(), delay=DELAY)
        assert found[name] == pytest.approx(expected.get(), abs=1e-12), name
    assert found["n"] + found["unpredicted"] == sum(1 for _ in rows())


def test_every_class_adds_up_and_is_seen(folder: Callable[..., Folder]) -> None:
    """Promise 2 with labels apart: events and labels each have an equation, in status and in the manifest."""
    here = folder(**{**APART, "join__wait": "100s", "holdout__rate": 0.1})
    events = numbers(600)
    labels = [{"id": one["id"], "y": one.pop("y"), "ts": one["ts"] + 20} for one in events]
    labels = labels[:500] + [{**one, "ts": one["ts"] + 150} for one in labels[500:520]] + labels[:5]
    labels[30]["y"], labels[31]["y"] = None, "what?"
    labels.sort(key=lambda one: one["ts"])
    here.write(events)
    (here.path / "labels").mkdir()
    (here.path / "labels" / "a.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in labels))
    here.train()
    status = here.status()
    counts, said = status["learners"]["linear"]["events"], status["labels"]
    assert counts["consumed"] == sum(count for name, count in counts.items() if name != "consumed")
    assert said["consumed"] == len(labels)
    assert said["accounting_difference"] == 0
    assert said["consumed"] == sum(said[name] for name in
        ("joined", "early", "late", "orphan", "duplicate", "withdrawn", "dead_lettered"))  # fmt: skip
    assert (said["withdrawn"], said["dead_lettered"], said["late"], said["duplicate"]) == (1, 1, 20, 5)
    assert accounted(here.learner()["events"])


def test_two_calls_close_the_loop(folder: Callable[..., Folder]) -> None:
    """``/predict`` with an id, ``/labels`` with the id: learnt once, and scored as it was answered."""
    here = folder(**{**APART, "predictions__directory": "predictions"}, snapshots__every_seconds=0.1)
    (here.path / "labels-token").write_text("say")
    here.write(numbers(500))
    here.start("up")
    here.wait_ready()
    with here.http() as client:
        asked = client.post("/predict", json={"id": "order-1", "x": numbers(1)[0]["x"]}).json()
        unnamed = client.post("/predict", json={"x": numbers(1)[0]["x"]}).json()
        batch = client.post("/predict/batch", json={"instances": [{"id": "b1", "x": {"x0": 1.0}}, {"x": {"x0": 2.0}}]})
        assert client.post("/labels", json={"id": "order-1", "y": 1}).status_code == 401
        token = {"Authorization": "Bearer say"}
        assert client.post("/labels", json={"id": "order-1", "y": 1}, headers=token).status_code == 202
        several = [{"id": unnamed["id"], "y": 0}, {"id": batch.json()["predictions"][1]["id"], "y": None}]
        assert client.post("/labels", json=several, headers=token).json() == {"taken": 2}
        wrong = client.post("/labels", json=[{"id": "b1", "y": 1}, {"id": "b1"}], headers=token)
        assert (wrong.status_code, wrong.json()["field"]) == (422, "[1].y")
    wait_for(lambda: (here.status()["labels"] or {}).get("joined") == 2)
    status = here.status()
    assert status["labels"] | {"delays": None} == {
        "consumed": 3, "joined": 2, "early": 0, "late": 0, "orphan": 0, "duplicate": 0, "withdrawn": 1,
        "dead_lettered": 0, "pending": 1, "timed_out": 0, "evicted": 0, "accounting_difference": 0, "delays": None,
    }  # fmt: skip
    one = status["learners"]["linear"]
    assert (one["events"]["learnt"], one["events"]["unlabelled"]) == (502, 1)
    assert (one["served"]["n"], one["delayed"]["n"]) == (2, 2)
    assert one["served"]["log_loss"] > 0
    assert asked["id"] == "order-1"
    assert sum(serving["predictions"]["logged"] for serving in status["serving"]) == 4


@pytest.mark.parametrize("correction", ["none", "retract", "fnw"])
def test_a_late_yes_puts_a_no_right(folder: Callable[..., Folder], correction: str) -> None:
    """``join.missing = "negative"``: no after the wait, then a late yes; scored and held out when it is certain."""
    here = folder(**{**APART, "join__wait": "10s", "join__missing": "negative", "join__correction": correction,
                     "join__late_wait": "1000s", "holdout__rate": 0.2})  # fmt: skip
    events = numbers(800)
    labels = [{"id": one["id"], "y": 1, "ts": one["ts"] + 300} for one in events if one.pop("y")]
    here.write([*events, {"id": "last", "ts": events[-1]["ts"] + 5000, "x": {}}])
    (here.path / "labels").mkdir()
    (here.path / "labels" / "a.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in labels))
    here.train()
    status = here.status()
    one, said = status["learners"]["linear"], status["labels"]
    assert said["late"] == len(labels)
    assert one["events"]["pending"] == 1
    assert one["events"]["learnt"] + one["events"]["held_out"] == len(events)
    if correction != "none":
        assert one["metrics"]["n"] == one["events"]["learnt"], "scored once, when it was certain"
    assert accounted(here.learner()["events"])


def with_labels(here: Folder, count: int, after: float, first: int = 0) -> None:
    """More events, and their labels so many seconds later, in files of their own."""
    (here.path / "labels").mkdir(exist_ok=True)
    events = numbers(count, first=first)
    labels = [{"id": one["id"], "y": one.pop("y"), "ts": one["ts"] + after} for one in events]
    here.write(events)
    with (here.path / "labels" / "a.jsonl").open("ab") as file:
        file.writelines(orjson.dumps(one) + b"\n" for one in labels)


def test_a_revert_quarantines_pairs_and_a_replay_learns_them_again(folder: Callable[..., Folder]) -> None:
    """Promises 2 and 8: what is quarantined are pairs, by where they became whole; a replay finds them again.

    Their events lie before the range, where only what waited then knows them.
    """
    here, never = folder("here", **APART), folder("never", **APART)
    for one in (here, never):
        with_labels(one, 400, 50.5)
    here.trained()
    kept = here.lineage.numbers[-1]
    for one in (here, never):
        with_labels(one, 300, 50.5, first=400)
    here.trained()
    here.run("snapshots", "revert", "linear", str(kept))
    here.train()
    [row] = here.json("quarantine", "list")
    events = here.learner()["events"]
    assert row["events"] == events["quarantined"] > 250
    assert accounted(events)
    here.run("quarantine", "replay", row["id"])
    here.train()
    never.train()
    assert here.learner()["events"] == never.learner()["events"]
    assert here.state() == never.state()


def test_what_is_archived_are_whole_events(folder: Callable[..., Folder]) -> None:
    """Full retrains learn pairs: the archive holds each with its label, whenever it was begun."""
    here = folder(**APART)
    with_labels(here, 300, 50.5)
    here.train()
    here.run("archive", "run", "--until-end")
    with_labels(here, 200, 50.5, first=300)
    here.train()
    here.run("archive", "run", "--until-end")
    values = [
        row.value
        for file in Archive(store_of(here.config)).files()
        for row in Archive(store_of(here.config)).rows(file)
    ]
    events = [orjson.loads(value) for value in values]
    assert len({event["id"] for event in events}) == len(events) == here.learner()["events"]["learnt"]
    for event in events:
        assert event["y"] == numbers(1, first=int(event["id"][1:]))[0]["y"]


def test_what_is_forgotten_is_gone_from_what_waits_and_from_the_log(folder: Callable[..., Folder]) -> None:
    """``holdfast forget``: an event that waits is never learnt, nor is it after what waits was read again."""
    here = folder(**{**APART, "predictions__directory": "predictions"})
    (here.path / "predictions").mkdir()
    (here.path / "labels").mkdir()
    asked = [{**one, "prediction": True, "probability": 0.9, "learner": "linear", "snapshot": 1} for one in numbers(20)]
    for one in asked:
        del one["y"]
    log = here.path / "predictions" / "p.jsonl"
    log.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in asked))
    here.train()
    assert here.learner()["events"]["pending"] == 20
    report = json.loads(here.run("forget", "e3", "e4", "--json").stdout)
    assert report["predictions"] == 2
    assert b'"e3"' not in log.read_bytes()
    here.train()
    assert b"e3" not in b"".join(path.read_bytes() for path in (here.path / "waiting").iterdir())
    shutil.rmtree(here.path / "waiting")
    told = [{"id": f"e{n}", "y": 1, "ts": 1_700_000_100.0} for n in range(20)]
    (here.path / "labels" / "l.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in told))
    here.train()
    events = here.learner()["events"]
    assert (events["pending"], events["unlabelled"], events["learnt"]) == (0, 2, 18)
    assert accounted(events)


def test_labels_are_produced_from_tables_and_lines(folder: Callable[..., Folder]) -> None:
    """``holdfast produce --labels``: columns or JSON lines, counted and refused as the trainer will."""
    here = folder(**APART)
    events = numbers(100)
    rows = ["order,outcome,when", *(f"{one['id']},{one.pop('y')},{one['ts'] + 5}" for one in events)]
    here.write(events)
    (here.path / "told.csv").write_text("\n".join(rows) + "\n")
    columns = ("--id", "order", "--label", "outcome", "--time", "when")
    done = here.run("produce", str(here.path / "told.csv"), "--labels", *columns)
    assert "100 labels sent" in done.stdout
    (here.path / "more.jsonl").write_text('{"id": "e1", "y": "what"}\n')
    assert here.run("produce", str(here.path / "more.jsonl"), "--labels", code=1).stderr.count("unknown label") == 1
    here.train()
    assert here.status()["labels"]["joined"] == 100


def predictions(count: int, first: int = 0) -> bytes:
    """Lines of a log of predictions."""
    asked = [{**one, "prediction": True, "learner": "linear", "snapshot": 1} for one in numbers(count, first=first)]
    for one in asked:
        del one["y"]
    return b"".join(orjson.dumps(one) + b"\n" for one in asked)


def test_what_retention_took_is_said_before_anything_changes(folder: Callable[..., Folder]) -> None:
    """Nothing that waits is given up without a word; told to go on, it is counted and the ledger keeps it."""
    here = folder(**{**APART, "predictions__directory": "predictions"})
    for name in ("predictions", "labels"):
        (here.path / name).mkdir()
    (here.path / "predictions" / "p.jsonl").write_bytes(predictions(10))
    (here.path / "labels" / "l.jsonl").write_bytes(b'{"id": "e0", "y": 1, "ts": 1700000005}\n')
    here.train()
    (here.path / "predictions" / "p.jsonl").unlink()
    here.train()  # what waits is in a file of its own, and whole
    assert here.learner()["events"]["pending"] == 9
    shutil.rmtree(here.path / "waiting")
    before = here.status()
    failed = here.run("train", "--until-end", code=4)
    assert "9 events that wait for their labels are no longer" in failed.stderr
    assert "when_lost" in failed.stderr
    assert here.status()["snapshot"] == before["snapshot"]
    here.run("train", "--until-end", HOLDFAST_SOURCE__WHEN_LOST="go_on")
    status = here.status()
    assert (status["learners"]["linear"]["events"]["unlabelled"], status["labels"]["accounting_difference"]) == (9, 0)
    assert min(status["labels"][name] for name in ("joined", "early", "orphan", "pending")) >= 0
    assert here.json("ledger")[-1]["action"] == "lose"


def test_a_directory_that_is_away_for_a_while_is_read_on(folder: Callable[..., Folder]) -> None:
    """Files that were read to their end and come back as they were are not read again."""
    here = folder(**{**APART, "predictions__directory": "predictions"})
    for name in ("predictions", "labels"):
        (here.path / name).mkdir()
    (here.path / "predictions" / "p.jsonl").write_bytes(predictions(10))
    here.start("train")
    wait_for(lambda: here.lineage.newest() is not None and here.learner()["events"]["consumed"] == 10)
    for name in ("predictions", "labels"):
        (here.path / name).rename(here.path / f"{name}-away")
        (here.path / name).mkdir()
    wait_for(lambda: "was read to its end and is gone" in here.log("train"))
    for name in ("predictions", "labels"):
        (here.path / name).rmdir()
        (here.path / f"{name}-away").rename(here.path / name)
    with (here.path / "predictions" / "p.jsonl").open("ab") as file:
        file.write(predictions(5, first=10))
    wait_for(lambda: here.learner()["events"]["consumed"] > 10)
    here.end()
    events = here.learner()["events"]
    assert (events["consumed"], events["pending"], events["duplicate"]) == (15, 15, 0)


def test_status_and_ledger_of_odd_labels(folder: Callable[..., Folder]) -> None:
    """A first label of a wrong id; more that waits than may; nobody is told of late labels because of that."""
    here = folder(**{**APART, "predictions__directory": "predictions"}, join__max_pending=100)
    for name in ("predictions", "labels"):
        (here.path / name).mkdir()
    (here.path / "labels" / "l.jsonl").write_bytes(b'{"id": "nobody", "y": 1, "ts": 1700000000}\n')
    here.train()
    assert "1 early" in here.run("status").stdout
    (here.path / "predictions" / "p.jsonl").write_bytes(predictions(1000))
    here.train()
    (here.path / "labels" / "m.jsonl").write_bytes(
        b"".join(b'{"id": "e%d", "y": 1, "ts": 1700001000}\n' % number for number in range(1000))
    )
    here.train()
    said = here.run("status").stdout
    assert "join.max_pending is too small" in said
    assert "would catch 99" not in said
    evicted = [entry for entry in here.json("ledger") if entry["action"] == "evict"]
    assert "join.max_pending = 100" in evicted[0]["why"]


def test_what_is_forgotten_leaves_the_disk_while_the_trainer_runs(folder: Callable[..., Folder]) -> None:
    """Neither the file of what waits nor its log holds it a moment later."""
    here = folder(**{**APART, "predictions__directory": "predictions"})
    for name in ("predictions", "labels"):
        (here.path / name).mkdir()
    lines = predictions(20).replace(b'"f0"', b'"secret-mail"', 1)
    (here.path / "predictions" / "p.jsonl").write_bytes(lines)
    here.start("train")
    wait_for(lambda: here.lineage.newest() is not None and here.learner()["events"].get("pending") == 20)
    wait_for(lambda: b"secret-mail" in held(here))
    here.run("forget", "e0")
    wait_for(lambda: b"secret-mail" not in held(here), 10)


def held(here: Folder) -> bytes:
    """Every byte of what waits."""
    return b"".join(path.read_bytes() for path in (here.path / "waiting").iterdir())


def test_the_doors_give_the_time_and_refuse_one_that_is_ahead(folder: Callable[..., Folder]) -> None:
    """An event without a time joins its label; one from tomorrow would time out what waits, and is refused."""
    here = folder(**APART, snapshots__every_seconds=0.1)
    for name in ("labels-token", "events-token"):
        (here.path / name).write_text("say")
    here.write(numbers(200))
    here.start("up")
    here.wait_ready()
    token = {"Authorization": "Bearer say"}
    with here.http() as client:
        assert client.post("/events", json={"id": "new", "x": numbers(1)[0]["x"]}, headers=token).status_code == 202
        for path, body in (("/events", {"x": {}}), ("/labels", {"y": 1})):
            ahead = client.post(path, json={"id": "z", "ts": time.time() + 80_000, **body}, headers=token)
            assert (ahead.status_code, ahead.json()["reason"]) == (422, "bad_time")
        wait_for(lambda: here.learner()["events"].get("pending") == 1)
        assert client.post("/labels", json={"id": "new", "y": 1}, headers=token).status_code == 202
    wait_for(lambda: here.status()["labels"]["joined"] == 1)
