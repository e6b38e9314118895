"""A roll-out for people: its state, each guard's figure against its limit, and what it waits for."""

from collections.abc import Iterable, Mapping
from typing import Any

from snapshots import Lineage
from snapshots.decisions.rollout import Rollout, candidate_of
from stream.rollout.steps import Seen, lacks, loss_of, next_share
from stream.rollout.told import figures, together, told_by
from stream.settings import Config


def seen_of(lineage: Lineage, rollout: Rollout, words: Iterable[Mapping[str, Any]]) -> Seen:
    """What serving processes say of a roll-out, and what the newest snapshot does."""
    newest, words = lineage.newest(), list(words)
    sealed = newest is not None and bool(newest.holdout.versions)
    guarded = any(word["role"] == "guard" for word in words)
    return Seen(together(told_by(words), rollout), loss_of(lineage, rollout), sealed, guarded)


def report(lineage: Lineage, config: Config, words: Iterable[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """The newest roll-out; ``state`` is None when there was none."""
    rollout = lineage.decided.rollout
    if rollout is None:
        why = "no roll-out has begun in this lineage"
        return {"state": None, "candidate": None, "share": 0.0, "why": why, **_policy(lineage, config)}
    settings, seen = config.rollout, seen_of(lineage, rollout, words)
    waits = lacks(rollout, seen, settings, now) if rollout.active else []
    found: dict[str, Any] = {
        "state": rollout.state,
        "candidate": rollout.candidate,
        "champion": rollout.champion,
        "share": rollout.share,
        "why": _why(rollout, waits, settings.sign_off),
        "by": rollout.by,
        "entry": rollout.entry,
        "step": rollout.step,
        "began": rollout.began,
        "since": rollout.since,
        "awaits_approval": rollout.awaits,
        "next_share": next_share(rollout, settings) if rollout.active else None,
        "waits_for": waits,
        "loss": None,
        "serving": None,
        **_policy(lineage, config),
    }
    if rollout.active:
        found["loss"] = {**seen.loss, "limit": settings.max_loss} if seen.loss is not None else None
        found["serving"] = figures(seen.told, settings)
        found["answers_by"] = _answers(lineage, rollout)
    return found


def _policy(lineage: Lineage, config: Config) -> dict[str, Any]:
    """Who shares the requests, and by what: shares in percent, weights by losses, or what answers earned."""
    routing, newest = config.routing, lineage.newest()
    found: dict[str, Any] = {"policy": routing.policy}
    if routing.policy == "split":
        found["weights"] = {name: share / 100 for name, share in routing.shares.items()}
    elif routing.policy != "champion":
        found["weights"] = newest.weights if newest is not None else {}
    if routing.policy == "thompson":
        found["rewards"] = newest.rewards if newest is not None else {}
    return found


def _why(rollout: Rollout, waits: list[str], sign_off: bool) -> str:
    if not rollout.active or rollout.state == "paused":
        return rollout.why
    if rollout.awaits:
        return f"waits for somebody to approve: holdfast rollout approve. {rollout.why}".strip()
    if waits:
        return "waits for " + "; ".join(waits)
    return "everything is there: it is proposed for approval" if sign_off else "everything is there: it goes on"


def _answers(lineage: Lineage, rollout: Rollout) -> int | None:
    """The snapshot or baseline that answers for the candidate."""
    meant = candidate_of(rollout.candidate)
    return lineage.serving(meant.learner) if meant.kind == "learner" else meant.number
