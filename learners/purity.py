"""Promise 5 once more, on the first real events: the trial at the start had only rows that were made up.

What learns while it is asked may do so only with features of a certain name, and those come with the stream.
"""

from collections.abc import Sequence

from learners.errors import FactoryRefusedError
from learners.event import Event, Features
from learners.learner import Learner

#: what to say of a model that is not the same after it was asked
CHANGED = (
    "is changed by being asked, so what is served would depend on who asked before. Move what learns during "
    "prediction out of the pipeline, or choose another model"
)
#: after how many events it is looked at, and how many of them are asked
_LOOKS, _ASKED = (1, 1000), 30


class Purity:
    """Looks at a River learner after its first events; Vowpal Wabbit's trial does not depend on names."""

    def __init__(self, learner: Learner, name: str) -> None:
        self._learner, self._name = learner, name
        self._learnt = 0
        self._looks = list(_LOOKS) if learner.kind == "river" else []

    def look(self, events: Sequence[Event]) -> None:
        """Ask a copy of the learner, which has learnt these events; raise when that changes the copy.

        :class:`FactoryRefusedError` says so. Nothing that was learnt since the last snapshot may be saved then.
        """
        if not self._looks:
            return
        self._learnt += len(events)
        if self._learnt < self._looks[0]:
            return
        del self._looks[0]
        if changes(self._learner, [event.features for event in events[:_ASKED]]):
            raise FactoryRefusedError(f"learners.{self._name}: its first events show that the model {CHANGED}")


def changes(learner: Learner, asked: Sequence[Features]) -> bool:
    """Tell whether a copy of the learner is another, or answers otherwise, after it was asked."""
    copied = learner.load(learner.save())
    before = copied.state()
    first, again = ([_answer(copied, row) for row in asked] for _ in range(2))
    return first != again or copied.state() != before


def _answer(learner: Learner, row: Features) -> str:
    try:
        return repr(learner.predict(row))
    except Exception as cause:
        return repr(cause)
