"""A full retrain: encoded rows in, a trained and calibrated model out. In torch, on a GPU where there is one.

The newest part of the rows tells when to stop (early stopping) and calibrates; the guard's holdout is never among them.
After every epoch the whole state is handed to ``keep``, so that a run that was killed goes on from there.
"""

import io
import math
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from learners.baseline.batches import ALONE, Batches, Rows, Share
from learners.baseline.calibration import calibrated, losses_of, mean_loss
from learners.baseline.networks import Served, Shape, build
from learners.baseline.recipe import Recipe
from learners.errors import BudgetUsedUpError, FactoryRefusedError
from learners.event import Task

_DAY_SECONDS = 86_400.0
_TOLD_ROWS = 1 << 16
#: the budget is looked at once in so many batches
_LOOKED = 64
_RATES = {"linear": 0.02, "fm": 0.005, "dcn": 0.001}
#: rows of a batch at most, by whether there is a GPU
_LARGEST_BATCH = {False: 4096, True: 65_536}


class Progress(msgspec.Struct, frozen=True):
    """How far a run is: epoch (from 1), rows of all epochs so far and at most, loss on the newest rows."""

    epoch: int
    rows: int
    most_rows: int
    loss: float | None
    rows_per_second: float


class Trained(msgspec.Struct):
    """The model with its calibration, and how it went. ``losses``: on the newest rows, after each epoch.

    ``cut_off``: the budget ended it, and not the losses.
    """

    served: nn.Module
    state: dict[str, Tensor]
    best_epoch: int
    losses: list[float]
    seconds: float
    rows_per_second: float
    device: str
    cut_off: bool = False


def device_of(wanted: str = "auto") -> torch.device:
    """The device to train on: ``auto`` is the GPU where there is one.

    Raises :class:`FactoryRefusedError` when there is no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=wanted)
        return torch.device(wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as cause:
        said = str(cause).split("\n", 1)[0]
        raise FactoryRefusedError(f"retrain.device {wanted!r} cannot be used: {said}. Set it to auto or cpu") from cause


def _weights(rows: Rows, recipe: Recipe, task: Task, count: int) -> npt.NDArray[np.float32]:
    """Weights of the loss: the events' own, times class, times age."""
    found = np.array(rows.weights[:count], np.float32)
    if recipe.half_life_days > 0:
        age = rows.times[count - 1] - rows.times[:count]
        found *= np.exp2(-age / (_DAY_SECONDS * recipe.half_life_days)).astype(np.float32)
    if recipe.class_weight == "balanced" and task != "regression":
        classes = np.asarray(rows.labels[:count], np.int64)
        counts = np.bincount(classes).astype(np.float64)
        found *= (count / (np.count_nonzero(counts) * np.maximum(counts, 1)))[classes].astype(np.float32)
    return found


class Hooks(msgspec.Struct, frozen=True):
    """What a run tells and asks.

    ``keep`` is given the whole state after every epoch, and ``kept`` is what it was given last. ``say`` is told how
    far it is; ``now`` is a clock in seconds that nobody sets. ``most_seconds``: training ends by then with the best
    state so far, times processes (0: no limit).
    """

    kept: bytes | None = None
    keep: Callable[[bytes], None] = lambda _: None
    say: Callable[[Progress], None] = lambda _: None
    now: Callable[[], float] = time.monotonic
    most_seconds: float = 0.0


def train(
    rows: Rows,
    shape: Shape,
    task: Task,
    recipe: Recipe,
    device: torch.device,
    *,
    start: dict[str, Tensor] | None = None,
    hooks: Hooks | None = None,
) -> Trained:
    """Train on all but the newest ``recipe.validation`` of the rows, which must be sorted by time.

    ``start`` is the state of an earlier model to go on from (warm start). The same rows, recipe and seed give the same
    model on the same machine.
    """
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = True
    hooks = hooks or Hooks()
    run = Run(rows, shape, task, recipe, device, start)
    if hooks.kept is not None:
        run.restore(hooks.kept)
    while not run.done():
        run.epoch(hooks)
        if not run.used_up:
            hooks.keep(run.dump())
    return run.finish(shape)


