"""What is answered over HTTP, as models: ``/docs`` and ``/openapi.json`` show them, no answer is made by them."""

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from snapshots.decisions.ledger import Entry
from stream.serve.http.requests import Problem

_CODES = {
    400: "the body is not JSON, or the header Host names another service",
    401: "the bearer token is missing or wrong",
    403: "this is off: there is no token for it",
    408: "the request did not come whole within serve.quiet_seconds, or serve.request_seconds",
    409: "refused, and nothing was changed; the detail says why",
    413: "larger than serve.max_bytes or serve.max_instances",
    422: "the body is not what belongs here; field and reason say what is wrong",
    500: "a fault of this service; its log says which",
    503: "not now; the detail says why",
}
Responses = dict[int | str, dict[str, Any]]
_Offsets = dict[str, dict[str, int]]


class Predicted(BaseModel):
    """One prediction: binary yes or no with its probability, a class with those of all, or a number."""

    id: str | int | None
    prediction: bool | int | float | str | None
    probability: float | None = Field(None, ge=0, le=1)
    probabilities: dict[str, float] | None = None
    learner: str
    snapshot: int = Field(ge=0)
    route: str
    propensity: float = Field(gt=0, le=1)


class PredictedTogether(BaseModel):
    """As many predictions as instances, in their order, all by one snapshot."""

    predictions: list[Predicted]


class Taken(BaseModel):
    """Where an event is, now that it is durable."""

    topic: str
    partition: str | int
    offset: int = Field(ge=0)


class TakenTogether(BaseModel):
    """How many labels are durable now: all that were sent."""

    taken: int = Field(ge=0)


class Alive(BaseModel):
    """The process answers."""

    status: str


class Unjudged(BaseModel):
    """How many snapshots wait for a verdict, and for how long the oldest of them."""

    snapshots: int
    seconds: float


class Ready(BaseModel):
    """What answers, and how old it is. ``learning`` is the state of the trainer, which answering needs nothing of."""

    ready: bool
    learner: str
    snapshot: int
    snapshot_age_seconds: float
    unjudged: Unjudged
    learning: str | None = None
    learning_why: str | None = None
    store: str | None = None


class NotReady(BaseModel):
    """Nothing can be answered yet; ``why`` says what is missing."""

    ready: bool
    why: str


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class SourceState(BaseModel):
    """How the source is read; ``unit`` is that of ``lag``, ``rate`` is in events a second."""

    state: str
    why: str
    lag: int | None
    unit: str
    rate: float | None
    seconds_left: float | None


class Counts(BaseModel):
    """The classes of events: ``consumed`` is the sum of all others."""

    consumed: int
    learnt: int
    held_out: int
    dead_lettered: int
    quarantined: int
    duplicate: int
    unlabelled: int


class LearnerState(_Open):
    """One learner in the newest snapshot."""

    kind: str
    role: str
    snapshot: int
    serving: int | None
    line: int
    events: Counts
    accounting_difference: int
    metrics: dict[str, float | None]
    recent: dict[str, float | None]
    verdict: str | None
    why: str | None
    breaker: str
    learning: str


class ServingProcess(BaseModel):
    """A process that answers, and from what."""

    host: str
    pid: int
    port: int
    learner: str | None
    snapshot: int | None
    age_seconds: float | None


class RollOut(_Open):
    """The newest roll-out: shadow, canary, paused, champion or aborted; null when there was none."""

    state: str | None
    candidate: str | None
    share: float = Field(ge=0, le=100)
    why: str


class Status(_Open):
    """The lineage as its store has it."""

    name: str
    task: str
    snapshot: int | None
    created: float | None
    place: _Offsets
    learners: dict[str, LearnerState]
    source: SourceState
    refused: dict[str, int]
    holdout: dict[str, Any]
    baseline: dict[str, Any] | None
    retrain: dict[str, Any]
    serving: list[ServingProcess]
    guard: list[dict[str, Any]]
    wall: dict[str, str]
    store: dict[str, Any]
    damaged: dict[str, str]


class SnapshotRow(_Open):
    """One learner of one snapshot; of a damaged one only its number is known."""

    learner: str | None
    snapshot: int
    created: float | None
    learnt: int | None
    place: _Offsets | None
    line: int | None
    verdict: str | None
    why: str | None
    serving: bool
    pinned: bool
    bytes: int | None
    sha256: str | None


def decision() -> dict[str, Any]:
    """The schema of an entry of the ledger, from what the ledger itself is read and written by."""
    found: dict[str, Any] = msgspec.json.schema(Entry)["$defs"]["Entry"]
    return found


def responses_of(*codes: int) -> Responses:
    """What FastAPI wants to know of the ways in which a request is not answered as asked."""
    return {code: {"model": Problem, "description": _CODES[code]} for code in codes}


def answer_of(model: Any, code: int = 200) -> Responses:
    """The answer when all is well, as a model."""
    return {code: {"model": model, "description": "done"}}


def answer_as(schema: dict[str, Any]) -> Responses:
    """The same, as a schema."""
    return {200: {"description": "done", "content": {"application/json": {"schema": schema}}}}


def ready_or_not() -> Responses:
    """What ``/ready`` answers: its 503 says what is missing, or that there are too many connections."""
    refused = {503: {"model": NotReady | Problem, "description": "not yet: why says what is missing"}}
    return answer_of(Ready) | responses_of(400, 408, 500) | refused
