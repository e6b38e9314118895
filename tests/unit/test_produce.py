"""``holdfast produce`` on tables as people have them."""

import gzip
import json
import logging
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lineages import Folder

from stream.commands.tables import columns_of
from stream.dead_letters.writer import Told
from stream.errors import CommandError, SourceAwayError
from stream.record import Record
from stream.refusal import Reason, Refusal
from stream.sink.sinks import FilesSink
from stream.tables.produce import Columns, produce, sink_of


def sent(here: Folder, name: str, data: bytes, **columns: Any) -> list[Any]:
    """The events made of a file."""
    path = here.path / name
    path.write_bytes(data)
    sink = sink_of(here.config, None, path)
    produce(here.config, path, sink, Columns(**columns))
    sink.close()
    written = here.events / f"{name.split('.', maxsplit=1)[0]}.jsonl"
    return [json.loads(line) for line in written.read_bytes().splitlines()] if written.exists() else []


def test_an_empty_id_is_that_of_the_row(folder: Callable[..., Folder]) -> None:
    """Or every further one would be a duplicate."""
    events = sent(folder(), "a.csv", b"k,a\nx,1\n,2\n,3\n", id="k")
    assert [event["id"] for event in events] == ["x", "a.csv:2", "a.csv:3"]


def test_numbers_are_numbers_and_nothing_is_absent(folder: Callable[..., Folder]) -> None:
    """Whole, decimal, scientific; texts that only look like numbers stay texts; nan and empty are absent."""
    events = sent(folder(), "a.csv", "\ufeffa,b,c,d,e,f\n1,-2.5,1e3,0x1,,NaN\n".encode())
    assert events == [{"id": "a.csv:1", "x": {"a": 1, "b": -2.5, "c": 1000.0, "d": "0x1"}}]


@pytest.mark.parametrize(
    ("name", "data", "columns", "word"),
    [
        ("a.csv", b"a,b\n1\n", {}, "another number of values"),
        ("a.csv", b"a,b\n1,2,3\n", {}, "another number of values"),
        ("a.csv", b"a,a\n1,2\n", {}, "has the column 'a' twice"),
        ("a.csv", b",,a\n1,2,3\n", {}, "has the column '' twice"),
        ("a.csv", b"0,1,0\n1,0,0\n", {}, r"the first line of .* looks like a row \(0, 1, 0\).* above it"),
        ("a.csv", b"x;1.5;1.5\n\ny;2;3\n", {}, "looks like a row"),
        ("a.csv", b"5.1,0.2,a\n4.9,0.3,b\n", {"label": "y"}, "has no column 'y'; .* looks like a row"),
        ("a.csv", b"a,b\n\xff,2\n", {}, "cannot be read"),
        ("a.csv.gz", b"not gzip", {}, "cannot be read"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:-9], {}, "cannot be read"),
        ("a.csv", b"a,b\n1,2\n", {"label": "z"}, "no column 'z'"),
        ("a.csv", b"a,b\n1,2\n", {"positive": "1"}, "--label"),
        ("a.txt", b"a,b\n1,2\n", {}, "ends in"),
    ],
)
def test_what_cannot_be_sent_says_so(
    folder: Callable[..., Folder], name: str, data: bytes, columns: dict[str, Any], word: str
) -> None:
    """And leaves no empty file for the trainer to follow."""
    here = folder()
    with pytest.raises(CommandError, match=word):
        sent(here, name, data, **columns)
    assert all(path.stat().st_size for path in here.events.iterdir())


def test_long_fields_are_sent(folder: Callable[..., Folder]) -> None:
    """The csv module's own limit is 131,072 characters."""
    (event,) = sent(folder(), "a.csv", b"a\n" + b"x" * 200_000 + b"\n")
    assert len(event["x"]["a"]) == 200_000


