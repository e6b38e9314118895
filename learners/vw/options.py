"""Vowpal Wabbit's options: which there are, which are refused on a stream and why, and how a list of them is read.

``vw_options.txt`` has every option of the pinned version (``scripts/vw_options.py`` writes it). What is not in it, and
what reads or writes files, prints, opens ports or starts processes, is refused by name, wherever it comes from: the
configuration, a snapshot's manifest, or the header of a model file.
"""

import importlib.resources
from collections.abc import Iterator, Sequence
from functools import cache

import msgspec

from learners.errors import ArgumentsRefusedError

_REASONS: dict[str, str] = {
    "events come from the source": "data no_stdin stdin",
    "models come from snapshots": "initial_regressor feature_mask input_feature_regularizer",
    "models are saved in snapshots": (
        "final_regressor save_per_pass readable_model invert_hash dump_json_weights_experimental audit_regressor "
        "dump_json_weights_include_extra_online_state_experimental hexfloat_weights "
        "dump_json_weights_include_feature_names_experimental "
        "output_feature_regularizer_binary output_feature_regularizer_text"
    ),
    "predictions are served over HTTP": "predictions raw_predictions extra_metrics",
    "it reads or writes files": "dictionary dictionary_path search_allowed_transitions epsilon_decay_audit",
    "it sends events to another machine": "sendto",
    "a stream has no cache": "cache cache_file kill_cache compressed",
    "a stream is read once": "passes holdout_off holdout_period holdout_after early_terminate bfgs",
    "it would start servers of its own": "daemon no_daemon port num_children pid_file port_file foreground",
    "one trainer per lineage": "span_server span_server_port unique_id total node",
    "it waits for a partner": "active simulation active_cover",
    "it would learn nothing": "testonly dry_run noop",
    "the input format is chosen here": (
        "json dsjson csv flatbuffer csv_header csv_no_file_header csv_ns_value csv_separator csv_trace strict_parse "
        "ignore_features_dsjson_experimental"
    ),
    "it only prints": "print audit help version args driver_output driver_output_off log_output csa_debug limit_output",
    "class numbers are given here": "indexing",
    "class names stand in event.labels": "named_labels",
    "it is set here": "preserve_performance_counters save_resume predict_only_model",
}
REFUSED = {option: reason for reason, options in _REASONS.items() for option in options.split()}
#: what Vowpal Wabbit writes into a file's header whatever the arguments were
_ALWAYS_WRITTEN = {"random_seed", "hash_seed", "hash", "bit_precision"}


class Option(msgspec.Struct, frozen=True):
    """One option as it is given: its long name and its values, all of them text."""

    name: str
    values: tuple[str, ...]


@cache
def known() -> dict[str, str]:
    """Every option's long name, and whether it is a flag, takes a value, or several."""
    return {name: kind for name, _, kind in _table()}


@cache
def _shorts() -> dict[str, str]:
    return {short: name for name, short, _ in _table() if short != "-"}


def _table() -> Iterator[tuple[str, str, str]]:
    text = importlib.resources.files("learners.vw").joinpath("options.txt").read_text("utf-8")
    for line in text.splitlines():
        name, short, kind = line.split(" ")
        yield name, short, kind


def read(tokens: Sequence[str]) -> list[Option]:
    """Read arguments as Vowpal Wabbit does; :class:`ArgumentsRefusedError` for what is none of its options."""
    found: list[Option] = []
    waiting = list(tokens)
    while waiting:
        token = waiting.pop(0)
        name, first = _name(token)
        kind = known().get(name)
        if name in REFUSED:
            raise ArgumentsRefusedError(f"{_shown(token)} is refused: {REFUSED[name]}")
        if kind is None:
            raise ArgumentsRefusedError(f"{_shown(token)} is no option of this version of Vowpal Wabbit")
        values = [] if first is None else [first]
        while waiting and (kind == "values" or (kind == "value" and not values)) and not _is_option(waiting[0], values):
            values.append(waiting.pop(0))
        if (kind == "flag") != (not values):
            wants = "takes no value" if kind == "flag" else "needs a value"
            raise ArgumentsRefusedError(f"--{name} {wants}")
        found.append(Option(name, tuple(values)))
    return found


def _name(token: str) -> tuple[str, str | None]:
    """The long name of an option, and the value that is written together with it."""
    if token.startswith("--"):
        name, is_there, value = token[2:].partition("=")
        return name, value if is_there else None
    if token.startswith("-") and token[1:2] in _shorts():
        return _shorts()[token[1]], token[2:] or None
    raise ArgumentsRefusedError(f"{_shown(token)} is not an option")


def _is_option(token: str, values: Sequence[str]) -> bool:
    """Tell whether a token begins the next option; the first value may be a negative number."""
    if token.startswith("--") or token[1:2] in _shorts():
        return token.startswith("-")
    return token.startswith("-") and bool(values)


def _shown(token: str) -> str:
    """An option as it may be repeated in a message."""
    return token.split("=", 1)[0] if token.isprintable() and len(token) < 100 else repr(token[:100])


def beyond(given: Sequence[Option], allowed: Sequence[Option]) -> list[str]:
    """Names of options that are given and not allowed, apart from those that every header has."""
    names = {one.name for one in allowed} | _ALWAYS_WRITTEN
    return [f"--{one.name}" for one in given if one.name not in names]
