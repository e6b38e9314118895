"""``holdfast retrain``: archive to rows, rows to a model, the model through the gates, the outcome into the ledger."""

import contextlib
import hashlib
import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from learners.baseline.recipe import Recipe
from learners.baseline.served import About, Baseline, pack
from snapshots import Lineage
from snapshots.decisions.decided import baseline_state, decided
from snapshots.decisions.ledger import Action, Decision, Entry
from snapshots.errors import ElsewhereError, NothingToLearnError, RefusedError, SnapshotsError
from snapshots.judging.gates import Gate
from snapshots.records import baselines
from snapshots.records import cut as snapshots
from snapshots.records.baselines import BaselineManifest
from snapshots.records.membership import Membership
from snapshots.store.lease import Lease
from stream.archive.files import Archive
from stream.errors import CommandError
from stream.process.presence import has_ended, this_process
from stream.retrain.dataset import Dataset, Gathering, Warm, exclusions_of, rows_of
from stream.retrain.gating import Gating, read_baseline
from stream.retrain.refusals import refuse_erased, refuse_nothing_new, refuse_unfit
from stream.retrain.triggers import Order
from stream.settings import Config
from stream.source.codec import Codec

if TYPE_CHECKING:
    from learners.baseline.networks import Shape
    from learners.baseline.training import Trained

log = logging.getLogger("holdfast.retrain")
#: low priority: learning and serving come first
NICE = 10


class Outcome(msgspec.Struct):
    """What a retrain came to: the baseline's manifest, its gates, and the entry of the ledger."""

    manifest: BaselineManifest
    gates: list[Gate]
    entry: Entry


class Plan(msgspec.Struct):
    """What a retrain would do: the data, the device, and how the last one went; ``doubts``: why gates may not pass."""

    dataset: Dataset
    device: str
    kind: str
    current: int | None
    same_data: bool
    doubts: list[str] = []