def test_dead_letters_that_cannot_be_written_are_waited_for(folder: Callable[..., Folder]) -> None:
    """A file where their directory should be: it waits, says so, and loses nothing."""
    from support.lineages import wait_for

    here = folder()
    (here.path / "events.dead-letter").touch()
    here.write([b"bad", {"id": "a", "x": {"f0": 1}, "y": 1}])
    here.start("train")
    wait_for(lambda: here.status()["source"]["state"] == "waiting")
    assert "dead letters cannot be written" in here.status()["source"]["why"]
    (here.path / "events.dead-letter").unlink()
    wait_for(lambda: here.lineage.numbers[-1] > 0)
    assert here.learner()["events"]["dead_lettered"] == 1
    assert (here.path / "events.dead-letter" / "a.jsonl").read_bytes().count(b"\n") == 1


@pytest.fixture
def limits() -> Iterator[None]:
    """What a test sets for the size of files ends with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(folder: Path) -> None:
    """No file may grow any more, which fails where a full disk does."""
    folder.mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(full, "File too large"), (Path.touch, "File exists"),
     (lambda folder: (folder / "a.jsonl").mkdir(parents=True), "a link, a pipe or a folder is there")],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_said_in_one_sentence(
    limits: None, tmp_path: Path, spoil: Callable[[Path], Any], word: str
) -> None:
    """With what to do; at the end at the latest, when what was written goes to the disk."""
    spoil(tmp_path / "events")
    sink = FilesSink(tmp_path / "events", "a")

    def send() -> None:
        for _ in range(1000):
            sink.send(b"x" * 100, None)
        sink.close()

    with pytest.raises(SourceAwayError, match=rf"a\.jsonl cannot be written: {word}"):
        send()


def test_the_label_is_no_feature() -> None:
    """What is to be predicted must not be asked with."""
    options = {"features": ("a,y",), "label": "y", "delimiter": None}
    with pytest.raises(CommandError, match="is the label"):
        columns_of(options)


def test_what_was_refused_is_said_at_the_end(folder: Callable[..., Folder]) -> None:
    """With the reasons, and where the events are shown."""
    here = folder()
    here.write([b"bad", b"[]", {"id": "a", "x": {"f0": 1}, "y": 1}])
    said = here.run("train", "--until-end").stderr
    assert "2 of 3 records were refused" in said
    assert "dead-letters list" in said
    assert said.count("refused: not_json, as events:a.jsonl:0: ") == 1


def test_a_run_says_what_it_refused_itself(folder: Callable[..., Folder]) -> None:
    """Beside what was refused before it; and nothing where it refused nothing."""
    here = folder()
    here.write([b"bad", b"worse", {"id": "a", "x": {"f0": 1}, "y": 1}])
    here.run("train", "--until-end")
    here.write([b"[]", {"id": "b", "x": {"f0": 1}, "y": 1}])
    said = here.run("train", "--until-end").stderr
    assert "1 records were refused in this run (1 not_an_object), and 3 of 5 since the lineage began" in said
    here.write([{"id": "c", "x": {"f0": 1}, "y": 1}])
    assert "refused" not in here.run("train", "--until-end").stderr


@pytest.mark.parametrize("reason", list(Reason))
def test_one_example_of_each_reason_is_logged(reason: Reason, caplog: pytest.LogCaptureFixture) -> None:
    """The first, with where it was read; all are passed on and counted."""
    taken: list[Record] = []

    class Letters:
        def send(self, record: Record, refusal: Refusal) -> None:
            taken.append(record)

        def flush(self, waiting: Callable[[str], bool]) -> None: ...

        def close(self) -> None: ...

    refused = Counter({"another": 1})
    told = Told(Letters(), refused)
    with caplog.at_level(logging.WARNING):
        for offset in (7, 8, 9):
            told.send(Record("t", "0", offset, offset + 1, b""), Refusal(reason, "x.a", "why it is"))
    (line,) = caplog.messages
    assert line.startswith(f"refused: {reason.value}, as t:0:7: x.a: why it is")
    assert (len(taken), refused) == (3, {"another": 1, reason.value: 3})
