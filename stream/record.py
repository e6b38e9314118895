"""One delivered record, before anything was made of it; or what the join made of one."""

from typing import Literal, TypeAlias

import msgspec

from learners.event import Event, Prediction
from stream.refusal import Refusal

#: what is done with an event that the join gives: learnt and scored; learnt as no, and not scored yet; scored only,
#: since it was learnt as no and is one; learnt as a late yes after it was learnt as no, and scored
Mode: TypeAlias = Literal["learn", "negative", "score", "late"]
#: what makes an event one that was learnt; the others speak of such a one again
COUNTED: tuple[Mode, ...] = ("learn", "negative")


class Served(msgspec.Struct, frozen=True, gc=False):
    """What was answered to a request, and by whom.

    In a roll-out, that of ledger entry ``rollout``, ``route`` says who was to answer, and ``other`` what the other one
    said: the champion where the candidate answered, else the candidate. ``propensity`` is the probability with which
    this one was to answer.
    """

    learner: str
    snapshot: int
    prediction: Prediction
    route: str = "champion"
    rollout: int = 0
    other: Prediction | None = None
    other_learner: str = ""
    other_snapshot: int = -1
    propensity: float = 1.0


class Joined(msgspec.Struct, gc=False):
    """What the join found of a record: how the classes change (``labels.`` before those of labels), and an event.

    ``sequence`` numbers events that wait; ``asked``: its prediction of now is kept until the label comes. ``arrived``
    are the predictions that were kept. ``delay`` is how long the label took, in seconds. ``digest`` is the keyed hash
    of the event's id, where it is known already. ``reward`` is what the answer ``served`` earned.
    """

    moves: dict[str, int]
    event: Event | None = None
    mode: Mode | None = None
    refusal: Refusal | None = None
    sequence: int = -1
    asked: bool = False
    served: Served | None = None
    arrived: bytes | None = None
    delay: float | None = None
    digest: bytes | None = None
    reward: float | None = None


class Record(msgspec.Struct, gc=False):
    """``offset`` is where it was read, ``following`` where reading resumes; ``time`` is in Unix seconds, or None."""

    topic: str
    partition: str
    offset: int
    following: int
    value: bytes | None
    time: float | None = None
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] | None = None
    joined: Joined | None = None


def counts(record: Record) -> bool:
    """Tell whether an event is learnt here for the first time; one that was learnt as no may be spoken of again."""
    return record.joined is None or record.joined.mode in COUNTED
