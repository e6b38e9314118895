"""What callers send, as models: FastAPI checks by them, ``/docs`` shows them."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from learners.labels import FLOAT32_MAX

_NAMES = {"pattern": "^(?!_)"}
_SCALARS: list[dict[str, Any]] = [
    {"type": "number", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX},
    {"type": "string"},
    {"type": "boolean"},
    {"type": "null"},
]
_NESTED = {"type": "object", "propertyNames": _NAMES, "additionalProperties": {"anyOf": _SCALARS}}
#: named numbers (of float32), texts, booleans and nulls, or one level of such; no name begins with an underscore
Features = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": _NAMES,
            "additionalProperties": {"anyOf": [*_SCALARS, _NESTED]},
            "examples": [{"amount": 12.5, "country": "de"}],
        }
    ),
]


def _whole(value: object) -> object:
    """JSON knows no whole numbers: 1.0 is one as well."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Question(BaseModel):
    """One event to predict: features in ``x``, as producers send them."""

    id: str | int | None = None
    x: Features


class Questions(BaseModel):
    """Several events to predict."""

    instances: list[Question]


class EventBody(BaseModel):
    """One event as producers send it to Kafka; the names of its fields are those of ``[event]``."""

    id: Annotated[str, Field(min_length=1)] | int
    x: Features
    y: str | float | bool | None = None
    ts: str | float | None = None
    w: float | None = Field(None, ge=0, le=FLOAT32_MAX)


class LabelBody(BaseModel):
    """The label of an event that came, or was asked about, before; null withdraws the event.

    The names of its fields are those of ``[labels]``.
    """

    id: Annotated[str, Field(min_length=1)] | int
    y: str | float | bool | None
    ts: str | float | None = None
    w: float | None = Field(None, ge=0, le=FLOAT32_MAX)


class RevertRequest(BaseModel):
    """Which learner to put back, and to which snapshot; without one, to the passing one before what serves."""

    model_config = ConfigDict(extra="forbid", strict=True)
    learner: str | None = None
    snapshot: Annotated[int, Field(ge=0, lt=10**12), BeforeValidator(_whole)] | None = None
    why: str = Field("", max_length=1000)
    stay: bool = False


class Problem(BaseModel):
    """Why a request is not answered as it was asked."""

    detail: str
    field: str | None = None
    reason: str | None = None
