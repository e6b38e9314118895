"""Dead letters: listed, shown, mended, and sent back into the source, each at most once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.lineages import Folder, accounted
from support.samples import numbers

from snapshots.errors import RefusedError
from stream.compose import resending_of
from stream.dead_letters.destinations import IntoFiles
from stream.dead_letters.reader import Letter, letters_of
from stream.dead_letters.replay import Resending
from stream.dead_letters.writer import FileDeadLetters
from stream.errors import CommandError
from stream.record import Record
from stream.refusal import Reason, Refusal

MEND = """
import json

def label(value):
    event = json.loads(value)
    if event["id"] == "keep":
        return None
    return json.dumps({**event, "y": 1 if event["y"] == "yes" else 0}).encode()

def text(value):
    return value.decode()
"""


def refused(here: Folder, count: int = 5) -> list[bytes]:
    """Letters as the trainer writes them, of events whose label is a word that the configuration does not know."""
    values = [orjson.dumps({"id": f"b{i}", "x": {"f0": 1.0}, "y": "yes"}) for i in range(count)]
    letters = FileDeadLetters(here.events)
    for at, value in enumerate(values):
        letters.send(
            Record("events", "a.jsonl", 100 * at, 100 * at + 100, value), Refusal(Reason.UNKNOWN_LABEL, "y", "'yes'")
        )
    letters.flush(lambda _why: False)
    return values


def replayed(here: Folder) -> list[str]:
    """The ids in the files that replays wrote, in order."""
    files = sorted(here.events.glob("replayed-*.jsonl"))
    return [orjson.loads(line)["id"] for path in files for line in path.read_bytes().splitlines()]


def label(value: bytes) -> bytes:
    return value.replace(b'"yes"', b"1")


def resending(here: Folder) -> Resending:
    return resending_of(here.config, by="operator:test", why="")


def letters(here: Folder) -> Iterable[Letter]:
    return letters_of(here.config, here.lineage.store)


def test_letters_are_listed_mended_and_learnt(folder: Callable[..., Folder]) -> None:
    """Promise 2: what is mended is an event like any other, once; what is not stays, and says why."""
    here = folder()
    (here.path / "mend.py").write_text(MEND)
    bad = [{"id": f"b{i}", "x": {"f0": 1.0}, "y": "yes"} for i in range(3)]
    here.write([*numbers(50), *bad, {"id": "keep", "x": {}, "y": "no"}, b"nope \x1b[31m"])
    here.train()

    rows = here.json("dead-letters", "list")
    assert [row["reason"] for row in rows] == ["unknown_label"] * 4 + ["not_json"]
    assert here.json("dead-letters", "list", "--last", "1", "--reason", "unknown_label") == rows[3:4]
    one = here.json("dead-letters", "show", rows[0]["letter"])
    assert orjson.loads(one["value"]) == bad[0]
    assert "\x1b" not in here.run("dead-letters", "show", rows[4]["letter"]).stdout

    said = here.run("dead-letters", "replay", code=1).stdout
    assert "4 would be refused again (unknown_label)" in said
    mended = ("dead-letters", "replay", "--reason", "unknown_label", "--fix", "mend:label")
    assert "3 letters would be sent" in here.run(*mended, "--dry-run").stdout
    assert here.lineage.ledger.entries() == []
    assert "3 letters are back in the source (ledger: 1)" in here.run(*mended, "--why", "yes is 1").stdout
    assert replayed(here) == ["b0", "b1", "b2"]
    again = here.json(*mended, "--dry-run")
    assert (again["sent"], again["already"], again["left"]) == (0, 3, 1)
    assert [row["replayed"] for row in here.json("dead-letters", "list")] == [1, 1, 1, None, None]

    here.train()
    counts = here.learner()["events"]
    assert accounted(counts)
    assert (counts["learnt"], counts["dead_lettered"]) == (53, 5)
    entries = here.json("ledger")
    assert [(entry["action"], entry["cause"]) for entry in entries] == [
        ("replay_letters", ""),
        ("letters_replayed", "1"),
    ]
    assert entries[0]["why"] == "yes is 1"
    assert entries[0]["only"] == [row["letter"] for row in rows[:3]]


@pytest.mark.parametrize("point", ["claimed", "written", "linked", "told"])
def test_each_at_most_once_however_often_it_is_cut_off(
    folder: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Killed before it is written, before it has its name, before it is said, and after: then run again, twice."""
    here = folder()
    refused(here)
    killed = KeyboardInterrupt()

    def dies(*_: Any, **__: Any) -> Any:
        raise killed

    with monkeypatch.context() as patch:
        if point == "claimed":
            patch.setattr(IntoFiles, "send", dies)
        elif point == "written":
            patch.setattr(Path, "hardlink_to", dies)
        elif point == "linked":
            patch.setattr(Resending, "_say", dies)
        with pytest.raises(KeyboardInterrupt) if point != "told" else pytest.MonkeyPatch.context():
            resending(here).run(letters(here), label)
    sent = [resending(here).run(letters(here), label).sent for _ in range(2)]
    assert replayed(here) == [f"b{i}" for i in range(5)]
    assert sent == ([5, 0] if point in ("claimed", "written") else [0, 0])
    actions = [entry.action for entry in here.lineage.ledger.entries()]
    assert actions == [
        "replay_letters",
        *(["letters_not_replayed", "replay_letters"] if point in ("claimed", "written") else []),
        "letters_replayed",
    ]


