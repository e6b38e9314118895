"""Test-then-train: predict the event, score the prediction, then learn from it. The one caller of ``step``."""

from collections.abc import Iterable, Iterator

from learners.errors import LearnerRaisedError
from learners.event import Event, Features, Prediction
from learners.learner import Learner
from learners.metrics import Metrics


def opinion(learner: Learner, features: Features) -> Prediction:
    """Predict, and take an exception for no opinion: what some events ask is no fault of what was learnt."""
    try:
        return learner.predict(features)
    except Exception:
        return Prediction(None)


def learn(
    learner: Learner, events: Iterable[Event], metrics: Metrics | None = None, name: str = "learner"
) -> Iterator[tuple[Event, Prediction]]:
    """Drive one learner over labelled events, yielding each with the prediction made before learning it.

    Needs no configuration, store or server, so it serves a notebook as it serves the trainer::

        for event, prediction in learn(learner, events):
            ...

    ``metrics``, when given, is told of every event before the learner has learnt it. Raises
    :class:`LearnerRaisedError` when the learner does; the learner is then no longer what it was.
    """
    for event in events:
        if event.label is None:
            raise ValueError(f"event {event.id!r} has no label; only labelled events can be learnt")
        try:
            prediction = learner.step(event)
        except Exception as cause:
            raise LearnerRaisedError(name, event.id, cause) from cause
        if metrics is not None:
            metrics.update([event], [prediction])
        yield event, prediction


def learn_batch(learner: Learner, events: Iterable[Event], said: list[Prediction], name: str = "learner") -> None:
    """Drive one learner over events, many at once where it can; ``said`` gets what was predicted of each.

    An event without a label is only asked about, and an exception there is no opinion. Raises
    :class:`LearnerRaisedError` as :func:`learn` does; ``said`` is then as long as what was learnt before.
    """
    many = getattr(learner, "learn_many", None)
    if many is None or not isinstance(events, list):
        for event in events:
            if event.label is None:
                said.append(opinion(learner, event.features))
            else:
                said.extend(prediction for _, prediction in learn(learner, [event], name=name))
        return
    begin = len(said)
    try:
        many(events, said)
    except Exception as cause:
        raise LearnerRaisedError(name, events[len(said) - begin].id, cause) from cause
