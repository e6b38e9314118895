"""Losses of a model on the newest rows, and the scale and shift that make its probabilities right on them."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from learners.baseline.batches import STREAMED_ROWS, Rows
from learners.event import Task

_CALIBRATED_ROWS = 200_000


def losses_of(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each row."""
    if task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="none")
    if task == "multiclass":
        return nn.functional.cross_entropy(logits, labels.long(), reduction="none")
    return (logits[:, 0] - labels) ** 2


def _logits(model: nn.Module, rows: Rows, begin: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and labels of the newest rows, in blocks."""
    model.eval()
    with torch.no_grad():
        for at in range(begin, len(rows), STREAMED_ROWS):
            end = min(at + STREAMED_ROWS, len(rows))
            arrays = (rows.numbers[at:end], rows.places[at:end], rows.labels[at:end])
            numbers, places, labels = (torch.from_numpy(np.array(one)).to(device) for one in arrays)
            yield model(numbers, places).float(), labels


def mean_loss(model: nn.Module, rows: Rows, begin: int, task: Task, device: torch.device) -> float:
    """Mean loss on the newest rows, each counting the same."""
    total = sum(
        float(losses_of(task, logits, labels).double().sum()) for logits, labels in _logits(model, rows, begin, device)
    )
    return total / (len(rows) - begin)


def calibrated(
    model: nn.Module, rows: Rows, begin: int, task: Task, device: torch.device, outputs: int
) -> tuple[Tensor, Tensor]:
    """Scale and shift of the logits that make probabilities right on the newest rows.

    J. Platt's scaling (1999); for several classes one scale, and a shift each. What helps nothing is left out.
    """
    scale, shift = torch.ones(1), torch.zeros(outputs)
    if task == "regression":
        return scale, shift
    begin = max(begin, len(rows) - _CALIBRATED_ROWS)
    found = [(logits.cpu(), labels.cpu()) for logits, labels in _logits(model, rows, begin, device)]
    logits, labels = torch.cat([one for one, _ in found]), torch.cat([one for _, one in found])
    if len(np.unique(labels.numpy())) < 2 or not torch.isfinite(logits).all():
        return scale, shift  # what is not finite is turned down by the fast lane
    scale.requires_grad_(), shift.requires_grad_()
    optimiser = torch.optim.LBFGS([scale, shift], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        return losses_of(task, logits * scale + shift, labels).mean() + 1e-4 * ((scale - 1) ** 2).sum()

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    before = float(losses_of(task, logits, labels).mean())
    optimiser.step(closure)  # type: ignore[no-untyped-call]
    after = float(loss().detach())
    if not math.isfinite(after) or after >= before:
        return torch.ones(1), torch.zeros(outputs)
    return scale.detach(), shift.detach()
