"""Duels: champion and challengers over a fixed window of events or time, and who won."""

import logging
from typing import Any

from snapshots.decisions.ledger import Decision, Entry
from stream.guard.deciding import BY_GUARD, Deciding
from stream.process import logs

log = logging.getLogger("holdfast.guard")


class Dueling(Deciding):
    """Begins a duel after another while ``[duel]`` wants them."""

    def watch(self) -> None:
        """Begin a duel, or end the one whose window is over."""
        settings, champion = self.config.duel, self.lineage.champion()
        newest, last = self.lineage.newest(), self.lineage.decided.duel
        if not (settings.events or settings.seconds) or champion is None or newest is None or len(newest.learners) < 2:
            return
        if last is None or last.action == "duel_end" or last.learner != champion:
            if newest.holdout.versions:  # before that nobody is compared
                began = Decision("duel_start", BY_GUARD, self._window(), champion)
                self._decide(began, lambda: self.lineage.decided.duel == last)
            return
        seen = newest.duel.get("challengers", {}) if newest.duel.get("entry") == last.seq else {}
        if seen and self._is_over(last, seen):
            self._end(last, champion, seen)

    def _window(self) -> str:
        settings = self.config.duel
        parts = [f"{settings.events} events"] if settings.events else []
        parts += [f"{settings.seconds:g} s"] if settings.seconds else []
        return f"champion and challengers are compared over {' or '.join(parts)}"

    def _is_over(self, last: Entry, seen: dict[str, Any]) -> bool:
        settings = self.config.duel
        enough = bool(settings.events) and min(one["events"] for one in seen.values()) >= settings.events
        return enough or (bool(settings.seconds) and self.now() - last.time >= settings.seconds)

    def _end(self, last: Entry, champion: str, seen: dict[str, Any]) -> None:
        """Say who won: the best of those that are better than the champion for certain; promote it."""
        better = {name: one for name, one in seen.items() if one["high"] < 0 and self._may_lead(name)}
        winner = min(better, key=lambda name: better[name]["difference"]) if better else None
        words = "; ".join(
            f"{name} {one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f}) on {one['events']} events"
            for name, one in seen.items()
        )
        why = f"{f'{winner} won' if winner else 'nobody is better for certain'}. Loss minus that of {champion}: {words}"
        ended = Decision(
            "duel_end",
            BY_GUARD,
            why,
            winner or champion,
            cause="winner" if winner else "no_winner",
            candidate=winner or "",
        )
        entry = self._decide(ended, lambda: self.lineage.decided.duel == last)
        if entry is None:
            return
        log.warning("the duel of entry %d is over: %s", last.seq, why, extra=logs.facts(entry=entry.seq))
        self._tell("duel_end", winner or champion, why, entry.seq)
        if winner is not None and not self.config.duel.sign_off:
            led = Decision("promote", BY_GUARD, f"it won the duel of entry {last.seq}", winner, replaces=champion)
            self._decide(led, lambda: self.lineage.champion() == champion)

    def _may_lead(self, name: str) -> bool:
        stopped = self.lineage.decided.stopped(name)
        return stopped is None and self.lineage.serving(name) is not None
