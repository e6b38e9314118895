"""What the trainer and the process of a learner say to each other: msgpack frames over a socket of their own."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from learners.errors import LearnersError
from learners.event import Label, Prediction
from learners.labels import LabelValue
from snapshots.errors import SnapshotsError
from snapshots.records.manifest import Part
from stream.errors import StreamError
from stream.record import Mode


class _Message(msgspec.Struct, tag=True, array_like=True, gc=False):
    pass


class Setup(_Message):
    """First word of the trainer: the whole configuration, packed, and which learner this is."""

    config: bytes
    name: str


class Load(_Message):
    """Take the state of a snapshot, or with None be new.

    ``accept``: go on although the configuration was changed. ``imported``: a file to begin from, when new.
    """

    snapshot: int | None
    labels: list[LabelValue]
    accept: bool = False
    imported: str = ""


class Batch(_Message):
    """Events to predict, score and learn, column by column. ``weights`` None: all 1. ``labels`` None: no new ones.

    ``scale`` is the unit of a regression's errors; None while there is no holdout, so that no evidence is wanted yet.
    ``first`` is the first event that is scored for comparisons, of every ``stride``-th. ``learn`` False: predict and
    score only, and compare nothing. ``mode`` says what is done with events whose labels came later.
    ``asked`` are features without a label, to be predicted ``before`` the event of this index is learnt. Instead of
    ``features`` a learner that takes numbers may get ``names`` and ``rows`` of as many float64.
    """

    number: int
    features: list[bytes]
    answers: list[Label]
    weights: list[float] | None
    slices: list[list[str]] | None
    labels: list[LabelValue] | None
    scale: float | None = None
    first: int = 0
    learn: bool = True
    stride: int = 1
    mode: Mode = "learn"
    asked: list[bytes] = []
    before: list[int] = []
    names: list[str] = []
    rows: bytes = b""


class Refer(_Message):
    """Compare with this snapshot from here on; the evidence starts again."""

    snapshot: int


class Against(_Message):
    """Compare with this baseline from here on (None: there is none), and with one's own past.

    ``switch`` is the entry by which serving last fell back or returned, ``since`` the one from which on one's own past
    is looked at: the last retrain, or the last that was asked for.
    """

    baseline: int | None
    switch: int
    since: int


class Save(_Message):
    """Write the learner as it now is as parts of a snapshot. ``order`` numbers what is asked, and comes back.

    A snapshot's number may be asked for twice, when the first one came to nothing.
    """

    snapshot: int
    order: int


class Loaded(_Message):
    """The state was taken; what the learner was built from, how its process is shut in, and what executes it."""

    built_from: dict[str, Any]
    wall: str = ""
    execution: str = ""


class Learnt(_Message):
    """A batch is learnt; the losses of the events that were scored for comparisons, if any, and what was asked."""

    number: int
    losses: list[float] | None = None
    answers: list[Prediction] = []


class Raised(_Message):
    """The learner raised at an event of a batch; it is no longer what it was, and takes nothing until the next load.

    ``for_good``: it is no learner that may learn here, whatever comes.
    """

    number: int
    index: int
    error: str
    for_good: bool = False


class Saved(_Message):
    """The parts are durable. ``seconds``: how long learning stood still for it."""

    order: int
    model: Part
    metrics: Part
    evidence: Part
    reference: int | None
    figures: dict[str, Any]
    seconds: float


class Failed(_Message):
    """An order (the name of its class) cannot be followed: the name of the error's class, and its message.

    ``number`` is that of a save.
    """

    order: str
    kind: str
    message: str
    number: int = 0


Order: TypeAlias = Setup | Load | Batch | Refer | Against | Save
Reply: TypeAlias = Loaded | Learnt | Raised | Saved | Failed
encode = msgspec.msgpack.Encoder().encode
orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def error_of(kind: str, message: str) -> Exception:
    """An error that crossed a process, as what it was raised as; as a :class:`StreamError` when it is none of ours."""
    found = next((one for one in _ours() if one.__name__ == kind), StreamError)
    return found.__new__(found, message)  # what is said is all that crosses: no constructor is asked for more


def _ours() -> Iterator[type[Exception]]:
    """Every class of error that our packages raise on purpose."""
    waiting: list[type[Exception]] = [LearnersError, SnapshotsError, StreamError]
    while waiting:
        waiting += (found := waiting.pop()).__subclasses__()
        yield found
