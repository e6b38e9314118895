"""``holdfast learning``: set a learner aside, or let it learn again."""

import time

import click

from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import RefusedError
from stream.command_group import Group
from stream.commands.base import configured, lineage_of, operator, why_option
from stream.settings import Config
from stream.terminal import printing


@click.group(cls=Group)
def learning() -> None:
    """Let a learner learn again that was set aside, or set one aside."""


@learning.command("stop")
@click.argument("learner")
@why_option
@configured
def learning_stop(config: Config, learner: str, why: str) -> None:
    """Let a learner learn nothing from here on; what comes is quarantined for it. Others go on."""
    _learning(config, learner, why, "stop_learning")


@learning.command("resume")
@click.argument("learner")
@why_option
@configured
def learning_resume(config: Config, learner: str, why: str) -> None:
    """Let a learner learn again, from the present on; what it missed stays in its quarantine."""
    _learning(config, learner, why, "resume_learning")


def _learning(config: Config, learner: str, why: str, action: Action) -> None:
    lineage = lineage_of(config)

    def decide(_: list[Entry]) -> Decision:
        newest = lineage.refresh().newest()
        if newest is None or learner not in newest.learners:
            known = ", ".join(newest.learners) if newest is not None else "none yet"
            raise RefusedError(
                f"there is no learner {learner!r} in the newest snapshot, only {known}; nothing was changed"
            )
        if (lineage.decided.stopped(learner) is None) == (action == "resume_learning"):
            raise RefusedError(f"{learner} is not stopped; nothing was changed" if action == "resume_learning"
                               else f"{learner} is stopped already; nothing was changed")  # fmt: skip
        return Decision(action=action, by=operator(), why=why, learner=learner)

    entry = lineage.ledger.append(time.time(), decide)
    printing.echo(
        f"ledger entry {entry.seq}: {learner} {'learns again' if action == 'resume_learning' else 'is set aside'}"
    )


@click.command()
@click.argument("learner")
@why_option
@configured
def promote(config: Config, learner: str, why: str) -> None:
    """Make LEARNER the champion, whose snapshots answer; undone by promoting the other again.

    With champion = "auto" the guard does this when a challenger is better for certain.
    """
    lineage = lineage_of(config)

    def decide(_: list[Entry]) -> Decision:
        newest = lineage.refresh().newest()
        if newest is None:
            raise RefusedError("there is no snapshot yet: start holdfast train; nothing was changed")
        if learner not in newest.learners:
            known = ", ".join(newest.learners)
            raise RefusedError(
                f"there is no learner {learner!r} in the newest snapshot, only {known}; nothing was changed"
            )
        if lineage.champion() == learner:
            raise RefusedError(f"{learner} is the champion already; nothing was changed")
        if lineage.serving(learner) is None:
            raise RefusedError(
                f"no snapshot of {learner} has passed the guard, so it cannot answer; nothing was changed"
            )
        return Decision("promote", operator(), why, learner, replaces=lineage.champion() or "")

    entry = lineage.ledger.append(time.time(), decide)
    said = f"ledger entry {entry.seq}: {learner} is the champion"
    if lineage.decided.fallen(learner):
        printing.echo(
            f"{said}; baseline {lineage.decided.baseline} answers in its place: holdfast retrain return ends that"
        )
    else:
        printing.echo(f"{said} and answers from now on")
