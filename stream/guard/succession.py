"""Who answers, as the newest snapshot's evidence has it: the baseline, the champion, or a challenger in its place."""

import logging
from collections.abc import Callable

from learners.evidence.lane import alarm_at
from snapshots import Lineage
from snapshots.decisions.ledger import Decision
from snapshots.judging import baseline_standing, fallback
from stream.guard.deciding import Decide, Deciding, Tell
from stream.settings import Config

log = logging.getLogger("holdfast.guard")
_AGAINST = "against_champion"
#: a baseline that does not load is judged again after so long
_AGAIN_SECONDS = 60.0


class Answering(Deciding):
    """Compares and decides; ``looks`` is how many looks there are a year, ``judge`` asks a baseline, ``tell`` tells."""

    def __init__(
        self, config: Config, lineage: Lineage, decide: Decide, tell: Tell,
        looks: Callable[[], float], judge: Callable[[int, float], baseline_standing.Standing], *,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        super().__init__(config, lineage, decide, tell, now)
        self._looks, self._judge = looks, judge
        self._tried: dict[tuple[int, int], float] = {}

    def watch(self) -> None:
        """Judge the baseline, ask for a retrain, promote, fall back or return: whatever is due."""
        champion = self.lineage.champion()
        if champion is None:
            return
        self.judge_baseline(champion)
        self.watch_performance(champion)
        if self.config.champion == "auto" and self.watch_challengers(champion):
            return
        self.watch_baseline(champion)

    def judge_baseline(self, champion: str) -> None:
        """Give the baseline that counts its verdict on a holdout version that it was not judged on yet."""
        pair = baseline_standing.current(self.lineage)
        if pair is None or self.now() - self._tried.get(pair, 0.0) < _AGAIN_SECONDS:
            return
        self._tried[pair] = self.now()
        if not baseline_standing.is_due(self.lineage, pair):
            return
        found = self._judge(pair[0], self.now())
        baseline_standing.keep(self.lineage.store, found)
        level = logging.INFO if found.verdict == "pass" else logging.ERROR
        log.log(level, "baseline %d: %s: %s", found.baseline, found.verdict, found.why)
        if found.verdict == "fail":
            self._tell("baseline_fails", champion, found.why, 0)

    def watch_baseline(self, champion: str) -> None:
        """Let the baseline answer when the champion has become worse, and the champion when it is better again."""
        step = fallback.next_switch(self.lineage, champion, self.config.fallback, self._looks(), self.now())
        if step is None:
            return
        was, number = self.lineage.decided.switch(champion), self.lineage.decided.baseline
        decision = Decision(step.action, "guard", step.why, champion, cause=step.cause, baseline=number)
        self._act(
            decision,
            lambda: self.lineage.decided.switch(champion) == was and self.lineage.decided.baseline == number,
            logging.ERROR,
        )

    def watch_challengers(self, champion: str) -> bool:
        """Make the best challenger the champion that is better for certain; all of them share one error budget."""
        newest = self.lineage.newest()
        parts = newest.learners if newest is not None else {}
        rivals = {name: seen for name, part in parts.items() if (seen := part.figures.get(_AGAINST))}
        limit = alarm_at(self._looks(), 1, len(rivals), self.config.fallback.false_switches_per_year)
        better = [
            name for name, seen in rivals.items()
            if (seen["champion"], seen["difference"] < 0) == (champion, True) and seen["better"] >= limit
            and self._may_lead(name)
        ]  # fmt: skip
        if not better:
            return False
        best = min(better, key=lambda name: rivals[name]["difference"])
        seen = rivals[best]
        by = f"{-seen['difference']:.4f} [{-seen['high']:.4f}, {-seen['low']:.4f}]"
        why = f"{best} is better than {champion} by {by} on {seen['events']:,} fresh events"
        decision = Decision("promote", "guard", why, best, cause="better", replaces=champion)
        return self._stand_behind(best, champion) and self._act(decision, lambda: self.lineage.champion() == champion)

    def _stand_behind(self, best: str, champion: str) -> bool:
        """Where the baseline answers in the champion's place, let it answer in the next one's: that has to win as well.

        False when somebody else switched meanwhile; the next look decides again.
        """
        lineage = self.lineage
        if not lineage.decided.fallen(champion) or lineage.decided.fallen(best):
            return True
        was, number = lineage.decided.switch(best), lineage.decided.baseline
        why = f"baseline {number} answers in place of {champion}, and goes on until {best} is better than it"
        decision = Decision("fall_back", "guard", why, best, cause="follows", baseline=number)
        return self._act(decision, lambda: lineage.decided.switch(best) == was and lineage.decided.fallen(champion))

    def _may_lead(self, learner: str) -> bool:
        """Tell whether a learner can answer now: a snapshot of its line has passed, and it learns."""
        lineage = self.lineage
        return (
            lineage.serving(learner) is not None and lineage.decided.breaker(learner) == "closed"
            and lineage.decided.stopped(learner) is None
        )  # fmt: skip

    def watch_performance(self, champion: str) -> None:
        """Ask for a full retrain when the champion loses more than it did, whatever the reason."""
        newest = self.lineage.newest()
        own = newest.learners[champion].figures.get("own") if newest is not None else None
        since = self.lineage.decided.last_retrain
        limit = alarm_at(self._looks(), 1, 1, self.config.guard.false_reverts_per_year)
        if not own or own["since"] != since or own["alarm"] < limit:
            return
        why = f"{champion} loses {own['recent']:.4f} lately, and held {own['level']:.4f} before"
        decision = Decision("retrain", "guard", why, champion, cause="performance")
        self._act(decision, lambda: self.lineage.decided.last_retrain == since)

    def _act(self, decision: Decision, stands: Callable[[], bool], level: int = logging.WARNING) -> bool:
        """Decide, say it and tell somebody; tell whether it was this process that decided."""
        entry = self._decide(decision, stands)
        if entry is None:
            return False
        log.log(level, "%s: %s", decision.action, decision.why)
        self._tell(decision.action, decision.learner or "", decision.why, entry.seq)
        return True
