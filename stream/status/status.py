"""The state of a lineage as people and scripts see it, from the store alone; it is right also when nothing runs."""

from collections.abc import Sequence
from typing import Any

import msgspec

from snapshots import Lineage
from snapshots.errors import SnapshotsError
from snapshots.judging import baseline_standing
from snapshots.judging import history as histories
from snapshots.judging.judge import advice
from snapshots.moved import jumps
from snapshots.records import baselines
from snapshots.records.held_rows import read_version, shares
from snapshots.records.holdout import FIRST_ROWS
from snapshots.records.manifest import LABEL_CLASSES, HoldoutState, Manifest
from snapshots.store.lease import Lease
from snapshots.store.private_files import readable_by_all
from stream.process.presence import SILENT, has_ended, present
from stream.rollout import report as rollout_report
from stream.settings import Config
from stream.source import lines
from stream.status.disk import free_bytes
from stream.status.pace import pace

_DAY_SECONDS = 86_400.0


def status(lineage: Lineage, config: Config, now: float) -> dict[str, Any]:
    """Everything of ``holdfast status --json`` and ``GET /status``."""
    newest = lineage.refresh().newest()
    words = present(lineage.store, now)
    report: dict[str, Any] = {
        "name": config.name,
        "task": config.task,
        "snapshot": newest.snapshot if newest else None,
        "created": newest.created if newest else None,
        "place": newest.place if newest else {},
        "learners": _learners(lineage),
        "source": {**source(words), **pace(lineage, config, words)},
        "refused": dict(newest.counts.refused) if newest else {},
        "labels": labels(newest),
        "unmatched": _unmatched(newest),
        "holdout": _holdout(newest),
        "rollout": rollout_report.report(lineage, config, words, now),
        "baseline": baseline(lineage, now),
        "retrain": retrain(lineage, now),
        "serving": [_process(word, now) for word in words if word["role"] == "serving"],
        "guard": [{"pid": word["pid"], "waiting": word["waiting"]} for word in words if word["role"] == "guard"],
        "wall": _walls(words),
        "execution": {name: how for word in words for name, how in word.get("execution", {}).items()},
        "store": {
            "trouble": lineage.broken or lineage.ledger.expired(now),
            "free_bytes": free_bytes(lineage.store),
        },
        "damaged": {str(number): why for number, why in lineage.damaged.items()},
    }
    return report


def exposed(config: Config) -> list[str]:
    """Files of tokens and keys that everybody on this machine may read, in sentences; for who looks here alone."""
    named = {
        "serve.token_file": config.serve.token_file,
        "serve.events_token_file": config.serve.events_token_file,
        "serve.read_token_file": config.serve.read_token_file,
        "serve.labels_token_file": config.serve.labels_token_file,
        "holdout.trusted.token_file": config.holdout.trusted.token_file,
        "signing.private_key_file": config.signing.private_key_file,
    }
    paths = {setting: config.base / name for setting, name in named.items() if name}
    return [
        f"{setting}: everybody on this machine may read this secret: chmod 600 {path}"
        for setting, path in paths.items()
        if path.is_file() and readable_by_all(path)
    ]


def unended(config: Config, now: float) -> list[str]:
    """Files of events whose last line waits for its end, in sentences; for who looks here alone."""
    if config.source.kind != "files":
        return []
    return [lines.unended_in_words(path) for path in lines.unended(config.base / config.source.directory, now)]


def _unmatched(newest: Manifest | None) -> list[str]:
    """What of the configuration matched none of the first events, in sentences."""
    parts = newest.learners.values() if newest is not None else ()
    return next((part.figures.get("unmatched", []) for part in parts), [])


