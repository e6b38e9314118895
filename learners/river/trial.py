"""What a fresh River model must show before it learns a stream, on plain rows of the task's own kind.

It learns something, its predictions change nothing (promise 5), and it can do what the task needs.
"""

import contextlib
import inspect
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from river import base, neighbors
from river.active.base import ActiveLearningClassifier

from learners.event import Features, Prediction, Task
from learners.labels import Labels, UnknownLabelError
from learners.learnability import Lesson
from learners.purity import CHANGED
from learners.river.canonical import canonical_state
from learners.river.learner import RiverLearner, takes_weights
from learners.river.structure.parts import final, parts

_ROWS, _ASKED = 300, 20
_NAMES = ["a", "b", "c"]
_OTHER_ANSWERS = (base.MultiTargetRegressor, base.MultiLabelClassifier, ActiveLearningClassifier)
#: how many features a model may ask for by name before its rows are thought to be of another kind
_MOST_NAMES = 64


def unsuited(model: Any, task: Task) -> str:
    """Why the model cannot do the task, as it says itself; empty when it can."""
    last = final(model)
    kind = type(last).__name__
    wanted = base.Regressor if task == "regression" else base.Classifier
    if not isinstance(last, wanted):
        return f"gave {_named(model)}; task {task!r} needs a river {wanted.__name__}"
    if isinstance(last, _OTHER_ANSWERS):
        return (
            f"gave a {kind}, which answers several targets at once, or whether it wants a label; neither is a task here"
        )
    if task == "multiclass" and not last._multiclass:  # noqa: SLF001  River's own word for it
        return (
            f"gave a {kind}, which tells two classes apart and no more; for task 'multiclass' write "
            f"multiclass.OneVsRestClassifier({kind}(...)) or take a classifier for several classes"
        )
    if any(isinstance(one, neighbors.SWINN) for one in parts(model)):
        return (
            f"gave a {kind} that draws from the random numbers of its learning to answer, so that what it learns would "
            "depend on who asked before; write engine=neighbors.LazySearch()"
        )
    return ""


def _named(model: Any) -> str:
    """What a factory gave instead of an estimator, and what to write when that is plain."""
    if inspect.isclass(model):
        return f"the class {model.__name__}, and not one of it: write return {model.__name__}()"
    if model is None:
        return "nothing: end it with return"
    if inspect.isroutine(model):
        return f"the function {model.__name__}, and not what it returns: write return {model.__name__}()"
    return f"a {type(final(model)).__name__}"


def trial(model: Any, labels: Labels) -> str:
    """Teach a fresh model plain rows; say why it is refused, or nothing.

    A model that raises on these rows wants features of its own: its first real events have to tell. Where a pipeline
    learns nothing, its steps may have left nothing of such rows, so its last step is asked alone.
    """
    known = Labels("multiclass", names=list(_NAMES)) if labels.task == "multiclass" else Labels(labels.task)
    reason = _judged(RiverLearner(model, known, fresh=True))
    if reason and reason != CHANGED and final(model) is not model:
        reason = _judged(RiverLearner(final(model), known, fresh=True))
    return reason


def _judged(learner: RiverLearner) -> str:
    """Why a fresh learner is refused after all lessons; empty when one of them taught it something, or none could."""
    fresh, reason = learner.save(), ""
    for lesson in _lessons(learner, learner.labels.task):
        first, twin = (RiverLearner(pickle.loads(fresh), learner.labels, fresh=True) for _ in range(2))  # noqa: S301
        try:
            said = _shown(first, twin, lesson)
        except UnknownLabelError as cause:
            return f"does not do several classes: {cause}"
        except Exception:  # noqa: S112  what it wants is another lesson
            continue
        if said is None:
            return CHANGED
        reason = lesson.learnt(said) if _is_to_learn(final(learner.model)) else ""
        if not reason:
            return ""
    return f"learns nothing: {reason}" if reason else ""


def _is_to_learn(last: Any) -> bool:
    """Whether it is to learn plain rows: a constant is not meant to, and a rule of somebody's own need not."""
    module = type(last).__module__
    return module.startswith("river.") and not module.startswith("river.dummy")


def _lessons(learner: RiverLearner, task: Task) -> Sequence[Lesson]:
    """Rows of numbers and of what the model asks for by name, as texts or as numbers; then with a text beside them."""
    names = _asked_for(learner, task)
    plain = Lesson.of(task, _ROWS, len(_NAMES), texts=(), numbers=names)
    worded = Lesson.of(task, _ROWS, len(_NAMES), texts=names)
    return [*([worded, plain] if names else [plain]), Lesson.of(task, _ROWS, len(_NAMES), texts=("t", *names))]


def _asked_for(learner: RiverLearner, task: Task) -> tuple[str, ...]:
    """Names that the model misses in plain rows, as its KeyErrors tell."""
    names: list[str] = []
    while len(names) < _MOST_NAMES:
        lesson = Lesson.of(task, 2, len(_NAMES), texts=names)
        copied = RiverLearner(pickle.loads(learner.save()), learner.labels, fresh=True)  # noqa: S301  our own
        try:
            for row in lesson.rows:
                copied.step(row)
        except KeyError as cause:
            if not cause.args or not isinstance(cause.args[0], str) or cause.args[0] in names:
                break
            names.append(cause.args[0])
        except Exception:
            break
        else:
            break
    return tuple(names)


def _shown(learner: RiverLearner, twin: RiverLearner, lesson: Lesson) -> list[Prediction] | None:
    """What it answered before it learnt each row; None when its predictions change it.

    The twin was asked before it learnt anything, and has to become the same.
    """
    with contextlib.suppress(KeyError):
        twin.predict(Features.of({"other": 1.0}))
    twin.predict(lesson.rows[-1].features)
    said = []
    for row in lesson.rows:
        said.append(learner.step(row))
        twin.step(row)
    before = learner.state()
    asked = [row.features for row in lesson.rows[:_ASKED]]
    same = [repr(learner.predict(row)) for row in asked] == [repr(twin.predict(row)) for row in asked]
    return said if same and learner.state() == before else None


def weights_count(build: Callable[[], Any], task: Task) -> bool:
    """Tell whether a weight changes what is learnt. ARF and SRP take one and ignore it."""
    states = set()
    for weight in (1.0, 7.0):
        model = build()
        if not takes_weights(model):
            return False
        for i in range(12):
            x = {"a": math.sin(i), "b": float(i % 3)}
            label: Any = math.cos(i) if task == "regression" else i % 2 == 0
            try:
                model.learn_one(x, label, w=weight)
            except Exception:
                return True  # wants features of its own; trust its signature
        states.add(canonical_state(model))
    return len(states) > 1
