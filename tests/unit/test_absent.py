"""Where there is no lineage yet, only what begins one makes a store: who looks, or adds to one, is told so."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stream.cli import main
from stream.dead_letters.writer import FileDeadLetters
from stream.record import Record
from stream.refusal import Reason, Refusal

#: what begins a lineage, or runs beside one until it is ended
BEGINS = {
    "up", "train", "guard", "serve", "console", "init", "demo", "drill", "archive run", "archive import",
    "retrain watch", "snapshots import",
}  # fmt: skip
#: what adds to a lineage, with what says that there is none
ADDS = {"holdout trust", "forget", "archive drop", "dead-letters replay"}
CONFIGURATION = """
name = "x"
task = "binary"
source.kind = "files"
learners.linear = { kind = "river", factory = "model:linear" }
"""


def leaves(group: click.Group, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    for name, one in group.commands.items():
        here = f"{words} {name}".strip()
        if isinstance(one, click.Group):
            yield from leaves(one, here)
        if not isinstance(one, click.Group) or one.invoke_without_command:
            yield here, one


COMMANDS = {words: one for words, one in leaves(main) if words not in BEGINS}


def arguments(command: click.Command) -> Iterator[str]:
    """Something for each argument."""
    for one in command.params:
        if isinstance(one, click.Argument) and (one.required or one.nargs == -1):
            if isinstance(one.type, click.Choice):
                yield one.type.choices[0]
            else:
                yield "f.jsonl" if isinstance(one.type, click.Path) else "linear" if one.name == "learner" else "1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration, a model and an event, and no store."""
    (tmp_path / "holdfast.toml").write_text(CONFIGURATION)
    (tmp_path / "model.py").write_text(
        "from river import linear_model\ndef linear(): return linear_model.LogisticRegression()\n"
    )
    (tmp_path / "events").mkdir()
    (tmp_path / "f.jsonl").write_text('{"id": "a", "x": {"a": 1}, "y": 1}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS)
def test_who_begins_no_lineage_makes_no_store(folder: Path, words: str) -> None:
    """Whatever it answers, it answers in words."""
    done = CliRunner().invoke(main, [*words.split(), *arguments(COMMANDS[words])])
    assert not (folder / "store").exists(), done.output
    assert done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


@pytest.mark.parametrize("words", sorted(ADDS))
def test_who_would_add_to_a_lineage_is_refused(folder: Path, words: str) -> None:
    """With what to do first; once there is one, it is not."""
    given = [*words.split(), *([] if words == "dead-letters replay" else arguments(COMMANDS[words]))]
    letters = FileDeadLetters(folder / "events")
    event = (folder / "f.jsonl").read_bytes().strip()
    letters.send(Record("events", "b.jsonl", 0, 5, event), Refusal(Reason.NOT_JSON, "", "no"))
    letters.flush(lambda _why: False)
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 3
    assert "there is no lineage in store yet: start holdfast up" in done.output
    assert CliRunner().invoke(main, ["archive", "import", "f.jsonl"]).exit_code == 0
    assert "there is no lineage" not in CliRunner().invoke(main, given).output


def test_the_table_is_whole() -> None:
    """Every command is in one of the tables."""
    everything = {words for words, _ in leaves(main)}
    assert everything >= BEGINS
    assert ADDS <= set(COMMANDS) == everything - BEGINS
