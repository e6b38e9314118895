"""What the HTTP door takes, as JSON schemas for ``/docs``: exactly that, by the configuration's own names."""

from typing import Any

from learners.labels import FLOAT32_MAX
from stream.config import Config

_NUMBER = {"type": "number", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX}
_SCALARS: list[dict[str, Any]] = [_NUMBER, {"type": "string"}, {"type": "boolean"}, {"type": "null"}]
_NAMES = {"pattern": "^[^_.]+$"}
_GROUP = {"type": "object", "propertyNames": _NAMES, "additionalProperties": {"anyOf": _SCALARS}}
_FEATURES = {
    "type": "object",
    "propertyNames": _NAMES,
    "additionalProperties": {"anyOf": [*_SCALARS, _GROUP]},
    "examples": [{"amount": 12.5, "country": "de", "user": {"age": 31}}],
}
_IDENTITIES: list[dict[str, Any]] = [{"type": "string", "minLength": 1}, {"type": "integer"}]


def question() -> dict[str, Any]:
    """One event to predict: features in ``x``, as producers send them."""
    identity = {"anyOf": [*_IDENTITIES, {"type": "null"}]}
    return {"type": "object", "title": "Question", "required": ["x"], "properties": {"id": identity, "x": _FEATURES}}


def questions(config: Config) -> dict[str, Any]:
    """Several events to predict."""
    instances = {"type": "array", "items": question(), "maxItems": config.serve.max_instances}
    return {"type": "object", "title": "Questions", "required": ["instances"], "properties": {"instances": instances}}


def event(config: Config) -> dict[str, Any]:
    """One event as producers send it to Kafka; the names of its fields are those of ``[event]``."""
    paths = config.event
    fields = {paths.id: {"anyOf": _IDENTITIES}, paths.label: _label(config), paths.time: _time(config)}
    if config.weight_path:
        fields[config.weight_path] = {"anyOf": [{**_NUMBER, "minimum": 0}, {"type": "null"}]}
    required = [paths.id]
    if paths.features != ".":
        fields[paths.features] = _FEATURES
        required.append(paths.features)
    return {"type": "object", "title": "Event", "required": required, "properties": fields}


def _label(config: Config) -> dict[str, Any]:
    """The labels of the task; null is an event without one."""
    event_, nothing = config.event, {"type": "null"}
    if config.task == "regression":
        return {"anyOf": [_NUMBER, nothing]}
    known = list(event_.labels)
    if config.task == "binary":
        known = [event_.positive]
        if event_.negative is not None:
            known.append(event_.negative)
        elif event_.positive in (1, True, "1"):
            known.append(0)
    return {"enum": [*known, None]} if known else {"anyOf": [{"type": "string"}, _NUMBER, nothing]}


def _time(config: Config) -> dict[str, Any]:
    """Seconds or milliseconds, or ISO 8601, as ``event.time_format`` says."""
    number = {"type": "number", "minimum": 0, "maximum": 1_700_000_000}
    text = {"type": "string", "format": "date-time", "pattern": "^20[01]\\d-", "examples": ["2019-11-28T03:00:00Z"]}
    formats: dict[str, list[dict[str, Any]]] = {"iso": [text], "s": [number], "ms": [number]}
    kinds = formats.get(config.event.time_format, [number, text])
    return {"anyOf": [*kinds, {"type": "null"}]}
