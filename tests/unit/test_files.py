"""What may lie in a directory of events: everything. It hangs nobody, fills no memory, and nothing is read twice."""

import errno
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from stream.errors import SourceAwayError, SourceLostError
from stream.record import Record
from stream.sink.sinks import FilesSink
from stream.source.files import FilesSource
from stream.source.lines import unended


def source(folder: Path, **more: Any) -> FilesSource:
    made = FilesSource(folder, start="earliest", poll_seconds=0.0, **more)
    made.open(made.resolve(), {})
    return made


def read(from_: FilesSource, polls: int = 20, limit: int = 1000) -> list[Record]:
    found: list[Record] = []
    for _ in range(polls):
        found += from_.poll(limit)
        time.sleep(0.001)
    return found


def test_what_is_no_file_of_events_is_said_once_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A FIFO, a folder, a link to nowhere, a device, a name that is not UTF-8; the others go on."""
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").mkdir()
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d.jsonl").symlink_to("/dev/zero")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl")).write_bytes(b"{}\n")
    (tmp_path / "e.jsonl").write_bytes(b"good\n")
    (tmp_path / "f.jsonl").symlink_to(tmp_path / "e.jsonl")
    made = source(tmp_path)
    made.mark_end()
    assert [(one.partition, one.value) for one in read(made)] == [("e.jsonl", b"good"), ("f.jsonl", b"good")]
    assert len([one for one in caplog.messages if "left out" in one]) == 5
    assert not [one for one in caplog.messages if "\udcff" in one]


def test_a_line_without_an_end_takes_no_memory_and_holds_nobody_up(tmp_path: Path) -> None:
    """60 MB of it; when it ends it is one record, too large, and what follows is read; also after a restart."""
    (tmp_path / "a.jsonl").write_bytes(b"first\n" + b"x" * 60_000_000)
    (tmp_path / "b.jsonl").write_bytes(b"other\n")
    made = source(tmp_path, max_bytes=1000)
    tracemalloc.start()
    found = read(made, polls=300)
    assert {one.value for one in found} == {b"first", b"other"}
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    (tmp_path / "b.jsonl").open("ab").write(b"more\n")
    assert [one.value for one in read(made)] == [b"more"]
    (tmp_path / "a.jsonl").open("ab").write(b"\nlast\n")
    place = {"a.jsonl": 6, "b.jsonl": 11}
    again = FilesSource(tmp_path, start="earliest", poll_seconds=0.0, max_bytes=1000)
    again.open({tmp_path.name: dict(place)}, {})
    for one in (made, again):
        long, last = read(one, polls=300)
        assert (long.offset, long.following, len(long.value or b"")) == (6, 60_000_007, 1001)
        assert (last.value, last.offset) == (b"last", 60_000_007)


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
def test_lines_that_arrive_in_pieces_are_whole(tmp_path: Path, piece: int) -> None:
    """Whatever the pieces and the limit, each line comes once, with its own offsets."""
    data = b"".join(b'{"n":%d}\n' % n if n % 5 else b"\n" for n in range(400))
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"")
    made, found = source(tmp_path), []
    for at in range(0, len(data), piece):
        path.open("ab").write(data[at : at + piece])
        found += made.poll(3)
    found += read(made, polls=400, limit=3)
    assert [one.value for one in found] == [line for line in data.split(b"\n") if line]
    assert all(data[one.offset : one.following] == (one.value or b"") + b"\n" for one in found)


def test_a_file_that_was_read_to_its_end_may_go(tmp_path: Path) -> None:
    """While the trainer runs and while it does not; one with bytes that nobody read may not."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_bytes(b"1\n2\n")
    made = source(tmp_path)
    assert len(read(made)) == 6
    (tmp_path / "a.jsonl").unlink()
    assert read(made) == []
    place = {tmp_path.name: dict.fromkeys(("a.jsonl", "b.jsonl", "c.jsonl"), 4)}
    topics = made.identities()
    (tmp_path / "b.jsonl").unlink()
    again = FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
    assert again.open(place, topics) == place
    assert read(again) == []
    assert again.identities() == topics
    (tmp_path / "c.jsonl").open("ab").write(b"3\n")
    assert again.identities() != topics or again.poll(0) == []
    again._listing.look()
    (tmp_path / "c.jsonl").unlink()
    with pytest.raises(SourceLostError, match="are gone"):
        read(again)


def test_thousands_of_files_are_read_as_fast_as_one(tmp_path: Path) -> None:
    """A look at all of them serves many polls, and a poll reads many of them."""
    for number in range(3000):
        (tmp_path / f"{number:05d}.jsonl").write_bytes(b"1\n")
    made = source(tmp_path)
    began, found = time.monotonic(), []
    while len(found) < 3000:
        found += made.poll(1000)
        assert time.monotonic() - began < 30
    assert [len(found), {one.value for one in found}] == [3000, {b"1"}]
    made.mark_end()
    assert made.ended()


def line(number: int) -> bytes:
    return b'{"id": "%06d"}\n' % number


