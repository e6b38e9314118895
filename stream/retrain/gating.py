"""Holding a candidate against the baseline that counts, on rows that were never learnt; the outcome is an entry."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from learners.baseline.served import Baseline
from learners.errors import LearnersError
from snapshots import Lineage
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import DamagedError
from snapshots.judging import gates
from snapshots.judging.gates import Gate
from snapshots.records import baselines
from snapshots.records import cut as cuts
from snapshots.records.baselines import BaselineManifest
from snapshots.records.held_rows import HeldRow, read_version, spread
from stream.settings import Config

log = logging.getLogger("holdfast.retrain")


def read_baseline(lineage: Lineage, number: int) -> Baseline:
    """A baseline, verified before it is loaded."""
    return Baseline(baselines.model_of(lineage.store, number)[1])


def held_since(lineage: Lineage, moment: float) -> list[HeldRow]:
    """Held-out rows, sealed or not, that were read after a moment (Unix seconds): beyond the place of then."""
    newest = lineage.newest()
    if newest is None:
        return []
    manifests_ = (lineage.manifest(number) for number in lineage.numbers)
    then = next((one for one in manifests_ if one is not None and one.created >= moment), newest).place
    rows = cuts.collected(lineage.store, newest)
    rows += [row for one in newest.holdout.versions[-1:] for row in read_version(lineage.store, one)]
    young = [row for row in rows if row.offset >= then.get(row.topic, {}).get(row.partition, 0)]
    return list({(row.topic, row.partition, row.offset, row.digest): row for row in young}.values())


class Gating:
    """The gates of one retrain. ``say`` is told what is waited for and how far it is; ``now`` is in Unix seconds."""

    def __init__(
        self,
        config: Config,
        lineage: Lineage,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        say: Callable[[str, float, float], None],
    ) -> None:
        self.config, self.lineage, self.now, self.sleep, self.say = config, lineage, now, sleep, say

    def doubts(self, folder: Path) -> list[str]:
        """Why the gates can hardly pass, as far as that is seen before anything is trained."""
        newest, _ = self.held(folder)
        current, against = self.current()
        found = gates.doubts(newest, current, self.config.task, self.rules(), against)
        done = self.lineage.decided.outcomes
        if done and done[-1].action == "refuse_baseline" and done[-1].by == "gate":
            found.append(f"the last one, baseline {done[-1].baseline}, was turned down: {done[-1].why}")
        return found

    def gate(self, manifest: BaselineManifest, model: Baseline, folder: Path, since: float | None) -> list[Gate]:
        """Hold a candidate against the baseline that counts, on rows that were never learnt."""
        self.lineage.refresh()
        current, against = self.current()
        newest, floors = self.held(folder)
        if since is not None:
            floors = [*floors, *([newest] if newest is not None else [])]
            newest = self.younger(since, manifest.number)
        return gates.all_gates(
            model, current, self.config.task, newest, floors, self.rules(), against=against,
            megabytes=manifest.model.bytes / 1e6, seconds=float(manifest.trained["seconds"]),
        )  # fmt: skip

    def current(self) -> tuple[Baseline | None, str]:
        """What a candidate is held against, and what that is called."""
        number = self.lineage.decided.baseline
        try:
            if number is not None:
                return read_baseline(self.lineage, number), f"baseline {number}"
        except (DamagedError, LearnersError) as cause:
            log.error("the candidate is held against the shares of the labels: %s", cause)
            return None, f"the shares of the labels, since baseline {number} cannot be loaded,"
        return None, "the shares of the labels"

    def rules(self) -> gates.Rules:
        """The limits of the gates, from the configuration."""
        limits = {name: getattr(self.config.gates, name) for name in gates.Limits.__struct_fields__}
        return gates.Rules(**limits, min_slice_rows=self.config.holdout.min_slice_rows)

    def held(self, folder: Path) -> tuple[gates.Rows | None, list[gates.Rows]]:
        """The newest sealed holdout, and the older ones; before there is one, the held-out rows of the archive."""
        newest = self.lineage.newest()
        versions = newest.holdout.versions if newest is not None else []
        if not versions:
            rows = msgspec.msgpack.decode((folder / "held.msgpack").read_bytes(), type=list[HeldRow])
            return (
                gates.Rows("the archive that are held out", rows, spread([row.label for row in rows])) if rows else None
            ), []
        found = [
            gates.Rows(f"holdout {one.number}", read_version(self.lineage.store, one), one.scale)
            for one in versions[-3:]
        ]
        return found[-1], found[:-1]

    def younger(self, since: float, number: int) -> gates.Rows:
        """Seal the held-out rows that came after the trigger, for these gates alone; wait until there are enough.

        The guard's holdout stays what it is: whether it may follow a change is for ``guard.moved`` to say.
        """
        rules = self.config.gates
        until = self.now() + rules.wait_seconds
        while len(rows := held_since(self.lineage.refresh(), since)) < rules.fresh_rows and self.now() < until:
            self.say("waiting for held-out rows younger than the trigger", len(rows), rules.fresh_rows)
            self.sleep(1.0)
        part = baselines.put(self.lineage.store, number, "holdout", msgspec.msgpack.encode(rows))
        newest = self.lineage.newest()
        scale = newest.holdout.versions[-1].scale if newest is not None and newest.holdout.versions else 0.0
        scale = scale or (spread([row.label for row in rows]) if rows else 1.0)
        return gates.Rows(f"{part.name}, all younger than the trigger", rows, scale)

    def decide(
        self, manifest: BaselineManifest, found: Sequence[Gate], expected: float = 0.0, instead: str = ""
    ) -> Entry:
        """Accept the baseline, refuse it (``instead``: since another is better), or ask for somebody's approval."""
        failed = [gate for gate in found if not gate.passed]
        action: Action
        if instead and not failed:
            action, why = "refuse_baseline", instead
        elif failed:
            action, why = "refuse_baseline", "; ".join(f"{gate.name}: {gate.why}" for gate in failed)
        elif self.config.gates.sign_off:
            action = "await_approval"
            why = f"every gate is passed, and gates.sign_off asks: holdfast approve {manifest.number}, or reject"
        else:
            action, why = "accept_baseline", next(gate.why for gate in found if gate.name == "holdout")
        builtin = [msgspec.to_builtins(gate) for gate in found]
        took = manifest.trained["seconds"] * manifest.trained["processes"]
        decision = Decision(
            action, "gate", why, baseline=manifest.number, cause=manifest.trigger, gates=builtin, seconds=took,
            expected=expected,
        )  # fmt: skip
        return self.lineage.ledger.append(self.now(), lambda _: decision)
