"""``holdfast status`` as people read it: what is so, in which unit, and what to do where something is not."""

from typing import Any

from learners.learner import COMPILED
from stream.status.status import LABELS
from stream.terminal.printing import duration, moment, place, say, size, table

#: a share of late labels that is worth a sentence
_MANY_LATE = 0.01


def show(report: dict[str, Any], now: float) -> None:
    """Print the report of :func:`stream.status.status.status`; ``now`` is in Unix seconds."""
    say(report["name"], "bold", (f" {report['task']}: {_source(report['source'])}", ""))
    if report["snapshot"] is None:
        say("no snapshot has been written yet: holdfast up, or holdfast train, writes the first", "yellow")
    else:
        age = duration(max(0.0, now - report["created"]))
        say(f"snapshot {report['snapshot']}, {age} old ({moment(report['created'])}), at {place(report['place'])}")
    for sentence in [*report["unmatched"], *report.get("exposed", []), *report.get("unended", [])]:
        say(sentence, "yellow")
    _show_processes(report)
    _show_store(report["store"], report["holdout"])
    _show_refused(report["refused"], report.get("examples", {}))
    _show_labels(report["labels"], report["serving"])
    _show_rollout(report["rollout"])
    _show_baseline(report)
    _show_learners(report["learners"])
    for number, damage in report["damaged"].items():
        say(f"snapshot {number} is refused: {damage}", "red")


def _source(source: dict[str, Any]) -> str:
    said = f"source {source['state']}"
    if source["lag"] is not None:
        said += f", {source['lag']:,} {source['unit']} waiting"
    if source["rate"] is not None:
        said += f", {source['rate']:,.0f} events/s"
    if source["seconds_left"] is not None:
        said += f", about {duration(source['seconds_left'])} left at this rate"
    return f"{said} ({source['why']})" if source["why"] else said


def _show_processes(report: dict[str, Any]) -> None:
    for one in report["serving"]:
        said = f"serving: process {one['pid']} on port {one['port']} answers "
        if one["snapshot"] is None:
            say(f"{said}nothing yet: no snapshot has passed")
        else:
            say(f"{said}from snapshot {one['snapshot']} of {one['learner']}, {duration(one['age_seconds'])} old")
        if one["unknown_features"]:
            names = ", ".join(repr(name) for name in one["unknown_features"])
            say(f"requests have features that no newly learnt event has: {names}", "yellow")
        if one["other_types"]:
            names = ", ".join(one["other_types"])
            say(f"requests have features of another type than every newly learnt event: {names}", "yellow")
    if not report["serving"]:
        say("serving: no process")
    for one in report["guard"]:
        waiting = f", {one['waiting']:,} snapshots wait for a verdict" if one["waiting"] else ""
        say(f"guard: process {one['pid']}{waiting}")
    if not report["guard"]:
        say("guard: no process, so no new snapshot passes")
    for name, how in report["execution"].items():
        say(f"{name} is learnt by {'compiled loops' if how == COMPILED else how}", "dim")


def _show_store(store: dict[str, Any], holdout: dict[str, Any]) -> None:
    parts = [size(store["bytes"])] if store.get("bytes") is not None else []
    parts += [f"{size(store['free_bytes'])} free"] if store["free_bytes"] is not None else []
    if parts:
        say(f"store: {', '.join(parts)}")
    if store["trouble"]:
        say(f"store: {store['trouble']}", "red")
    sealed = f"holdout {holdout['version']}: {holdout['rows']:,} rows" if holdout["version"] else "no holdout yet"
    say(f"{sealed}; {holdout['candidate']:,} rows are collected for the next")


def _show_refused(refused: dict[str, int], examples: dict[str, dict[str, Any]]) -> None:
    """The reasons of dead letters, each with its newest example."""
    for reason, count in sorted(refused.items(), key=lambda one: -one[1]):
        found = examples.get(reason)
        said = f", as {found['letter']}: {found['message']}" if found else ""
        say(f"refused: {count:,} {reason}{said}", "yellow")
    if refused:
        say("  look at them: holdfast dead-letters list")