@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "while it is down"])
@pytest.mark.parametrize("count", [10, 15], ids=["as long", "longer"])
@pytest.mark.parametrize("how", ["moved", "written in place", "written in place, as if nothing had been"])
def test_a_file_that_is_replaced_is_noticed(tmp_path: Path, how: str, count: int, restarted: bool) -> None:
    """Also by lines of the same width; nothing of it is passed over in silence."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(map(line, range(10))))
    source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0, when_lost="go_on")
    source.open(source.resolve(), {})
    assert len(source.poll(1000)) == 10
    assert source.poll(1000) == []
    place, topics = {source.topic: dict(source._offsets)}, source.identities()
    before = path.stat()
    fresh = b"".join(map(line, range(100, 100 + count)))
    if how == "moved":
        (tmp_path / "new").write_bytes(fresh)
        (tmp_path / "new").replace(path)
    else:
        path.write_bytes(fresh)
        if how.endswith("been"):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    if restarted:
        source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0, when_lost="go_on")
        source.open(place, topics)
    found = [record for _ in range(5) for record in source.poll(1000)]
    assert [record.value for record in found] == [one.rstrip() for one in fresh.splitlines(keepends=True)]
    assert len(source.losses) == 1


def test_a_file_that_grows_is_the_same_file(tmp_path: Path) -> None:
    """In pieces, over restarts, and when it is only touched."""
    path = tmp_path / "a.jsonl"
    path.touch()
    source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
    source.open(source.resolve(), {})
    seen = 0
    for number in range(30):
        whole = line(number) * 7
        for piece in (whole[:13], whole[13:40], whole[40:]):
            with path.open("ab") as file:
                file.write(piece)
            seen += len(source.poll(1000))
        os.utime(path)
        if number % 7 == 3:
            place, topics = {source.topic: dict(source._offsets)}, source.identities()
            source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
            source.open(place, topics)
    assert seen == 210
    assert source.losses == []


@pytest.mark.parametrize(
    ("data", "said"), [(b"", False), (b"a\n", False), (b"a\nb", True), (b"a", True), (b"a\n\n", False)]
)
def test_a_last_line_without_an_end_is_waited_for_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, said: bool
) -> None:
    """Once it is ten seconds old, or the end is marked; when it ends, it is read."""
    path = tmp_path / "a b.jsonl"
    path.write_bytes(data)
    made = source(tmp_path)
    whole = len([one for one in data.split(b"\n")[:-1] if one])
    assert len(read(made)) == whole
    assert not caplog.messages
    os.utime(path, (time.time() - 60, time.time() - 60))
    assert not read(made)
    made.mark_end()
    assert made.ended()
    assert [f"echo >> '{path}'" in one for one in caplog.messages] == [True] * said
    assert unended(tmp_path, time.time()) == [path] * said
    assert unended(tmp_path, time.time() - 55) == []
    with path.open("ab") as file:
        file.write(b"\n")
    assert len(read(made)) == said
    assert unended(tmp_path, time.time() + 60) == []


@pytest.mark.parametrize("before", [b"", b"a\n", b"half"])
def test_what_is_sent_begins_a_line_of_its_own(tmp_path: Path, before: bytes) -> None:
    """Whatever a full disk, or an editor, left at the end of the file."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(before)
    sink = FilesSink(tmp_path, "a")
    sink.send(b"one", None)
    sink.close()
    assert path.read_bytes().splitlines() == [*before.splitlines(), b"one"]


@pytest.mark.parametrize("lines", [1, 2, 3, 10])
@pytest.mark.parametrize("first", [0, 1, 2, 50])
def test_a_file_that_grows_by_a_line_between_restarts_is_the_same_file(tmp_path: Path, first: int, lines: int) -> None:
    """However short what each run reads is beside what is remembered; one that is rewritten is another all the same."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(map(line, range(first))))
    place: dict[str, dict[str, int]] = {tmp_path.name: {"a.jsonl": 0}}
    topics: dict[str, str] = {}
    for number in range(5):
        source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
        source.open(place, topics)
        assert len(source.poll(1000)) == lines * (number > 0) + first * (number == 0)
        place, topics = {source.topic: dict(source._offsets)}, source.identities()
        with path.open("ab") as file:
            file.write(b"".join(map(line, range(lines))))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"0", b"1"))
    source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
    with pytest.raises(SourceLostError, match="was rewritten"):
        source.open(place, topics)


@pytest.mark.parametrize("restarted", [False, True], ids=["while it runs", "while it is down"])
def test_a_folder_in_the_place_of_a_file_is_a_lost_file(tmp_path: Path, restarted: bool) -> None:
    """It is said with the way out, and not as a fault."""
    (tmp_path / "a.jsonl").write_bytes(line(1) + b"half of a line")
    made = source(tmp_path)
    assert len(read(made, 3)) == 1
    place = {made.topic: dict(made._offsets)}
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(SourceLostError, match="are gone"):
        if restarted:
            FilesSource(tmp_path, start="earliest", poll_seconds=0.0).open(place, {})
        else:
            read(made)


def test_a_file_that_may_not_be_read_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start as well."""
    (tmp_path / "a.jsonl").write_bytes(line(1) + line(2))
    made = source(tmp_path)
    assert len(read(made, 3)) == 2
    place, again = {made.topic: dict(made._offsets)}, FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
    opened = Path.open

    def refused(path: Path, *how: Any, **more: Any) -> Any:
        if path.name == "a.jsonl":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *how, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refused)
        with pytest.raises(SourceAwayError, match="Permission denied"):
            again.open(place, {})
    assert again.open(place, {}) == place
