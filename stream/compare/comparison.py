"""The comparison itself: labelled events are read from the source, and both sides scored on those that both know."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from learners.event import Event, Prediction, Task, slices_of
from learners.evidence.losses import losses
from learners.evidence.paired import Paired
from stream.compare.sides import Side
from stream.record import Record
from stream.refusal import Refusal
from stream.source.codec import Codec
from stream.source.source import Source

_LOT = 1000


class Comparison(msgspec.Struct):
    """Losses of two sides on the same events so far; ``by`` names the features whose values are slices."""

    task: Task
    sides: tuple[Side, Side]
    by: Sequence[str]
    scale: float = 1.0
    paired: Paired = msgspec.field(default_factory=lambda: Paired(0.0))
    seen: int = 0
    sums: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])

    def take(self, pairs: Sequence[tuple[Event, Prediction, Prediction]]) -> None:
        """Score events that both sides know."""
        labels = [event.label for event, _, _ in pairs]
        one = losses(self.task, labels, [said for _, said, _ in pairs], self.scale)
        other = losses(self.task, labels, [said for _, _, said in pairs], self.scale)
        slices = [slices_of(event.features, self.by) for event, _, _ in pairs] if self.by else None
        self.paired.update(one, other, slices)
        self.sums[0] += float(np.sum(one))
        self.sums[1] += float(np.sum(other))

    def figures(self) -> dict[str, Any]:
        """Loss of the first minus that of the second, with intervals that hold together at 95 %."""
        found = self.paired.figures_together(0.05)
        loss_a, loss_b = (total / found["events"] if found["events"] else None for total in self.sums)
        a, b = (side.name for side in self.sides)
        return {"a": a, "b": b, "labelled": self.seen, "loss_a": loss_a, "loss_b": loss_b, **found}


def compared(
    comparison: Comparison, source: Source, codec: Codec, since: float, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Read all labelled events from ``since`` on (Unix seconds) to where the source ends now, and score both sides."""
    source.open(source.resolve(), {})
    source.mark_end()
    pairs: list[tuple[Event, Prediction, Prediction]] = []
    read = 0
    while not source.ended():
        records = source.poll(_LOT)
        read += len(records)
        progress(read)
        for record in records:
            event = _labelled(record, codec)
            if event is None or event.time < since:
                continue
            comparison.seen += 1
            served = record.joined.served if record.joined is not None else None
            one, other = (side.said(event, served) for side in comparison.sides)
            if one is not None and other is not None:
                pairs.append((event, one, other))
        if len(pairs) >= _LOT:
            comparison.take(pairs)
            pairs = []
    if pairs:
        comparison.take(pairs)
    return comparison.figures()


def _labelled(record: Record, codec: Codec) -> Event | None:
    """The event of a record once its label is certain."""
    if record.joined is not None:
        settled = record.joined.mode not in (None, "negative") and not record.joined.asked
        return record.joined.event if settled else None
    event = codec.decode(record)
    return event if not isinstance(event, Refusal) and event.label is not None else None
