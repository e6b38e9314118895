"""Which events are scored for comparisons as well: every so-many-th, as many as the learners have time for."""

import contextlib
from collections.abc import Callable, Iterator

#: share of a learner's time that comparisons may cost; asking about an event costs about what learning it costs
_COST = 0.05
_STRIDES = (1, 2, 5, 10, 20)
_WINDOW_SECONDS = 1.0


class Sampling:
    """Every :attr:`stride`-th event is scored: with a fixed ``share``, or (None) by how busy the trainer is.

    It is busy when it does not wait for events. On a slow stream every event is scored, and the guard sees as much as
    there is to see; one that is read as fast as it can be has every twentieth scored. ``elapsed`` is in seconds.
    """

    def __init__(self, share: float | None, elapsed: Callable[[], float]) -> None:
        self.stride = _STRIDES[-1] if share is None else max(1, round(1 / share))
        self._follows, self._elapsed = share is None, elapsed
        self._began, self._waited = elapsed(), 0.0

    def of(self, before: int) -> slice:
        """Which events of a lot are scored, when so many came before it: every ``stride``-th of the stream."""
        return slice(-before % self.stride, None, self.stride)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around waiting for events."""
        began = self._elapsed()
        yield
        now = self._elapsed()
        self._waited += now - began
        if now - self._began >= _WINDOW_SECONDS:
            busy = 1 - self._waited / (now - self._began)
            if self._follows:
                self.stride = next((one for one in _STRIDES if one * _COST >= busy), _STRIDES[-1])
            self._began, self._waited = now, 0.0
