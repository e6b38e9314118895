"""Errors of the package ``learners``.

::

    LearnersError
    ├── FactoryRefusedError     a River factory that cannot be imported, built, saved and loaded again
    ├── ArgumentsRefusedError   Vowpal Wabbit arguments that are unsafe, wrong or outside the task
    ├── TrialTooSlowError       a trial of arguments that did not answer: the machine is slow, or they hang
    ├── UnsafeStateError        a pickle that names something outside the allow-list
    ├── StateRefusedError       model or metric bytes that do not load, or were written by another version
    ├── BudgetUsedUpError       a full retrain that would need more time than its budget leaves
    ├── BaselineMissingError    a baseline that is to answer is not there
    └── LearnerRaisedError      a learner raised while predicting or learning; it is no longer what it was
"""


class LearnersError(Exception):
    """Base of every error that this package raises on purpose."""


class FactoryRefusedError(LearnersError):
    """A River factory that cannot be used; the message says why and what to change."""


class ArgumentsRefusedError(LearnersError):
    """Vowpal Wabbit arguments that cannot be used; the message names the argument."""


class TrialTooSlowError(LearnersError):
    """A trial of Vowpal Wabbit's arguments did not answer; it is worth another try."""


class UnsafeStateError(LearnersError):
    """A pickle names a global outside the allow-list; nothing of it was executed."""


class StateRefusedError(LearnersError):
    """Saved state that this installation cannot load; the message says the way out."""


class BudgetUsedUpError(LearnersError):
    """Training was cut off before its first epoch was done; the message says how many seconds were left."""


class BaselineMissingError(LearnersError):
    """onnxruntime is not installed, so that no baseline can be asked."""


class LearnerRaisedError(LearnersError):
    """A learner raised while predicting or learning ``event_id``; its state can no longer be trusted."""

    def __init__(self, learner: str, event_id: str, cause: BaseException) -> None:
        super().__init__(f"learner {learner} raised {type(cause).__name__} on event {event_id!r}: {cause}")
        self.learner = learner
        self.event_id = event_id
