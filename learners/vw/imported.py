"""A model that plain Vowpal Wabbit wrote, taken over: it must answer here what it answered there, or it is refused."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from vowpalwabbit import Workspace

from learners.errors import StateRefusedError
from learners.event import Features, Value
from learners.vw import header as headers
from learners.vw import options
from learners.vw.arguments import as_saved, value_of
from learners.vw.learnability import spaces_of
from learners.vw.learner import Namespaces, VwLearner, file_of

log = logging.getLogger("holdfast.learner")
#: Vowpal Wabbit writes this range of labels into a file when these losses were used, and no other then
_WIDE = (-50.0, 50.0)
_WIDE_LOSSES = ("logistic", "poisson")
#: ranges of labels of two classes, and arguments that put another range into the file
_TWO, _BOUNDS = ((0.0, 1.0), (-1.0, 1.0)), {"--min_prediction", "--max_prediction"}
_OTHER_TASK = '; or is it one of numbers, task = "regression"?'
_LOOKED_AT, _WEIGHTS = 200_000, 60
_CLOSE, _ROWS_ASKED = 1e-4, 50
_KSVM = "--ksvm"
_PER_MODEL = "--per_model_save_load"
#: options that change what is answered, and that no file keeps
_UNSAVED = ("l1", "probabilities")


def adopted(learner: VwLearner, data: bytes) -> VwLearner:
    """A learner like this one with the file's model in it.

    Options that decide how a file is read are taken from its header. Raises :class:`StateRefusedError` when the file
    was trained with another loss or other labels, or when the two do not give the same answers, and
    :class:`learners.errors.UnsafeStateError` for a header that does not fit.
    """
    header = headers.parse(data)
    if _KSVM in learner.tokens and _KSVM not in header.options.split():  # Vowpal Wabbit would crash
        raise StateRefusedError(f"the file was trained without {_KSVM}, which the args name; leave it out")
    tokens = as_saved(learner.tokens, header.options.split())
    exact = learner.trial.exact and (_PER_MODEL in tokens or _PER_MODEL not in learner.tokens)
    trial = msgspec.structs.replace(learner.trial, tokens=tokens, exact=exact, apart=False)
    loaded = learner.with_state(data, trial)
    _hold_labels(header, tokens, loaded)
    _hold_classes(loaded)
    _hold_answers(loaded, data, tokens)
    return loaded


def _hold_labels(header: headers.Header, tokens: Sequence[str], loaded: VwLearner) -> None:
    """Refuse a file whose range of labels is that of another loss, or of another task; no header names the loss."""
    loss = value_of(tokens, "--loss_function", "squared")
    low, high = header.labels
    wide = low == _WIDE[0] and high >= _WIDE[1]  # poisson goes on to its largest label
    if wide != (loss in _WIDE_LOSSES) or (loss == "logistic" and header.labels != _WIDE):
        was = "--loss_function logistic (or poisson)" if wide else "another loss function"
        raise StateRefusedError(
            f"the file was trained with {was}, and the args say --loss_function {loss}; write the one that it was "
            "trained with"
        )
    bounded = not wide and not _BOUNDS.intersection(one.split("=")[0] for one in tokens)
    if loaded.labels.task == "binary" and bounded and header.labels not in (_TWO[:1] if loaded.zero_one else _TWO):
        raise StateRefusedError(
            f"the file was trained on labels from {low:g} to {high:g}; with --loss_function {loss} a binary task has "
            f"the labels {'0 and 1' if loaded.zero_one else '-1 and 1'}. Train it on those, or with --loss_function "
            f"logistic{_OTHER_TASK if header.labels not in _TWO else ''}"
        )
    if loaded.labels.task == "regression" and not wide:
        log.warning(
            "no file of Vowpal Wabbit says whether it was trained with squared, quantile or expectile loss; this one "
            "learns on with --loss_function %s, as the args say", loss
        )  # fmt: skip


def _hold_classes(loaded: VwLearner) -> None:
    """Refuse what leaves open which class of the file is which label."""
    labels = loaded.labels
    if labels.task != "multiclass":
        return
    if not labels.fixed:
        raise StateRefusedError(
            "the file knows its classes only as 1, 2, 3 and so on; write event.labels = [...] in that order"
        )
    numbers = [one for one in labels.names if isinstance(one, int) and not isinstance(one, bool)]
    ordered = list(range(1, len(labels.names) + 1))
    if numbers != ordered and sorted(numbers) == ordered:
        raise StateRefusedError(
            f"class 1 of the file would be the label {labels.names[0]}, which is first in event.labels; "
            f"write event.labels = {ordered}"
        )


def _hold_answers(loaded: VwLearner, data: bytes, tokens: Sequence[str]) -> None:
    """Ask the file in plain Vowpal Wabbit, the learner, and the learner after a save and a load."""
    unsaved = [f"--{one.name}={one.values[0]}" if one.values else f"--{one.name}"
               for one in options.read(tokens) if one.name in _UNSAVED]  # fmt: skip
    with file_of(data) as path:
        plain: Any = Workspace(arg_list=["--quiet", *unsaved, "-i", path])
    try:
        again = loaded.load(loaded.save())
        for values in _questions(plain, spaces_of(tokens)):
            text = _text(values, loaded.namespaces)
            wanted = plain.predict(text)
            if loaded.labels.fixed and isinstance(wanted, int) and wanted > len(loaded.labels.names):
                raise StateRefusedError(
                    f"the file answers with class {wanted}, and event.labels has {len(loaded.labels.names)}: name all "
                    "of them, in the order of the numbers that it was trained with"
                )
            for one, when in ((loaded, ""), (again, " after a save and a load")):
                said = one.says(Features.of(values))
                if not _same(wanted, said):
                    raise StateRefusedError(
                        f"plain Vowpal Wabbit answers {_short(wanted)} to {text!r:.60} from this file, and "
                        f"with these args it answers {_short(said)}{when}; write the args that it was trained with"
                    )
    finally:
        plain.finish()


def _questions(plain: Any, spaces: Sequence[str]) -> Iterator[dict[str, Value]]:
    """Nothing, a few names, and features at places where the file has weights: alone, in pairs, in namespaces."""
    yield {}
    yield {"a": 0.5, "b": -2.0, "c": True}
    places = [str(place) for place in _weighted(plain)]
    for first, second in zip(places, [*places[1:], *places[:1]], strict=True):
        yield {first: 1.0}
        yield {first: -3.0, second: 0.5}
    for space in spaces:
        for place in places[:5]:
            yield {place: 1.0, space: {place: 2.0}}


def unweighted(learner: VwLearner, rows: Sequence[Features]) -> list[str]:
    """Names of features of which no value has a weight in the learner, each with one of its values.

    Those of a file that was taught from text in other words: ``country=de`` there is another name than ``"country":
    "de"`` here.
    """
    found: dict[str, Value] = {}
    known: set[str] = set()
    for row in rows[:_ROWS_ASKED]:
        for name, value in row.flat().items():
            if name not in known and value != 0:
                found.setdefault(name, value)
                if learner.has_weight(_nested(name, value)):
                    known.add(name)
    return [f"{name} (such as {value!r})" for name, value in found.items() if name not in known]


def _nested(name: str, value: Value) -> Features:
    space, _, inner = name.partition(".")
    values: dict[str, Any] = {space: {inner: value}} if inner else {name: value}
    return Features.of(values)


def _text(values: Mapping[str, Value], namespaces: Namespaces) -> str:
    """The same features as Vowpal Wabbit's own text, in the configured namespaces."""
    placed = {name: space for space, names in namespaces.items() for name in names}
    spaces: dict[str, list[str]] = {" ": []}
    for name, value in values.items():
        inner = value if isinstance(value, dict) else {name: value}
        space = name if isinstance(value, dict) else placed.get(name, " ")
        spaces.setdefault(space, []).extend(f"{one}:{float(number or 0)!r}" for one, number in inner.items())
    return " ".join(f"|{space.strip()} {' '.join(features)}" for space, features in spaces.items())


def _weighted(plain: Any) -> Iterator[int]:
    """Places with a weight; by their number they are features, unless the file hashes numbers, too."""
    if "ksvm" in plain.get_enabled_reductions():  # keeps examples, and has no weights to ask for
        return
    count = plain.num_weights()
    step = max(1, count // _LOOKED_AT)
    found = 0
    for place in range(0, count, step):
        if plain.get_weight(place, 0) != 0.0:
            yield place
            found += 1
            if found == _WEIGHTS:
                return


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list) or isinstance(right, list):
        both = isinstance(left, list) and isinstance(right, list) and len(left) == len(right)
        return both and all(map(_same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return math.isclose(left, right, rel_tol=_CLOSE, abs_tol=_CLOSE)


def _short(answer: Any) -> str:
    return ", ".join(f"{one:.4g}" for one in answer[:5]) if isinstance(answer, list) else f"{answer:.6g}"
