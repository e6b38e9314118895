"""``holdfast check`` and ``init --from``: from a table to what would be learnt of it, and to a folder that works."""

import contextlib
import csv
import io
import json
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from learners.event import Task
from stream import config as configurations
from stream.errors import CommandError
from stream.settings import Config
from stream.tables import produce as producing
from stream.tables import proposal
from stream.tables.columns import Columns, Survey
from stream.tables.profile import FEATURES, Profile, profile

Progress = Callable[[str, int, int], None]


class Checked(msgspec.Struct):
    """What was found, what a folder for it would hold, and what a trainer of that would make of the rows.

    ``sent`` is None where no label was named, so that nothing is proposed. ``asked`` is a question for ``/predict``,
    ``begin`` the command that makes the folder.
    """

    found: Profile
    columns: Columns
    survey: Survey
    configuration: str = ""
    model: str = ""
    sent: producing.Sent | None = None
    asked: str = ""
    begin: str = ""

    def config(self, base: Path) -> Config:
        """The proposed configuration as it is loaded."""
        return configurations.check(tomllib.loads(self.configuration), base)


class _Kept:
    """Takes events and keeps the first; the others go into a file, where there is one, a line each."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self.value, self._file = b"", file

    def send(self, value: bytes, key: str | None) -> None:  # noqa: ARG002  as a sink takes them
        """Take one."""
        self.value = self.value or value
        if self._file is not None:
            with _room():
                self._file.write(value.replace(b"\n", b" ") + b"\n")

    def close(self) -> int:
        """Write what is held; nothing is counted."""
        if self._file is not None:
            with _room():
                self._file.flush()
        return 0


@contextlib.contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise CommandError(f"events cannot be kept until they are sent: {cause.strerror}. Set TMPDIR") from cause


def check(
    path: Path, columns: Columns, *, task: Task | None, exclude: list[str], name: str = "", port: int = 8000,
    progress: Progress = lambda _what, _rows, _bytes: None, kept: IO[bytes] | None = None,
) -> Checked:  # fmt: skip
    """Look at a table; with a label, propose a folder for it and try its configuration on every row.

    The events that were tried are written to ``kept``, so that nobody has to make them again.
    """
    found, survey = profile(
        path, columns, task=task, exclude=exclude, progress=lambda rows, size: progress("looking at", rows, size)
    )
    chosen = msgspec.structs.replace(
        columns, id=found.id, time=found.time, positive=None, features=found.of(*FEATURES),
        time_format=columns.time_format or (found.columns[found.time].form or None if found.time else None),
    )  # fmt: skip
    chosen_survey = _again(survey, chosen)
    checked = Checked(found, chosen, chosen_survey)
    if found.label is None:
        return checked
    if not chosen.features:
        raise CommandError(f"beside the label {found.label!r} no column of {path} is left to learn from")
    checked.configuration = proposal.configuration(
        found, proposal.name_of(name or path.name.split(".")[0]), port, again(path, chosen)
    )
    checked.model = proposal.model(found)
    options = _options(columns, exclude=exclude, task=task)
    checked.begin = shlex.join(["holdfast", "init", "DIR", "--from", str(path), *options])
    sink, config = _Kept(kept), checked.config(path.parent)
    checked.sent = producing.produce(
        config, path, sink, chosen, run=producing.Run(producing.Ids(config.event.recent_ids), chosen_survey),
        progress=lambda rows, size: progress("trying", rows, size),
    )  # fmt: skip
    sink.close()
    event = json.loads(sink.value or b"{}")
    checked.asked = json.dumps({"x": event.get("x", {})}, ensure_ascii=False)
    return checked


def _again(survey: Survey, chosen: Columns) -> Survey:
    """The survey with the columns that were chosen by what it found."""
    survey.chosen = chosen
    for name in (chosen.id, chosen.time, *survey.dates):
        if name is not None:
            survey.columns[name].fix("text")
    survey.decide()
    return survey


def _listed(names: list[str]) -> str:
    """Names as ``--features`` takes them: a line of a CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def again(path: Path, columns: Columns) -> str:
    """The command that sends another table of the same columns."""
    return shlex.join(["holdfast", "produce", path.name, *_options(columns)])


def _options(columns: Columns, *, exclude: list[str] | None = None, task: str | None = None) -> list[str]:
    words = []
    for option, value in (
        ("--label", columns.label), ("--positive", columns.positive), ("--task", task),
        ("--id", columns.id), ("--time", columns.time),
        ("--features", _listed(columns.features or [])), ("--exclude", _listed(exclude or [])),
        ("--time-format", columns.time_format),
        ("--delimiter", columns.delimiter),
        ("--encoding", columns.encoding if columns.encoding != "utf-8-sig" else None),
    ):  # fmt: skip
        words += [option, value] if value else []
    words += ["--id", ""] * columns.no_id + ["--time", ""] * columns.no_time
    return words + [word for value in columns.missing for word in ("--missing", value)]
