"""The archive: exactly the valid labelled events, whatever happens to its writer."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.lineages import Folder, wait_for
from support.samples import numbers

from learners.extras import install
from snapshots.store.local import LocalStore
from stream.archive import rewriting
from stream.archive.files import Archive, File, Part, Row, active
from stream.compose import erasing_of
from stream.errors import CommandError

SMALL = {"source__batch": 100, "archive__every_events": 200, "archive__every_seconds": 0.2}


def lines(count: int, first: int = 0) -> list[bytes]:
    """Events, some of them bad or without a label."""
    found = []
    for number, event in enumerate(numbers(count, first=first)):
        if number % 50 == 7:
            event.pop("y")
        found.append(b"{not json" if number % 100 == 3 else orjson.dumps(event))
    return found


def kept(here: Folder) -> list[bytes]:
    """Everything that is archived, in order; no offset is there twice."""
    archive = Archive(LocalStore(here.path / "store"))
    rows = [(file.part, row) for file in archive.files() for row in archive.rows(file)]
    places = [(part, row.offset) for part, row in rows]
    assert len(places) == len(set(places))
    return [row.value for _, row in rows]


def valid(events: list[bytes]) -> list[bytes]:
    return [line for line in events if line.startswith(b'{"') and b'"y"' in line]


def test_what_is_valid_and_labelled_is_kept_byte_for_byte(folder: Callable[..., Folder]) -> None:
    """Duplicates and held-out events too: what becomes of an event is not the archive's to know."""
    here = folder(holdout__rate=0.2, **SMALL)
    events = lines(1000)
    events += events[:50]
    here.write(events)
    here.train()
    for _ in range(2):
        here.run("archive", "run", "--until-end")
        assert kept(here) == valid(events)
    more = lines(300, first=5000)
    here.write(more)
    here.run("archive", "run", "--until-end")
    assert kept(here) == valid(events + more)
    shown = here.json("archive", "show")
    assert (shown[0]["events"], shown[0]["begin"]) == (len(valid(events + more)), 0)
    assert "; 0 wrong" in here.run("archive", "verify").stdout


def test_killed_at_any_moment_it_is_exactly_once(folder: Callable[..., Folder]) -> None:
    """Kill -9 at seeded moments, and two archivers at once."""
    here = folder(**SMALL)
    draw = random.Random(5)
    events: list[bytes] = []
    here.write([])
    for round_ in range(6):
        archivers = [here.start("archive", "run") for _ in range(1 + round_ % 2)]
        more = lines(1500, first=10_000 * round_)
        events += more
        for i in range(0, len(more), 100):
            here.write(more[i : i + 100])
            time.sleep(0.02)
        time.sleep(draw.uniform(0.0, 0.8))
        for process in archivers:
            process.send_signal(signal.SIGKILL)
            process.wait()
    here.run("archive", "run", "--until-end")
    assert kept(here) == valid(events)
    assert here.json("archive", "verify")["wrong"] == []


def test_a_damaged_file_and_a_missing_one_are_said(folder: Callable[..., Folder]) -> None:
    """A flipped byte is found by the page's checksum; a hole by its offsets."""
    here = folder(**SMALL)
    here.write(lines(1000))
    here.run("archive", "run", "--until-end")
    paths = sorted((here.path / "store" / "archive").rglob("*.parquet"))
    assert len(paths) >= 4
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 3] ^= 1
    paths[1].write_bytes(data)
    assert "damaged" in here.run("archive", "verify", code=1).stdout
    paths[1].unlink()
    assert "are not archived" in here.run("archive", "verify", code=1).stdout


def test_small_files_are_put_together_and_old_ones_go(folder: Callable[..., Folder]) -> None:
    """Compaction changes no event; retention deletes the oldest and never the newest of a partition."""
    here = folder(archive__every_events=50, source__batch=50)
    events = lines(3000)
    here.write(events)
    here.run("archive", "run", "--until-end")
    archive = Archive(LocalStore(here.path / "store"))
    assert 1 < len(archive.files()) < 3000 / 50 - 16
    assert kept(here) == valid(events)
    assert rewriting.forget_old(archive, 1e12, seconds=1.0, most_bytes=0)
    assert len(archive.files()) == 1
    here.write(lines(100, first=9000))
    here.run("archive", "run", "--until-end")
    assert kept(here)[-1] == valid(lines(100, first=9000))[-1]


def test_a_rewrite_that_was_cut_off_leaves_one_truth(tmp_path: Path) -> None:
    """Created and not yet deleted what it replaces: the higher generation counts, and the rest is swept."""
    archive = Archive(LocalStore(tmp_path))
    part = Part("t", "-", "0")
    rows = [Row(i, i + 1, float(i), f"e{i}", b"{}") for i in range(30)]
    for begin in (0, 10, 20):
        assert archive.write(part, begin, begin + 10, rows[begin : begin + 10], 1.0)
    assert archive.write(part, 0, 20, rows[:20], 1.0, generation=1)
    assert [(file.begin, file.next) for file in archive.files()] == [(0, 20), (20, None)]
    assert rewriting.sweep(archive, 2.0) == 0  # somebody may be reading them
    assert rewriting.sweep(archive, 1.0 + 7 * 3600) == 2
    assert [row for file in archive.files() for row in archive.rows(file)] == rows
    assert archive.ends() == {part: 30}


