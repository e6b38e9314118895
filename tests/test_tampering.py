"""Promise 9: with [signing], who may only write the store cannot decide, approve, or put it back unseen."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.lineages import Folder, wait_for
from support.samples import numbers

from snapshots import Lineage, LocalStore
from snapshots.decisions.head import Heads
from snapshots.decisions.ledger import Decision, Ledger
from snapshots.errors import LedgerBrokenError
from snapshots.store.signed import SignedStore, new_key
from stream.archive.files import Archive, Row


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A signed lineage of a few snapshots that passed, one of which was reverted to."""
    here = Folder(tmp_path_factory.mktemp("signed") / "lineage", signing__private_key_file="key.pem")
    (here.path / "key.pem").write_bytes(new_key())
    for number in range(3):
        here.write(numbers(200, first=200 * number))
        here.trained()
    here.run("snapshots", "revert", "1", "--why", "looks wrong")
    here.write(numbers(200, first=600))
    here.trained()
    history = here.path / "history.jsonl"
    history.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in numbers(50, first=5000)))
    here.run("archive", "import", str(history))
    here.run("verify")
    return here


@pytest.fixture
def signed(once: Folder, tmp_path: Path) -> Iterator[Folder]:
    """A copy of it, for one attack."""
    here = once.copy(tmp_path / "copy")
    yield here
    here.end()


def ledger_files(here: Folder) -> list[Path]:
    return sorted((here.path / "store/ledger").glob("*.json"))


def cut_the_ledger(here: Folder) -> None:
    ledger_files(here)[-1].unlink()


def cut_ledger_and_head(here: Folder) -> None:
    cut_the_ledger(here)
    for head in (here.path / "store/ledger/head").iterdir():
        head.unlink()


def hide_the_head(here: Folder) -> None:
    """Names that are read as larger numbers, with nothing in them that is signed."""
    cut_the_ledger(here)
    for name in ("999.json", "999999999999.json", "000000000099.json"):
        (here.path / "store/ledger/head" / name).touch()


def forge_an_entry(here: Folder) -> None:
    last = ledger_files(here)[-1]
    entry = json.loads(last.read_text()) | {"snapshot": 2, "by": "operator:root"}
    last.with_name(f"{len(ledger_files(here)) + 1:012d}.json").write_text(json.dumps(entry))


def change_an_entry(here: Folder) -> None:
    first = ledger_files(here)[0]
    first.write_text(first.read_text().replace("looks wrong", "looks right"))


def forge_a_verdict(here: Folder) -> None:
    last = max((here.path / "store/verdicts").rglob("*.json"))
    last.write_text(last.read_text().replace('"pass"', '"fail"'))


def move_a_verdict(here: Folder) -> None:
    found = sorted((here.path / "store/verdicts").rglob("*.json"))
    shutil.copy(found[1], found[-1])


def forge_an_epoch(here: Folder) -> None:
    number = len(list((here.path / "store/epochs").iterdir())) + 1
    epoch = {"number": number, "start": 0, "ledger": 0, "time": 1.0, "by": "me", "nonce": "x"}
    (here.path / f"store/epochs/{number:012d}.json").write_text(json.dumps(epoch))


def take_snapshots_away(here: Folder) -> None:
    for snapshot in sorted((here.path / "store/snapshots").iterdir())[-2:]:
        shutil.rmtree(snapshot)


def take_a_snapshot_from_the_middle(here: Folder) -> None:
    (here.path / "store/snapshots/000000000001/manifest.json").unlink()


def take_the_first_snapshot(here: Folder) -> None:
    shutil.rmtree(min((here.path / "store/snapshots").iterdir()))


def take_a_verdict(here: Folder) -> None:
    min((here.path / "store/verdicts").rglob("*.json")).unlink()


def take_every_verdict(here: Folder) -> None:
    shutil.rmtree(here.path / "store/verdicts")


def take_the_newest_epoch(here: Folder) -> None:
    max((here.path / "store/epochs").iterdir()).unlink()


def take_the_first_epoch(here: Folder) -> None:
    min((here.path / "store/epochs").iterdir()).unlink()


def change_a_model(here: Folder) -> None:
    part = next((here.path / "store/snapshots/000000000001").glob("linear.model-*"))
    part.write_bytes(part.read_bytes()[:-1] + b"!")


def put_the_store_back(here: Folder) -> None:
    copy = here.path / "copy"
    shutil.copytree(here.path / "store", copy)
    here.write(numbers(200, first=800))
    here.trained()
    shutil.rmtree(here.path / "store")
    copy.rename(here.path / "store")


