"""How a full retrain is trained: the settings of ``[retrain]`` that make another model. Without torch."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from learners.bounded import Amount, Count, Several

Kind = Literal["linear", "fm", "dcn"]


class Recipe(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How to train.

    ``half_life_days`` 0: events of all times count the same. ``batch`` 0: a 32nd of the rows, within bounds.
    ``rate`` 0: by kind, which is what the real data sets of docs/baseline.md learn well with.
    """

    kind: Kind = "dcn"
    factory: str = ""
    rank: Annotated[int, Meta(ge=1, le=1024)] = 16
    epochs: Several = 50
    patience: Count = 5
    batch: Count = 0
    rate: Amount = 0.0
    decay: Amount = 0.01
    validation: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    half_life_days: Amount = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    seed: Count = 1
    mixed_precision: bool = True
