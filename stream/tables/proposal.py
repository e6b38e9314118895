"""A configuration and a ``model.py`` for a table, from what was found of it (``stream.tables.profile``)."""

import json
import math
from typing import Any

from learners.labels import canonical
from stream.tables.cells import text_number
from stream.tables.profile import FEATURES, Found, Profile
from stream.tables.templates import OPERATION

#: pairs of all features are learnt too while they are few enough to be quick
_PAIRED = 20
#: classes are listed while they are few enough to read
_LISTED = 30
_LINE = 120


def name_of(text: str) -> str:
    """A lineage's name made of any other, such as a file's or a folder's.

    >>> name_of("some tablé (2).csv"), name_of("")
    ('some-tabl---2-.csv', 'holdfast')
    """
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text)[:100] or "holdfast"


def configuration(found: Profile, name: str, port: int, again: str) -> str:
    """The text of ``holdfast.toml``; ``again`` is how more rows of this kind are sent."""
    return "\n".join(
        [
            f"# Holdfast: written by holdfast init --from {_comment(found.path)}",
            "# Every key and its default: docs/configuration.md. More rows of the same kind are sent with",
            f"#   {_comment(again)}",
            "",
            f"name = {_toml(name)}",
            f"task = {_toml(found.task)}",
            "",
            "[source]",
            'kind = "files"                        # follows *.jsonl in a directory; Kafka: docs/configuration.md',
            'directory = "events"',
            'start = "earliest"',
            "",
            *_event(found),
            "",
            *_learners(found),
            "",
            OPERATION.format(port=port),
        ]
    )


def _event(found: Profile) -> list[str]:
    lines = ["[event]", 'id = "id"', 'time = "ts"', 'features = "x"', 'label = "y"']
    if found.task == "binary":
        lines.append(f"positive = {_toml(found.positive)}")
        negatives = [value for value in found.labels if canonical(value) != _key(found.positive)]
        if len(negatives) == 1:  # whatever is neither is refused, and not learnt as no
            lines.append(f"negative = {_toml(_like(found.positive, negatives[0]))}")
    if found.folds:
        lines.append("fold_labels = true                    # those that differ only in case or spaces are one")
    slices = [one.name for one in found.columns.values() if one.role == "category" and 2 <= one.distinct <= 10]
    if slices:
        lines.append(f"# slices = {_toml(slices[:2])}    # metrics and the guard also for each of its values")
    if any(found.columns[name].deep for name in found.of("nested")):
        lines.append(
            "flatten = true                        # lists, and objects within objects; /predict takes them, too"
        )
    types = [pair for one in found.columns.values() if one.role in FEATURES for pair in _types(one)]
    if types:
        lines += ["", "[event.types]                         # what does not fit is refused and kept as a dead letter"]
        lines += [f"{_toml(name)} = {_toml(kind)}" for name, kind in types]
    return lines


def _types(one: Found) -> list[tuple[str, str]]:
    """What ``[event.types]`` says of a column, or of what lies in its objects."""
    return [(one.name, one.kind)] if one.kind in ("number", "bool", "text") else list(one.leaves.items())


def _key(label: Any) -> str:
    return "" if label is None else canonical(label)


def _like(positive: Any, text: str) -> Any:
    """A label as the positive one is written: a number where that is one."""
    if isinstance(positive, str):
        return text
    number = text_number(text)
    return text if number is None else int(number) if number.is_integer() else number


def _own(found: Profile) -> list[str]:
    """Our own transformers that its model is made of."""
    return ["DateParts"] * bool(found.learnt("date")) + ["Pick"] + ["Under"] * bool(found.of("nested"))


def _learners(found: Profile) -> list[str]:
    kinds = [f"{_COLUMNS}:{name}" for name in _own(found)]
    lines = [
        "[learners.model]                      # River, in model.py beside this file",
        'kind = "river"',
        'factory = "model:model"',
        f"types = {_toml(kinds)}",
        'role = "champion"                     # answers requests',
    ]
    if found.of("number", "code", "category", "hashed", "nested"):
        lines += [
            "",
            "[learners.hashed]                     # Vowpal Wabbit, learns and is scored beside the champion",
            'kind = "vw"',
            f"args = {_toml(arguments(found))}",
            'role = "challenger"',
        ]
        if unsplit := found.of("date", "words"):
            lines.append(f"namespaces = {{ whole = {_toml(unsplit)} }}    # ignored: it would take each for one word")
    return lines


def arguments(found: Profile) -> str:
    """Vowpal Wabbit's arguments to match the table."""
    args = {
        "binary": "--loss_function logistic",
        "regression": "--loss_function squared --coin",
        "multiclass": f"--oaa {_classes(found)} --loss_function logistic",
    }[found.task or "regression"]
    args += " -b 20"
    if len(found.of("number", "code", "category", "hashed")) <= _PAIRED:
        args += " -q ::"
    return args + " --ignore w" * bool(found.of("date", "words"))


def _classes(found: Profile) -> int:
    known = found.columns[found.label].distinct if found.label else 2
    return max(2, known if known <= _LISTED else 2 ** math.ceil(math.log2(known)))


