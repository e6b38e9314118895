"""Bytes to what is joined: an event from the source, an answered request from the log of predictions, or a label."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from learners.event import Event, Prediction
from learners.labels import Labels, UnknownLabelError
from stream.record import Record, Served
from stream.refusal import Reason, Refusal
from stream.source.codec import Codec

Kind: TypeAlias = Literal["events", "predictions", "labels"]


class Decoded(msgspec.Struct, gc=False):
    """What one record is. ``digest``: the id's keyed hash, ``key`` 64 bits of it; 0 where the record is refused."""

    event: Event | Refusal
    digest: bytes = b""
    key: int = 0
    is_label: bool = False
    served: Served | None = None


class LoggedShadow(msgspec.Struct, omit_defaults=True):
    """What the other one of a roll-out said to the same request, after the answer had left; or why it could not."""

    route: str
    learner: str
    snapshot: int
    ms: float
    prediction: bool | int | float | str | None = None
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    error: str = ""


class LoggedPrediction(msgspec.Struct, omit_defaults=True):
    """One answered request: the features as they were asked, what was answered, and by whom.

    ``ts`` in Unix seconds. ``propensity`` is the probability with which ``route`` was chosen. ``rollout`` is the ledger
    entry of the roll-out that was under way, 0 when there was none.
    """

    id: str | int
    ts: float
    x: msgspec.Raw
    prediction: bool | int | float | str | None
    learner: str
    snapshot: int
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    route: str = "champion"
    propensity: float = 1.0
    rollout: int = 0
    shadow: LoggedShadow | None = None


_logged = msgspec.json.Decoder(LoggedPrediction)
_when = msgspec.json.Decoder(msgspec.defstruct("When", [("ts", float)]))


class Decoder:
    """Decodes by the topic that a record came from; ``kinds`` says what each holds.

    ``labels_codec`` knows the fields of labels by themselves, ``digest`` is the lineage's keyed hash of an id.
    """

    def __init__(
        self, kinds: dict[str, Kind], codec: Codec, labels_codec: Codec, labels: Labels, digest: Callable[[str], bytes]
    ) -> None:
        self._kinds, self._codec, self._labels_codec = kinds, codec, labels_codec
        self._labels, self._digest = labels, digest

    def time_of(self, record: Record) -> float | None:
        """The time of a record, by which it is put in order: its own, but never after the broker had it."""
        match self._kinds[record.topic]:
            case "labels":
                return _not_ahead(self._labels_codec.time_of(record), record.time)
            case "events":
                return _not_ahead(self._codec.time_of(record), record.time)
        try:
            found: Any = _when.decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return record.time
        return _not_ahead(found.ts if found.ts >= 0 else None, record.time)

    def decode(self, record: Record) -> Decoded:
        """What a record is."""
        kind, served = self._kinds[record.topic], None
        if kind == "labels":
            found = self._labels_codec.label_of(record)
        elif kind == "events":
            found = self._codec.decode(record)
        else:
            found, served = self._prediction(record)
        if isinstance(found, Refusal):
            return Decoded(found, is_label=kind == "labels")
        digest = self._digest(found.id)
        return Decoded(found, digest, key_of(digest), kind == "labels", served)

    def _prediction(self, record: Record) -> tuple[Event | Refusal, Served | None]:
        value = record.value
        if value is None:
            return Refusal(Reason.TOMBSTONE, "", "the record has no value"), None
        try:
            found = _logged.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
            return Refusal(Reason.NOT_JSON, "", f"not a logged prediction: {cause}"), None
        features = self._codec.features_of(bytes(found.x))
        if isinstance(features, Refusal):
            return features, None
        return Event(str(found.id), features, None, 1.0, found.ts), self._served(found)

    def _served(self, found: LoggedPrediction) -> Served:
        """What was answered, with the numbers of classes; a class that is not known here is no opinion."""
        shadow = found.shadow
        if shadow is None or shadow.error:
            return Served(
                found.learner, found.snapshot, self._said(found), found.route, found.rollout,
                propensity=found.propensity,
            )  # fmt: skip
        return Served(
            found.learner, found.snapshot, self._said(found), found.route, found.rollout, self._said(shadow),
            shadow.learner, shadow.snapshot, found.propensity,
        )  # fmt: skip

    def _said(self, found: LoggedPrediction | LoggedShadow) -> Prediction:
        value: Any = found.prediction
        chances: dict[int, float] | None = None
        if self._labels.task == "multiclass":
            try:
                value = None if value is None else self._labels.number_of(value)
                if found.probabilities is not None:
                    chances = {self._labels.number_of(name): chance for name, chance in found.probabilities.items()}
            except UnknownLabelError:
                value, chances = None, None
        return Prediction(value, found.probability, chances)


def _not_ahead(time: float | None, recorded: float | None) -> float | None:
    """A record whose own time lies ahead must not pull the time of the whole stream ahead."""
    return time if recorded is None else recorded if time is None else min(time, recorded)


def key_of(digest: bytes) -> int:
    """64 bits of a keyed hash."""
    return int.from_bytes(digest[-8:], "big", signed=True)
