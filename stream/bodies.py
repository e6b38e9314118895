"""What callers send, as models: FastAPI checks by them, ``/docs`` shows them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Question(BaseModel):
    """One event to predict: features in ``x``, as producers send them."""

    id: str | int | None = None
    x: dict[str, Any] = Field(examples=[{"amount": 12.5, "country": "de"}])


class Questions(BaseModel):
    """Several events to predict."""

    instances: list[Question]


class EventBody(BaseModel):
    """One event as producers send it to Kafka; the names of its fields are those of ``[event]``."""

    id: str | int
    x: dict[str, Any] = Field(examples=[{"amount": 12.5, "country": "de"}])
    y: str | float | bool | None = None
    ts: str | float | None = None
    w: float | None = None


class RevertRequest(BaseModel):
    """Which learner to put back, and to which snapshot; without one, to the passing one before what serves."""

    model_config = ConfigDict(extra="forbid", strict=True)
    learner: str | None = None
    snapshot: int | None = Field(None, ge=0)
    why: str = Field("", max_length=1000)
    stay: bool = False


class Problem(BaseModel):
    """Why a request is not answered as it was asked."""

    detail: str
    field: str | None = None
    reason: str | None = None