def test_the_higher_generation_counts() -> None:
    part = Part("t", "-", "0")
    plain = [File(part, begin, 0, None, f"{begin}") for begin in (0, 10, 20, 30)]
    first = File(part, 0, 1, 20, "first")
    second = File(part, 0, 2, 30, "second")
    assert active([*plain, first]) == sorted([first, plain[2], plain[3]])
    assert active([*plain, first, second]) == [second, plain[3]]


def history(path: Path, events: Iterable[dict[str, Any]]) -> None:
    """A file of events, or a table of their features and label."""
    rows = list(events)
    if path.suffix == ".csv":
        text = [[*rows[0]["x"], "y"], *([*row["x"].values(), row["y"]] for row in rows)]
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in text))
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_history_is_brought_in_once(folder: Callable[..., Folder], suffix: str) -> None:
    """Again: nothing changes. Cut off: completed. Another file under the name: refused."""
    here = folder(archive__every_events=100)
    here.write([])
    path = here.path / f".history{suffix}"
    history(path, numbers(350))
    options = ["--label", "y"] if suffix == ".csv" else []
    assert "350 events are in the archive" in here.run("archive", "import", str(path), *options).stdout
    max((here.path / "store" / "archive").rglob("*.parquet")).unlink()
    for _ in range(2):
        here.run("archive", "import", str(path), *options)
        assert len(kept(here)) == 350
    other = here.path / "elsewhere" / path.name
    other.parent.mkdir()
    history(other, numbers(350, first=1000))
    assert "--as NAME" in here.run("archive", "import", str(other), *options, code=2).stderr
    here.run("archive", "import", str(other), *options, "--as", "other")
    assert len(kept(here)) == 700


def test_up_runs_the_archiver_when_it_is_wanted(folder: Callable[..., Folder]) -> None:
    here = folder(archive__enabled=True, **SMALL)
    here.write(lines(500))
    here.start("up")
    wait_for(lambda: len(kept(here)) == len(valid(lines(500))))


def test_without_pyarrow_it_is_said_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from stream.errors import CommandError\nfrom stream.archive.files import arrow\n"
        "try: arrow()\nexcept CommandError as cause: print(cause)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert install("archive") in done.stdout


@pytest.mark.parametrize("archived", [False, True])
def test_forgetting_needs_pyarrow_only_where_there_is_an_archive(
    folder: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch, archived: bool
) -> None:
    """Where there is one, it is said before anything is decided."""
    here = folder()
    if archived:
        Archive(here.lineage.store).write(Part("t", "id", "0"), 0, 1, [Row(0, 1, 1.0, "a", b"{}")], 1.0)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    if archived:
        with pytest.raises(CommandError, match="needs pyarrow"):
            erasing_of(here.config)
    else:
        assert erasing_of(here.config).run(["a"], "id", "operator:x", "").archived == 0
    assert len(here.lineage.ledger.entries()) == (not archived)


def test_the_archive_is_kept_within_a_size(tmp_path: Path) -> None:
    """The oldest by their events' times go first, of whatever partition; never a partition's newest."""
    archive = Archive(LocalStore(tmp_path))
    rng = random.Random(1)
    for partition, age in (("0", 0.0), ("1", 500.0)):
        part = Part("t", "id", partition)
        for begin in range(0, 500, 100):
            rows = [Row(n, n + 1, age + n, f"e{n}", rng.randbytes(200)) for n in range(begin, begin + 100)]
            assert archive.write(part, begin, begin + 100, rows, 1.0)
    sizes = {file.name: len(archive.bytes_of(file)) for file in archive.files()}
    most = int(sum(sizes.values()) * 0.55)
    gone = rewriting.forget_old(archive, 2.0, seconds=0.0, most_bytes=most)
    left = archive.files()
    assert sum(sizes[file.name] for file in left) <= most
    assert [(file.part.partition, file.begin) for file in gone] == [("0", n) for n in (0, 100, 200, 300)] + [("1", 0)]
    assert [file.begin for file in left if file.part.partition == "0"] == [400]
    rewriting.forget_old(archive, 2.0, seconds=0.0, most_bytes=1)
    assert [(file.part.partition, file.begin) for file in archive.files()] == [("0", 400), ("1", 400)]


def test_what_was_put_together_is_kept_for_who_reads_it_and_never_counts_again(tmp_path: Path) -> None:
    """Whoever listed the files before finds them; when what replaced them goes, they are gone before it."""
    archive = Archive(LocalStore(tmp_path))
    part = Part("t", "-", "0")
    rows = [Row(i, i + 1, float(i), f"e{i}", b"{}") for i in range(100)]
    for begin in range(0, 100, 10):
        assert archive.write(part, begin, begin + 10, rows[begin : begin + 10], 1.0)
    listed = archive.files()
    assert rewriting.compact(archive, 2.0, events=1000, fewest=2) == 10
    assert len(archive.files()) == 1
    assert [row for file in listed for row in archive.rows(file)] == rows
    assert archive.write(part, 100, 101, [Row(100, 101, 1e6, "x", b"{}")], 3.0)
    (gone,) = rewriting.forget_old(archive, 2e6, seconds=1.5e6, most_bytes=0)
    assert (gone.begin, gone.next) == (0, 100)
    assert [file.begin for file in archive.files()] == [100]