def turn_the_archive_around(here: Folder) -> None:
    """A file of a higher generation, with every label the other one, in place of what was archived."""
    archive = Archive(LocalStore(here.path / "store"))
    (file,) = archive.files()
    turned = [
        Row(one.offset, one.following, one.time, one.id, one.value.replace(b'"y":', b'"y":1,"z":'))
        for one in archive.rows(file)
    ]
    about = archive.about(file)
    assert archive.write(file.part, about.begin, about.next, turned, 1.0, generation=1)


def change_looks(here: Folder) -> None:
    looks = min((here.path / "store/snapshots").rglob("*.looks"), default=None)
    if looks is None:  # the fast lane alone has judged: what is not signed does not count
        looks = here.path / "store/snapshots/000000000001/linear.looks"
    looks.write_bytes(b"{}")


def let_the_head_expire(here: Folder) -> None:
    here.config_path.write_text(here.config_path.read_text() + "signing.head_seconds = 0.01\n")
    here.run("snapshots", "pin", "1")
    time.sleep(0.02)


def test_everything_is_looked_at_whatever_is_wrong(signed: Folder) -> None:
    """A forged epoch hides neither the snapshots nor the head from ``holdfast verify``."""
    forge_an_epoch(signed)
    found = json.loads(signed.run("verify", "--json", code=1).stdout)
    wrong = [one["what"] for one in found if one["wrong"]]
    assert [one for one in wrong if not one.startswith(("epochs/", "lineage"))] == []
    assert len([one for one in found if one["what"].startswith("snapshot ")]) == len(
        list((signed.path / "store/snapshots").glob("*/manifest.json"))
    )


@pytest.mark.parametrize(
    "attack",
    [cut_the_ledger, cut_ledger_and_head, hide_the_head, forge_an_entry, change_an_entry, forge_a_verdict,
     move_a_verdict,
     forge_an_epoch, take_snapshots_away, take_a_snapshot_from_the_middle, take_the_first_snapshot,
     take_a_verdict, take_every_verdict, take_the_newest_epoch, take_the_first_epoch, change_a_model,
     put_the_store_back,
     turn_the_archive_around, change_looks, let_the_head_expire],
)  # fmt: skip
def test_what_was_done_to_the_store_is_found(signed: Folder, attack: Callable[[Folder], None]) -> None:
    """``holdfast verify`` exits 1 and says what; each in the way of somebody who has the store and no key."""
    attack(signed)
    done = signed.run("verify", code=1)
    assert " of " in done.stdout
    assert "Traceback" not in done.stderr
    assert json.loads(signed.run("verify", "--json", code=1).stdout)


@pytest.mark.parametrize(
    ("attack", "said"),
    [(take_a_snapshot_from_the_middle, "snapshot 1 was taken away"),
     (take_a_verdict, "the verdict on linear in snapshot 0 was taken away"),
     (take_the_newest_epoch, "epochs/000000000004.json was taken away")],
)  # fmt: skip
def test_what_was_taken_away_is_named_until_it_is_adopted(
    signed: Folder, attack: Callable[[Folder], None], said: str
) -> None:
    """Learning on does not hide it; an operator may say that it is well so."""
    attack(signed)
    assert said in signed.run("verify", code=1).stdout
    signed.write(numbers(200, first=800))
    signed.run("train", "--until-end", code=4 if attack is take_the_newest_epoch else 0)
    assert said in signed.run("verify", code=1).stdout
    signed.run("verify", "--adopt")
    signed.trained()
    signed.run("verify")


def test_what_retention_deletes_was_not_taken_away(folder: Callable[..., Folder]) -> None:
    """A head is signed without it before it goes; several go at once, since each head is a blob."""
    kept = {f"snapshots__keep__{span}": 0 for span in ("minutely", "hourly", "daily")}
    here = folder(signing__private_key_file="key.pem", snapshots__keep__last=3, **kept)
    (here.path / "key.pem").write_bytes(new_key())
    for number in range(15):
        here.write(numbers(20, first=20 * number))
        here.trained()
        here.run("verify")
    numbers_ = here.lineage.numbers
    assert len(numbers_) < numbers_[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda data: data[:0], "is damaged"), (lambda data: data[:-9], "is damaged"),
     (lambda data: b"\xff" + data, "is damaged"),
     (lambda data: data.replace(b'"key":"', b'"key":"0'), "no signature in the store holds"), (None, "it is gone")],
)  # fmt: skip
def test_a_damaged_charter_is_named_once_and_alone(
    signed: Folder, change: Callable[[bytes], bytes] | None, said: str
) -> None:
    """Every signature is over it, so that all of them fail with it, and none of them is what is wrong."""
    charter = signed.path / "store/lineage.json"
    data = charter.read_bytes()
    charter.unlink()
    if change is not None:
        charter.write_bytes(change(data))
    found = [one for one in json.loads(signed.run("verify", "--json", code=1).stdout) if one["wrong"]]
    assert [one["what"] for one in found] == ["lineage.json"]
    assert said in found[0]["wrong"]
    charter.write_bytes(data)
    signed.run("verify")


