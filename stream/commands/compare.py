"""``holdfast compare``: any two of learners, baselines and snapshots on the same labelled events."""

import time

import click

from snapshots.errors import RefusedError
from stream.commands.base import configured, json_option, lineage_of, moment_of, refuse_absent
from stream.settings import Config
from stream.terminal import printing


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--since", default=None, metavar="TIME", help="Events from then on: ISO 8601 (UTC) or Unix seconds.")
@click.option("--by", "slices", multiple=True, metavar="FEATURE", help="Also for each value of it; may be repeated.")
@json_option
@configured
def compare(config: Config, a: str, b: str, since: str | None, slices: tuple[str, ...], *, as_json: bool) -> None:
    """Compare A and B on labelled events that both predicted, or never learnt: who loses less, and how certainly.

    Each is a learner's name, baseline:N, snapshot:N or snapshot:N:LEARNER. What a learner said is in the log of
    predictions, as answers and in shadow; baselines and snapshots are asked again about events newer than they are.
    Changes nothing.
    """
    from snapshots.records import cut as snapshots  # noqa: PLC0415  a command imports what it needs
    from stream.compare.comparison import Comparison, compared  # noqa: PLC0415  the same
    from stream.compare.sides import side_of  # noqa: PLC0415  the same
    from stream.compose import events_of, membership_of  # noqa: PLC0415  the same
    from stream.parts import codec_of, labels_of, reach_modules  # noqa: PLC0415  the same

    if a == b:
        raise RefusedError(f"{a} and {b} are the same: compare two")
    refuse_absent(config)
    lineage = lineage_of(config)
    reach_modules(config)
    newest, now = lineage.newest(), time.time()
    sides = (side_of(a, config, lineage, now), side_of(b, config, lineage, now))
    labels = labels_of(config)
    if newest is not None:
        labels.restore(snapshots.read_shared(lineage.store, newest).labels)
    scale = newest.holdout.versions[-1].scale if newest is not None and newest.holdout.versions else 1.0
    comparison = Comparison(config.task, sides, slices or config.event.slices, scale)
    begin = moment_of(since, "--since") if since is not None else 0.0
    codec = codec_of(config, labels)
    source = events_of(config, codec, labels, membership_of(config, lineage, now), when_lost="go_on")
    try:
        with printing.Progress("reading labelled events") as progress:
            found = compared(comparison, source, codec, begin, lambda read: progress.consumed(read, source.lag()))
    finally:
        source.close()
    if as_json:
        printing.as_json(found)
        return
    if not found["events"]:
        raise RefusedError(_nothing(found["labelled"]))
    said = "" if found["low"] > 0 or found["high"] < 0 else ": no difference for certain"
    printing.echo(
        f"{a} loses {found['loss_a']:.4f} and {b} {found['loss_b']:.4f} on the same {found['events']:,} events{said}"
    )
    rows = [("all", *_row(found["difference"], found["low"], found["high"], found["events"]))]
    rows += [(name, *_row(*one)) for name, one in sorted(found["slices"].items(), key=lambda one: -one[1][0])]
    printing.table(f"loss of {a} minus that of {b}", ["events of", "difference", "at least", "at most", "events"], rows)


def _nothing(labelled: int) -> str:
    return (
        f"there is no labelled event that both predicted ({labelled:,} were read). What a learner said is known where "
        "[predictions] logs it: as the answer, or in the shadow of a roll-out; baselines and snapshots are asked about "
        "events that are newer than they are"
    )


def _row(mean: float, low: float, high: float, events: int) -> tuple[str, str, str, str]:
    return f"{mean:+.4f}", f"{low:+.4f}", f"{high:+.4f}", f"{events:,}"
