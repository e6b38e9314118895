"""History (snapshots/history): what is kept of each time, that it outlives snapshots, and how fast a month is read."""

from pathlib import Path

import pytest

from snapshots.history.levels import LEVELS, Reader, Recorder, blob, evenly, names
from snapshots.history.rows import LearnerRow, Row, main_figure
from snapshots.lineage import Lineage
from snapshots.store.local import LocalStore


def row(number: int, created: float) -> Row:
    learner = LearnerRow(0, 10 * number, 0, {"accuracy": 0.5, "log_loss": 0.6}, 0.2, slices={"country=de": 0.7})
    return Row(number, created, created - 1, {"consumed": 10 * number}, {}, {"one": learner})


def recorded(
    store: LocalStore, count: int, begin: float = 1_700_000_000.0, first: int = 0, every: float = 1.0
) -> Recorder:
    recorder = Recorder(Lineage(store, looking=True))
    recorder.resume()
    for number in range(count):
        recorder.note(row(first + number, begin + every * number))
    return recorder


def test_each_level_keeps_one_row_of_its_span_and_no_more_blobs_than_it_may(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    recorded(store, 25 * 3600 // 10, every=10.0)
    snapshots, minutes, hours = ([one for name in names(store, level) for one in blob(store, name)] for level in LEVELS)
    assert len(names(store, LEVELS[0])) == LEVELS[0].blobs
    assert len({one.created // 60 for one in minutes}) == len(minutes) == 25 * 60
    assert len(hours) == 24
    assert [len(one.learners["one"].slices) for one in (snapshots[0], minutes[0], hours[0])] == [0, 0, 1]


def test_days_are_read_at_once_and_evenly(tmp_path: Path) -> None:
    """Four days with a row a minute: as many points as were asked for, and the newest among them."""
    store, begin = LocalStore(tmp_path), 1_700_000_000.0
    recorder = Recorder(Lineage(store, looking=True))
    recorder.resume()
    for minute in range(4 * 24 * 60):
        recorder.note(row(minute, begin + 60 * minute))
    reader, lineage, end = Reader(store), Lineage(store, looking=True), begin + 4 * 86_400
    found = reader.rows(lineage, begin, end, 600)
    assert 590 <= len(found) <= 600
    assert (
        found[-1].created >= end - 2 * 3600
    )  # what is not in a blob yet is in manifests, of which there are none here
    assert [one.snapshot for one in found] == sorted({one.snapshot for one in found})
    assert reader.rows(lineage, begin + 86_400, begin + 2 * 86_400, 10_000)[0].created >= begin + 86_400


def test_who_goes_on_lacks_nothing_of_the_coarser_levels(tmp_path: Path) -> None:
    """Rows that were not written yet when a recorder ended come out of the finer level."""
    store, begin = LocalStore(tmp_path), 1_700_000_000.0 - 1_700_000_000 % 3600
    recorded(store, 3000, begin)  # 50 minutes: no blob of minutes yet
    assert not names(store, LEVELS[1])
    recorded(store, 3000, begin + 3000, 3000)
    minutes = [one for name in names(store, LEVELS[1]) for one in blob(store, name)]
    assert [int(one.created // 60) for one in minutes] == list(range(int(begin // 60), int(begin // 60) + 60))


def test_a_clock_that_jumps_back_stops_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    recorder = recorded(store, 600)
    for number in range(7200):
        recorder.note(row(600 + number, 1_600_000_000.0 + number))
    minutes = [one for name in names(store, LEVELS[1]) for one in blob(store, name)]
    assert sum(1 for one in minutes if one.created < 1_650_000_000) >= 60


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"not msgpack", b"\x91\x92\x01\x02"])
def test_a_damaged_blob_is_a_gap(tmp_path: Path, damage: bytes) -> None:
    store = LocalStore(tmp_path)
    recorded(store, 300)
    name = names(store, LEVELS[0])[1]
    store.delete(name)
    store.create(name, damage)
    found = Reader(store).rows(Lineage(store, looking=True), 0, 2e9, 1000)
    assert {one.snapshot for one in found} == set(range(300)) - set(range(60, 120))


def test_points_are_spread_over_time() -> None:
    rows = [row(number, float(number)) for number in range(1000)]
    assert [one.snapshot for one in evenly(rows, 0.0, 999.0, 4)] == [249, 499, 749, 999]
    assert main_figure("regression") == "mae"
