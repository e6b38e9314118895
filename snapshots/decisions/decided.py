"""What the entries of a ledger come to: one pass over them answers who serves, who learns, and what counts."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

import msgspec

from snapshots.decisions.ledger import Entry
from snapshots.decisions.rollout import ENDS, STEPS, Rollout, rollout_of

BreakerState = Literal["closed", "open", "half_open"]
_BREAKER: dict[str, BreakerState] = {"open_breaker": "open", "half_open": "half_open", "close_breaker": "closed"}
_GATES = ("accept_baseline", "refuse_baseline", "await_approval")


class Line(msgspec.Struct, frozen=True):
    """A learner's line: its number in the ledger (0 before any revert), the revert's target, and whether it stays."""

    number: int = 0
    target: int | None = None
    stay: bool = False


class Decided(msgspec.Struct, frozen=True):
    """What counts after some entries; :func:`decided` makes it, and nothing changes it then. Entries are oldest first.

    What becomes of baselines and erasures (``accepted``, ``retired``, ``outcomes``, ``asked``, ``declined``,
    ``erasures``) outlives lineages, as the archive does; the rest is of the present one.
    """

    by_number: dict[int, Entry] = {}
    lines: dict[str, Line] = {}
    stops: dict[str, Entry] = {}
    breakers: dict[str, Entry] = {}
    switches: dict[str, Entry] = {}
    replays: dict[str, list[Entry]] = {}
    promotions: list[Entry] = []
    pinned: set[int] = set()
    dropped: set[tuple[str | None, str]] = set()
    reverts: list[Entry] = []
    refreshes: list[Entry] = []
    trusts: list[Entry] = []
    of_rollout: list[Entry] = []
    duels: list[Entry] = []
    winners: list[Entry] = []
    accepted: list[Entry] = []
    outcomes: list[Entry] = []
    asked: list[Entry] = []
    declined: list[Entry] = []
    erasures: list[Entry] = []

    def line(self, learner: str) -> Line:
        """The learner's current line: the last revert begins it, a lift ends its staying."""
        return self.lines.get(learner, Line())

    def stopped(self, learner: str) -> Entry | None:
        """The decision that stopped a learner's learning, unless it was resumed since."""
        return self.stops.get(learner)

    def breaker(self, learner: str) -> BreakerState:
        """The state of a learner's circuit breaker."""
        last = self.breakers.get(learner)
        return _BREAKER[last.action] if last is not None else "closed"

    def switch(self, learner: str) -> Entry | None:
        """The entry by which a learner's serving last fell back to the baseline, or returned from it."""
        return self.switches.get(learner)

    def fallen(self, learner: str) -> bool:
        """Tell whether the baseline answers in a learner's place."""
        last = self.switch(learner)
        return last is not None and last.action == "fall_back"

    def wanted_replays(self, learner: str) -> list[Entry]:
        """The replays that were asked for on a learner's line and have not failed since."""
        return [entry for entry in self.replays.get(learner, []) if entry.seq > self.line(learner).number]

    @property
    def winner(self) -> Entry | None:
        """The entry that said last which learner earns most."""
        return self.winners[-1] if self.winners else None

    @property
    def duel(self) -> Entry | None:
        """The entry that began, or ended, the newest duel."""
        return self.duels[-1] if self.duels else None

    @property
    def rollout(self) -> Rollout | None:
        """The newest roll-out, whatever became of it."""
        return rollout_of(self.of_rollout)

    @property
    def promoted(self) -> str | None:
        """The learner that was last made champion by a decision; None when the configuration's counts."""
        return self.promotions[-1].learner if self.promotions else None

    @property
    def baseline(self) -> int | None:
        """The baseline that counts: the one that was accepted or put back last, unless it was retired since."""
        return self.accepted[-1].baseline if self.accepted else None

    @property
    def baseline_before(self) -> int | None:
        """The one that counted before it, to be put back with ``retrain use``."""
        found = [entry.baseline for entry in self.accepted if entry.action == "accept_baseline"]
        return next((one for one in reversed(found) if one != found[-1]), None)

    @property
    def failures(self) -> int:
        """How many retrains failed since the last that did not."""
        return sum(1 for _ in takewhile(lambda one: one.action == "retrain_failed", reversed(self.outcomes)))

    @property
    def last_outcome(self) -> int:
        """The number of the entry that says what the last retrain came to; 0 when there is none."""
        return self.outcomes[-1].seq if self.outcomes else 0

    @property
    def last_retrain(self) -> int:
        """The number of the entry by which a retrain was last done, or asked for; 0 when there is none."""
        return max(self.last_outcome, self.asked[-1].seq if self.asked else 0)

    @property
    def last_erasing_retrain(self) -> int:
        """The number of the newest entry by which an erasure asked for a retrain; 0 when there is none."""
        return max((entry.seq for entry in self.asked if entry.cause == "forget"), default=0)


