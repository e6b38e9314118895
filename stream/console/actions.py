"""What the page can do. Each says first what it would do, and is then the command that somebody would have typed."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from snapshots.store.numbers import whole_in
from stream.errors import CommandError
from stream.process import interpreter

_SECONDS = 120.0
_MOST_WHY = 1000


class Action(msgspec.Struct, frozen=True):
    """``words``: the command. ``takes``: what it is told, in this order; ``says``: what it would do, in a sentence."""

    words: tuple[str, ...]
    takes: tuple[str, ...]
    says: Callable[[dict[str, Any], dict[str, str]], str]
    why: str = "--why"
    after: tuple[str, ...] = ()


def _learner(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = status["learners"].get(name)
    if found is None:
        raise CommandError(f"no learner {name!r}: there are {', '.join(status['learners'])}")
    return dict(found)


def _revert(status: dict[str, Any], given: dict[str, str]) -> str:
    one = _learner(status, given["learner"])
    now = one["serving"] if one["serving"] is not None else one["snapshot"]
    target = given["snapshot"] or "the passing snapshot before it"
    learnt = f" {one['events']['learnt']:,} events are learnt now;" if not given["snapshot"] else ""
    return (
        f"{given['learner']} goes back from snapshot {now} to {target}: serving answers from it at once, learning goes "
        f"on from there.{learnt} what it learnt since then goes into quarantine, to be replayed or dropped."
    )


def _promote(status: dict[str, Any], given: dict[str, str]) -> str:
    _learner(status, given["learner"])
    return f"{given['learner']} answers in place of {status['champion']}, which goes on learning as a challenger."


def _stop(status: dict[str, Any], given: dict[str, str]) -> str:
    one = _learner(status, given["learner"])
    return f"{given['learner']} ({one['events']['learnt']:,} events learnt) learns nothing until it is resumed."


def _resume(status: dict[str, Any], given: dict[str, str]) -> str:
    _learner(status, given["learner"])
    return f"{given['learner']} learns again from here on; what came meanwhile stays in quarantine."


ACTIONS: dict[str, Action] = {
    "revert": Action(("snapshots", "revert"), ("learner", "snapshot"), _revert),
    "promote": Action(("promote",), ("learner",), _promote),
    "pin": Action(("snapshots", "pin"), ("snapshot",), lambda _, to: f"Retention keeps snapshot {to['snapshot']}."),
    "unpin": Action(
        ("snapshots", "unpin"), ("snapshot",), lambda _, to: f"Retention may delete snapshot {to['snapshot']} again."
    ),
    "stop": Action(("learning", "stop"), ("learner",), _stop),
    "resume": Action(("learning", "resume"), ("learner",), _resume),
    "rollout-start": Action(
        ("rollout", "start"), ("candidate",),
        lambda status, to: f"{to['candidate']} predicts the same requests as {status['champion']}, in shadow; then it "
        "answers more and more of them by itself, and is taken back when it is worse.",
    ),
    "rollout-step": Action(
        ("rollout", "step"), ("share",),
        lambda status, to: f"{status['rollout']['candidate']} answers {to['share'] or 'the next share'} % of requests "
        f"instead of {status['rollout']['share']:g} %, whatever the evidence says.",
    ),
    "rollout-pause": Action(
        ("rollout", "pause"), (), lambda status, _: f"It stays at {status['rollout']['share']:g} % until it is resumed."
    ),
    "rollout-resume": Action(("rollout", "resume"), (), lambda *_: "It goes on as the evidence allows."),
    "rollout-approve": Action(("rollout", "approve"), (), lambda *_: "The candidate gets the share that was proposed."),
    "rollout-abort": Action(
        ("rollout", "abort"), (), lambda status, _: f"{status['champion']} answers every request again, at once."
    ),
    "approve": Action(("approve",), ("baseline",), lambda _, to: f"Baseline {to['baseline']} counts from here on."),
    "reject": Action(("reject",), ("baseline",), lambda _, to: f"Baseline {to['baseline']} is turned down."),
    "refresh": Action(
        ("holdout", "refresh"), (),
        lambda status, _: f"The holdout is sealed anew from {status['holdout']['candidate']:,} newer rows: the guard"
        " trusts their labels, and models are judged on them.", "--approve",
    ),
    "retrain": Action(
        ("retrain",), (), lambda *_: "A full retrain over the archive begins; its gates decide whether it counts.", "",
        ("--now",),
    ),
    "replay": Action(
        ("quarantine", "replay"), ("quarantine", "--learner"),
        lambda _, to: f"{to['--learner']} learns what quarantine {to['quarantine']} holds, once.",
    ),
    "drop": Action(
        ("quarantine", "drop"), ("quarantine", "--learner"),
        lambda _, to: f"What quarantine {to['quarantine']} holds is never learnt by {to['--learner']}.",
    ),
    "replay-letters": Action(
        ("dead-letters", "replay"), ("--reason",),
        lambda _, to: f"Dead letters refused for {to['--reason']} go through the stream again.",
    ),
}  # fmt: skip
#: what may be left out
_OPTIONAL = {("revert", "snapshot"), ("rollout-step", "share")}
_NUMBERS = ("snapshot", "baseline")


def planned(name: str, given: Mapping[str, Any], status: dict[str, Any]) -> tuple[str, list[str]]:
    """What an action would do, in a sentence, and the command; :class:`CommandError` for what is none."""
    action = ACTIONS.get(name)
    if action is None:
        raise CommandError(f"no action {name!r}: there are {', '.join(ACTIONS)}")
    told: dict[str, str] = {}
    words: list[str] = []
    for one in action.takes:
        value = str(given.get(one.lstrip("-"), "")).strip()
        if not value and (name, one) not in _OPTIONAL:
            raise CommandError(f"{name} wants to be told: {one.lstrip('-')}")
        if value.startswith("-") or len(value) > _MOST_WHY or not value.isprintable():
            raise CommandError(f"{one.lstrip('-')} cannot be {value[:60]!r}")
        if value and one in _NUMBERS and whole_in(value) is None:
            raise CommandError(f"{one} is a whole number, and not {value[:60]!r}")
        told[one] = value
        if value:
            words += [one, value] if one.startswith("--") else [value]
    why = " ".join(str(given.get("why", "")).split())[:_MOST_WHY]
    reason = [action.why, why or "from the console"] if action.why else []
    return action.says(status, told), [*action.words, *words, *reason, *action.after]


def done(words: list[str], path: Path) -> tuple[bool, str]:
    """Run a command on the lineage of a configuration; whether it was done, and what it said."""
    command = [*interpreter.command("stream.cli", *words), "--config", str(path)]
    try:
        found = subprocess.run(  # noqa: S603  our own interpreter and module
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False,
            env=interpreter.environment(os.environ, HOLDFAST_VIA="console"), cwd=path.parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"it has not ended within {_SECONDS:.0f} s and was stopped; look at the ledger for what it did"
    said = (found.stdout + found.stderr).strip()
    return found.returncode == 0, said.removeprefix("holdfast: ")
