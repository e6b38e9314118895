"""Errors of the package ``stream``.

::

    StreamError
    ├── ConfigError         the configuration cannot be used; the message names the key and what to write
    ├── SourceError         the source can be read no further without losing events
    │   └── SourceLostError  events before the place are gone: truncated, rewritten, or deleted by retention
    ├── SourceAwayError     the source is briefly away; the offset stays, and it is tried again
    ├── TooLargeError       the broker will never take an event of this size
    ├── RaisedAtError       a learner raised at an event; the trainer starts again from its newest snapshot
    ├── GaveUpError         the process is asked to end while it waits; no snapshot is written, nothing is lost
    └── CommandError        a command cannot do what was asked; nothing was changed
"""

from stream.record import Record


class StreamError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(StreamError):
    """The configuration cannot be used."""


class SourceError(StreamError):
    """The source cannot be read on."""


class SourceLostError(SourceError):
    """Events that the place points at are gone; the message says which range."""


class SourceAwayError(StreamError):
    """The source cannot be reached just now."""


class TooLargeError(StreamError):
    """An event is larger than the broker ever takes."""


class RaisedAtError(StreamError):
    """A learner raised at the event that came in ``origin``; ``error`` says what. ``for_good``: it always will."""

    def __init__(self, learner: str, origin: Record, error: str, *, for_good: bool = False) -> None:
        super().__init__(
            f"learner {learner} raised at {origin.topic}[{origin.partition}] offset {origin.offset}: {error}"
        )
        self.learner, self.origin, self.error, self.for_good = learner, origin, error, for_good


class GaveUpError(StreamError):
    """Asked to end while waiting for the world; what was not finished comes again after the next start."""


class CommandError(StreamError):
    """A command cannot do what was asked."""