def test_a_forged_pass_serves_nothing(signed: Folder) -> None:
    """A verdict that no guard signed is a fail that says so."""
    signed.write(numbers(200, first=600))
    signed.train()
    newest = signed.lineage.numbers[-1]
    before = signed.learner()["serving"]
    old = max((signed.path / "store/verdicts").rglob("*.json"))
    verdict = json.loads(old.read_text()) | {"snapshot": newest, "verdict": "pass"}
    del verdict["signed"]
    (old.parent / f"{newest:012d}-linear.json").write_text(json.dumps(verdict))
    assert signed.learner()["serving"] == before


def test_nothing_is_decided_while_the_ledger_does_not_hold(signed: Folder) -> None:
    """Deciding is refused with what to do; looking says it on standard error, and learning goes on."""
    cut_the_ledger(signed)
    assert "were taken away" in signed.run("snapshots", "pin", "1", code=4).stderr
    assert "were taken away" in signed.run("snapshots", "list").stderr
    assert "were taken away" in signed.status()["store"]["trouble"]
    signed.write(numbers(100, first=800))
    signed.train()


def test_the_head_only_goes_forward(tmp_path: Path) -> None:
    """Whoever signs one that says less takes over what the one before said; a smaller number is refused."""
    (tmp_path / "key.pem").write_bytes(new_key())
    store = SignedStore(LocalStore(tmp_path / "store"), tmp_path / "key.pem", [], seen=tmp_path / "seen.json")
    store.create("lineage.json", b"{}")
    ledger = Ledger(store)
    ledger.append(1.0, lambda _: Decision("pin", "me", snapshot=1))
    ledger.sign_head(7, 2.0)
    stale = Heads(store)
    stale.write(0, "", 3, 3.0)
    assert stale.newest is not None
    assert (stale.newest.entries, stale.newest.snapshot) == (1, 7)
    for name in store.names("ledger/head/")[-1:]:
        store.delete(name)
    with pytest.raises(LedgerBrokenError, match="put back"):
        Heads(store).read()
    assert len(Ledger(SignedStore(LocalStore(tmp_path / "store"), None, [])).entries()) == 1


class Counted(LocalStore):
    """A store that counts how often it is listed."""

    listed = 0

    def names(self, prefix: str, after: str = "") -> list[str]:
        self.listed += 1
        return super().names(prefix, after)


def heads_of(tmp_path: Path, name: str) -> tuple[SignedStore, Counted]:
    """A signed store, as one process has it, whose own memory of heads is ``name``."""
    (tmp_path / "key.pem").write_bytes(new_key()) if not (tmp_path / "key.pem").exists() else None
    inner = Counted(tmp_path / "store")
    store = SignedStore(inner, tmp_path / "key.pem", [], seen=tmp_path / f"{name}.json")
    store.create("lineage.json", b"{}")
    return store, inner


def test_a_look_at_the_head_lists_no_store(tmp_path: Path) -> None:
    """A hundred looks, and as many heads signed by another: one list each; old ones go all the same.

    Who signs the first one looks whether there is anything yet that a head should be there for.
    """
    (one, listed), (other, also) = heads_of(tmp_path, "one"), heads_of(tmp_path, "other")
    writer, reader = Heads(one), Heads(other)
    for number in range(1, 101):
        writer.write(number, "x", number, float(number))
        found = reader.read()
        assert found is not None
        assert (found.number, found.entries) == (number, number)
    assert (listed.listed, also.listed) == (3, 1)
    assert len(one.names("ledger/head/")) == 3


@pytest.mark.parametrize("beyond", [1, 2, 50])
def test_a_reader_that_was_away_finds_the_newest_head(tmp_path: Path, beyond: int) -> None:
    """Also when the one that it saw was deleted for its age."""
    (one, _), (other, _) = heads_of(tmp_path, "one"), heads_of(tmp_path, "other")
    writer, reader = Heads(one), Heads(other)
    writer.write(1, "x", 1, 1.0)
    reader.read()
    for number in range(2, 2 + beyond):
        writer.write(number, "x", number, float(number))
    found = reader.read()
    assert found is not None
    assert found.number == 1 + beyond