class Retraining:
    """One full retrain. ``say`` is told the step and how far it is; ``now`` is the clock in Unix seconds."""

    def __init__(  # noqa: PLR0913  the composition root hands in every part
        self,
        config: Config,
        *,
        lineage: Lineage,
        archive: Archive,
        codec: Codec,
        labels: Any,
        membership: Membership,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str, float, float], None] = lambda _step, _done, _all: None,
    ) -> None:
        self.config, self.lineage, self.archive = config, lineage, archive
        self.codec, self.labels, self.membership = codec, labels, membership
        self.now, self.say = now, say
        self.gating = Gating(config, lineage, now, sleep, say)

    def gather(self, warm: Warm | None = None, work: Path | None = None) -> tuple[Dataset, Path]:
        """Bring the archive's events into arrays, without what must not be learnt; ``warm``: only those since."""
        rules = self.config.retrain
        erased = self.lineage.refresh().decided.last_erasing_retrain
        gathering = Gathering(
            self.archive, self.codec, self.labels, self.membership,
            exclusions_of(self.lineage, self.membership, self.config.holdout.by), rules,
            work or self.config.base / rules.work, most_held=self.config.holdout.rows, slices=self.config.event.slices,
            decoding=msgspec.json.encode((self.config.task, self.config.event, erased)), now=self.now,
            warm=warm, say=self.say,
        )  # fmt: skip
        try:
            found, folder = gathering.gather()
        except OSError as cause:
            raise CommandError(f"retrain.work cannot be used: {cause}") from cause
        if found.rows < rules.fewest_rows:
            left_out = ", ".join(f"{count:,} {why}" for why, count in found.excluded.items()) or "nothing"
            since = f" since baseline {warm.number}; leave out --warm" if warm is not None else ""
            raise NothingToLearnError(
                f"the archive holds {found.rows:,} events that may be learnt{since}, and retrain.fewest_rows asks for "
                f"{rules.fewest_rows:,}; left out: {left_out}. Nothing was changed"
            )
        return found, folder

    def plan(self) -> Plan:
        """Look at the data and at the device, in a folder of its own; nothing is changed."""
        work = self.config.base / f"{self.config.retrain.work}-dry-run"
        try:
            dataset, folder = self.gather(work=work)
            doubts = self.gating.doubts(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        current = self.lineage.decided.baseline
        manifest = baselines.read(self.lineage.store, current) if current is not None else None
        same = manifest is not None and manifest.data_version == dataset.version
        return Plan(dataset, self._device(), self._kind(), current, same, doubts)

    def _device(self) -> str:
        from learners.baseline.training import device_of  # noqa: PLC0415  torch, an optional extra

        return str(device_of(self.config.retrain.device))

    def _kind(self) -> str:
        return self.config.retrain.factory or self.config.retrain.kind

    def run(self, order: Order, *, warm: bool | None = None) -> Outcome:
        """Train, write the baseline, hold it against the gates, and say in the ledger what came of it.

        ``warm`` None: as ``retrain.warm`` says, where a baseline can be gone on from. What goes wrong is an entry, too.
        """
        with self.alone(order) as lease:
            made = self.make(order, warm)
            found = self.gating.gate(*made, order.since)
            lease.check()
            entry = self.gating.decide(made[0], found, order.expected)
        self.clean(made[2])
        return Outcome(made[0], found, entry)

    def compare(self, order: Order) -> list[Outcome]:
        """Train a warm start and a full one, hold both against the same baseline and rows; the better counts."""
        with self.alone(order) as lease:
            beside = self.config.base / f"{self.config.retrain.work}-warm"
            both = [self.make(order, warm=True, work=beside), self.make(order, warm=False)]
            gates_ = [self.gating.gate(manifest, model, both[1][2], order.since) for manifest, model, _ in both]
            lease.check()
            gains = [next((g.figure for g in found if g.name == "holdout"), None) for found in gates_]
            passed = [all(gate.passed for gate in found) for found in gates_]
            second = int(passed[1] and (not passed[0] or (gains[1] or 0.0) >= (gains[0] or 0.0)))
            entries: dict[int, Entry] = {second: self.gating.decide(both[second][0], gates_[second])}
            other = both[1 - second][0]
            against = f"baseline {both[second][0].number}, made beside it, is better" if passed[second] else ""
            entries[1 - second] = self.gating.decide(other, gates_[1 - second], instead=against)
        shutil.rmtree(beside, ignore_errors=True)
        self.clean(both[1][2])
        return [Outcome(both[i][0], gates_[i], entries[i]) for i in (0, 1)]

    @contextlib.contextmanager
    def alone(self, order: Order) -> Iterator[Lease]:
        """Hold the lease, unless somebody else has carried the order out; what goes wrong is an entry, too."""
        began = self.now()
        with self.lease().held() as lease:
            if order.after is not None and self.lineage.refresh().decided.last_outcome > order.after:
                raise ElsewhereError("another retrain has been done meanwhile; nothing was changed")
            try:
                yield lease
            except NothingToLearnError as cause:
                if order.after is not None:  # who asked has to be answered, or would ask again at once
                    self.ended("retrain_skipped", order, str(cause))
                raise
            except RefusedError:
                raise
            except Exception as cause:
                with contextlib.suppress(SnapshotsError):
                    said = f"{type(cause).__name__}: {cause}"
                    self.ended("retrain_failed", order, said, max(0.0, self.now() - began))
                raise

    def make(
        self, order: Order, warm: bool | None, work: Path | None = None
    ) -> tuple[BaselineManifest, Baseline, Path]:
        """Gather, train, and write the baseline; nothing counts yet."""
        erased = self.lineage.refresh().decided.last_erasing_retrain
        start = state = None
        wanted = self.config.retrain.warm if warm is None else warm
        if wanted:
            try:
                start, state = self.start()
                dataset, folder = self.gather(start, work)
                refuse_unfit(self.lineage, self._recipe(), start, dataset)
            except RefusedError as cause:
                if warm:
                    raise
                log.warning("no warm start, but from nothing: %s", cause)
                start = state = None
        if start is None:
            dataset, folder = self.gather()
            refuse_nothing_new(self.lineage, self._recipe(), order, dataset)
        manifest, model = self.train(dataset, folder, order, start, state)
        if self.lineage.refresh().decided.last_erasing_retrain > erased:
            raise RefusedError(
                f"events were erased while baseline {manifest.number} learnt them, so it does not count. Train again"
            )
        return manifest, model, folder

    def ended(self, action: Action, order: Order, why: str, seconds: float = 0.0) -> None:
        """Write into the ledger that nothing came of it; also of a retrain by hand or by cron."""
        decision = Decision(action, f"retrain on {platform.node()}", why, cause=order.kind, seconds=round(seconds, 3))
        self.lineage.ledger.append(self.now(), lambda _: decision)

    def clean(self, folder: Path) -> None:
        """Forget the state after each epoch, and old baselines that nothing needs."""
        for checkpoint in folder.glob("checkpoint-*"):
            checkpoint.unlink()
        entries = self.lineage.refresh().decisions
        counts, last = self.lineage.decided.baseline, self.lineage.decided.baseline_before
        numbers = baselines.numbers(self.lineage.store)
        for number in numbers[: -self.config.retrain.keep]:
            if number not in (counts, last) and baseline_state(number, entries) != "waiting":
                baselines.remove(self.lineage.store, number)

    def lease(self) -> Lease:
        """The lease under which there is one retrain at a time, on whatever machine."""
        return Lease(
            self.lineage.store, "retrain", this_process(), self.config.retrain.lease_seconds, self.now, has_ended
        )  # fmt: skip

    def train(
        self, dataset: Dataset, folder: Path, order: Order, warm: Warm | None = None, state: bytes | None = None
    ) -> tuple[BaselineManifest, Baseline]:
        """Train a model and write it as the next baseline; a run that was killed goes on from its last epoch."""
        from learners.baseline import distributed, networks, training  # noqa: PLC0415  torch, an optional extra

        encoding = dataset.encoding
        shape = networks.Shape(encoding.width, encoding.fields, encoding.places, dataset.outputs)
        recipe = self._recipe()
        warm_from = warm.number if warm is not None else None
        name = hashlib.sha256(msgspec.json.encode((recipe, warm_from))).hexdigest()[:16]
        checkpoint = folder / f"checkpoint-{name}"

        hooks = training.Hooks(
            checkpoint.read_bytes() if checkpoint.exists() else None,
            partial(_keep, checkpoint),
            self._said,
            most_seconds=order.most_seconds,
        )
        first = training.load_state(state) if state is not None else None
        device, task = training.device_of(self.config.retrain.device), self.config.task
        processes = distributed.processes_of(self.config.retrain.processes, device)
        if processes > 1:
            opened = partial(rows_of, folder, dataset)
            trained = distributed.train_together(
                opened, shape, task, recipe, device, processes, start=first, hooks=hooks
            )  # fmt: skip
        else:
            trained = training.train(rows_of(folder, dataset), shape, task, recipe, device, start=first, hooks=hooks)
        return self._write(dataset, folder, order, recipe, warm_from, processes, trained, shape)

    def _write(
        self, dataset: Dataset, folder: Path, order: Order, recipe: Recipe, warm_from: int | None, processes: int,
        trained: "Trained", shape: "Shape",
    ) -> tuple[BaselineManifest, Baseline]:  # fmt: skip
        """Write a model as the next baseline."""
        from learners.baseline import networks, training  # noqa: PLC0415  torch, an optional extra

        blob = pack(About(self.config.task, dataset.names, dataset.encoding), networks.export(trained.served, shape))
        number = max(baselines.numbers(self.lineage.store), default=0) + 1
        store = self.lineage.store
        manifest = BaselineManifest(
            format=1, number=number, created=self.now(), task=self.config.task, trigger=order.words,
            data_version=dataset.version, recipe=msgspec.to_builtins(recipe), rows=dataset.rows,
            excluded=dataset.excluded, first_time=dataset.first_time, last_time=dataset.last_time,
            trained={
                "losses": [round(one, 6) for one in trained.losses], "best_epoch": trained.best_epoch,
                "seconds": round(trained.seconds, 3), "rows_per_second": round(trained.rows_per_second),
                "device": trained.device, "processes": processes, "cut_off": trained.cut_off,
                "features_left_out": dataset.others,
                "archived": dataset.archived, "ends": dataset.ends, "outputs": dataset.outputs,
                "erased": self.lineage.decided.last_erasing_retrain,
            },
            warm_from=warm_from, model=baselines.put(store, number, "model", blob),
            state=baselines.put(store, number, "state", training.dump_state(trained.state)),
            versions={**snapshots.versions(), "torch": version("torch")},
            sample=baselines.put(store, number, "sample", (folder / "sample.msgpack").read_bytes()),
        )  # fmt: skip
        baselines.write(store, manifest)
        return manifest, Baseline(blob)

    def _recipe(self) -> Recipe:
        return Recipe(**{name: getattr(self.config.retrain, name) for name in Recipe.__struct_fields__})

    def start(self) -> tuple[Warm, bytes]:
        """What a warm start goes on from: the baseline that counts."""
        number = self.lineage.refresh().decided.baseline
        manifest = baselines.read(self.lineage.store, number) if number is not None else None
        if number is None or manifest is None:
            raise RefusedError("there is no baseline to go on from; the first retrain cannot be warm. Leave out --warm")
        refuse_erased(manifest, self.lineage.decisions)
        encoding = read_baseline(self.lineage, number).encoding
        return Warm(number, encoding, manifest.last_time), baselines.read_part(self.lineage.store, manifest.state)

    def _said(self, progress: Any) -> None:
        loss = "" if progress.loss is None else f", loss {progress.loss:.4f}"
        self.say(
            f"training: epoch {progress.epoch}{loss}, {progress.rows_per_second:,.0f} rows/s",
            progress.rows, progress.most_rows,
        )  # fmt: skip


def _keep(path: Path, data: bytes) -> None:
    """Keep the state after an epoch, whole or not at all."""
    hidden = path.with_name(f".{path.name}")
    try:
        hidden.write_bytes(data)
        hidden.rename(path)
    except OSError as cause:
        raise RefusedError(
            f"the training data in retrain.work went away: {cause.strerror}. holdfast forget deletes them; train again"
        ) from cause


def decide_by_hand(lineage: Lineage, number: int, action: str, by: str, why: str, now: float) -> Entry:
    """Approve or reject a baseline that waits, or put back one that was accepted before."""

    def decide(entries: list[Entry]) -> Decision:
        state = baseline_state(number, entries)
        if baselines.read(lineage.store, number) is None:
            raise RefusedError(f"baseline {number} does not exist. See: holdfast retrain list")
        if action == "use" and state != "accepted":
            raise RefusedError(f"baseline {number} is {state}, and only one that was accepted can be put back")
        if action == "use" and decided(entries).baseline == number:
            raise RefusedError(f"baseline {number} counts already; nothing was changed")
        if action != "use" and state != "waiting":
            raise RefusedError(f"baseline {number} does not wait for anybody: it is {state}; nothing was changed")
        if action != "reject":
            refuse_erased(baselines.model_of(lineage.store, number)[0], entries)
        made: Action = "refuse_baseline" if action == "reject" else "accept_baseline"
        return Decision(made, by, why, baseline=number, cause=action)

    return lineage.ledger.append(now, decide)
