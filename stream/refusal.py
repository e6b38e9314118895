"""Why an event is refused: one list for the codec, the dead letters, the counters, ``/predict`` and the docs."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Each reason, with what it means. The value is the counter's label and the dead letter's class."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    DUPLICATE_NAME = "duplicate_name"
    RESERVED_NAME = "reserved_name"
    NO_ID = "no_id"
    NO_FEATURES = "no_features"
    BAD_NUMBER = "bad_number"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_LABEL = "unknown_label"
    BAD_WEIGHT = "bad_weight"
    BAD_REWARD = "bad_reward"
    BAD_TIME = "bad_time"
    UNDECODABLE = "undecodable"


MEANING: dict[Reason, str] = {
    Reason.TOMBSTONE: "the record has no value",
    Reason.TOO_LARGE: "the record is larger than event.max_bytes",
    Reason.NOT_JSON: "the value is not JSON in UTF-8",
    Reason.NOT_AN_OBJECT: "the value is JSON, but not an object",
    Reason.TOO_DEEP: "features are nested more than one level deep",
    Reason.DUPLICATE_NAME: "a name occurs twice in one object, or twice once nested names are dotted",
    Reason.RESERVED_NAME: "a feature's name begins with an underscore",
    Reason.NO_ID: "there is no id",
    Reason.NO_FEATURES: "there are no features at event.features",
    Reason.BAD_NUMBER: "a number is not finite or outside float32",
    Reason.WRONG_TYPE: "a value has a type that cannot be there, or another than event.types says",
    Reason.UNKNOWN_LABEL: "the label is none that the task or event.labels knows",
    Reason.BAD_WEIGHT: "the weight is not a finite number of at least 0",
    Reason.BAD_REWARD: "the reward is not a number within routing.rewards",
    Reason.BAD_TIME: "the time is not a time, or is out of range",
    Reason.UNDECODABLE: "the configured decoder raised",
}


def counted(refused: Mapping[str, int]) -> str:
    """How many were refused for each reason, the commonest first.

    >>> counted({"not_json": 1, "no_id": 1200, "too_deep": 0})
    '1,200 no_id, 1 not_json'
    """
    found = sorted(refused.items(), key=lambda one: -one[1])
    return ", ".join(f"{count:,} {reason}" for reason, count in found if count)


class Refusal(msgspec.Struct, frozen=True):
    """Why an event is refused, in which field, in words."""

    reason: Reason
    field: str
    message: str


class RefusedEventError(ValueError):
    """Carries a refusal out of the codec's inner steps."""

    def __init__(self, reason: Reason, field: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, field, message)
