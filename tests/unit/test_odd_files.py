"""Where others write, too, anything may lie: what is written goes into files, never through a link or into a pipe."""

import contextlib
import gzip
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from support.lineages import Folder
from support.samples import numbers

from snapshots.store.private_files import NoFileError, only_file, opener
from stream.compose import checking_of
from stream.dead_letters.destinations import IntoFiles
from stream.dead_letters.reader import Letter, files_of
from stream.dead_letters.writer import FileDeadLetters
from stream.errors import CommandError, GaveUpError, SourceAwayError
from stream.record import Record
from stream.refusal import Reason, Refusal
from stream.sink.intake import FilesIntake
from stream.sink.sinks import FilesSink
from stream.source.files import FilesSource

SECRET = b"do not touch"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(path.parent):  # its name may not be long
        one.bind(path.name)


#: what may stand under a name that is written to
ODD: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "link to a file": lambda path: path.symlink_to(path.parent.parent / "secret"),
    "link that leads nowhere": lambda path: path.symlink_to(path.parent.parent / "nowhere"),
    "link to a device": lambda path: path.symlink_to("/dev/full"),
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.fixture(params=ODD)
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Puts the odd thing under a name; afterwards nothing was written through it."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "events").mkdir()
    (tmp_path / "events.dead-letter").mkdir()
    yield ODD[request.param]
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("how", ["ab", "wb", "xb"])
@pytest.mark.parametrize("opens", [only_file, opener])
def test_nothing_but_a_file_is_opened(put: Any, tmp_path: Path, how: str, opens: Any) -> None:
    """Whatever it is opened for."""
    put(tmp_path / "events" / "a")
    with pytest.raises((NoFileError, FileExistsError)):
        open(tmp_path / "events" / "a", how, opener=opens).close()


@pytest.mark.parametrize(("how", "left"), [("ab", b"old new"), ("wb", b" new")])
def test_a_file_is_opened_as_ever(tmp_path: Path, how: str, left: bytes) -> None:
    """Appended to, or written anew."""
    (tmp_path / "a").write_bytes(b"old")
    with open(tmp_path / "a", how, opener=only_file) as file:
        file.write(b" new")
    assert (tmp_path / "a").read_bytes() == left


def test_events_over_http_go_into_the_next_file(put: Any, tmp_path: Path) -> None:
    """Nobody waits for whoever would read a pipe."""
    put(tmp_path / "events" / "http-0.jsonl")
    intake = FilesIntake(tmp_path / "events")
    try:
        assert intake.append(b"{}", "1").result(5)["partition"] == "http-1.jsonl"
    finally:
        intake.close()


def test_a_table_is_not_sent_into_what_is_no_file(put: Any, tmp_path: Path) -> None:
    """It says what is there."""
    put(tmp_path / "events" / "a.jsonl")
    with pytest.raises(SourceAwayError, match="no file"):
        FilesSink(tmp_path / "events", "a").send(b"{}", None)


def test_dead_letters_wait_until_there_is_a_file(put: Any, tmp_path: Path) -> None:
    """It is said, with the name; whoever lists them, or takes some out, looks at files alone."""
    put(tmp_path / "events.dead-letter" / "a.jsonl")
    letters = FileDeadLetters(tmp_path / "events")
    letters.send(Record("events", "a.jsonl", 0, 5, b"bad", 0.0), Refusal(Reason.NOT_JSON, "", "no JSON"))
    said: list[str] = []
    with pytest.raises(GaveUpError):
        letters.flush(lambda why: bool(said.append(why)))
    assert "a.jsonl" in said[0]
    assert "no file" in said[0]
    assert [one.name for one in files_of(tmp_path / "events") if one.resolve() != tmp_path / "secret"] == []


def test_letters_go_back_into_no_link(put: Any, tmp_path: Path) -> None:
    """Whoever writes events can guess the name under which they are written first."""
    put(tmp_path / "events" / f".replayed-00000001.jsonl.{os.getpid()}")
    config = SimpleNamespace(base=tmp_path, source=SimpleNamespace(directory="events"))
    way = IntoFiles(config, None)  # type: ignore[arg-type]  what it needs of both
    with pytest.raises(CommandError, match="no file"):
        way.send(1, [Letter("events", "a", 0, "", "", b"{}")])
    assert not (tmp_path / "events" / "replayed-00000001.jsonl").exists()


def _damaged(path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(orjson.dumps(one) + b"\n" for one in numbers(2000))))
    data[len(data) // 2 : len(data) // 2 + 200] = os.urandom(200)
    path.write_bytes(data)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "damaged": _damaged,
    "cut off": lambda path: path.write_bytes(gzip.compress(b"x" * 100_000)[:-20]),
    "no gzip": lambda path: path.write_bytes(b"{}\n"),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_checked_labels_that_cannot_be_read_are_said(what: str, folder: Callable[..., Folder]) -> None:
    """In a sentence; nobody waits for a pipe, or reads a device to its end."""
    here = folder()
    here.write(numbers(50))
    here.train()
    UNREADABLE[what](here.path / "checked.jsonl.gz")
    with pytest.raises(CommandError, match=r"cannot be read|is no file"):
        checking_of(here.config, here.lineage).rows(here.path / "checked.jsonl.gz")


def test_a_checked_line_without_an_end_takes_no_memory(folder: Callable[..., Folder]) -> None:
    """A few kilobytes of gzip may be a gigabyte; the lines around it are taken."""
    here = folder(event__max_bytes=100_000)
    here.write(numbers(50))
    here.train()
    path = here.path / "checked.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for event in numbers(2):
            file.write(orjson.dumps(event) + b"\n" + b"[" * 30_000_000 + b"\n")
    checking = checking_of(here.config, here.lineage)
    tracemalloc.start()
    rows, refused = checking.rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(rows), refused) == (2, [Reason.TOO_LARGE.value] * 2)
    assert peak < 5_000_000


def test_a_report_replaces_nothing_but_a_file(put: Any, tmp_path: Path, folder: Callable[..., Folder]) -> None:
    """A device or a pipe would be gone afterwards, and something else in its place."""
    here, path = folder(), tmp_path / "report.html"
    here.write(numbers(50))
    here.train()
    put(path)
    before = os.lstat(path)
    done = here.run("report", "--out", str(path), code=None)
    assert done.returncode != 0
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


def test_pipes_are_not_waited_for_by_commands(tmp_path: Path, folder: Callable[..., Folder]) -> None:
    """A file is wanted, and nobody may ever write into a pipe."""
    here, path = folder(), tmp_path / "rows.csv"
    os.mkfifo(path)
    for arguments in (("check", str(path)), ("produce", str(path)), ("init", str(tmp_path / "d"), "--from", str(path))):
        assert "pipe" in here.run(*arguments, code=2, timeout=30).stderr


def test_a_file_without_a_length_is_not_read(tmp_path: Path) -> None:
    """A file of the kernel has none, and some of them wait for the one who reads them."""
    (tmp_path / "kernel.jsonl").symlink_to("/proc/uptime")
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "a"}\n')
    source = FilesSource(tmp_path, start="earliest", poll_seconds=0.0)
    source.open(source.resolve(), {})
    assert [record.partition for record in source.poll(100)] == ["a.jsonl"]
    assert [record.partition for record in source.poll(100)] == []
    source.close()