def test_what_is_done_to_heads_between_two_looks_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A forged one in the way is passed over; the newest taken away, changed or put back is told at once."""
    (one, inner), (other, _) = heads_of(tmp_path, "one"), heads_of(tmp_path, "other")
    writer, reader = Heads(one), Heads(other)
    for number in (1, 2):
        writer.write(number, "x", number, float(number))
    reader.read()
    inner.create("ledger/head/000000000003.json", b"{}")
    writer.write(3, "x", 3, 3.0)
    found = reader.read()
    assert found is not None
    assert found.number == 4
    assert "does not hold" in caplog.text
    newest = tmp_path / "store/ledger/head/000000000004.json"
    data = newest.read_bytes()
    for damaged in (None, (tmp_path / "store/ledger/head/000000000002.json").read_bytes()):
        newest.unlink()
        newest.write_bytes(damaged) if damaged is not None else None
        with pytest.raises(LedgerBrokenError, match="put back"):
            Heads(other).read()
        if damaged is None:
            with pytest.raises(LedgerBrokenError, match="put back"):
                reader.read()
        newest.write_bytes(data)
    reader.read()
    inner.delete("ledger/head/000000000003.json")
    (newest.with_name("000000000006.json")).write_bytes(data)  # a gap, which only a list shows: no head of ours
    assert reader.read() == found
    monkeypatch.setattr("snapshots.decisions.head._LIST_SECONDS", 0.0)
    reader._list_at = 0.0
    assert reader.read() == found


def test_a_trainer_without_events_signs_the_head_anew(folder: Callable[..., Folder]) -> None:
    """So it expires only when nobody is there."""
    here = folder(signing__private_key_file="key.pem", signing__head_seconds=2.0)
    (here.path / "key.pem").write_bytes(new_key())
    here.write(numbers(100))
    here.start("train")
    wait_for(lambda: here.lineage.numbers and here.learner()["events"]["learnt"] == 100)
    time.sleep(3)
    here.run("verify")


def test_a_store_from_before_is_adopted_once_and_on_request(folder: Callable[..., Folder]) -> None:
    """Signing is switched on later: nothing counts until ``verify --adopt``, then all of it does."""
    here = folder()
    here.write(numbers(300))
    here.trained()
    (here.path / "key.pem").write_bytes(new_key())
    here.config_path.write_text(here.config_path.read_text() + 'signing.private_key_file = "key.pem"\n')
    assert here.run("verify", code=1).stdout
    text = here.config_path.read_text()
    here.config_path.write_text(text.replace("signing.private_key_file", "notify.webhook"))
    assert "nothing can be signed" in here.run("verify", "--adopt", code=4).stderr
    here.config_path.write_text(text)
    here.run("verify", "--adopt")
    here.write(numbers(100, first=300))
    here.trained()
    assert here.learner()["events"]["learnt"] == 400


def test_what_is_not_signed_is_not_remembered(signed: Folder) -> None:
    """A forged head, seen once and taken away, leaves nothing behind; with it there, the trainer signs on."""
    forged = signed.path / "store/ledger/head/000000000099.json"
    forged.write_bytes(b"{}")
    signed.run("status")
    signed.write(numbers(100, first=800))
    signed.train()
    forged.unlink()
    signed.run("verify")
    signed.write(numbers(100, first=900))
    signed.trained()
    signed.run("verify")


def test_a_forged_snapshot_far_away_counts_for_nothing(signed: Folder) -> None:
    """The next snapshot is the one after the newest that is signed; the head is not signed for a forged number."""
    before = signed.lineage.numbers[-1]
    forged = signed.path / "store/snapshots/999999999998/manifest.json"
    forged.parent.mkdir()
    forged.write_bytes(b"x")
    signed.write(numbers(100, first=800))
    signed.trained()
    assert before < signed.lineage.numbers[-1] < before + 10
    shutil.rmtree(forged.parent)
    signed.run("verify")


def test_an_emptied_store_is_no_new_lineage(signed: Folder) -> None:
    """Unless it is meant; and the old store, put back later, is still known to be old."""
    copy = signed.path / "old"
    shutil.copytree(signed.path / "store", copy)
    signed.write(numbers(100, first=800))
    signed.trained()
    shutil.rmtree(signed.path / "store")
    assert "was emptied" in signed.run("train", "--until-end", code=3).stderr
    signed.run("train", "--until-end", "--new-lineage")
    shutil.rmtree(signed.path / "store")
    copy.rename(signed.path / "store")
    assert "put back" in signed.run("verify", code=1).stdout


def test_an_expired_head_is_said_by_everyone(signed: Folder) -> None:
    """Not only by ``verify``: commands that look, and ``/ready``."""
    let_the_head_expire(signed)
    assert "has expired" in signed.run("status").stderr
    signed.start("serve")
    signed.wait_ready()
    with signed.http() as client:
        wait_for(lambda: "has expired" in client.get("/ready").json().get("store", ""))


def test_an_idle_stream_is_covered_to_its_newest_snapshot(folder: Callable[..., Folder]) -> None:
    """Snapshots that nobody followed are taken away; the head was signed for them."""
    here = folder(signing__private_key_file="key.pem")
    (here.path / "key.pem").write_bytes(new_key())
    here.start("train")
    for number in range(3):
        here.write(numbers(100, first=100 * number))
        wait_for(
            lambda number=number: here.lineage.numbers and here.learner()["events"]["learnt"] == 100 * (number + 1)
        )
    newest = here.lineage.numbers[-1]
    heads = here.path / "store/ledger/head"
    wait_for(lambda: json.loads(max(heads.iterdir()).read_bytes())["snapshot"] == newest, 60)
    for process in here.processes:
        process.kill()
        process.wait()
    shutil.rmtree(here.path / f"store/snapshots/{newest:012d}")
    assert "taken away" in here.run("verify", code=1).stdout


@pytest.mark.parametrize("decision", [False, True], ids=["heads", "heads and a decision"])
def test_a_lineage_without_its_heads_is_not_believed_on_another_machine(signed: Folder, decision: bool) -> None:
    """Nobody remembers anything there; a head is signed before the first snapshot, so its lack is seen."""
    if decision:
        cut_the_ledger(signed)
    shutil.rmtree(signed.path / "store/ledger/head")
    for remembered in signed.path.rglob("*seen*.json"):
        remembered.unlink()
    signed.write(numbers(100, first=800))
    assert "not signed" in signed.run("train", "--until-end").stderr  # it learns on, and hides nothing
    for arguments in (("guard", "--once"), ("ledger",), ("snapshots", "pin", "1")):
        done = signed.run(*arguments, code=None)
        assert done.returncode != 0, arguments
        assert "no signed head" in done.stderr + done.stdout, arguments
    assert not (signed.path / "store/ledger/head").exists()
    signed.run("verify", code=1)
    signed.run("verify", "--adopt")
    signed.trained()
    signed.run("verify")


def test_a_forged_head_is_named_by_verify(signed: Folder) -> None:
    """It counts for nothing, and somebody put it there."""
    (signed.path / "store/ledger/head/999999999999.json").write_bytes(b'{"number": 999999999999}')
    assert "999999999999.json" in signed.run("verify", code=1).stdout


@pytest.mark.parametrize("wrong", [{"task": "regression"}, {"name": "typo"}], ids=str)
def test_a_start_that_was_mended_is_no_forgery(folder: Callable[..., Folder], wrong: dict[str, Any]) -> None:
    """What a first start with a wrong setting left is gone, and everything is signed over what is there now."""
    here = folder(signing__private_key_file="key.pem")
    (here.path / "key.pem").write_bytes(new_key())
    here.write(numbers(200))
    environment = {f"HOLDFAST_{name.upper()}": value for name, value in wrong.items()}
    (here.path / "events").rename(here.path / "away")
    model = here.path / "model.py"
    text = model.read_text() if model.exists() else ""
    if "name" in wrong:
        model.write_text("raise RuntimeError\n")
    here.run("train", "--until-end", code=None, **environment)
    model.write_text(text)
    (here.path / "away").rename(here.path / "events")
    here.trained()
    here.run("verify")
    here.write(numbers(100, first=200))
    here.trained()
    assert here.learner()["events"]["learnt"] == 300
    here.run("verify")


def test_a_head_alone_binds_no_store(tmp_path: Path) -> None:
    """It is signed before the first snapshot: a start that ended in between is one that came to nothing."""
    key = tmp_path / "key.pem"
    key.write_bytes(new_key())
    store = SignedStore(LocalStore(tmp_path / "store"), key, [])
    Lineage(store).charter("typo", "binary", 1.0)
    Lineage(store).begin_epoch(None, 1.0, "me")
    Ledger(store).sign_head(-1, 1.0)
    assert Lineage(store).charter("shop", "binary", 2.0).name == "shop"
    Ledger(store).sign_head(-1, 2.0)
    assert Heads(store).read() is not None