class Run:
    """One training run: model, optimiser, the best state so far, and where it stands.

    ``agree`` makes one number of those of several processes (:mod:`learners.baseline.distributed`), ``spread`` wraps
    the model so that they learn together.
    """

    def __init__(  # noqa: PLR0913  what a run is made of
        self,
        rows: Rows,
        shape: Shape,
        task: Task,
        recipe: Recipe,
        device: torch.device,
        start: dict[str, Tensor] | None,
        *,
        share: Share = ALONE,
        spread: Callable[[nn.Module], nn.Module] = lambda model: model,
        agree: Callable[[Tensor], Tensor] = lambda value: value,
    ) -> None:
        newest = min(len(rows) - 1, max(1, round(recipe.validation * len(rows))))
        self.count = len(rows) - newest
        self.mean, self.deviation = _scaling(rows, self.count, task)
        labels = (rows.labels - self.mean) / self.deviation
        self.rows = Rows(rows.numbers, rows.places, labels, rows.weights, rows.times)
        self.task, self.recipe, self.device = task, recipe, device
        self.weights = _weights(rows, recipe, task, self.count)
        self.batches: Batches | None = None
        self.share, self.agree = share, agree
        most = _LARGEST_BATCH[device.type == "cuda"]
        self.size = recipe.batch or min(most, max(128, self.count // 32))
        model = build(recipe.kind, shape, rank=recipe.rank, factory=recipe.factory)
        if start is not None:
            model.load_state_dict(start)
        self.model = model.to(device)
        rate = recipe.rate or _RATES["dcn" if recipe.factory else recipe.kind]
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=recipe.decay, fused=True)
        self.spread = spread(self.model)
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0, "state": _state(self.model)}
        self.losses: list[float] = []
        self.seconds = 0.0
        self.used_up = False

    def done(self) -> bool:
        """Tell whether the epochs are used up, or the loss on the newest rows has not fallen for too long."""
        since = len(self.losses) - self.best["epoch"]
        return self.used_up or len(self.losses) >= self.recipe.epochs or since > self.recipe.patience

    def epoch(self, hooks: Hooks) -> None:
        """Learn every row once, then look at the newest. What the budget cuts off in the middle counts for nothing.

        Raises :class:`BudgetUsedUpError` when that is the first.
        """
        if self.batches is None:
            self.batches = Batches(self.rows, self.weights, self.count, self.device, self.share)
        seed = (self.recipe.seed * 1_000_003 + len(self.losses)) * 1009 + self.share.rank
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        began, seen, told = hooks.now(), 0, 0
        self.model.train()
        amp = self.recipe.mixed_precision and self.device.type == "cuda"
        for number, (numbers, places, labels, weight) in enumerate(
            self.batches.epoch(-(-self.size // self.share.of), generator)
        ):
            if number % _LOOKED == 0 and self._over(hooks, self.seconds + hooks.now() - began):
                return
            self.optimiser.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=amp):
                logits = self.spread(numbers, places)
            whole = self.agree(weight.sum()).clamp_min(1e-12) / self.share.of
            loss = (losses_of(self.task, logits.float(), labels) * weight).sum() / whole
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            seen += len(labels) * self.share.of
            if seen - told >= _TOLD_ROWS:
                told = seen
                hooks.say(self._progress(seen, self.seconds + hooks.now() - began))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += hooks.now() - began
        loss = torch.tensor(mean_loss(self.model, self.rows, self.count, self.task, self.device), dtype=torch.float64)
        self.losses.append(float(self.agree(loss.to(self.device))) / self.share.of)
        if self.losses[-1] < self.best["loss"] - 1e-7:
            self.best = {"loss": self.losses[-1], "epoch": len(self.losses), "state": _state(self.model)}
        hooks.say(self._progress(0, self.seconds))

    def _over(self, hooks: Hooks, seconds: float) -> bool:
        """Tell whether the budget is used up, for all processes alike."""
        if not hooks.most_seconds:
            return False
        late = torch.tensor(float(seconds * self.share.of > hooks.most_seconds), device=self.device)
        if not float(self.agree(late)):
            return False
        if not self.losses:
            raise BudgetUsedUpError(
                f"{hooks.most_seconds:.0f} s of training were left (retrain.budget_seconds, retrain.budget), which is "
                "less than one epoch takes; nothing was changed"
            )
        self.used_up = True
        return True

    def _progress(self, seen: int, seconds: float) -> Progress:
        rows = len(self.losses) * self.count + min(seen, self.count)
        loss = self.losses[-1] if self.losses else None
        most = self.recipe.epochs * self.count
        return Progress(len(self.losses) + (seen > 0), rows, most, loss, rows / max(seconds, 1e-9))

    def dump(self) -> bytes:
        """Everything that the next epoch depends on."""
        out = io.BytesIO()
        torch.save({
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "best": self.best,
            "losses": self.losses, "seconds": self.seconds,
        }, out)  # fmt: skip
        return out.getvalue()

    def restore(self, kept: bytes) -> None:
        """Take what :meth:`dump` gave."""
        saved = torch.load(io.BytesIO(kept), weights_only=True, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.best, self.losses, self.seconds = saved["best"], saved["losses"], saved["seconds"]

    def finish(self, shape: Shape) -> Trained:
        """Calibrate the best state, and put the numbers of a regression back into their own units."""
        self.model.load_state_dict(self.best["state"])
        scale, shift = calibrated(self.model, self.rows, self.count, self.task, self.device, shape.outputs)
        if self.task == "regression":
            scale, shift = scale * self.deviation, shift * self.deviation + self.mean
        served = Served(self.model.to("cpu"), self.task, scale, shift).eval()
        rate = len(self.losses) * self.count / max(self.seconds, 1e-9)
        state = {name: one.cpu() for name, one in self.best["state"].items()}
        best = int(self.best["epoch"])
        return Trained(served, state, best, self.losses, self.seconds, rate, str(self.device), self.used_up)


def dump_state(state: dict[str, Tensor]) -> bytes:
    """The weights of a model, for a warm start; nothing else is loaded from them."""
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def load_state(data: bytes) -> dict[str, Tensor]:
    """Return what :func:`dump_state` wrote."""
    found: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return found


def _scaling(rows: Rows, count: int, task: Task) -> tuple[float, float]:
    """Mean and deviation of a regression's labels."""
    if task != "regression":
        return 0.0, 1.0
    labels = np.asarray(rows.labels[:count], np.float64)
    return float(labels.mean()), float(labels.std()) or 1.0


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.state_dict().items()}
