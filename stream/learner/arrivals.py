"""Scores of events whose labels come later: of what was answered, and of what each learner said on arrival."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from learners.delays import Delays
from learners.event import Event, Prediction
from learners.evidence.losses import losses
from learners.metrics import Metrics
from snapshots.records.manifest import Counts
from stream.join.source import JoinedSource
from stream.learner.process import LearnerProcess
from stream.record import Joined, Served
from stream.settings import Config

_CHAMPION = "champion"
_encode = msgspec.msgpack.Encoder().encode
_predictions_of = msgspec.msgpack.Decoder(dict[str, Prediction]).decode


class _Saved(msgspec.Struct):
    served: dict[str, bytes] = {}
    delayed: dict[str, bytes] = {}
    delays: Delays = msgspec.field(default_factory=Delays)
    gone: int = 0


class _Settled(msgspec.Struct, gc=False):
    event: Event
    slices: list[str] | None
    sequence: int
    arrived: bytes | None


class Arrivals:
    """Takes what learners say of an event when it comes, and scores that when its label does.

    What they say comes a little later, so scores are made when a snapshot is cut; what still waits then is kept by
    ``join``. ``gone`` counts events whose predictions are lost, since the file of what waits was: they are left out of
    the delayed scores. ``compare`` is told the losses of requests that both sides of a roll-out predicted:
    :meth:`learners.evidence.against_champion.AgainstChampion.note_logged`.
    """

    def __init__(
        self, config: Config, learners: Sequence[LearnerProcess], join: JoinedSource | None,
        compare: Callable[..., None],
    ) -> None:  # fmt: skip
        self._config, self._learners, self._join, self._compare = config, learners, join, compare
        self.restore(b"")

    def restore(self, data: bytes) -> None:
        """Take what a snapshot holds."""
        saved = msgspec.msgpack.decode(data, type=_Saved) if data else _Saved()
        self.served = {name: Metrics.load(one) for name, one in saved.served.items()}
        self.delayed = {name: Metrics.load(one) for name, one in saved.delayed.items()}
        self.delays, self.gone = saved.delays, saved.gone
        self._digests: dict[int, bytes] = {}
        self._said: dict[int, dict[str, Prediction]] = {}
        self._settled: deque[_Settled] = deque()
        self._answered: dict[str, tuple[list[Event], list[Prediction], list[list[str]]]] = {}
        self._both: dict[int, list[tuple[Event, Served, list[str]]]] = {}

    def dump(self) -> bytes:
        """What a snapshot holds."""
        if not (self.served or self.delayed or self.delays.counts):
            return b""
        served = {name: one.dump() for name, one in self.served.items()}
        delayed = {name: one.dump() for name, one in self.delayed.items()}
        return _encode(_Saved(served, delayed, self.delays, self.gone))

    def expect(self, joined: Joined) -> None:
        """An event came without its label, and is asked about."""
        self._digests[joined.sequence] = joined.digest or b""

    def settle(self, event: Event, joined: Joined, slices: list[str] | None) -> None:
        """An event has its label now."""
        if joined.sequence >= 0:
            self._settled.append(_Settled(event, slices, joined.sequence, joined.arrived))
        if joined.served is not None:
            events, predictions, names = self._answered.setdefault(joined.served.learner, ([], [], []))
            events.append(event)
            predictions.append(joined.served.prediction)
            names.append(slices or [])
            if joined.served.rollout and joined.served.other is not None:
                self._both.setdefault(joined.served.rollout, []).append((event, joined.served, slices or []))

    def note_delay(self, joined: Joined, slices: list[str] | None) -> None:
        """Count how long a label took."""
        if joined.delay is not None:
            late = bool(joined.moves.get("labels.late"))
            self.delays.note(joined.delay, slices or (), self._config.event.max_slices, late=late)

    def score(self, scale: float = 1.0) -> None:
        """Score everything that has its label, once the learners have said what they were asked.

        ``scale`` is the spread of the labels that errors are measured in (regression).
        """
        for learner in self._learners:
            learner.drain()
            for sequence, prediction in learner.answers():
                self._said.setdefault(sequence, {})[learner.name] = prediction
        self._score_delayed()
        for name, (events, predictions, slices) in self._answered.items():
            self._metrics(self.served, name).update(events, predictions, slices if self._config.event.slices else None)
        self._answered.clear()
        for entry, both in self._both.items():
            self._score_both(entry, both, scale)
        self._both.clear()
        for sequence, said in self._said.items():
            if self._join is not None:
                self._join.note_arrival(sequence, self._digests.get(sequence, b""), _encode(said))
        self._said.clear()
        self._digests.clear()

    def _score_delayed(self) -> None:
        lots: dict[str, tuple[list[Event], list[Prediction], list[list[str]]]] = {}
        for one in self._settled:
            said = self._said.pop(one.sequence, None)
            if said is None and one.arrived is not None:
                said = _predictions_of(one.arrived)
            self.gone += said is None
            for name, prediction in (said or {}).items():
                events, predictions, slices = lots.setdefault(name, ([], [], []))
                events.append(one.event)
                predictions.append(prediction)
                slices.append(one.slices or [])
        self._settled.clear()
        for name, (events, predictions, slices) in lots.items():
            self._metrics(self.delayed, name).update(events, predictions, slices if self._config.event.slices else None)

    def _score_both(self, entry: int, both: list[tuple[Event, Served, list[str]]], scale: float) -> None:
        """Tell the losses of both sides of a roll-out."""
        labels = [event.label for event, _, _ in both]
        candidates, champions = zip(*(_sides(served) for _, served, _ in both), strict=True)
        own, champion = (losses(self._config.task, labels, side, scale) for side in (candidates, champions))
        self._compare(entry, own, champion, [slices for _, _, slices in both] if self._config.event.slices else None)

    def _metrics(self, kind: dict[str, Metrics], name: str) -> Metrics:
        config = self._config
        if name not in kind:
            kind[name] = Metrics(config.task, config.metrics.window, config.event.max_slices)
        return kind[name]

    def figures(self, name: str) -> dict[str, Any]:
        """The scores of one learner, for the manifest."""
        served, delayed = self.served.get(name), self.delayed.get(name)
        return {
            "served": {**served.overall(), "slices": served.by_slice()} if served else None,
            "delayed": {**delayed.overall(), "slices": delayed.by_slice()} if delayed else None,
        }

    def labels(self, counts: Counts) -> dict[str, Any]:
        """How long labels took, for the manifest."""
        if not counts.labels and not self.delays.counts:
            return {}
        baseline = self.served.get("baseline")
        more = {"served_by_baseline": baseline.overall()} if baseline else {}
        return {**self.delays.figures(), "predictions_lost": self.gone, **more}


def _sides(served: Served) -> tuple[Prediction, Prediction]:
    """What the candidate of a roll-out said, and what the champion did."""
    other = served.other or served.prediction
    return (other, served.prediction) if served.route == _CHAMPION else (served.prediction, other)