def model(found: Profile) -> str:
    """The text of ``model.py``."""
    dates = {name: (found.columns.get(name) or found.inner[name]).form or "iso" for name in found.learnt("date")}
    groups = {
        "NUMBERS": found.of("number", "code"), "CODES": found.of("code"),
        "CATEGORIES": found.of("category"), "HASHED": found.learnt("hashed"), "WORDS": found.learnt("words"),
    }  # fmt: skip
    lines = [
        f'"""The River model of {_doc(found.path)}. Change it freely; a changed model begins under a new name."""',
        "",
    ]
    lines += ["from numbers import Number", ""] * bool(found.of("nested"))
    lines += [f"from river import {', '.join(_imports(found))}", ""]
    lines += [f"from {_COLUMNS} import {', '.join(_own(found))}", ""]
    for constant, names in groups.items():
        if names:
            lines += [f"#: {_MEANING[constant]}", _listed(constant, names)]
    if dates:
        lines += ["#: dates, and how they are written", _listed("DATES", dates)]
    lines += [
        "",
        "",
        "def features() -> compose.TransformerUnion:",
        '    """What the estimator is given of an event."""',
    ]
    lines += ["    return compose.TransformerUnion(", *(f"        {part}," for part in _parts(found)), "    )"]
    lines += ["", "", *_factory(found), "", "", _WINDOWS.strip("\n"), ""]
    return "\n".join(lines)


def _imports(found: Profile) -> list[str]:
    names = {"base", "compose", "linear_model", "optim"}
    if found.of("number", "code", "category", "hashed", "date", "nested") or found.task == "regression":
        names.add("preprocessing")
    if found.learnt("words"):
        names.add("feature_extraction")
    if found.task == "multiclass":
        names = names - {"optim"} | {"multiclass"}
    return sorted(names)


def _parts(found: Profile) -> list[str]:
    parts = []
    if found.of("number", "code"):
        parts.append("Pick(NUMBERS) | preprocessing.StandardScaler()")
    if found.of("code"):
        parts.append("Pick(CODES) | preprocessing.OneHotEncoder()")
    if found.of("category"):
        parts.append("Pick(CATEGORIES) | preprocessing.OneHotEncoder()")
    if found.learnt("hashed"):
        parts.append("Pick(HASHED) | preprocessing.FeatureHasher(n_features=2**20, seed=1)")
    for place in range(len(found.learnt("words"))):
        word = f"WORDS[{place}]"
        parts.append(
            f'Pick([{word}], absent="") | feature_extraction.BagOfWords(on={word}) | compose.Prefixer(f"{{{word}}} ")'
        )
    if found.learnt("date"):
        parts.append("DateParts(DATES) | preprocessing.OneHotEncoder()")
    if nested := found.of("nested"):
        without = f"\n        | compose.Discard({', '.join(map(_python, found.inner))})" * bool(found.inner)
        parts.append(f"Under({_python(nested)}){without}\n        | ({_NESTED}        )")
    return parts


def _factory(found: Profile) -> list[str]:
    rate = 0.3 if found.learnt("words") else 0.1
    optimiser = f"optim.AdaGrad({rate})"
    kind, what, made = {
        "binary": ("base.Classifier", "a logistic regression", f"linear_model.LogisticRegression({optimiser})"),
        "multiclass": (
            "base.Classifier", "a logistic regression for each class",
            "multiclass.OneVsRestClassifier(linear_model.LogisticRegression())",
        ),
        "regression": (
            "base.Regressor", "a linear regression of the scaled target",
            f"preprocessing.TargetStandardScaler(linear_model.LinearRegression({optimiser}))",
        ),
    }[found.task or "regression"]  # fmt: skip
    return [f"def model() -> {kind}:", f'    """Features, and {what}."""', f"    return features() | {made}"]


_NESTED = """
            (compose.SelectType(Number) | preprocessing.StandardScaler())
            + (compose.SelectType(str) | preprocessing.OneHotEncoder())
"""
#: where our own transformers of columns are
_COLUMNS = "learners.river.columns"
_MEANING = {
    "NUMBERS": "numbers, scaled to mean 0 and variance 1",
    "CODES": "whole numbers of few values: also learnt as a category each",
    "CATEGORIES": "texts of few values: one feature for each value",
    "HASHED": "texts of many values: hashed into a million places",
    "WORDS": "free text: a feature for each word",
}
_WINDOWS = """
# Counts and windows over what came before, for example the mean amount of the same customer's last ten events:
#
#     from river import feature_extraction, stats, utils
#     feature_extraction.Agg(on="amount", by="customer", how=utils.Rolling(stats.Mean(), window_size=10))
#
# as one more part of features(); its types go into learners.model.types when holdfast names them.
"""


def _toml(value: Any) -> str:
    """A value as TOML writes it; JSON's texts are TOML's basic strings."""
    return json.dumps(value)


def _comment(text: str) -> str:
    return " ".join(text.split())


def _doc(text: str) -> str:
    return _comment(text).replace("\\", "/").replace('"', "'")


def _listed(name: str, values: list[str] | dict[str, str]) -> str:
    """A constant of the module, on one line where it fits; JSON's texts, lists and objects are Python's."""
    line = f"{name} = {_python(values)}"
    if len(line) <= _LINE:
        return line
    if isinstance(values, dict):
        return "\n".join([f"{name} = {{", *(f"    {_python(k)}: {_python(v)}," for k, v in values.items()), "}"])
    return "\n".join([f"{name} = [", *(f"    {_python(one)}," for one in values), "]"])


def _python(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
