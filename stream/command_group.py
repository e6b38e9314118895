"""Groups of commands: expected errors as one line and an exit code; commands that load when they are asked for."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

#: stands for a command that nobody has asked for yet
_ABSENT = click.Command("")


class Group(click.Group):
    """A group of commands that turns the errors that are expected into one line and an exit code."""

    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an option that is given twice and counts once is refused, not silently the last one."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, click.Group):
            _refuse_twice(ctx, command, rest)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault of the program still shows its trace."""
        try:
            return super().invoke(ctx)
        except click.ClickException as cause:  # what was typed may be a file's name
            from stream.terminal.safe_text import shown  # noqa: PLC0415  what went well needs none of these

            cause.message = shown(cause.message)  # type: ignore[misc]
            raise
        except Exception as cause:
            from stream.process import logs  # noqa: PLC0415

            if not logs.expected(cause):
                raise
            ctx.exit(logs.last_words(cause))


class Sections(Group):
    """A group whose help shows its commands by section, and that imports a command when it is asked for.

    ``sections`` maps a title to names, each with ``module:attribute`` and one line of help.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, tuple[str, str]]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._sections = sections
        self.commands = Loaded({name: where for one in sections.values() for name, (where, _) in one.items()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's own
        """Each section under its title."""
        for title, found in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, said) for name, (_, said) in found.items()], col_max=14)


class Loaded(dict[str, click.Command]):
    """Commands by name, imported from ``module:attribute`` when somebody takes one."""

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__(dict.fromkeys(places, _ABSENT))
        self._places = places

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = self._places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]

    def get(self, name: str, default: Any = None) -> Any:
        """The command, or the default."""
        return self[name] if name in self._places else default

    def items(self) -> Any:
        """All of them, imported."""
        return {name: self[name] for name in self._places}.items()


def _refuse_twice(ctx: click.Context, command: click.Command, args: list[str]) -> None:
    try:
        _, _, given = command.make_parser(click.Context(command, parent=ctx)).parse_args(list(args))
    except click.UsageError:
        return  # it is said when the command itself reads them
    for one in given:
        counts_once = isinstance(one, click.Option) and not (one.multiple or one.is_flag or one.count)
        if counts_once and given.count(one) > 1:
            raise click.UsageError(f"{one.opts[0]} is given {given.count(one)} times, and one value counts", ctx)


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config``."""
    option = click.option(
        "--config", "path", type=click.Path(path_type=Path), default=None,
        help="Configuration file; default holdfast.toml, or HOLDFAST_CONFIG.",
    )  # fmt: skip
    return option(function)
