"""Numbers from outside: those that are none, that have no end, or that nothing could hold, at every door."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from support.lineages import Folder

from stream.cli import main
from stream.commands.numbers import Figure, Whole
from stream.errors import CommandError
from stream.train.replay import span_of

LONG = ["9" * 13, "9" * 300, "9" * 5000, "٣", "²", "1_0", "1.5", "x" * 5000]
ENDLESS = ["nan", "inf", "1e308", "9" * 5000, "1e10", "x" * 5000]
RANGES = ["9" * 5000 + "-1", "1-" + "9" * 5000, "٣-٤", "t[" + "9" * 5000 + "]:0-" + "9" * 300, "0-" + "9" * 19]


def commands(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from commands(one, *words, name)
        yield (*words, name), one


NUMBERS = [
    (words, command, parameter)
    for words, command in commands(main)
    for parameter in command.params
    if isinstance(parameter.type, (Whole, Figure))
]


def filled(command: click.Command, wanted: click.Parameter, value: str) -> list[str]:
    """A command line with this value, and something for what else is needed."""
    given: list[str] = []
    for one in command.params:
        if one is wanted:
            given += [f"{one.opts[-1]}={value}"] if isinstance(one, click.Option) else [value]
        elif isinstance(one, click.Argument) and one.required:
            given.append("1")
    return given


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A lineage with a snapshot."""
    here = Folder(tmp_path_factory.mktemp("numbers") / "here")
    here.write({"id": str(n), "x": {"a": float(n % 7)}, "y": n % 2} for n in range(40))
    here.run("train", "--until-end")
    return here


def refused(folder: Folder, *arguments: str) -> str:
    """What a command says that is refused as wrong."""
    done = CliRunner().invoke(main, ["--config", str(folder.config_path), *arguments])
    assert done.exit_code == 2, (done.exit_code, done.output[:500], done.exception)
    assert "store" not in done.output
    assert len(done.output) < 600
    return done.output


@pytest.mark.parametrize(("words", "command", "parameter"), NUMBERS, ids=lambda one: getattr(one, "name", None))
def test_a_number_on_the_command_line_has_bounds(
    folder: Folder, words: tuple[str, ...], command: click.Command, parameter: click.Parameter
) -> None:
    """Of every command that takes one: a sentence and exit code 2."""
    for value in LONG if isinstance(parameter.type, Whole) else ENDLESS:
        assert "number" in refused(folder, *words, *filled(command, parameter, value))


def test_no_command_takes_a_number_without_bounds() -> None:
    """Click's own types take any."""
    plain = (click.types.IntParamType, click.types.FloatParamType)
    found = [
        (words, one.name) for words, command in commands(main) for one in command.params if isinstance(one.type, plain)
    ]
    assert found == []
    assert len(NUMBERS) > 15


@pytest.mark.parametrize("value", LONG[:3])
@pytest.mark.parametrize("words", [("revert",), ("snapshots", "revert"), ("revert", "linear")])
def test_a_revert_to_a_number_that_no_snapshot_can_have(folder: Folder, words: tuple[str, ...], value: str) -> None:
    """It is not taken for a learner's name."""
    assert "no whole number" in refused(folder, *words, value)


@pytest.mark.parametrize("option", ["--only", "--except"])
@pytest.mark.parametrize("text", RANGES)
def test_a_range_of_numbers_that_no_offset_can_be(folder: Folder, option: str, text: str) -> None:
    """One sentence, before anything is read."""
    assert "is no range" in refused(folder, "quarantine", "replay", "1", option, text)
    with pytest.raises(CommandError, match="is no range"):
        span_of(text)


@pytest.mark.parametrize("text", ["9" * 5000, "1e400", "9" * 40 + "-01-01"])
def test_a_moment_that_no_clock_shows(folder: Folder, text: str) -> None:
    """Neither ISO 8601 nor Unix seconds."""
    assert "--at" in refused(folder, "ledger", "--at", text)