def decided(decisions: Sequence[Entry], began: int = 0) -> Decided:
    """Fold all entries; those of the present lineage begin at the index ``began``."""
    found = Decided()
    for index, entry in enumerate(decisions):
        _of_baselines(found, entry)
        if index >= began:
            _of_lineage(found, entry)
            if entry.learner is not None:
                _of_learner(found, entry, entry.learner)
    return found


def line_of(entries: Sequence[Entry], learner: str) -> Line:
    """A learner's line after some entries."""
    return decided(entries).line(learner)


def _of_baselines(found: Decided, entry: Entry) -> None:
    action = entry.action
    if action in ("accept_baseline", "retire_baseline"):
        found.accepted.append(entry)
    if action in ("retrain_failed", "retrain_skipped") or (entry.by == "gate" and action in _GATES):
        found.outcomes.append(entry)
    elif action == "retrain":
        found.asked.append(entry)
    elif action == "retrain_declined":
        found.declined.append(entry)
    elif action == "forget":
        found.erasures.append(entry)


def _of_contests(found: Decided, entry: Entry) -> None:
    """Roll-outs and duels."""
    if entry.action == "rollout_start":
        found.of_rollout[:] = [entry]
    elif found.of_rollout and entry.action in (*STEPS, *ENDS):
        found.of_rollout.append(entry)
    if entry.action in ("duel_start", "duel_end"):
        found.duels.append(entry)
    elif entry.action == "policy_winner":
        found.winners.append(entry)


def _of_lineage(found: Decided, entry: Entry) -> None:
    found.by_number[entry.seq] = entry
    _of_contests(found, entry)
    match entry.action:
        case "revert":
            found.reverts.append(entry)
        case "refresh":
            found.refreshes.append(entry)
        case "trust":
            found.trusts.append(entry)
        case "promote":
            found.promotions.append(entry)
        case "drop":
            found.dropped.add((entry.learner, entry.cause))
        case "pin" if entry.snapshot is not None:
            found.pinned.add(entry.snapshot)
        case "unpin" if entry.snapshot is not None:
            found.pinned.discard(entry.snapshot)
        case _:
            pass


def _of_learner(found: Decided, entry: Entry, name: str) -> None:
    match entry.action:
        case "revert":
            found.lines[name] = Line(entry.seq, entry.snapshot, entry.stay)
        case "lift":
            found.lines[name] = msgspec.structs.replace(found.line(name), stay=False)
        case "replay":
            found.replays.setdefault(name, []).append(entry)
        case "replay_failed":
            found.replays[name] = [one for one in found.replays.get(name, []) if one.cause != entry.cause]
        case "fall_back" | "return":
            found.switches[name] = entry
        case "stop_learning":
            found.stops[name] = entry
        case "resume_learning":
            found.stops.pop(name, None)
        case "open_breaker":
            found.breakers[name] = found.stops[name] = entry
        case "half_open" | "close_breaker":
            found.breakers[name] = entry
            found.stops.pop(name, None)
        case _:
            pass


def baseline_state(number: int, entries: Sequence[Entry]) -> str:
    """What became of a baseline: ``accepted``, ``refused``, ``waiting`` or, while nothing was decided, ``new``."""
    words = {"accept_baseline": "accepted", "refuse_baseline": "refused", "await_approval": "waiting"}
    found = [words[entry.action] for entry in entries if entry.baseline == number and entry.action in words]
    return found[-1] if found else "new"
