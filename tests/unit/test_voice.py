"""``[holdout.trusted]``: each checked label is taken once, whoever reads and whatever ends."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.lineages import Folder
from support.samples import numbers

from snapshots import Lineage
from snapshots.decisions import trusted
from snapshots.records.held_rows import HeldRow
from stream.compose import voice_of
from stream.config import check
from stream.errors import ConfigError
from stream.guard.trusted_labels import Voice
from stream.parts import store_of


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def here(folder: Callable[..., Folder]) -> Folder:
    """A lineage that has begun, and a directory for checked labels."""
    made = folder(holdout__trusted__directory="checked")
    made.write(numbers(50))
    made.train()
    (made.path / "checked").mkdir()
    return made


def checked(here: Folder, first: int, count: int, *more: bytes) -> None:
    lines = [*(orjson.dumps(one) for one in numbers(count, first=first)), *more]
    with (here.path / "checked" / "day.jsonl").open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))


@contextlib.contextmanager
def voice(here: Folder, clock: Clock) -> Iterator[Voice]:
    found = voice_of(here.config, now=clock, sleep=lambda _: None)
    yield found
    found.close()


def offsets(here: Folder) -> list[int]:
    """Where the labels that were taken were, in the order of the ledger."""
    lineage = Lineage(store_of(here.config)).refresh()
    entries = [one for one in lineage.entries if one.action == "trust"]
    return [row.offset for one in entries for row in trusted.read(lineage.store, one.cause)]


def test_labels_are_taken_in_lots_ten_seconds_apart(here: Folder) -> None:
    """The first at once; refused ones are passed over; nothing is written where nothing came."""
    clock = Clock()
    with voice(here, clock) as one:
        one.step()
        assert offsets(here) == []
        checked(here, 0, 3, b"nope", b'{"id": "a", "x": {}}')
        one.step()
        assert len(offsets(here)) == 3
        checked(here, 3, 2)
        one.step()
        assert len(offsets(here)) == 3
        clock.now += 11
        one.step()
        one.step()
    assert len(set(offsets(here))) == len(offsets(here)) == 5
    assert here.json("holdout", "show")["trusted"] == {"lots": 2, "newest": clock.now}


def test_what_was_not_written_is_read_again_and_what_was_is_not(here: Folder) -> None:
    """A reader that ends, and two readers at once."""
    clock = Clock()
    checked(here, 0, 4)
    with voice(here, clock) as first:
        first.step()
        checked(here, 4, 4)
        first.step()  # read, and not written
    with voice(here, clock) as second, voice(here, clock) as third:
        second.step()
        third.step()
        for number in range(8, 20, 2):
            clock.now += 11
            checked(here, number, 2)
            second.step()
            third.step()
    found = offsets(here)
    assert len(found) == len(set(found)) == 20
    assert found == sorted(found)


def test_what_was_forgotten_is_not_read_again(here: Folder) -> None:
    """The ledger says how far was read, also when a lot is gone."""
    checked(here, 0, 4)
    with voice(here, Clock()) as one:
        one.take()

    def every(_: HeldRow) -> bool:
        return True

    trusted.erase(store_of(here.config), every)
    with voice(here, Clock()) as one:
        one.take()
    assert offsets(here) == []


def test_a_directory_that_is_absent_is_waited_for(here: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and ends nobody."""
    (here.path / "checked").rmdir()
    with voice(here, Clock()) as one:
        one.take()
        stops = iter([False] * 4 + [True])
        one.run(lambda: next(stops))
        (here.path / "checked").mkdir()
        checked(here, 0, 2)
        one.step()
    assert len(offsets(here)) == 2
    assert (
        sum("there is no directory" in one.getMessage() and "trying" in one.getMessage() for one in caplog.records) == 1
    )


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "both": ({"directory": "checked", "topic": "checked"}, {}, "both set"),
    "the events' own directory": ({"directory": "./events/"}, {}, "would be learnt"),
    "the events' own topic": (
        {"topic": "clicks"}, {"kind": "kafka", "topics": ["clicks"], "kafka": {"bootstrap.servers": "x:1"}}, "learnt",
    ),
    "no broker": ({"topic": "checked"}, {}, "bootstrap.servers"),
    "the configuration's folder": ({"directory": "."}, {}, "holds the configuration"),
}  # fmt: skip


@pytest.mark.parametrize("which", WRONG)
def test_a_place_that_cannot_be_is_refused(which: str, tmp_path: Path) -> None:
    """With the setting's name."""
    place, source, said = WRONG[which]
    table = {
        "name": "x", "task": "binary", "learners": {"a": {"kind": "vw"}}, "holdout": {"trusted": place},
        "source": {"kind": "files", "directory": "events"} | source,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=said):
        check(table, tmp_path)


def test_files_of_checked_labels_without_number_fit_the_ledger(here: Folder) -> None:
    """Each entry names what was read for it alone: thousands of files with the longest of names break nothing."""
    count = 1500
    for number, event in enumerate(numbers(count)):
        (here.path / "checked" / ("\x01" * 240 + f"{number}.jsonl")).write_bytes(orjson.dumps(event) + b"\n")
    with voice(here, Clock()) as one:
        one.take()
    with voice(here, Clock()) as one:
        one.take()
    lineage = Lineage(store_of(here.config)).refresh()
    entries = [one for one in lineage.entries if one.action == "trust"]
    assert len(offsets(here)) == count
    assert lineage.ledger.verify() == len(lineage.entries)
    assert sum(len(ends) for one in entries for ends in one.place.values()) == count
    assert sum(len(ends) for ends in trusted.read_to(lineage.entries)[1].values()) == count


def test_lots_are_written_before_they_fill_the_memory(here: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within the ten seconds; the guard keeps no more of them than it asks for."""
    monkeypatch.setattr("stream.guard.trusted_labels._HELD_BYTES", 20_000)
    monkeypatch.setattr("snapshots.decisions.trusted._MOST", 100)
    checked(here, 0, 2000)
    with voice(here, Clock()) as one:
        for _ in range(6):
            one.step()
    lineage = Lineage(store_of(here.config)).refresh()
    assert len(offsets(here)) == 2000
    kept = trusted.Trusted(lineage.store)
    lots = [one for one in lineage.entries if one.action == "trust"]
    assert len(lots) == 4
    for end in range(1, len(lineage.entries) + 1):
        kept.since(lineage.entries[:end], 0.0)
    assert len(kept._lots) == 1


def test_a_file_that_is_gone_is_said_once(here: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """And is read from its beginning when another comes under its name."""
    checked(here, 0, 3)
    with voice(here, Clock()) as one:
        one.take()
    (here.path / "checked" / "day.jsonl").rename(here.path / "checked" / "kept")
    for number in range(3):
        (here.path / "checked" / f"{number}.jsonl").write_bytes(orjson.dumps(numbers(1, first=10 + number)[0]) + b"\n")
        with voice(here, Clock()) as one:
            one.take()
    assert sum("are gone" in one.getMessage() for one in caplog.records) == 1
    checked(here, 20, 2)
    with voice(here, Clock()) as one:
        one.take()
    assert len(offsets(here)) == 8
