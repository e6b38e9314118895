"""``holdfast check`` and ``init --from``: from a table to what would be learnt of it, and to a folder that works."""

import csv
import io
import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from learners.event import Task
from stream import config as configurations
from stream import produce as producing
from stream import proposal
from stream.columns import Columns, Survey
from stream.config import Config
from stream.errors import CommandError
from stream.profile import FEATURES, Profile, profile

Progress = Callable[[str, int, int], None]


class Checked(msgspec.Struct):
    """What was found, what a folder for it would hold, and what a trainer of that would make of the rows.

    ``sent`` is None where no label was named, so that nothing is proposed. ``asked`` is a question for ``/predict``.
    """

    found: Profile
    columns: Columns
    survey: Survey
    configuration: str = ""
    model: str = ""
    sent: producing.Sent | None = None
    asked: str = ""

    def config(self, base: Path) -> Config:
        """The proposed configuration as it is loaded."""
        return configurations.check(tomllib.loads(self.configuration), base)


class _First:
    """Takes events, keeps the first and forgets the others."""

    def __init__(self) -> None:
        self.value = b""

    def send(self, value: bytes, key: str | None) -> None:  # noqa: ARG002  as a sink takes them
        """Take one."""
        self.value = self.value or value

    def close(self) -> int:
        """Nothing is held."""
        return 0


def check(
    path: Path, columns: Columns, *, task: Task | None, exclude: list[str], name: str = "", port: int = 8000,
    progress: Progress = lambda _what, _rows, _bytes: None,
) -> Checked:  # fmt: skip
    """Look at a table; with a label, propose a folder for it and try its configuration on every row."""
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
    checked.configuration = proposal.configuration(found, name or path.name.split(".")[0], port, again(path, chosen))
    checked.model = proposal.model(found)
    sink = _First()
    checked.sent = producing.produce(
        checked.config(path.parent), path, sink, chosen, survey=chosen_survey,
        progress=lambda rows, size: progress("trying", rows, size),
    )  # fmt: skip
    event = json.loads(sink.value or b"{}")
    checked.asked = json.dumps({"x": event.get("x", {})}, ensure_ascii=False)
    return checked


def _again(survey: Survey, chosen: Columns) -> Survey:
    """The survey with the columns that were chosen by what it found."""
    survey.chosen = chosen
    for name in (chosen.id, chosen.time):
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
    words = ["holdfast", "produce", path.name]
    for option, value in (
        ("--label", columns.label), ("--id", columns.id), ("--time", columns.time),
        ("--features", _listed(columns.features or [])), ("--time-format", columns.time_format),
        ("--delimiter", columns.delimiter),
        ("--encoding", columns.encoding if columns.encoding != "utf-8-sig" else None),
    ):  # fmt: skip
        words += [option, value] if value else []
    words += [word for value in columns.missing for word in ("--missing", value)]
    return shlex.join(words)