def source(words: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the source is read: by the trainer's own word, or why there is no trainer."""
    trainer = next((word for word in words if word["role"] == "trainer"), None)
    given_up = [word["given_up"]["train"] for word in words if "train" in word.get("given_up", {})]
    if trainer is not None:
        elsewhere = f"process {trainer['pid']} on {trainer['host']} learns, and not holdfast up: " if given_up else ""
        why = trainer["why"] or elsewhere + "".join(given_up[:1])
        return {"state": trainer["state"], "why": why, "lag": trainer["lag"]}
    return {
        "state": "stopped",
        "why": f"nothing learns: {given_up[0]}" if given_up else f"no trainer runs: {SILENT}",
        "lag": None,
    }


def learning(lineage: Lineage, words: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Whether what answers goes on learning, for ``/ready``: the state of the source, or ``stopped``; and why."""
    name = lineage.champion()
    stopped = lineage.decided.stopped(name) if name is not None else None
    if stopped is not None:
        return "stopped", f"{name} learns nothing: {stopped.why}"
    found = source(words)
    return found["state"], found["why"]


def _walls(words: Sequence[dict[str, Any]]) -> dict[str, str]:
    """How each process that loads models is shut in: ``whole``, or what is missing (docs/security.md)."""
    found = {f"learner {name}": said for word in words for name, said in word.get("walls", {}).items()}
    found |= {f"{word['role']} {word['pid']}": word["wall"] for word in words if word.get("wall")}
    return found


def _learners(lineage: Lineage) -> dict[str, Any]:
    newest, champion = lineage.newest(), lineage.champion()
    if newest is None:
        return {}
    return {name: _learner(lineage, newest, name, champion=name == champion) for name in newest.learners}


LABELS = ("consumed", *LABEL_CLASSES)


def labels(newest: Manifest | None) -> dict[str, Any] | None:
    """What became of labels that came later, and how long they took (seconds); None where none do."""
    if newest is None or not (newest.counts.labels or newest.counts.pending):
        return None
    counts = newest.counts
    return {
        **{name: counts.labels.get(name, 0) for name in LABELS if name != "rewarded" or name in counts.labels},
        "pending": counts.pending,
        "timed_out": counts.timed_out,
        "evicted": counts.labels.get("evicted", 0),
        "accounting_difference": counts.labels_left(),
        "delays": newest.delays,
    }


def _learner(lineage: Lineage, newest: Manifest, name: str, *, champion: bool) -> dict[str, Any]:
    part = newest.learners[name]
    verdict = lineage.newest_verdict(name)
    counts, stopped = newest.counts, lineage.decided.stopped(name)
    return {
        "kind": part.kind,
        "role": "champion" if champion else "challenger",
        "snapshot": newest.snapshot,
        "serving": lineage.serving(name) if champion else None,
        "line": lineage.decided.line(name).number,
        "events": {
            "consumed": counts.consumed,
            "learnt": part.learnt,
            "held_out": counts.held_out,
            "dead_lettered": counts.dead_lettered,
            "quarantined": part.quarantined,
            "duplicate": counts.duplicate,
            "unlabelled": counts.unlabelled,
            **({"pending": counts.pending, "timed_out": counts.timed_out} if counts.labels or counts.pending else {}),
        },
        "accounting_difference": counts.remaining() - part.learnt - part.quarantined,
        **{name: value for name, value in part.figures.items() if name != "unmatched"},
        "against_champion": _rival(part.figures.get("against_champion")),
        "verdict": verdict.verdict if verdict else None,
        "why": verdict.why if verdict else None,
        "found": verdict.found if verdict else None,
        "reference": part.reference,
        "advice": advice(lineage, name),
        "breaker": lineage.decided.breaker(name),
        "learning": "stopped" if stopped is not None else "on",
        "stopped_why": stopped.why if stopped is not None else None,
    }


def _rival(seen: dict[str, Any] | None) -> dict[str, Any] | None:
    """How a challenger compares with the champion on fresh events; ``difference`` below 0: it is better."""
    return None if seen is None else {**seen, "words": words_of(seen, "")}


def baseline(lineage: Lineage, now: float) -> dict[str, Any] | None:
    """The baseline that counts, how the champion compares with it, and whether it answers; None without one.

    ``difference`` is loss(online) minus loss(baseline) on fresh events since ``compared.since`` (Unix seconds: the
    baseline was accepted, or serving switched): below 0 the online model is better.
    """
    number = lineage.decided.baseline
    manifest = baselines.read(lineage.store, number) if number is not None else None
    if number is None or manifest is None:
        return None
    champion, newest = lineage.champion(), lineage.newest()
    part = newest.learners.get(champion) if newest is not None and champion is not None else None
    versus = (part.figures.get("baseline") if part is not None else None) or {}
    last = lineage.decided.switch(champion) if champion is not None else None
    judged = baseline_standing.newest(lineage)
    began = next((e.time for e in lineage.decisions if e.seq == versus.get("switch")), None) or next(
        (e.time for e in reversed(lineage.decided.accepted) if e.action == "accept_baseline" and e.baseline == number),
        None,
    )
    return {
        "number": number,
        "created": manifest.created,
        "age_seconds": round(now - manifest.created, 1),
        "kind": manifest.recipe["factory"] or manifest.recipe["kind"],
        "rows": manifest.rows,
        "answers": last is not None and last.action == "fall_back",
        "since": last.time if last is not None else None,
        "why": last.why if last is not None else "",
        "verdict": judged.verdict if judged is not None else None,
        "holdout": msgspec.to_builtins(judged) if judged is not None else None,
        "compared": {**versus, "since": began} if versus.get("baseline") == number else None,
        "words": words_of(versus) if versus.get("baseline") == number and versus["events"] else "",
        "waits": _waits(newest),
    }


def _waits(newest: Manifest | None) -> str:
    """What a comparison on fresh events still waits for."""
    if newest is None:
        return "compared when a trainer has begun"
    if not newest.holdout.versions:
        return (
            f"compared when a holdout is sealed: {newest.holdout.candidate:,} of {FIRST_ROWS:,} held-out rows are there"
        )
    return ""


def retrain(lineage: Lineage, now: float) -> dict[str, Any]:
    """Who trains just now, what the last retrain came to, and the seconds trained within a day, times processes."""
    holder = Lease(lineage.store, "retrain", "", 1.0, lambda: now, has_ended).holder()
    done = lineage.decided.outcomes
    last = done[-1] if done else None
    return {
        "running": holder.by if holder is not None else None,
        "last": {"time": last.time, "action": last.action, "baseline": last.baseline, "why": last.why}
        if last
        else None,
        "seconds_today": round(sum(e.seconds for e in done if now - e.time < _DAY_SECONDS), 1),
    }


def words_of(versus: dict[str, Any], who: str = "online ") -> str:
    """How the online model, or a challenger, compares, as people say it."""
    sign, low, high = versus["difference"], versus["low"], versus["high"]
    better = sign <= 0
    ends = (0.0 - high, 0.0 - low) if better else (low, high)
    sure = "" if low > 0 or high < 0 else "no difference for certain, "
    return (
        f"{sure}{who}{'better' if better else 'worse'} by {abs(sign):.4f} [{ends[0]:.4f}, {ends[1]:.4f}] over "
        f"{versus['events']:,} events"
    )


def _process(word: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        "host": word["host"],
        "pid": word["pid"],
        "port": word["port"],
        "learner": word["learner"],
        "snapshot": word["snapshot"],
        "unknown_features": word.get("unknown_features", {}),
        "other_types": word.get("other_types", {}),
        "predictions": msgspec.to_builtins(word.get("predictions")),
        "age_seconds": round(now - word["created"], 3) if word.get("created") is not None else None,
    }


def listing(lineage: Lineage, last: int | None = None) -> list[dict[str, Any]]:
    """Every snapshot, or the last so many, a row for each of its learners, newest first."""
    lineage.refresh()
    pinned, champion = lineage.decided.pinned, lineage.champion()
    rows = []
    serving = lineage.serving(champion) if champion else None
    for number in reversed(lineage.numbers[-(last or 0) :]):
        manifest = lineage.manifest(number)
        if manifest is None:
            rows.append(_damaged(number, lineage.damaged.get(number, "gone"), pinned=number in pinned))
            continue
        for name, part in manifest.learners.items():
            verdict = lineage.verdict(number, name)
            rows.append(
                {
                    "learner": name,
                    "snapshot": number,
                    "created": manifest.created,
                    "learnt": part.learnt,
                    "place": manifest.place,
                    "line": part.line,
                    "verdict": verdict.verdict if verdict else None,
                    "why": verdict.why if verdict else None,
                    "serving": name == champion and number == serving,
                    "pinned": number in pinned,
                    "bytes": part.model.bytes,
                    "sha256": part.model.sha256,
                }
            )
    return rows


def _damaged(number: int, why: str, *, pinned: bool) -> dict[str, Any]:
    blank: dict[str, Any] = dict.fromkeys(("learner", "created", "learnt", "place", "line", "bytes", "sha256"))
    return {
        **blank,
        "snapshot": number,
        "verdict": "fail",
        "serving": False,
        "pinned": pinned,
        "why": why,
        "damaged": why,
    }


def quarantine(lineage: Lineage) -> list[dict[str, Any]]:
    """Every quarantined range of every learner."""
    newest = lineage.refresh().newest()
    dropped = lineage.decided.dropped
    return [
        {
            "learner": name,
            **{
                key: value
                for key, value in msgspec.to_builtins(one).items()
                if key not in ("error", "kind") or (key == "error" and value)
            },
            **({"state": "dropped"} if (name, one.id) in dropped else {}),
        }
        for name in (newest.learners if newest else {})
        for one in lineage.quarantine(name)
    ]


def _holdout(newest: Manifest | None) -> dict[str, Any]:
    state = newest.holdout if newest else HoldoutState()
    last = state.versions[-1] if state.versions else None
    return {
        "version": last.number if last else None,
        "rows": last.rows if last else 0,
        "sealed": last.sealed if last else None,
        "candidate": state.candidate,
    }


def holdout(lineage: Lineage, task: str, now: float) -> dict[str, Any]:
    """Every version of the holdout, the candidate, checked labels, and a warning when recent events have moved away."""
    newest = lineage.refresh().newest()
    state = newest.holdout if newest else HoldoutState()
    versions = []
    for version in state.versions:
        about = shares(read_version(lineage.store, version), task)
        versions.append(
            {
                "version": version.number,
                "sealed": version.sealed,
                "age_seconds": round(now - version.sealed, 1),
                "sha256": version.part.sha256,
                **about,
            }
        )
    rows = jumps.window(lineage.store, newest, state.candidate) if newest is not None else []
    fresh = shares(rows, task)
    warning = jumps.moved_away(read_version(lineage.store, state.versions[-1]), rows) if versions else None
    given = lineage.decided.trusts
    checked = {"lots": len(given), "newest": given[-1].time if given else None}
    return {
        "versions": versions, "candidate": state.candidate, "fresh": fresh, "trusted": checked, "warning": warning,
    }  # fmt: skip


def served_at(lineage: Lineage, moment: float) -> dict[str, Any]:
    """What answered requests at a moment, and why."""
    lineage.refresh()
    champion = lineage.champion()
    if champion is None:
        raise SnapshotsError("there is no snapshot yet, so nothing ever served")
    began = [epoch for epoch in lineage.epochs if epoch.start is None and epoch.time <= moment]
    entries = lineage.ledger.entries()[began[-1].ledger if began else 0 :]
    since = began[-1].time if began else 0.0
    champion = histories.champion_at(entries, champion, moment)
    given = [one for one in histories.all_verdicts(lineage.store, champion) if one.judged >= since]
    return msgspec.to_builtins(histories.served_at(entries, given, champion, moment))  # type: ignore[no-any-return]
