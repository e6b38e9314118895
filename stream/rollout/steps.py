"""When a candidate goes on, and when it is taken back: from what serving saw, and from losses on the same events."""

from collections.abc import Mapping
from typing import Any

import msgspec

from snapshots import Lineage
from snapshots.decisions.rollout import Rollout, candidate_of
from stream.rollout.told import Told, broken
from stream.settings import RolloutConfig
from stream.terminal.printing import duration


class Seen(msgspec.Struct, frozen=True):
    """What is known of a roll-out: what serving told, and the losses, candidate minus champion, where there are some.

    ``loss`` has ``events``, ``difference``, ``low``, ``high`` and ``slices`` (name → mean, low, high, events).
    ``sealed``: whether there is a holdout, without which learners are not compared; ``guarded``: whether a guard runs.
    """

    told: Told
    loss: dict[str, Any] | None
    sealed: bool = True
    guarded: bool = True


def loss_of(lineage: Lineage, rollout: Rollout) -> dict[str, Any] | None:
    """The newest comparison by label: of events that both learnt, of logged requests, or of a baseline's own."""
    newest = lineage.newest()
    if newest is None:
        return None
    found = newest.rollout if newest.rollout.get("entry") == rollout.entry else {}
    for source in ("learnt", "logged"):
        if source in found:
            return {**found[source], "source": source}
    candidate = candidate_of(rollout.candidate)
    if candidate.kind == "baseline" and candidate.number == lineage.decided.baseline:
        return _of_baseline(newest.learners, rollout.champion)
    return None


def _of_baseline(parts: Mapping[str, Any], champion: str) -> dict[str, Any] | None:
    """The champion's own comparison with the baseline, the other way round."""
    part = parts.get(champion)
    found = part.figures.get("baseline") if part is not None else None
    if not found or not found.get("events"):
        return None
    return {
        "events": found["events"], "difference": -found["difference"], "low": -found["high"], "high": -found["low"],
        "slices": {}, "source": "baseline",
    }  # fmt: skip


def back(seen: Seen, settings: RolloutConfig) -> str:
    """Why the candidate has to be taken back; empty when nothing is worse for certain."""
    why = broken(seen.told, settings)
    if why or seen.loss is None:
        return why
    for name, low, mean, events in _losses(seen.loss, "low"):
        if low > settings.max_loss:
            return (
                f"it loses more than the champion{_within(name)}: {mean:+.4f}, at least {low:+.4f}, on {events} "
                f"events, and rollout.max_loss is {settings.max_loss:g}"
            )
    return ""


def lacks(rollout: Rollout, seen: Seen, settings: RolloutConfig, now: float) -> list[str]:
    """What is missing before the candidate goes on; nothing: it may."""
    found: list[str] = []
    if seen.told.absent:
        found.append(f"the candidate, which cannot be asked: {seen.told.absent} (holdfast rollout abort ends this)")
    if not seen.guarded:
        found.append("the guard, which does not run: holdfast guard")
    waited = now - rollout.since
    if waited < settings.min_seconds:
        found.append(f"{waited:.0f} of {settings.min_seconds:g} s (rollout.min_seconds)")
    if seen.told.since_step < settings.min_events:
        what = "shadowed requests" if rollout.share == 0 else f"requests that it answered at {rollout.share:g} %"
        found.append(f"{seen.told.since_step} of {settings.min_events} {what} (rollout.min_events)")
    return found + _lacks_labels(rollout, seen, settings, now)


def _lacks_labels(rollout: Rollout, seen: Seen, settings: RolloutConfig, now: float) -> list[str]:
    loss = seen.loss
    if loss is None:
        by_log = candidate_of(rollout.candidate).kind != "learner"
        hint = ": [predictions] and [labels] give them" if by_log else ""
        hint = hint or (
            ""
            if seen.sealed
            else ": learners are compared once the holdout is sealed, with holdout.rows or 500 held-out rows"
        )
        return [f"labelled events to compare it on; there are none yet{hint}"]
    if loss["events"] < settings.min_events:
        return [f"{loss['events']} of {settings.min_events} labelled events (rollout.min_events)"]
    for name, high, mean, events in _losses(loss, "high"):
        if high > settings.max_loss and (not name or events >= settings.min_events):
            room, half = settings.max_loss - mean, high - mean
            left = ""
            if room > 0:
                more = events * ((half / room) ** 2 - 1)
                left = f"; about {duration(more / max(events, 1) * max(now - rollout.began, 1.0))} at this rate"
            return [
                (
                    f"its loss{_within(name)} is not certain to be within rollout.max_loss = {settings.max_loss:g}: "
                    f"{mean:+.4f}, at most {high:+.4f}, on {events} events{left}"
                )
            ]
    return []


def next_share(rollout: Rollout, settings: RolloutConfig) -> float | None:
    """The next step, in percent; None after the last: the candidate becomes champion."""
    return next((share for share in settings.steps if share > rollout.share), None)


def _losses(loss: dict[str, Any], end: str) -> list[tuple[str, float, float, int]]:
    """Name, one end of the interval, mean and events; of the whole, then of each slice."""
    index = 1 if end == "low" else 2
    slices = [(name, one[index], one[0], one[3]) for name, one in loss["slices"].items()]
    return [("", loss[end], loss["difference"], loss["events"]), *slices]


def _within(name: str) -> str:
    return f" in {name}" if name else ""
