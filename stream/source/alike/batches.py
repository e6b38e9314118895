"""Batches of records as events: what looks like the records before is read by a template, the rest by the codec."""

import contextlib
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec

from learners.event import Event
from learners.labels import FLOAT32_MAX
from stream.record import Record
from stream.refusal import Refusal
from stream.source.alike.template import AVAILABLE, Template
from stream.source.codec import Codec

_scalar = msgspec.json.Decoder(int | float | str | bool | None)
#: fewer records than this are not worth being read together; values of labels that are remembered as they are written
_MANY, _LABEL_VALUES = 16, 1000
#: how many times a template is made for events that look otherwise than before; a stream of many shapes soon stops
_TEMPLATES = 32
_NOTHING = b""
_UNUSUAL = object()


class BatchCodec:
    """Decodes batches as :class:`Codec` decodes each record of them.

    ``after`` so many records it reads what looks alike together: the loop for that takes memory and half a second to
    load, which a stream of few events would never win back.
    """

    def __init__(self, codec: Codec, after: int = 5000) -> None:
        self._codec, paths = codec, codec.paths
        self._template: Template | None = None
        self._templates_left = _TEMPLATES if codec.usual and AVAILABLE else 0
        self._fields = {paths.id: "id", paths.time: "time", paths.label: "label", codec.weight: "weight"}
        self._fields[paths.features] = "features"
        self._alone = after

    def decode_many(self, records: Sequence[Record]) -> list[Event | Refusal]:
        """What :meth:`Codec.decode` makes of records that no join saw; those that all look alike are read together."""
        self._alone -= len(records)
        if not self._templates_left or len(records) < _MANY or self._alone >= 0:
            return [self._codec.decode(record) for record in records]
        if self._template is None:
            plain = [self._codec.decode(record) for record in records]
            self._learn_template(records, plain)
            return plain
        columns = self._template.read([record.value or _NOTHING for record in records])
        labels: dict[bytes | None, Any] = {None: None}  # of this batch: the next one may begin with other classes
        most = self._codec.paths.max_bytes
        found, strangers = list[Event | Refusal](), 0
        for record, good, identity, features, written, time, weight in zip(
            records, columns.good, columns.identities, columns.features, columns.labels,
            self._times_of(columns.times, records), columns.weights or repeat(1.0, len(records)), strict=True,
        ):  # fmt: skip
            label: Any = _UNUSUAL
            if (
                good
                and identity
                and time is not None
                and 0 <= weight <= FLOAT32_MAX
                and len(record.value or _NOTHING) <= most
            ):
                label = labels[written] if written in labels else self._label_read(written, labels)
            if label is _UNUSUAL:
                strangers += 1
                found.append(self._codec.decode(record))
            else:
                found.append(Event(identity, features, label, weight, time or 0.0))
        if strangers > len(found) // 2:
            self._learn_template(records, found)
        return found

    def _label_read(self, written: bytes | None, labels: dict[bytes | None, Any]) -> Any:
        """The label that is written so, as it is numbered when its turn comes."""
        try:
            label = self._codec.labels.label_of(_scalar.decode(written or b""))
        except (msgspec.DecodeError, ValueError, OverflowError):  # the general way finds the reason
            return _UNUSUAL
        if len(labels) < _LABEL_VALUES:
            labels[written] = label
        return label

    def _times_of(self, read: Sequence[float | str] | None, records: Sequence[Record]) -> Sequence[float | None]:
        """The time of each event, in Unix seconds; None where it is not usual."""
        if read is None:
            return [record.time or 0.0 for record in records]
        return [self._time_read(time, record.time) for time, record in zip(read, records, strict=True)]

    def _time_read(self, time: float | str, recorded: float | None) -> float | None:
        try:
            return self._codec.usual_time(time, recorded)
        except (ValueError, OverflowError):
            return None

    def _learn_template(self, records: Sequence[Record], found: Sequence[Event | Refusal]) -> None:
        """Take the shape that the last two events have, where it is the same one."""
        values = [
            record.value for record, one in zip(records, found, strict=True)
            if record.value is not None and isinstance(one, Event)
        ][-2:]  # fmt: skip
        self._template = None
        if len(values) < 2:
            return
        self._templates_left -= 1
        with contextlib.suppress(ValueError):
            made, other = (Template(value, self._fields) for value in values)
            if made.key == other.key and made.suits(self._codec.paths.types):
                self._template = made
