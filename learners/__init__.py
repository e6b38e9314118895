"""What learns: events in, predictions out. No Kafka, no HTTP, no clock, no disk of its own."""

from learners.errors import LearnersError, StateRefusedError
from learners.event import Event, Features, Prediction
from learners.learner import Learner
from learners.metrics import Metrics
from learners.prequential import learn

__all__ = ["Event", "Features", "Learner", "LearnersError", "Metrics", "Prediction", "StateRefusedError", "learn"]
