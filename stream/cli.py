"""The operator's door: the command ``holdfast``.

Exit codes: 0 done; 1 the answer is no (a snapshot failed, a digest does not hold); 2 the configuration or the
command line is wrong; 3 refused, and nothing was changed; 4 the store, the source or a learner is in trouble; 5 another
trainer writes this lineage.
"""

import os
from pathlib import Path

import click

from stream.commands import (
    archive,
    begin,
    compare,
    dead_letters,
    forget,
    holdout,
    learning,
    look,
    quarantine,
    retrain,
    rollout,
    run,
    snapshots,
    tables,
    verify,
)
from stream.commands.base import Group, config_option
from stream.errors import ConfigError
from stream.process import logs


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@click.version_option(package_name="holdfast")
def main(path: Path | None) -> None:  # noqa: ARG001  read from the context by the commands
    """Online learning from a stream that can be proved, guarded and undone.

    Start with: holdfast demo
    """
    form = os.environ.get("HOLDFAST_LOG") or "console"
    logs.configure(form)
    if form not in logs.FORMS:
        raise ConfigError(f"HOLDFAST_LOG = {form} is not allowed: write {', '.join(logs.FORMS)}")


for command in (
    begin.init, begin.demo, begin.drill,
    run.up, run.train, run.guard, run.serve, run.console, tables.produce, tables.check,
    look.alive, look.status, look.ledger, look.report, verify.verify,
    snapshots.snapshots, snapshots.snapshots_revert, archive.archive, learning.learning, learning.promote,
    rollout.rollout, compare.compare, retrain.retrain, retrain.approve, retrain.reject,
    quarantine.quarantine, holdout.holdout, forget.forget, dead_letters.dead_letters,
):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main()
