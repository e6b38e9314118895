"""The child process that tries Vowpal Wabbit arguments: JSON on standard input, one line of JSON back.

Started by :func:`learners.vw.arguments.trial`, so that arguments that hang, fork or crash do so where it is cheap.
"""

import json
import math
import sys

import msgspec

from learners.event import Event, Features, Label, Prediction, Task, Value
from learners.labels import Labels
from learners.vw.arguments import Trial, classes_of
from learners.vw.learnability import taught

_TYPES = {"binary": {(1, 0)}, "regression": {(1, 0)}, "multiclass": {(2, 4), (2, 1)}}


def _events(task: Task, count: int, classes: int) -> list[Event]:
    """Events with numbers, text, a namespace, and labels whose range keeps growing (regression)."""
    events = []
    for i in range(count):
        few = i % 5
        x: dict[str, Value] = {"a": math.sin(i * 1.7), "b": few, "t": f"v{i % 7}", "u": {"c": math.cos(i * 0.9)}}
        y: Label = {"binary": (i * 7919) % 11 < 5, "multiclass": (i * 7919) % classes, "regression": i * 0.1 - few}[
            task
        ]
        events.append(Event.of(x, y))
    return events


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    try:
        print(json.dumps(tried(question["tokens"], question["task"])))  # noqa: T201  the answer
    except Exception as cause:
        print(json.dumps({"refused": f"{type(cause).__name__}: {cause}"}))  # noqa: T201  the answer


def tried(tokens: list[str], task: Task) -> dict[str, object]:
    """Try the arguments; when they cannot be continued exactly, see whether saving each model's state helps."""
    found = _run(tokens, task)
    if found.get("exact") is False:
        try:
            more = _run([*tokens, "--per_model_save_load"], task)
        except RuntimeError:
            return found
        if more.get("exact"):
            return more
    return found


def _run(tokens: list[str], task: Task) -> dict[str, object]:
    from learners.vw.learner import VwLearner  # noqa: PLC0415  a broken binding is a refusal, not a crash

    classes = classes_of(tokens) or 2
    labels = Labels(task, names=[str(i) for i in range(classes)] if task == "multiclass" else None)
    bare = Trial(
        tokens, one_call=True, exact=True, pure=True, weights=False, probabilities=False, reductions=[], apart=True
    )
    first = VwLearner(bare, labels)
    workspace = first._vw  # noqa: SLF001  the trial looks inside on purpose
    kinds = (int(workspace.get_label_type()), int(workspace.get_prediction_type()))
    reductions = list(workspace.get_enabled_reductions())
    if workspace._is_multiline() or kinds not in _TYPES[task]:  # noqa: SLF001  the same
        return {"refused": f"these arguments ({', '.join(reductions)}) do not predict for task {task}"}
    chances = kinds == (2, 1)

    def fresh(*, one_call: bool, weights: bool) -> VwLearner:
        return VwLearner(
            msgspec.structs.replace(bare, one_call=one_call, weights=weights, probabilities=chances), labels
        )

    weights = True
    try:
        fresh(one_call=True, weights=True).step(_events(task, 1, classes)[0])
    except RuntimeError:
        weights = False
    if reason := taught(fresh(one_call=False, weights=weights), tokens, task, classes):
        return {"refused": reason}
    events = _events(task, 400, classes)
    cheap, full, asked = (fresh(one_call=one, weights=weights) for one in (True, False, False))
    one_call = pure = True
    for event in events:
        served = full.step(event)
        one_call &= _same(cheap.step(event), served)
        asked.predict(Features.of({"a": 3.0, "z": "zz"}))
        pure &= _same(asked.step(event), served)
    half = fresh(one_call=False, weights=weights)
    for event in events[:200]:
        half.step(event)
    again = half.load(half.save())
    for event in events[200:]:
        half.step(event)
        again.step(event)
    return {
        "tokens": tokens,
        "one_call": one_call,
        "exact": half.save() == again.save(),
        "pure": pure,
        "weights": weights,
        "probabilities": chances,
        "reductions": reductions,
        "apart": True,
    }


def _same(left: Prediction, right: Prediction) -> bool:
    return repr(left) == repr(right)
