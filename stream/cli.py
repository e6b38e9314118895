"""The operator's door: the command ``holdfast``.

Exit codes: 0 done; 1 the answer is no (a snapshot failed, a digest does not hold); 2 the configuration or the
command line is wrong; 3 refused, and nothing was changed; 4 the store, the source or a learner is in trouble; 5 another
trainer writes this lineage.
"""

import os
from pathlib import Path

import click

from stream.command_group import Sections, config_option

_COMMANDS = "stream.commands"
SECTIONS = {
    "Begin": {
        "demo": (f"{_COMMANDS}.begin:demo", "A stream that is made up is learnt, poisoned, and saves itself."),
        "check": (f"{_COMMANDS}.tables:check", "Say what is in a table, and what would be learnt of it."),
        "init": (f"{_COMMANDS}.begin:init", "Write a configuration and model.py that work; --from a table."),
    },
    "Run": {
        "up": (f"{_COMMANDS}.run:up", "Trainer, guard, serving and console; they are kept running."),
        "train": (f"{_COMMANDS}.run:train", "Consume events, learn each, write snapshots."),
        "guard": (f"{_COMMANDS}.run:guard", "Judge every new snapshot before it may answer."),
        "serve": (f"{_COMMANDS}.run:serve", "Answer predictions over HTTP."),
        "console": (f"{_COMMANDS}.run:console", "Show lineages on a page, and act on them."),
        "produce": (f"{_COMMANDS}.tables:produce", "Send events: JSON lines, CSV, Parquet."),
    },
    "Look": {
        "status": (f"{_COMMANDS}.look:status", "Place, learners, metrics, accounting; also when nothing runs."),
        "ledger": (f"{_COMMANDS}.look:ledger", "Every decision; what answered at a time, or an id."),
        "compare": (f"{_COMMANDS}.compare:compare", "Who loses less, two models, and how certainly."),
        "report": (f"{_COMMANDS}.look:report", "What happened, as one file to send."),
        "verify": (f"{_COMMANDS}.verify:verify", "Check every byte and signature of the store."),
        "alive": (f"{_COMMANDS}.look:alive", "For health checks: does this role speak?"),
    },
    "Decide": {
        "revert": (f"{_COMMANDS}.snapshots:snapshots_revert", "Put a learner back to a snapshot."),
        "snapshots": (f"{_COMMANDS}.snapshots:snapshots", "List, show, verify, pin, import and revert them."),
        "rollout": (f"{_COMMANDS}.rollout:rollout", "Bring a candidate to production: shadow, canary, ramp."),
        "promote": (f"{_COMMANDS}.learning:promote", "Make a learner the champion, whose snapshots answer."),
        "learning": (f"{_COMMANDS}.learning:learning", "Stop a learner from learning, or let it again."),
        "quarantine": (f"{_COMMANDS}.quarantine:quarantine", "Show, replay or drop what was taken out of the models."),
        "holdout": (f"{_COMMANDS}.holdout:holdout", "The rows that snapshots are scored on; checked labels."),
        "retrain": (f"{_COMMANDS}.retrain:retrain", "Train the baseline over the archive, through the gates."),
        "approve": (f"{_COMMANDS}.retrain:approve", "Let a baseline count that waits for it."),
        "reject": (f"{_COMMANDS}.retrain:reject", "Turn it down."),
    },
    "Keep": {
        "archive": (f"{_COMMANDS}.archive:archive", "Every labelled event, for retrains: keep, show, check, import."),
        "dead-letters": (f"{_COMMANDS}.dead_letters:dead_letters", "What was refused: list, show, send back."),
        "forget": (f"{_COMMANDS}.forget:forget", "Delete somebody's events for good, everywhere."),
        "drill": (f"{_COMMANDS}.begin:drill", "Run a catastrophe, and print how it was survived."),
    },
}


@click.group(cls=Sections, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.version_option(package_name="holdfast")
def main(path: Path | None) -> None:  # noqa: ARG001  read from the context by the commands
    """Online learning from a stream that can be proved, guarded and undone.

    Start with: holdfast demo. Each command has its own --help.
    """
    from stream.errors import ConfigError  # noqa: PLC0415  help needs none of this
    from stream.process import logs  # noqa: PLC0415

    form = os.environ.get("HOLDFAST_LOG") or "console"
    logs.configure(form)
    if form not in logs.FORMS:
        raise ConfigError(f"HOLDFAST_LOG = {form} is not allowed: write {', '.join(logs.FORMS)}")


if __name__ == "__main__":
    main()
