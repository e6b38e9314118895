"""A full retrain by several processes at once, one for each GPU: data-parallel, through ``torch.distributed``.

Each process learns its share of every batch, and the gradients are averaged by their weights, so that several learn
what one would with the same batches. On CPUs the processes speak through gloo, on GPUs through NCCL, on this machine.
"""

import ctypes
import os
import signal
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from learners.baseline.batches import Rows, Share
from learners.baseline.networks import Shape
from learners.baseline.recipe import Recipe
from learners.baseline.training import Hooks, Progress, Run, Trained
from learners.errors import BudgetUsedUpError
from learners.event import Task

_MINUTES = 10
_PR_SET_PDEATHSIG = 1


def processes_of(wanted: int, device: torch.device) -> int:
    """How many processes to train with; 0 means one for each GPU, and one where there is none."""
    if wanted:
        return wanted
    return max(1, torch.cuda.device_count()) if device.type == "cuda" and device.index is None else 1


def train_together(
    open_rows: Callable[[], Rows],
    shape: Shape,
    task: Task,
    recipe: Recipe,
    device: torch.device,
    processes: int,
    *,
    start: dict[str, Tensor] | None = None,
    hooks: Hooks | None = None,
) -> Trained:
    """Train as :func:`learners.baseline.training.train` does, with so many processes; each opens the rows for itself.

    ``open_rows`` must pickle. When one process fails the others are ended, and its error is raised.
    """
    hooks = hooks or Hooks()
    run = Run(open_rows(), shape, task, recipe, device, start)
    if hooks.kept is not None:
        run.restore(hooks.kept)
    if not run.done():
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # else they would import from the current directory first
        context = multiprocessing.get_context("spawn")
        words = context.SimpleQueue()
        with tempfile.TemporaryDirectory() as folder:
            told = (open_rows, shape, task, recipe, device.type, processes, Path(folder) / "meeting", start, hooks.kept,
                    hooks.most_seconds)  # fmt: skip
            group: Any = multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
                _member, (told, words), nprocs=processes, join=False
            )
            newest = _listen(words, group, hooks)
        if newest:
            run.restore(newest)
        run.used_up = not run.done()  # nothing but the budget ends it before
    return run.finish(shape)


def _listen(words: Any, group: Any, hooks: Hooks) -> bytes:
    """Pass on what the first process says, until all have ended; return the last state."""
    newest = b""
    ended = False
    while not ended:
        ended = group.join(timeout=0.2)
        while not words.empty():
            word = words.get()
            if isinstance(word, str):
                raise BudgetUsedUpError(word)
            if isinstance(word, bytes):
                newest = word
                hooks.keep(word)
            else:
                hooks.say(word)
    return newest


def _join(rank: int, kind: str, processes: int, meeting: Path) -> torch.device:
    """Meet the others, and return this process's device."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")
    cuda = kind == "cuda"
    device = torch.device(f"cuda:{rank}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    distributed.init_process_group(
        "nccl" if cuda else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes,
        timeout=timedelta(minutes=_MINUTES),
    )  # fmt: skip
    return device


def _agree(value: Tensor) -> Tensor:
    """The sum over all processes."""
    found = value.detach().clone()
    distributed.all_reduce(found)
    return found


def _member(rank: int, told: tuple[Any, ...], words: Any) -> None:
    """One of the processes; the first tells how far they are."""
    open_rows, shape, task, recipe, kind, processes, meeting, start, kept, most_seconds = told
    device = _join(rank, kind, processes, meeting)

    def spread(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, device_ids=[rank] if kind == "cuda" else None)

    def tell(word: Progress | bytes | str) -> None:
        if rank == 0:
            words.put(word)

    try:
        torch.manual_seed(recipe.seed)
        run = Run(
            open_rows(), shape, task, recipe, device, start, share=Share(rank, processes), spread=spread, agree=_agree
        )
        if kept is not None:
            run.restore(kept)
        while not run.done():
            run.epoch(Hooks(say=tell, most_seconds=most_seconds))
            if not run.used_up:
                tell(run.dump())
        distributed.barrier()
    except BudgetUsedUpError as cause:
        tell(str(cause))
    finally:
        distributed.destroy_process_group()