def test_one_who_was_only_slow_sends_nothing_more(folder: Callable[..., Folder]) -> None:
    """Another has looked meanwhile, set the letters free, and sent them."""
    here = folder()
    refused(here)
    slow, way = resending(here), IntoFiles(here.config, here.lineage)

    class Waits:
        def send(self, number: int, lot: list[Letter]) -> None:
            resending(here).run(letters(here), label)
            way.send(number, lot)

        arrived, close = way.arrived, way.close

    slow._way = Waits()
    with pytest.raises(CommandError, match="somebody else looked after these letters"):
        slow.run(letters(here), label)
    assert replayed(here) == [f"b{i}" for i in range(5)]


def test_a_file_that_was_read_and_is_gone_arrived(folder: Callable[..., Folder], monkeypatch: Any) -> None:
    """The trainer's place tells; nothing is sent again."""
    here = folder()
    refused(here)
    with monkeypatch.context() as patch:
        patch.setattr(Resending, "_say", lambda *_: None)  # cut off before it was said
        resending(here).run(letters(here), label)
    here.train()
    (path,) = here.events.glob("replayed-*.jsonl")
    path.unlink()
    assert resending(here).run(letters(here), label).sent == 0
    assert not path.exists()


def test_two_at_once_share_nothing(folder: Callable[..., Folder]) -> None:
    """The ledger decides; the loser says so."""
    here = folder()
    refused(here)
    first = resending(here)
    lot = list(first._events(letters(here), label, first.run([])))
    first._send(lot, first.run([]))
    with pytest.raises(RefusedError, match="somebody else"):
        resending(here)._send(lot, first.run([]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "events:a.jsonl:7"], "there is no dead letter events:a.jsonl:7"),
        (["replay", "events:a.jsonl:7"], "there is no dead letter events:a.jsonl:7"),
        (["replay", "--fix", "nowhere:f"], "module:function"),
        (["replay", "--fix", "mend:nothing"], "module:function"),
        (["replay", "--fix", "mend:text"], "it returns bytes or None"),
        (["replay", "--fix", "mend:label", "--reason", "not_json"], "raised at letter"),
        (["replay", "--reason", "nonsense"], "'too_large'"),
    ],
)
def test_what_cannot_be_done_says_what_can(folder: Callable[..., Folder], arguments: list[str], said: str) -> None:
    """In one sentence, and nothing was sent."""
    here = folder()
    (here.path / "mend.py").write_text(MEND)
    refused(here)
    bad = FileDeadLetters(here.events)
    bad.send(Record("events", "b.jsonl", 0, 5, b"nope"), Refusal(Reason.NOT_JSON, "", "no"))
    bad.flush(lambda _why: False)
    done = here.run("dead-letters", *arguments, code=None)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert replayed(here) == []


def test_no_letters_is_no_trouble(folder: Callable[..., Folder]) -> None:
    """An empty list, and nothing to replay."""
    here = folder()
    assert here.json("dead-letters", "list") == []
    assert here.json("dead-letters", "replay")["sent"] == 0


def test_letters_of_files_with_the_longest_names_fit_the_ledger(folder: Callable[..., Folder]) -> None:
    """Who writes events names the files: an entry names fewer letters then."""
    here = folder()
    here.write(numbers(50))
    here.train()
    name = "\x01" * 240 + ".jsonl"
    given = [Letter("events", name, at, "", "", orjson.dumps({"id": f"c{at}", "x": {}, "y": 1})) for at in range(800)]
    report = resending(here).run(given)
    assert (report.sent, len(report.entries)) == (800, 3)
    assert len(replayed(here)) == 800
    assert here.lineage.ledger.verify() == len(here.lineage.refresh().entries)
