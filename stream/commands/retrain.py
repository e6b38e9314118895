"""``holdfast retrain``, ``approve``, ``reject``: the baseline from the whole archive."""

import importlib.util
import os
import sys
import time
from typing import Any

import click
import msgspec

from learners.extras import install
from snapshots.decisions.decided import baseline_state, decided
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import ElsewhereError, NothingToLearnError, RefusedError
from snapshots.records import baselines
from stream.command_group import Group, config_option
from stream.commands.base import absent, configured, json_option, lineage_of, operator, stopping_of, why_option
from stream.commands.numbers import Whole
from stream.errors import CommandError
from stream.settings import Config
from stream.terminal import printing


@click.group(cls=Group, invoke_without_command=True)
@click.option("--now", is_flag=True, help="At once, whatever cool-down and budget say.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option("--warm/--full", default=None, help="Go on from the last baseline on new data only; or from nothing.")
@click.option("--compare-warm", is_flag=True, help="Do both, and print cost and quality side by side.")
@click.option("--again", is_flag=True, help="Also when data and recipe are those of the baseline that counts.")
@click.option("--order", hidden=True, help="What the scheduler says, as JSON.")
@json_option
@config_option
@click.pass_context
def retrain(ctx: click.Context, /, **options: Any) -> None:
    """Train the baseline anew over the archive, and hold it against the gates; exit 1 when it is refused."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(_retrain, **options)


@click.command(hidden=True)
@click.option("--now", is_flag=True)
@click.option("--dry-run", is_flag=True)
@click.option("--warm/--full", default=None)
@click.option("--compare-warm", is_flag=True)
@click.option("--again", is_flag=True)
@click.option("--order")
@json_option
@configured
def _retrain(
    config: Config,
    *,
    now: bool,
    dry_run: bool,
    warm: bool | None,
    compare_warm: bool,
    again: bool,
    order: str | None,
    as_json: bool,
) -> None:
    _refuse_without("torch", "onnx", "onnxruntime", "pyarrow", "cronsim")
    from stream.compose import retraining_of  # noqa: PLC0415  a command imports what it needs
    from stream.retrain.retrain import NICE  # noqa: PLC0415  the same
    from stream.retrain.scheduler import refuse_hindered  # noqa: PLC0415  the same
    from stream.retrain.triggers import Order  # noqa: PLC0415  the same

    if order is None and (why := absent(config)):
        why = f"the archive holds no event: {why}, or bring history in with holdfast archive import FILE"
        _say_nothing(why, as_json=as_json)
        return
    os.nice(NICE)
    nothing = ""
    with printing.Steps(enabled=not as_json) as steps:
        retraining = retraining_of(config, say=steps.say)
        if not (now or dry_run):
            refuse_hindered(retraining.lineage, config, retraining.archive, retraining.codec, time.time())
        asked = Order("by hand", operator()) if order is None else msgspec.json.decode(order, type=Order)
        asked = msgspec.structs.replace(asked, again=again)
        plan, done = None, []
        try:
            if dry_run:
                plan = retraining.plan()
            else:
                done = _carry_out(retraining, asked, warm=warm, compare_warm=compare_warm, say=order is not None)
        except NothingToLearnError as cause:
            nothing = str(cause)
        found = [_came_of(one) for one in done]
    if nothing:
        _say_nothing(nothing, as_json=as_json)
        return
    if plan is not None:
        _show_plan(plan, as_json=as_json)
        return
    if as_json:
        printing.as_json(found if compare_warm else found[0])
    elif compare_warm:
        _show_both(*found)
    else:
        _show(found[0])
    sys.exit(1 if all(one["state"] == "refused" for one in found) else 0)


def _carry_out(retraining: Any, asked: Any, *, warm: bool | None, compare_warm: bool, say: bool) -> list[Any]:
    """Train; ``say``: the scheduler reads whether somebody else does, or did."""
    try:
        return retraining.compare(asked) if compare_warm else [retraining.run(asked, warm=warm)]
    except ElsewhereError as cause:
        if say:
            printing.as_json({"state": "elsewhere", "why": str(cause)})
        raise


def _say_nothing(why: str, *, as_json: bool) -> None:
    """Say that there is nothing to learn, which is no failure."""
    said = {"state": "nothing_to_learn", "why": why}
    printing.as_json(said) if as_json else printing.echo(f"nothing to learn: {why}")


def _refuse_without(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"retrains need {', '.join(missing)}: {install('retrain')}")


def _came_of(outcome: Any) -> dict[str, Any]:
    state = baseline_state(outcome.manifest.number, [outcome.entry])
    return {**_row(outcome.manifest, state, outcome.entry.why), "gates": outcome.entry.gates}


def _show_both(warm: dict[str, Any], full: dict[str, Any]) -> None:
    """A warm start and a full retrain, each with what it cost and what its gates saw."""
    gates = {name: [next((g["figure"] for g in one["gates"] if g["name"] == name), None) for one in (warm, full)]
             for name in ("holdout", "calibration", "latency", "size")}  # fmt: skip
    printing.table(f"warm start from baseline {warm['warm_from']}, and from nothing", ["", "warm", "full"], [
        ["baseline", warm["baseline"], full["baseline"]],
        ["state", warm["state"], full["state"]],
        ["events learnt", warm["rows"], full["rows"]],
        ["seconds of training", warm["seconds"], full["seconds"]],
        ["loss on the newest events", *(min(one["manifest"]["trained"]["losses"]) for one in (warm, full))],
        *([f"gate {name}", *figures] for name, figures in gates.items()),
    ])  # fmt: skip
    printing.echo(
        "both are held against the same baseline on the same rows; the losses are each on its own newest events"
    )


def _show_plan(plan: Any, *, as_json: bool) -> None:
    data = plan.dataset
    if as_json:
        printing.as_json({
            "rows": data.rows, "excluded": data.excluded, "data_version": data.version, "device": plan.device,
            "kind": plan.kind, "current": plan.current, "same_data": plan.same_data,
            "doubts": plan.doubts,
        })  # fmt: skip
        return
    left_out = ", ".join(f"{count:,} {why}" for why, count in data.excluded.items()) or "none"
    printing.echo(f"{data.rows:,} events would be learnt; left out: {left_out}")
    printing.echo(f"from {printing.moment(data.first_time)} to {printing.moment(data.last_time)}")
    printing.echo(f"{plan.kind} on {plan.device}; data version {data.version[:16]}")
    if plan.same_data:
        printing.echo(f"baseline {plan.current} was trained on exactly this data")
    for doubt in plan.doubts:
        printing.say(doubt, "yellow")
    printing.echo("nothing was changed")


def _row(manifest: baselines.BaselineManifest, state: str, why: str) -> dict[str, Any]:
    about = msgspec.to_builtins(manifest)
    return {
        "baseline": manifest.number, "created": manifest.created, "state": state, "why": why,
        "trigger": manifest.trigger, "kind": manifest.recipe["factory"] or manifest.recipe["kind"],
        "rows": manifest.rows, "seconds": manifest.trained["seconds"], "device": manifest.trained["device"],
        "warm_from": manifest.warm_from, "data_version": manifest.data_version, "excluded": manifest.excluded,
        "manifest": about,
    }  # fmt: skip


def _show(found: dict[str, Any]) -> None:
    printing.table(
        f"baseline {found['baseline']}: {found['state']}", ["gate", "figure", "limit", "passed", "why"],
        [[gate["name"], gate["figure"], gate["limit"], "yes" if gate["passed"] else "NO", gate["why"]]
         for gate in found["gates"]],
    )  # fmt: skip
    left_out = ", ".join(f"{count:,} {why}" for why, count in found["excluded"].items()) or "none"
    trained = found["manifest"]["trained"]
    printing.echo(
        f"{found['rows']:,} events learnt in {found['seconds']:.1f} s on {found['device']} "
        f"({trained['rows_per_second']:,} rows/s, best epoch {trained['best_epoch']}); left out: {left_out}"
    )
    printing.echo(found["why"])


@retrain.command("watch")
@configured
def retrain_watch(config: Config) -> None:
    """Run the scheduler: start a retrain when a trigger is due (schedule, new labels, drift, performance, breaker)."""
    _refuse_without("pyarrow", "cronsim")
    from stream.compose import scheduler_of  # noqa: PLC0415  a command imports what it needs

    path = click.get_current_context().find_root().meta["config"]
    scheduler_of(
        config, path, stopping=stopping_of("a retrain that runs ends itself after the epoch; up to a minute")
    ).run()


@retrain.command("list")
@json_option
@configured
def retrain_list(config: Config, *, as_json: bool) -> None:
    """List every baseline, newest first, with what became of it."""
    lineage = lineage_of(config)
    entries = lineage.ledger.entries()
    rows = []
    for number in reversed(baselines.numbers(lineage.store)):
        manifest = baselines.read(lineage.store, number)
        if manifest is not None:
            row = _row(manifest, baseline_state(number, entries), _why(entries, number))
            rows.append({**row, "gates": _gates(entries, number)})
    counts = lineage.decided.baseline
    for row in rows:
        row["counts"] = row["baseline"] == counts
    if as_json:
        printing.as_json(rows)
        return
    columns = ["baseline", "created", "state", "counts", "kind", "rows", "seconds", "device", "trigger", "why"]
    shown = [
        {**row, "created": printing.moment(row["created"]), "counts": "yes" if row["counts"] else ""} for row in rows
    ]
    printing.table("baselines", columns, [[row[column] for column in columns] for row in shown])


def _why(entries: list[Any], number: int) -> str:
    found = [entry.why for entry in entries if entry.baseline == number]
    return found[-1] if found else ""


def _gates(entries: list[Any], number: int) -> list[dict[str, Any]]:
    return next((entry.gates for entry in entries if entry.baseline == number and entry.gates), [])


@retrain.command("show")
@click.argument("number", type=Whole())
@json_option
@configured
def retrain_show(config: Config, number: int, *, as_json: bool) -> None:
    """Show one baseline: its gates with figures and limits, its data, its recipe."""
    lineage = lineage_of(config)
    manifest = baselines.read(lineage.store, number)
    if manifest is None:
        raise RefusedError(f"baseline {number} does not exist. See: holdfast retrain list")
    found = _row(manifest, baseline_state(number, lineage.ledger.entries()), _why(lineage.ledger.entries(), number))
    found["gates"] = _gates(lineage.ledger.entries(), number)
    printing.as_json(found) if as_json else _show(found)


@retrain.command("use")
@click.argument("number", type=Whole())
@why_option
@configured
def retrain_use(config: Config, number: int, why: str) -> None:
    """Put back a baseline that was accepted before."""
    _decide(config, number, "use", why)


@retrain.command("retire")
@why_option
@configured
def retrain_retire(config: Config, why: str) -> None:
    """Let no baseline count from here on, until one is accepted or put back."""
    lineage = lineage_of(config)

    def decide(entries: list[Entry]) -> Decision:
        if decided(entries).baseline is None:
            raise RefusedError("no baseline counts; nothing was changed")
        return Decision("retire_baseline", operator(), why)

    entry = lineage.ledger.append(time.time(), decide)
    printing.echo(f"ledger entry {entry.seq}: no baseline counts from now on")


@retrain.command("fall-back")
@why_option
@configured
def retrain_fall_back(config: Config, why: str) -> None:
    """Let the baseline answer in the champion's place, until it is better again or somebody returns."""
    _switch(config, "fall_back", why)


@retrain.command("return")
@why_option
@configured
def retrain_return(config: Config, why: str) -> None:
    """Let the champion answer again."""
    _switch(config, "return", why)


def _switch(config: Config, action: Action, why: str) -> None:
    lineage = lineage_of(config)

    def decide(_: list[Entry]) -> Decision:
        name, number = lineage.refresh().champion(), lineage.decided.baseline
        if name is None or number is None:
            raise RefusedError("there is no champion or no baseline yet; nothing was changed")
        if lineage.decided.fallen(name) == (action == "fall_back"):
            says = f"baseline {number} answers already" if lineage.decided.fallen(name) else f"{name} answers already"
            raise RefusedError(f"{says}; nothing was changed")
        return Decision(action, operator(), why, name, baseline=number)

    entry = lineage.ledger.append(time.time(), decide)
    now = f"baseline {entry.baseline}" if action == "fall_back" else entry.learner
    printing.echo(f"ledger entry {entry.seq}: {now} answers from now on")
    if action == "return" and lineage.decided.breaker(entry.learner or "") == "open":
        printing.echo(
            f"the breaker of {entry.learner} is open, so the guard falls back again: holdfast learning resume first"
        )


@click.command()
@click.argument("number", type=Whole())
@why_option
@configured
def approve(config: Config, number: int, why: str) -> None:
    """Let baseline N count, which passed every gate and waits for approval (gates.sign_off)."""
    _decide(config, number, "approve", why)


@click.command()
@click.argument("number", type=Whole())
@why_option
@configured
def reject(config: Config, number: int, why: str) -> None:
    """Turn down baseline N, which waits for approval."""
    _decide(config, number, "reject", why)


def _decide(config: Config, number: int, action: str, why: str) -> None:
    from stream.retrain.retrain import decide_by_hand  # noqa: PLC0415  a command imports what it needs

    entry = decide_by_hand(lineage_of(config), number, action, operator(), why, time.time())
    said = "is turned down" if action == "reject" else "counts from now on"
    printing.echo(f"ledger entry {entry.seq}: baseline {number} {said}")