def _show_labels(labels: dict[str, Any] | None, serving: list[dict[str, Any]]) -> None:
    """What became of labels that came later, how long they take, and of answers that are kept for them."""
    for one in serving:
        if (kept := one["predictions"]) is None:
            continue
        lost = ", ".join(f"{count:,} {reason}" for reason, count in kept["left_out"].items() if count)
        if kept["spooled"]:
            say(f"process {one['pid']}: {kept['spooled']:,} predictions wait in the spool for the broker", "yellow")
        if lost:
            say(f"process {one['pid']}: predictions that were left out of the log: {lost}", "red")
    if labels is None:
        return
    parts = " + ".join(f"{labels[name]:,} {name}" for name in LABELS[1:] if labels.get(name))
    sign = "=" if labels["accounting_difference"] == 0 else "≠"
    say(f"labels: {labels['consumed']:,} consumed {sign} {parts or '0'}")
    if delays := (labels["delays"] if "p50" in labels["delays"] else None):
        after = [duration(delays[name]) for name in ("p50", "p90", "p99")]
        say(f"labels come after {after[0]} (half of them), {after[1]} (9 of 10), {after[2]} (99 of 100)")
    if delays and delays["late_share"] > _MANY_LATE and not labels["evicted"]:
        wait = duration(delays["wait_for_99"])
        say(f"{delays['late_share']:.1%} of them come after join.wait: {wait} would catch 99 %", "yellow")
    if labels["evicted"]:
        say(f"{labels['evicted']:,} events were timed out early: join.max_pending is too small for join.wait", "yellow")


def _show_rollout(found: dict[str, Any]) -> None:
    """The roll-out that goes on; of one that is over the ledger tells."""
    if found["state"] in ("shadow", "canary", "paused"):
        say(f"roll-out of {found['candidate']}: {found['state']}, answers {found['share']:g} %: {found['why']}")


def _show_baseline(report: dict[str, Any]) -> None:
    if (found := report["baseline"]) is not None:
        says = "answers" if found["answers"] else "stands by"
        compared = f": {found['words']} since {moment(found['compared']['since'])}" if found["words"] else ""
        compared = compared or (f": {found['waits']}" if found["waits"] else "")
        say(f"baseline {found['number']} ({found['kind']}, {found['rows']:,} events) {says}{compared}")
        if found["verdict"] == "fail":
            say(f"baseline {found['number']} fails, and is not fallen back to: {found['holdout']['why']}")
    if (training := report["retrain"])["running"] is not None:
        say(f"a full retrain runs: {training['running']}")
    if (last := training["last"]) is not None and last["action"] in ("retrain_failed", "refuse_baseline"):
        say(f"the last retrain came to nothing ({moment(last['time'])}): {last['why']}")


def _show_learners(learners: dict[str, Any]) -> None:
    if not learners:
        return
    metrics = list(next(iter(learners.values()))["metrics"])
    table(
        "learners",
        ["", *learners],
        [
            *([name, *(one[name] for one in learners.values())] for name in ("role", "verdict", "serving", "line")),
            *_later(learners),
            *([f"recent {name}", *(one["recent"].get(name) for one in learners.values())] for name in metrics),
            *([name, *(one["metrics"].get(name) for one in learners.values())] for name in metrics),
        ],
    )
    for name, one in learners.items():
        _show_learner(name, one)


def _later(learners: dict[str, Any]) -> list[list[Any]]:
    """Rows for what was answered, and for what was predicted when the events came; none where labels come with them."""
    rows = []
    for kind in ("served", "delayed"):
        found = [one.get(kind) or {} for one in learners.values()]
        names = next((list(one) for one in found if one), [])
        rows += [[f"{kind} {name}", *(one.get(name) for one in found)] for name in names if name != "slices"]
    return rows


def _show_learner(name: str, one: dict[str, Any]) -> None:
    """The sentences about one learner."""
    events = one["events"]
    parts = " + ".join(f"{count:,} {kind}" for kind, count in events.items() if kind != "consumed" and count)
    sign = "=" if one["accounting_difference"] == 0 else "≠"
    say(f"{name}: {events['consumed']:,} consumed {sign} {parts or '0'}")
    if one["against_champion"] is not None:
        say(f"{name} against {one['against_champion']['champion']}: {one['against_champion']['words']}")
    if one["verdict"] in ("suspect", "fail"):
        say(f"{name} is not promoted: {one['why'] or ''}", "yellow")
    if one["breaker"] != "closed" or one["learning"] != "on":
        why = f": {one['stopped_why']}" if one["stopped_why"] else ""
        say(f"{name} learns nothing: learning is {one['learning']}, breaker {one['breaker']}{why}", "yellow")
    if one["advice"]:
        say(f"{name}: {one['advice']}")
