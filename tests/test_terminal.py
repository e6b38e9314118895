"""What producers and callers wrote reaches no terminal and no log as it is: every command, with hostile events."""

import json
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.lineages import Folder

from stream.cli import main
from stream.process import logs
from stream.terminal import printing, safe_text

EVIL = "\x1b[31m\x1b]0;owned\x07\u202e\u200b\r\n2026-01-01 forged\x9b2J\u2028\x7f\xad[red]x[/red]:skull:[/]\\"
LEARNERS = {"linear": {"kind": "river", "factory": "model:bayes", "role": "champion"}}


def seen(text: str) -> bool:
    """Tell whether every character can be seen."""
    return all(one == "\n" or one.isprintable() for one in text)


def events(count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(7)
    for number in range(count):
        label = draw.choice(["good", EVIL])
        features = {"amount": draw.gauss(label == "good", 1.0), f"name{EVIL}": draw.random(), "country": f"de{EVIL}"}
        yield {"id": f"{number}{EVIL}", "ts": 1_735_689_600 + number, "x": features, "y": label}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A lineage whose ids, features, labels, slices, file, and reasons are hostile."""
    here = Folder(
        tmp_path_factory.mktemp("hostile") / "here", LEARNERS, task="multiclass", holdout__rate=0.5,
        holdout__rows=300, event__slices=["country"], guard__look_events=100, archive__enabled=True,
    )  # fmt: skip
    here.write(events(1500), f"a\u202e{EVIL[:5]}.jsonl")
    here.train()
    assert seen(here.run("guard", "--once", code=None).stdout)
    yield here
    here.end()


def printed(here: Folder, *arguments: str) -> str:
    done = CliRunner().invoke(main, ["--config", str(here.config_path), *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output + done.stderr


COMMANDS = [
    ("learning", "stop", "linear", "--why", EVIL), ("learning", "resume", "linear", "--why", EVIL),
    ("snapshots", "pin", "1", "--why", EVIL), ("status",), ("ledger",), ("ledger", "--at", EVIL), ("holdout", "show"),
    ("snapshots", "list"), ("snapshots", "show", "1"), ("snapshots", "verify"), ("quarantine", "list"),
    ("guard", "--explain", "1"), ("archive", "show"), ("snapshots", "show", EVIL),
    ("snapshots", "export", "1", EVIL[:5]),
    (EVIL,), ("status", EVIL), ("--" + EVIL,), ("archive", "import", EVIL), ("produce", EVIL, EVIL),
    ("snapshots", "import", EVIL), ("promote", EVIL), ("quarantine", "show", EVIL), ("quarantine", "drop", EVIL),
    ("--config", EVIL, "status"), ("archive", "drop", EVIL), ("drill", EVIL), ("init", EVIL[:12]),
]  # fmt: skip
JSON = [("status",), ("ledger",), ("holdout", "show"), ("snapshots", "list"), ("snapshots", "show", "1"),
        ("quarantine", "list"), ("guard", "--explain", "1"), ("archive", "show")]  # fmt: skip


def test_no_command_prints_what_a_terminal_would_obey(
    hostile: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is the argument of a command, as a file's name may be."""
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        said = printed(hostile, *command)
        assert said, command
        assert seen(said), (command, [one for one in said if not seen(one)])
    assert "[red]x[/red]:skull:" in printed(hostile, "ledger").replace("\n", "")
    labels = printed(hostile, "holdout", "show")
    assert r"\x1b[31" in labels
    assert "300" in labels


def test_json_keeps_its_values_and_shows_them(hostile: Folder) -> None:
    """An escape of JSON is the character for whoever reads it."""
    for command in JSON:
        said = printed(hostile, *command, "--json")
        assert seen(said), command
        json.loads(said)
    newest = json.loads(printed(hostile, "holdout", "show", "--json"))["versions"][-1]
    assert f"country=de{EVIL}" in newest["slices"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_line_of_a_process_holds_it(hostile: Folder, form: str) -> None:
    """The trainer names the file and the event that it cannot read."""
    hostile.write([b"{" + EVIL.encode(), json.dumps({"id": EVIL, "x": {"_x" + EVIL: 1}, "y": EVIL}).encode()])
    done = hostile.run("train", "--until-end", HOLDFAST_LOG=form)
    assert seen(done.stdout + done.stderr)


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_log_line_is_one_line_of_what_can_be_seen(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Message, fields, traces, and faults of the program; none looks like a line of its own, none is endless."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    logs.configure(form)
    try:
        log = logging.getLogger("holdfast.test")
        log.error("bad %s", EVIL, extra=logs.facts(name=EVIL, broken="\ud800"))
        log.error("long %s", "x" * 1_000_000)
        try:
            raise ValueError(EVIL)  # noqa: TRY301  its trace is the subject
        except ValueError:
            log.exception("stumbled over %s", EVIL)
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    said = capsys.readouterr().err
    assert seen(said)
    assert len(said) < 80_000
    assert "Logging error" not in said
    assert not [line for line in said.splitlines() if line.startswith("2026-01-01 forged")]
    if form == "json":
        lines = [json.loads(line) for line in said.splitlines()]
        assert lines[0]["message"] == f"bad {EVIL}"
        assert lines[0]["name"] == EVIL


def test_libraries_that_write_by_themselves_are_forwarded_as_text() -> None:
    """What a child of ``up`` writes below its formatter."""
    assert safe_text.forwarded(b"vw: \x1b[31m\xff bad\n") == "vw: \\x1b[31m\ufffd bad\n".encode()


@given(st.text(alphabet=st.characters(), max_size=50))
def test_any_text_is_shown_on_one_line(text: str) -> None:
    """Whatever Unicode has; JSON reads back as the same."""
    found = safe_text.shown(text)
    assert found.isprintable()
    text = text.encode("utf-8", "replace").decode()
    written = safe_text.as_json([text])
    assert seen(written)
    assert json.loads(written) == [text]


def test_commands_print_in_one_place_only() -> None:
    """So that none forgets it."""
    for path in Path(printing.__file__).parent.rglob("*.py"):
        if path.name not in ("printing.py", "logs.py"):
            text = path.read_text()
            assert not [word for word in ("click.echo(", "secho(", " print(", "console.print(") if word in text], path
