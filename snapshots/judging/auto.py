"""What follows from one snapshot with ``guard.moved = "auto"``: the yardsticks, and slices gone quiet.

The frozen holdout is a witness only for slices of which no events come any more: it is the only one there is, and a
learner that forgets them is seen by nobody else.
"""

from typing import Any

import msgspec

from learners.evidence.findings import Found, Holdout, fresh_finding, holdout_finding
from learners.evidence.lane import FAR_LOOKS
from learners.evidence.losses import WHOLE
from snapshots.judging.looks import Looks, Wait
from snapshots.judging.table import Case
from snapshots.moved.memory import Answer
from snapshots.records.verdict import Finding, Verdict

#: fresh events of the whole stream without one of a slice, after which it has gone quiet
_QUIET_EVENTS = 300


class Moving(Case):
    """See :class:`Case`; ``answer`` is what the rule says."""

    answer: Answer

    @classmethod
    def of(cls, case: Case, known: Looks, answer: Answer) -> "Moving":
        """A case with what the rule says about it, and looks that hold what it remembers."""
        found = cls(
            case.rules, case.manifest, case.part, case.verdict, known, case.lanes, case.losses, case.paired,
            rows=case.rows, entries=case.entries,
        )  # fmt: skip
        found.answer = answer
        return found

    def decided(self) -> tuple[Verdict, Looks]:
        """The verdict, with the older snapshot that answers while labels lie, and the looks."""
        verdict, looks = super().decided()
        figures = {**verdict.figures, "lagged": self.answer.loss, "lagged_difference": self.answer.difference}
        serves = self.answer.serve if verdict.verdict == "suspect" else None
        return msgspec.structs.replace(verdict, figures=figures, serves=serves), looks

    def _names(self) -> list[str]:
        return list(dict.fromkeys([*super()._names(), *self.answer.where]))

    def _slice(self, name: str) -> tuple[Found, dict[str, Any], Wait | None]:
        holdout = holdout_finding(self.lanes[self.newest].get(name), self.in_a_row)
        fresh = fresh_finding(self.paired, name, self.alarm)
        found: Found = self.answer.found if name in self.answer.where else self._quiet(name, holdout)
        if found == "pass" and self.paired.world(name) >= self.alarm:
            found = "world_changed"
        return found, self._details(name, found, holdout, fresh), None

    def _quiet(self, name: str, holdout: Holdout) -> Found:
        """What the frozen rows say of a slice of which nothing comes any more."""
        quiet = name != WHOLE and not self.paired.events(name) and self.paired.events() >= _QUIET_EVENTS
        if not quiet or self._repeated(name, "forgetting"):
            return "pass"
        lane = self.lanes[self.newest].get(name)
        if holdout in ("worse", "far"):
            return "forgetting"
        return "suspect" if lane is not None and lane.above >= FAR_LOOKS else "pass"

    def _answer(
        self, worst: Found, where: list[str], details: dict[str, dict[str, Any]], waits: dict[str, Wait]
    ) -> tuple[Finding, str]:
        answer = self.answer
        compared = (
            f"{answer.difference:+.4f} against snapshot {answer.yardstick} on held-out rows from before it"
            if answer.yardstick is not None
            else answer.why
        )
        fresh = self._fresh_words(details[WHOLE])
        if worst != "pass" and worst == answer.found:
            slices = f" ({', '.join(name for name in where if name)})" if any(where) else ""
            return answer.verdict, f"{worst}{slices}: {answer.why}; loses {compared}; {fresh}{self._meanwhile()}"
        if worst in ("pass", "world_changed"):
            return (
                super()._answer(worst, where, details, waits) if worst != "pass" else ("pass", f"{compared}; {fresh}")
            )
        quiet = "; ".join(self._words(name, details[name]) for name in where[:3])
        return ("suspect" if worst == "suspect" else "fail"), f"{worst}: {quiet}; nothing comes of it any more"

    def _meanwhile(self) -> str:
        """What happens until it is known, and who may end it."""
        answer = self.answer
        if answer.verdict != "suspect":
            return ""
        if answer.found != "moved":
            return "; not promoted until that is settled"
        meanwhile = f"; snapshot {answer.serve} answers meanwhile" if answer.serve is not None else ""
        return (
            f"{meanwhile}. Either the world changed (holdfast holdout refresh --approve WHY) or the labels lie "
            "(holdfast snapshots revert); by itself it goes on when the rows say which"
        )

    def _wanted(self, passing: list[tuple[int, float]], recent: list[bool]) -> int | None:
        if self.answer.refer is not None:
            return self.answer.refer
        return self.known.reference if self.answer.verdict != "pass" else super()._wanted(passing, recent)
