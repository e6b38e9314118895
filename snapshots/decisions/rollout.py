"""A roll-out as the ledger has it: who the candidate is, how much it answers, and what became of it."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from snapshots.decisions.ledger import Action, Entry

State: TypeAlias = Literal["shadow", "canary", "paused", "champion", "aborted"]
#: what is written about a roll-out itself
STEPS: tuple[Action, ...] = (
    "rollout_start", "rollout_step", "rollout_pause", "rollout_resume", "rollout_await", "rollout_approve",
    "rollout_abort",
)  # fmt: skip
#: what else may end one
ENDS: tuple[Action, ...] = (
    "promote", "revert", "stop_learning", "open_breaker", "fall_back", "return", "retire_baseline",
)  # fmt: skip
#: the cause of the entry by which a candidate becomes champion
CAUSE = "rollout"


class Candidate(msgspec.Struct, frozen=True):
    """What is rolled out: the newest passing snapshot of a learner, a baseline, or one snapshot of a learner.

    >>> [candidate_of(one) for one in ("vw", "baseline:3", "snapshot:12", "snapshot:12:vw")][1:3]
    [Candidate(kind='baseline', learner='', number=3), Candidate(kind='snapshot', learner='', number=12)]
    """

    kind: Literal["learner", "baseline", "snapshot"]
    learner: str = ""
    number: int = -1


def candidate_of(text: str) -> Candidate:
    """Read what somebody calls a candidate; raise :class:`ValueError` when it is none.

    ``snapshot:N`` is the champion's part of it, ``snapshot:N:LEARNER`` another one's.
    """
    kind, *rest = text.split(":")
    if kind and not rest:
        return Candidate("learner", kind)
    if kind not in ("baseline", "snapshot") or not rest[0].isdecimal() or len(rest) > (1 if kind == "baseline" else 2):
        raise ValueError(f"{text!r} is not a learner's name, baseline:N, snapshot:N or snapshot:N:LEARNER")
    return Candidate("baseline" if kind == "baseline" else "snapshot", rest[1] if rest[1:] else "", int(rest[0]))


class Rollout(msgspec.Struct, frozen=True):
    """The newest roll-out. ``share`` in percent; ``entry`` is where it began, ``step`` the entry that gave the share.

    ``champion`` is who answered when it began; ``since`` when the share was given, ``began`` when it began (Unix
    seconds). ``awaits``: somebody has to approve the next step; ``approved``: somebody did.
    """

    entry: int
    candidate: str
    champion: str
    salt: str
    state: State
    share: float
    step: int
    since: float
    why: str
    by: str
    awaits: bool = False
    approved: bool = False
    began: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return self.state not in ("champion", "aborted")


def began_by(entry: Entry) -> Rollout:
    """The roll-out that an entry begins."""
    return Rollout(
        entry.seq, entry.candidate, entry.replaces, entry.salt, "shadow", 0.0, entry.seq, entry.time, entry.why,
        entry.by, began=entry.time,
    )  # fmt: skip


def rollout_of(entries: Sequence[Entry]) -> Rollout | None:
    """What the entries about the newest roll-out come to: the first of them began it."""
    found = began_by(entries[0]) if entries else None
    for entry in entries[1:]:
        if found is not None and found.active:
            found = _after(found, entry)
    return found


def _after(now: Rollout, entry: Entry) -> Rollout:
    if entry.action == "rollout_abort":
        return _over(now, entry, "aborted", entry.why)
    if entry.action not in STEPS:
        return _decided_elsewhere(now, entry)
    changes: dict[str, Any] = {"why": entry.why, "by": entry.by}
    match entry.action:
        case "rollout_step":
            state = "paused" if now.state == "paused" else _going(entry.share)
            changes |= {"state": state, "share": entry.share, "step": entry.seq, "since": entry.time,
                        "awaits": False, "approved": False}  # fmt: skip
        case "rollout_pause":
            changes["state"] = "paused"
        case "rollout_resume":
            changes["state"] = _going(now.share)
        case "rollout_await":
            changes["awaits"] = True
        case _:
            changes |= {"awaits": False, "approved": True}
    return msgspec.structs.replace(now, **changes)


def _going(share: float) -> State:
    return "canary" if share > 0 else "shadow"


def _over(now: Rollout, entry: Entry, state: State, why: str) -> Rollout:
    share = 100.0 if state == "champion" else 0.0
    return msgspec.structs.replace(
        now, state=state, share=share, step=entry.seq, since=entry.time, why=why, by=entry.by, awaits=False
    )


def _decided_elsewhere(now: Rollout, entry: Entry) -> Rollout:
    """What another decision does to a roll-out: its candidate becomes champion, or may no longer answer."""
    candidate = candidate_of(now.candidate)
    is_learner, itself = candidate.kind == "learner", entry.learner == (candidate.learner or now.champion)
    if entry.cause == CAUSE or (entry.action == "promote" and is_learner and itself):
        return _over(now, entry, "champion", entry.why)
    about = f"entry {entry.seq} ({entry.action}) by {entry.by}: {entry.why or 'no reason given'}"
    if entry.action == "promote":
        return _over(now, entry, "aborted", f"another became champion: {about}")
    if candidate.kind != "baseline" and itself and entry.action not in ("fall_back", "return"):
        return _over(now, entry, "aborted", f"the candidate may not answer: {about}")
    if candidate.kind == "baseline" and entry.action == "retire_baseline":
        return _over(now, entry, "aborted", f"the candidate is gone: {about}")
    return now
