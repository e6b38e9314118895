"""The models of a full retrain, in torch: linear, factorisation machine, cross network, or a module of one's own.

Each takes ``numbers`` (float32, rows by width) and ``places`` (int64, rows by fields; place 0: not seen in training),
and returns logits (rows by outputs). Nothing that trains online, guards or serves imports this.

* ``linear``: a weight for each number and each place.
* ``fm``: and all products of two of them, of low rank. S. Rendle, "Factorization machines" (2010).
* ``dcn``: a cross network of low rank beside a deep one. R. Wang et al., "DCN V2" (2021).
"""

import importlib
import io
import warnings
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from learners.errors import FactoryRefusedError
from learners.event import Task

Kind = Literal["linear", "fm", "dcn"]


class Shape(msgspec.Struct, frozen=True):
    """Sizes of inputs and outputs: columns of numbers, columns of places, places, and logits."""

    width: int
    fields: int
    places: int
    outputs: int


class Linear(nn.Module):
    """A weight for each number and each place."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.numbers = nn.Linear(shape.width, shape.outputs)
        self.places = nn.Embedding(shape.places, shape.outputs)
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)
        nn.init.zeros_(self.places.weight)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Logits."""
        return self.numbers(numbers) + self.places(places).sum(1)  # type: ignore[no-any-return]


class FactorisationMachine(nn.Module):
    """Linear, and the products of every two features' vectors."""

    def __init__(self, shape: Shape, rank: int) -> None:
        super().__init__()
        self.rank, self.outputs = rank, shape.outputs
        self.linear = Linear(shape)
        self.numbers = nn.Parameter(torch.randn(shape.width, rank * shape.outputs) * 0.01)
        self.places = nn.Embedding(shape.places, rank * shape.outputs)
        nn.init.normal_(self.places.weight, std=0.01)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Logits: half of (sum squared minus sum of squares) is the sum over pairs."""
        vectors = self.places(places)
        total = vectors.sum(1) + numbers @ self.numbers
        squares = (vectors * vectors).sum(1) + (numbers * numbers) @ (self.numbers * self.numbers)
        pairs = (total * total - squares).reshape(-1, self.outputs, self.rank).sum(2)
        return self.linear(numbers, places) + 0.5 * pairs  # type: ignore[no-any-return]


class CrossNetwork(nn.Module):
    """DCN-v2: cross layers of low rank beside a deep part, both into one layer of logits."""

    def __init__(self, shape: Shape, rank: int, *, layers: int = 3, hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        size = shape.width + shape.fields * rank
        low = max(8, min(64, size // 4))
        self.places = nn.Embedding(shape.places, rank)
        nn.init.normal_(self.places.weight, std=0.05)
        self.down = nn.ModuleList(nn.Linear(size, low, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(low, size) for _ in range(layers))
        self.deep = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Dropout(dropout),
        )  # fmt: skip
        self.out = nn.Linear(size + hidden, shape.outputs)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Logits."""
        first = torch.cat((numbers, self.places(places).flatten(1)), 1)
        crossed = first
        for down, up in zip(self.down, self.up, strict=True):
            crossed = first * up(down(crossed)) + crossed
        return self.out(torch.cat((crossed, self.deep(first)), 1))  # type: ignore[no-any-return]


def build(kind: Kind, shape: Shape, *, rank: int = 16, factory: str = "") -> nn.Module:
    """A fresh model; ``factory`` is ``module:function``, which is given the :class:`Shape` and returns a module.

    Raises :class:`FactoryRefusedError` when the function is not there, or what it gives does not answer with logits.
    """
    if factory:
        return _own(factory, shape)
    if kind == "linear":
        return Linear(shape)
    return FactorisationMachine(shape, rank) if kind == "fm" else CrossNetwork(shape, rank)


def _own(factory: str, shape: Shape) -> nn.Module:
    module, _, function = factory.partition(":")
    try:
        model = getattr(importlib.import_module(module), function)(shape)
    except (ImportError, AttributeError, ValueError, TypeError) as cause:
        raise FactoryRefusedError(f"retrain.factory {factory!r} gives no model: {cause}") from cause
    if not isinstance(model, nn.Module):
        raise FactoryRefusedError(f"retrain.factory {factory!r} gave a {type(model).__name__}, not a torch.nn.Module")
    try:
        with torch.no_grad():
            found = model.eval()(torch.zeros(2, shape.width), torch.zeros(2, shape.fields, dtype=torch.int64))
    except Exception as cause:
        raise FactoryRefusedError(f"retrain.factory {factory!r}: its model raised at two rows: {cause}") from cause
    if tuple(found.shape) != (2, shape.outputs):
        raise FactoryRefusedError(
            f"retrain.factory {factory!r}: its model answered two rows with shape {tuple(found.shape)}, not "
            f"(2, {shape.outputs})"
        )
    return model


class Served(nn.Module):
    """A trained model with its calibration: from inputs to probabilities, or to numbers in their own units."""

    def __init__(self, model: nn.Module, task: Task, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, numbers: Tensor, places: Tensor) -> Tensor:
        """Probabilities of the classes (binary: of the positive one), or predicted numbers."""
        found = self.model(numbers, places) * self.scale + self.shift
        if self.task == "binary":
            return torch.sigmoid(found)
        return torch.softmax(found, 1) if self.task == "multiclass" else found


def export(served: nn.Module, shape: Shape) -> bytes:
    """The model as an ONNX graph, for any number of rows."""
    served = served.to("cpu").eval()
    inputs: Any = (torch.zeros(2, shape.width), torch.zeros(2, shape.fields, dtype=torch.int64))
    out: Any = io.BytesIO()
    rows = {0: "rows"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its successor, which needs two packages more
        torch.onnx.export(
            served, inputs, out, input_names=["numbers", "places"], output_names=["scores"], dynamo=False,
            dynamic_axes={"numbers": rows, "places": rows, "scores": rows},
        )  # fmt: skip
    return bytes(out.getvalue())
