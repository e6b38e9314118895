"""``holdfast forget``: an event is gone from archive, holdout and dead letters, whoever was writing at that moment."""

import base64
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.archived import RULES
from support.lineages import Folder, wait_for
from support.samples import numbers

from snapshots.records.held_rows import rows_of
from snapshots.records.membership import Membership
from stream.archive.eraser import Named
from stream.archive.files import Archive

SMALL: dict[str, Any] = {
    "source__batch": 100, "archive__every_events": 200, "archive__every_seconds": 0.2, "holdout__rate": 0.4,
    "holdout__rows": 600, "event__max_refused_share": 1.0,
}  # fmt: skip

MIXED = {"linear": {"kind": "river", "factory": "model:mixed", "role": "champion"}}


def people(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Events of customers, one in fifty of each."""
    found = numbers(count, first=first)
    for number, event in enumerate(found, first):
        event["x"]["customer"] = f"c-{number % 50}"
    return found


def anywhere(here: Folder, needle: bytes) -> list[str]:
    """Files below archive, holdout and dead letters whose bytes, or whose events, hold this."""
    archive = Archive(here.lineage.store)
    found = [f.name for f in archive.files() if any(needle in row.value or needle in row.id.encode()
                                                    for row in archive.rows(f))]  # fmt: skip
    newest = here.lineage.newest()
    assert newest is not None
    parts = [one.part for one in newest.holdout.versions] + newest.holdout.chunks
    for part in parts:
        data = here.lineage.store.get(part.name)
        assert data is not None
        found += [part.name for row in rows_of(data, part.name) if needle in row.features]
    for path in here.path.glob("events.dead-letter/*"):
        for line in path.read_bytes().splitlines():
            if needle in base64.b64decode(json.loads(line)["value_base64"]):
                found.append(path.name)
    return found


def consumed(here: Folder) -> int:
    newest = here.lineage.newest()
    return newest.counts.consumed if newest is not None else 0


def held_ids(here: Folder, events: list[dict[str, Any]]) -> list[str]:
    """The ids that are held out."""
    charter = here.lineage.charter("test", "binary", 0.0)
    member = Membership(bytes.fromhex(charter.key), 0.4)
    return [event["id"] for event in events if member.claims(member.digest(event["id"]))]


def test_an_id_is_gone_from_archive_holdout_and_dead_letters(folder: Callable[..., Folder]) -> None:
    """The rest stays as it was; the ledger keeps a salted hash; what still holds it is listed."""
    here = folder(learners=MIXED, **SMALL)
    events = people(2500)
    bad = [b'{"id": "e7", "x": {"f0": "1e99999999"}', orjson.dumps({"id": "e8", "x": {}, "y": 7})]
    here.write(events)
    here.write(bad)
    here.trained()
    here.run("archive", "run", "--until-end")
    before = here.json("archive", "show")[0]["events"]
    held = [one for one in held_ids(here, events) if one not in ("e7", "e8")]
    gone = [held[3], held[700], "e7", "e8"]
    assert before == 2500
    newest = here.lineage.newest()
    assert newest is not None
    assert newest.holdout.versions
    done = here.run("forget", *gone, "--why", "asked on Tuesday")
    assert "4 events are out of the archive and 2 out of the dead letters" in done.stdout
    here.train()
    for one in gone:
        assert not anywhere(here, b'"%s"' % one.encode())
    assert here.json("archive", "show")[0]["events"] == before - 4
    assert here.json("archive", "verify")["wrong"] == []
    later = here.lineage.newest()
    assert later is not None
    assert later.holdout.versions[-1].number == newest.holdout.versions[-1].number + 1
    assert 1 <= newest.holdout.versions[-1].rows - later.holdout.versions[-1].rows <= 4
    entry = next(e for e in here.json("ledger") if e["action"] == "forget")
    assert len(entry["hashes"]) == 4
    assert not any(f'"{one}"' in json.dumps(entry) for one in gone)
    assert "snapshots" in done.stdout
    assert "a.jsonl" in done.stdout
    assert not any(e["action"] == "retrain" for e in here.json("ledger"))
    here.run("forget", "nobody", code=1)


def test_a_customer_is_gone_up_to_now_and_may_come_back(folder: Callable[..., Folder]) -> None:
    """By the value of a feature; events of before the request that come late are not archived, later ones are."""
    here = folder(learners=MIXED, **SMALL)
    here.write(people(1000))
    here.trained()
    here.run("archive", "run", "--until-end")
    report = json.loads(here.run("forget", "c-7", "--by", "customer", "--json").stdout)
    assert report["archived"] == 20
    spans = report["ranges"]["events"]["a.jsonl"]
    assert len(spans) == 20
    late, new = people(50, first=1000), people(50, first=2000)
    for event in new:
        event["ts"] = time.time() + 60
    here.write(late + new)
    here.train()
    here.run("archive", "run", "--until-end")
    archive = Archive(here.lineage.store)
    left = [row.id for file in archive.files() for row in archive.rows(file) if b'"c-7"' in row.value]
    assert left == ["e2007"]


def test_forgetting_beside_archivers_that_write_and_are_killed(folder: Callable[..., Folder]) -> None:
    """Kill -9 of archiver and command at seeded moments: at the end nothing is left of it, and nothing else is lost."""
    here = folder(learners=MIXED, **SMALL)
    draw = random.Random(11)
    events = people(6000)
    gone: set[str] = set()
    archivers = [here.start("archive", "run"), here.start("archive", "run")]
    for begin in range(0, 6000, 1000):
        here.write(events[begin : begin + 1000])
        chosen = {f"e{draw.randrange(begin, begin + 1000)}" for _ in range(5)}
        gone |= chosen
        cut_off = here.start("forget", *chosen)
        time.sleep(draw.uniform(0.5, 2.0))
        cut_off.send_signal(signal.SIGKILL)
        archivers.append(here.start("archive", "run"))
        victim = archivers.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        here.run("forget", *chosen, code=None)
    for one in archivers:
        one.send_signal(signal.SIGTERM)
        one.wait()
    here.run("archive", "run", "--until-end")
    archive = Archive(here.lineage.store)
    ids = [row.id for file in archive.files() for row in archive.rows(file)]
    assert sorted(ids) == sorted(event["id"] for event in events if event["id"] not in gone)
    assert here.json("archive", "verify")["wrong"] == []


def test_imported_history_is_forgotten_and_stays_so(folder: Callable[..., Folder], tmp_path: Path) -> None:
    """A second import of the same file brings nothing back."""
    here = folder(learners=MIXED, **SMALL)
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in people(500)))
    here.run("archive", "import", str(path))
    done = here.run("forget", "e3", "e4")
    assert "history.jsonl" in done.stdout
    here.run("archive", "import", str(path))
    assert here.json("archive", "show")[0]["events"] == 498


def test_a_running_trainer_takes_rows_out_and_goes_on(folder: Callable[..., Folder]) -> None:
    """Without a restart; rows that are held out later are not kept either."""
    here = folder(learners=MIXED, **SMALL)
    events = people(3000)
    here.write(events[:2500])
    here.start("train")
    wait_for(lambda: consumed(here) == 2500)
    held = held_ids(here, events)
    gone = [held[10], held[-1]]
    done = here.run("forget", *gone)
    assert "the trainer takes 1 rows out of the holdout" in done.stdout  # and nothing is archived here
    wait_for(lambda: not anywhere(here, orjson.dumps(events[int(gone[0][1:])]["x"]["f0"])))
    here.write(events[2500:])
    wait_for(lambda: consumed(here) == 3000)
    here.end()
    assert not anywhere(here, orjson.dumps(events[int(gone[1][1:])]["x"]["f0"]))


def test_what_a_baseline_keeps_goes_too_and_a_full_retrain_follows(folder: Callable[..., Folder]) -> None:
    """The sample that drift is told by, the folder of training data; the scheduler trains anew without the event."""
    pytest.importorskip("torch")
    here = folder(learners=MIXED, **SMALL | RULES | {"retrain__check_seconds": 0.3, "retrain__cooldown_seconds": 0.0,
                                                     "retrain__warm": True, "retrain__drift_psi": 0.0})  # fmt: skip
    events = people(1500)
    here.write(events)
    here.train()
    here.run("archive", "run", "--until-end")
    here.run("retrain", "--now", "--full", code=None)
    assert here.json("retrain", "list")[0]["state"] == "accepted"
    held = set(held_ids(here, events))
    gone = next(event for event in events if event["id"] not in held)
    customer = gone["x"]["customer"]
    sample = next((here.path / "store" / "baselines").rglob("sample-*"))
    assert customer.encode() in sample.read_bytes()
    done = here.run("forget", "--by", "customer", customer)
    assert "asks for a full retrain" in done.stdout
    assert not sample.exists()
    assert not (here.path / "retrain-work").exists()
    here.start("retrain", "watch")
    wait_for(lambda: len(here.json("retrain", "list")) == 2, 90)
    newest = wait_for(lambda: (r := here.json("retrain", "list")[0])["state"] != "new" and r, 60)
    assert newest["trigger"].startswith("forget: 30 events were erased")
    assert newest["warm_from"] is None
    assert newest["rows"] < here.json("retrain", "list")[1]["rows"]


def test_torn_letters_are_meant_by_the_value_and_not_by_a_part_of_it() -> None:
    """A short id must not take everything with it that happens to hold its digits."""
    one = Named("id", ["7", "e8"])
    assert Named("x.a", ["7"], numbers=True).means(b'{"x": {"a": 7.0}}')
    for data in (b'{"id": 7, "x"', b'{"id":7}', b'{"id": "7", torn', b'{"id": "e8"', b'{"y": "e8" '):
        assert one.means(data), data
    others = (b'{"id": "007"}', b'{"id": 77, "x"', b'{"id": "a7", "y": 7', b'{"y": 7 torn', b"7", b'{"id": "e88"',
              b'{"id": 7.5 torn', b'{"id": "a", "y": "e8"}')  # fmt: skip
    for data in others:
        assert not one.means(data), data
    assert Named("x.user.id", ["4"]).means(b'{"x": {"user": {"id": 4}}}')
