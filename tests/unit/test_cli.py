"""The command's own help: quick, whole, and true."""

import subprocess
import sys

import click
import pytest

from stream.cli import SECTIONS, main

NAMES = [(name, said) for section in SECTIONS.values() for name, (_, said) in section.items()]


@pytest.mark.parametrize(("name", "said"), NAMES)
def test_every_command_is_there_and_fits_a_line(name: str, said: str) -> None:
    """By the name that help shows."""
    command = main.commands[name]
    assert isinstance(command, click.Command)
    assert command.name == name
    assert len(said) + 16 <= 80
    assert f"  {name}  " in main.get_help(click.Context(main, info_name="holdfast"))


def test_help_imports_none_of_what_commands_need() -> None:
    """So that it comes at once."""
    code = (
        "import sys; from stream.cli import main; from click.testing import CliRunner;"
        "said = CliRunner().invoke(main, ['--help']); assert said.exit_code == 0, said.output;"
        "print(sorted({'numpy', 'river', 'msgspec', 'learners', 'snapshots', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    """And nothing is imported by a name that somebody types."""
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli", "os.system"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "No such command 'os.system'" in done.stderr
