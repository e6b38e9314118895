"""What the trainer deletes: disk and memory are bounded, whatever the guard does, and nothing that counts goes."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from support.snapshots_made import write

from snapshots import Lineage, LocalStore
from snapshots.errors import LineageTakenError, SnapshotsError
from snapshots.judging import looks, pruning
from snapshots.judging.history import all_verdicts, served_at
from snapshots.judging.looks import Looks
from snapshots.records import verdict as verdicts
from snapshots.records.held_rows import HeldRow
from snapshots.records.holdout import Holdout, Sizes
from snapshots.records.manifest import HoldoutState
from snapshots.records.retention import Keep
from snapshots.records.verdict import Verdict

FEW = Keep(last=3, minutely=0, hourly=0, daily=0, verdict_days=1)


def judged(store: LocalStore, number: int, verdict: Any = "pass") -> None:
    details = {"": {"loss": 0.1}}
    verdicts.give(
        store, Verdict("a", number, 0, verdict, f"of {number}", {"loss": 0.1}, number, number, details=details)
    )


def forget(store: LocalStore, now: float = 0.0, keep: Keep = FEW) -> list[int]:
    pruning.forget(Lineage(store), keep, lambda: None, now)
    return Lineage(store).refresh().numbers


def test_snapshots_that_nobody_judges_are_bounded_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a guard the disk does not fill: as many are kept as of passing ones, and it is said."""
    store = LocalStore(tmp_path)
    for number in range(4):
        write(store, number, created=float(number))
        judged(store, number)
    for number in range(78, 101):
        write(store, number, created=float(number))
    assert forget(store) == [0, 1, 2, 3, 98, 99, 100]
    assert "is holdfast guard running" in caplog.text


def test_the_passing_looks_of_late_are_kept(tmp_path: Path) -> None:
    """One of them is the next reference, however long ago it passed."""
    store = LocalStore(tmp_path)
    for number in range(40):
        write(store, number, created=float(number))
        judged(store, number, "pass" if number < 10 else "suspect")
    looks.write(store, 38, "a", Looks(passing_after=[(3, 0.1), (7, 0.1)]))
    assert forget(store) == [0, 3, 7, 8, 9, 37, 38, 39]


def test_old_verdicts_are_packed_and_still_tell_what_served(tmp_path: Path) -> None:
    """Once a thousand are done, one blob holds them; a snapshot that is there keeps its own; days later it goes."""
    store = LocalStore(tmp_path)
    numbers = [0, 500, 990, 991, 992, 993, 1500, 1998, 1999, 2000]
    for number in numbers:
        write(store, number, created=float(number))
        judged(store, number, "fail" if number == 992 else "pass")
    assert forget(store) == [0, 992, 1998, 1999, 2000]  # 992 failed: somebody will ask for its verdict
    left = store.names("verdicts/")
    assert [name for name in left if not verdicts.is_pack(name)] == [
        verdicts.name_of(number, "a") for number in (0, 992, 1998, 1999, 2000)
    ]
    assert [verdicts.packed_at(name) for name in left if verdicts.is_pack(name)] == [993.0, 1999.0]
    given = all_verdicts(store, "a")
    assert [one.snapshot for one in given] == numbers
    assert served_at([], given, "a", 992.5).snapshot == 991
    for number in range(2001, 2005):
        write(store, number, created=float(number))
        judged(store, number)
    write(store, 3000, created=3000.0)
    judged(store, 3000)
    assert forget(store, now=993.0 + 86_401.0) == [0, 992, 2003, 2004, 3000]
    assert [one.snapshot for one in all_verdicts(store, "a")] == [
        0,
        992,
        1500,
        1998,
        1999,
        2000,
        *range(2001, 2005),
        3000,
    ]


def test_a_damaged_pack_loses_its_past_and_nothing_else(tmp_path: Path) -> None:
    """It is said, and the rest is read."""
    store = LocalStore(tmp_path)
    for number in (0, 1, 2000):
        write(store, number)
        judged(store, number)
    store.create("verdicts/000000001/packed-5", b"nonsense")
    assert [one.snapshot for one in all_verdicts(store, "a")] == [0, 1, 2000]


def test_holdout_rows_that_no_snapshot_names_go(tmp_path: Path) -> None:
    """Rows of the candidate, and sealed versions; not those that a void or a living snapshot names."""
    store = LocalStore(tmp_path)
    holdout = Holdout(Sizes(300), "binary")
    for number in range(900):
        holdout.add(HeldRow("t", "0", number, b"{}", number % 2 == 0, float(number), []))
        if holdout.due(number) or number in (600, 800):
            holdout.seal([], 1.0)
    blobs = holdout.unwritten()
    for name, data in blobs.items():
        store.create(name, data)
    assert len(blobs) > 4
    state = holdout.state()
    last = HoldoutState(state.versions[-1:], state.chunks, state.candidate)
    write(store, 0, holdout=last)
    judged(store, 0)
    forget(store)
    assert store.names("holdout/") == sorted([state.versions[-1].part.name, *(part.name for part in state.chunks)])


def test_a_trainer_that_was_overtaken_deletes_nothing(tmp_path: Path) -> None:
    """What another writes now is not what this one knows to be unused."""
    store = LocalStore(tmp_path)
    for number in range(10):
        write(store, number)
        judged(store, number)
    store.create("holdout/rows-of-the-other", b"x")

    def superseded() -> None:
        raise LineageTakenError("another took over")

    with pytest.raises(LineageTakenError):
        pruning.forget(Lineage(store), FEW, superseded, 0.0)
    assert Lineage(store).refresh().numbers == list(range(10))
    assert store.names("holdout/") == ["holdout/rows-of-the-other"]


def test_only_so_many_sealed_versions_are_named() -> None:
    """Numbers go on; the oldest versions are history."""
    holdout = Holdout(Sizes(10), "binary")
    for number in range(400):
        holdout.add(HeldRow("t", "0", number, b"{}", True, 0.0, []))
        if number % 20 == 19:
            holdout.seal([], float(number))
    assert [version.number for version in holdout.versions] == list(range(11, 21))


@pytest.mark.parametrize("folder", ["holdout", "verdicts", "snapshots/000000000002", "snapshots"])
def test_retention_does_not_leave_the_store(tmp_path: Path, folder: str) -> None:
    """A folder that somebody replaced by a link: what it leads to stays, and at most it is said that nothing went."""
    store, home = LocalStore(tmp_path / "store"), tmp_path / "home"
    for number in (*range(8), 100):
        write(store, number, created=float(number))
        judged(store, number)
    home.mkdir()
    for name in ("precious", "manifest.json", "000000000000-000000000999.json"):
        (home / name).write_text("dear")
    place = tmp_path / "store" / folder
    if place.exists():
        place.rename(tmp_path / "away")
    place.symlink_to(home)
    with contextlib.suppress(SnapshotsError):
        forget(store)
    store.sweep()
    assert {path.name: path.read_text() for path in home.iterdir()} == dict.fromkeys(
        ("precious", "manifest.json", "000000000000-000000000999.json"), "dear"
    )
