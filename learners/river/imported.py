"""A model that plain River wrote, taken over: it must answer here what it answers there, or it is refused.

The questions are made from what the file knows: names of features, and the values that it saw of them.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from river.feature_extraction.vectorize import VectorizerMixin

from learners.errors import LearnersError, StateRefusedError
from learners.event import Features, Label
from learners.labels import Labels, LabelValue, UnknownLabelError
from learners.river.learner import RiverLearner
from learners.river.structure.parts import final, parts
from learners.river.trial import unsuited

_ROWS, _MOST_NAMES, _MOST_VALUES, _SEED = 60, 200, 20, 11
_MOST_OBJECTS = 200_000
#: attributes in which River's classifiers keep what they know of each class
_BY_CLASS = ("class_counts", "observed_classes", "classes", "_classes")
_NAMES = (str, int, float)
_TEXTS = ("win a prize", "a")
_DAMAGED = "the file is damaged, or of another version of River"
Row = dict[str, Any]


def adopted(learner: RiverLearner, load: Callable[[], Any]) -> RiverLearner:
    """A learner like this one with the file's model in it; ``load`` loads the file anew, through the allow-list.

    Its classes are mapped to the labels, and whole numbers reach it as int where it was trained on those. Raises
    :class:`StateRefusedError` when it does another task, has classes that are no labels, cannot learn, or answers
    otherwise here.
    """
    try:
        return _adopted(learner, load)
    except LearnersError:
        raise
    except Exception as cause:
        raise StateRefusedError(f"{_DAMAGED}: {type(cause).__name__}: {cause}") from cause


def _adopted(learner: RiverLearner, load: Callable[[], Any]) -> RiverLearner:
    plain, labels = load(), learner.labels
    if reason := unsuited(plain, labels.task):
        raise StateRefusedError(f"the file {reason}")
    if reason := _wordless(plain):
        raise StateRefusedError(reason)
    rows = list(_rows(plain))
    answers = [_answer(plain, row) for row in rows]
    if all(isinstance(one, Exception) for one in answers):
        raise StateRefusedError(f"plain River answers none of {len(rows)} questions about its features: {answers[0]!r}")
    known = _classes(plain, answers) if labels.task != "regression" else []
    classes = _named(known, labels) if labels.task != "regression" else []
    if reason := _damage(
        load(), rows, answers, known or ([0.5, 2.0] if labels.task == "regression" else [False, True])
    ):
        raise StateRefusedError(f"{_DAMAGED}: {reason}")
    found = ""
    for whole in (False, True):
        taken = learner.around(load(), classes, whole=whole)
        found = _difference(taken, rows, answers)
        if not found:
            return taken
    raise StateRefusedError(found)


# Classes -------------------------------------------------------------------------------------------------------------


def _classes(plain: Any, answers: Sequence[Any]) -> list[LabelValue]:
    """Classes that the model has seen, as it calls them: in its answers, and in what it keeps by class."""
    found: dict[LabelValue, None] = {}
    for answer in answers:
        if isinstance(answer, Exception):
            continue
        said, chances = answer
        found.update(dict.fromkeys(one for one in (said, *(chances or {})) if isinstance(one, _NAMES)))
    for name in _BY_CLASS:
        kept = getattr(final(plain), name, None)
        if isinstance(kept, (dict, set, list)):
            found.update(dict.fromkeys(one for one in kept if isinstance(one, _NAMES)))
    return list(found)


def _named(classes: Sequence[LabelValue], labels: Labels) -> list[LabelValue]:
    """What the model calls each label, in the order of their numbers; empty when it calls them as we do."""
    shown = ", ".join(repr(one) for one in classes[:10])
    if labels.task == "multiclass" and not labels.fixed:
        raise StateRefusedError(f"its classes are {shown}; write event.labels = [{shown}], so that they have numbers")
    if labels.task == "binary" and all(type(one) is bool for one in classes):
        return []
    numbers: dict[Label, LabelValue] = {}
    for one in classes:
        try:
            number = labels.label_of(one)
        except UnknownLabelError:
            raise StateRefusedError(
                f"its classes are {shown}, and {one!r} is not among the labels of [event]; write them as the file does"
            ) from None
        if number in numbers:
            raise StateRefusedError(f"its classes {numbers[number]!r} and {one!r} are the same label to [event]")
        numbers[number] = one
    if labels.task == "multiclass":
        return [numbers.get(number, name) for number, name in enumerate(labels.names)]
    if len(numbers) < 2:
        raise StateRefusedError(f"it has seen only the class {shown}; the name of the other is not known")
    return [numbers[False], numbers[True]]


# Questions and answers -----------------------------------------------------------------------------------------------


def _answer(plain: Any, row: Row) -> Any:
    """The decision and the chances of each class, if there are any; what was raised instead."""
    try:
        chances = plain.predict_proba_one(dict(row)) if hasattr(final(plain), "predict_proba_one") else None
    except NotImplementedError:
        chances = None
    except Exception as cause:
        return cause
    try:
        return plain.predict_one(dict(row)), chances
    except Exception as cause:
        return cause


def _damage(plain: Any, rows: Sequence[Row], answers: Sequence[Any], labels: Sequence[Any]) -> str:
    """What is wrong with a model that answers: it cannot learn, or says what is no number; empty when it is whole."""
    for _, chances in (one for one in answers if not isinstance(one, Exception)):
        if any(not math.isfinite(one) for one in (chances or {}).values()):
            return f"it answers with the chances {chances}"
    faults = [_fault(plain, row, labels[at % len(labels)]) for at, row in enumerate(rows)]
    gone = [one for one in faults if isinstance(one, AttributeError)]
    if gone or all(faults):
        return f"it answers, and when it learns it raises {(gone or faults)[0]!r}"
    return ""


def _fault(plain: Any, row: Row, label: Any) -> Exception | None:
    try:
        plain.learn_one(dict(row), label)
    except Exception as cause:
        return cause
    return None


def _difference(taken: RiverLearner, rows: Sequence[Row], answers: Sequence[Any]) -> str:
    """The first question that is answered otherwise here, with both answers; empty when there is none."""
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, Exception):
            continue
        try:
            said = taken.predict(Features(msgspec.json.encode(row)))
        except Exception as cause:
            return f"plain River answers {answer[0]!r} to {_short(row)}, and here it raises {cause!r}"
        decision, chances = answer
        wanted = _decision(decision, taken)
        if said.value != wanted or (chances and _chances(taken, chances) != (said.probability, said.probabilities)):
            return (
                f"plain River answers {decision!r} {chances or ''} to {_short(row)}, and here it answers {said}. "
                "Numbers and texts reach it as JSON has them"
            )
    return ""


def _decision(decision: Any, taken: RiverLearner) -> Any:
    if decision is None:
        return None
    if taken.labels.task == "regression":
        return float(decision)
    return _number(decision, taken)


def _number(name: Any, taken: RiverLearner) -> Label:
    if taken.labels.task == "binary":
        return name == taken.classes[1] if taken.classes else bool(name)
    return taken.labels.number_of(name)


def _chances(taken: RiverLearner, chances: Mapping[Any, float]) -> tuple[Any, Any]:
    numbered = {_number(name, taken): float(chance) for name, chance in chances.items()}
    return (numbered.get(True, 0.0), None) if taken.labels.task == "binary" else (None, numbered)


def _short(row: Row) -> str:
    text = repr(row)
    return text if len(text) < 120 else text[:117] + "..."


def _rows(plain: Any) -> Iterator[Row]:
    """Rows that have all the names that the model knows, a few of them, or one; and one that has none."""
    known = _known(plain)
    draw = random.Random(_SEED)
    names = list(known)
    yield {}
    for number in range(_ROWS):
        chosen = names if number % 3 else draw.sample(names, min(len(names), 1 + number % 5))
        row = {name: draw.choice(known[name]) for name in chosen}
        yield _completed(plain, row, known, draw)


def _completed(plain: Any, row: Row, known: Mapping[str, list[Any]], draw: random.Random) -> Row:
    """The row with what the model misses in it by name, as its KeyErrors tell."""
    for _ in range(8):
        answer = _answer(plain, row)
        if not isinstance(answer, KeyError) or not answer.args or not isinstance(answer.args[0], str):
            break
        if answer.args[0] in row:
            break
        row[answer.args[0]] = draw.choice(known.get(answer.args[0], [*_TEXTS, 1, 0.5]))
    return row


def _known(plain: Any) -> dict[str, list[Any]]:
    """Names of features in the model, each with values to ask for: those that it saw, or else a few numbers."""
    names: dict[str, list[Any]] = {"a": []}
    for keyed in _keyed(plain):
        for name, kept in keyed.items():
            if not isinstance(name, str) or len(names) >= _MOST_NAMES:
                continue
            values = names.setdefault(name, [])
            if isinstance(kept, (set, frozenset, list, dict)):
                values += [one for one in kept if isinstance(one, _NAMES) and one not in values]
    for name in [name for name in names if "_" in name]:
        _split(name, names)
    known = {name: values[:_MOST_VALUES] or [0, 1, 2, 3, -1.25, 0.5, 8.5] for name, values in names.items()}
    return known | dict.fromkeys(_read_by_words(plain), _phrases(list(known)))


def _read_by_words(plain: Any) -> list[str]:
    """Features that a step takes apart into words, so that they are texts and nothing else."""
    return [one.on for one in parts(plain) if isinstance(one, VectorizerMixin) and one.on is not None]


def _phrases(words: Sequence[str]) -> list[str]:
    """Texts of words that the model knows, and two others; learnt words are features to the steps behind."""
    return [*_TEXTS, *(" ".join(words[at : at + 4]) for at in range(0, len(words), max(1, len(words) // _MOST_VALUES)))]


def _wordless(plain: Any) -> str:
    """Why a model that takes a bare text for a row cannot be asked here; empty when it takes rows."""
    for one in parts(plain):
        if isinstance(one, VectorizerMixin) and one.on is None:
            kind = type(one).__name__
            return (
                f"its {kind}() takes a bare text, and an event has named features: name the one with the text, as in "
                f'{kind}(on="text"). In a model that is trained already, before it is saved: step.on = "text"; '
                'step.processing_steps.insert(0, operator.itemgetter("text")), where step is its '
                f"{kind}"
            )
    return ""


def _split(name: str, names: dict[str, list[Any]]) -> None:
    """Take a name such as ``city_berlin`` or ``hour_7`` for a feature with a value, as encoders write them."""
    head, _, tail = name.rpartition("_")
    value = int(tail) if tail.isascii() and tail.lstrip("-").isdigit() else tail
    seen = {str(one) for one in names.get(head, [])}
    if head and tail and str(value) not in seen and len(names) < _MOST_NAMES:
        names.setdefault(head, []).append(value)


def _keyed(plain: Any) -> Iterator[Mapping[Any, Any]]:
    """Every dict in the model, however deep, and what its vectors of River's own kind hold."""
    waiting: list[Any] = [plain]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_OBJECTS:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (str, bytes, int, float, type(None), type)):
            continue
        seen.add(id(one))
        if hasattr(one, "keys") and hasattr(one, "items"):
            yield one
            waiting += list(one.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting += list(one)
        elif type(one).__module__.startswith("river."):
            waiting += _attributes(one)


def _attributes(one: Any) -> list[Any]:
    slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
    named = [getattr(one, name) for name in slots if isinstance(name, str) and hasattr(one, name)]
    own = getattr(one, "__dict__", {})
    # A feature that a step was told to look at, as BagOfWords(on="text") or a grouping by it.
    wanted = {value: set(_TEXTS) for name, value in own.items() if name in ("on", "by") and isinstance(value, str)}
    return [*named, *own.values(), wanted] if wanted else [*named, *own.values()]
