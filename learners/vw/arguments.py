"""Vowpal Wabbit arguments: which are refused, what task they serve, and what a trial run finds out about them."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from learners.errors import ArgumentsRefusedError, TrialTooSlowError
from learners.event import Task
from learners.labels import Labels
from learners.search_path import search_path
from learners.vw import options

TRIAL_SECONDS = 20.0
#: how often it is looked whether a trial goes on, and what of the processor it has to use each time
_LOOKS, _STILL_SECONDS = 15, 0.1
_TRIES = 2
_CHAIN, _HASH, _PER_MODEL = "--chain_hash", "--hash", "--per_model_save_load"
_READING = (_CHAIN, _HASH, _PER_MODEL)


class Trial(msgspec.Struct, frozen=True):
    """What a trial of the arguments found.

    ``tokens``: the arguments to use, with ``--per_model_save_load`` where only that makes a restored model (one of
    several in it, as with ``--oaa``) continue exactly.
    ``one_call``: the prediction left by learning is the one that would have been served. ``exact``: a restored
    model continues bit for bit. ``pure``: predictions change nothing. ``weights``: weights can be given. ``apart``:
    texts are handed on so that Vowpal Wabbit tells apart what is not the same (docs/adr/0021); false in snapshots of
    before, and for models that came from elsewhere.
    """

    tokens: list[str]
    one_call: bool
    exact: bool
    pure: bool
    weights: bool
    probabilities: bool
    reductions: list[str]
    apart: bool = False


def arguments(text: str, name: str, learner: str = "") -> list[str]:
    """Split the arguments and refuse by name what is unsafe on a stream.

    Adds a seed derived from ``name``, and the option by which a feature's name and its text are hashed one after the
    other. ``learner`` is whose they are, for what is said of them.
    """
    try:
        tokens = shlex.split(text)
        options.read(tokens)
    except (ValueError, ArgumentsRefusedError) as cause:
        raise ArgumentsRefusedError(f"learners.{learner or name}.args: {cause}") from cause
    if not any(token.split("=")[0] == "--random_seed" for token in tokens):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1
        tokens += ["--random_seed", str(seed)]
    return tokens if _CHAIN in tokens else [*tokens, _CHAIN]


def as_saved(tokens: Sequence[str], saved: Sequence[str]) -> list[str]:
    """The arguments, with the options that decide how a file is read as they were when it was saved."""
    return [*_without_reading(tokens)[0], *_without_reading(saved)[1]]


def continuing(fresh: Trial, old: Trial) -> Trial:
    """The trial of new arguments for a model that was saved under old ones: read as before."""
    return msgspec.structs.replace(fresh, tokens=as_saved(fresh.tokens, old.tokens), apart=old.apart)


def _without_reading(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments without the options that decide how a file is read, and these options."""
    kept: list[str] = []
    taken: list[str] = []
    value_follows = False
    for token in tokens:
        option = token.split("=")[0]
        (taken if value_follows or option in _READING else kept).append(token)
        value_follows = token == _HASH
    return kept, taken


def value_of(tokens: Sequence[str], option: str, default: str = "") -> str:
    """Return the value of an option, written as ``--a b`` or ``--a=b``."""
    for i, token in enumerate(tokens):
        if token == option and i + 1 < len(tokens):
            return tokens[i + 1]
        if token.startswith(option + "="):
            return token.split("=", 1)[1]
    return default


def classes_of(tokens: Sequence[str]) -> int:
    """Return how many classes the arguments provide for; 0 when they are not multi-class."""
    for option in ("--oaa", "--ect", "--log_multi", "--recall_tree", "--plt"):
        number = value_of(tokens, option)
        if number.isdigit():
            return int(number)
    return 0


def check_classes(tokens: Sequence[str], labels: Labels, name: str) -> None:
    """Hold the classes that the arguments provide for against the labels; lowers ``labels.max_labels`` to fit."""
    if labels.task != "multiclass":
        return
    classes = classes_of(tokens)
    if not classes:
        raise ArgumentsRefusedError(f"learners.{name}.args: task multiclass needs --oaa K (or --ect K)")
    if labels.fixed and len(labels.names) > classes:
        raise ArgumentsRefusedError(
            f"learners.{name}.args: {classes} classes for {len(labels.names)} event.labels; VW would learn nothing "
            f"from the others. Use --oaa {len(labels.names)}"
        )
    if classes < labels.max_labels:
        labels.max_labels, labels.limit = classes, f"learners.{name}.args has room for {classes}"


def check_loss(tokens: Sequence[str], task: Task, name: str) -> None:
    """Refuse loss and link functions that give the task no sensible prediction."""
    loss, link = value_of(tokens, "--loss_function", "squared"), value_of(tokens, "--link", "identity")
    if task == "binary" and (loss not in ("squared", "classic", "logistic", "hinge") or link == "poisson"):
        raise ArgumentsRefusedError(
            f"learners.{name}.args: --loss_function {loss} --link {link} does not predict a class; "
            "for task binary use logistic, hinge or squared"
        )
    if task == "regression" and (loss in ("logistic", "hinge") or link in ("logistic", "glf1")):
        raise ArgumentsRefusedError(
            f"learners.{name}.args: --loss_function {loss} --link {link} predicts one of two classes; "
            "for task regression use squared, quantile, expectile or poisson, and no other link than poisson"
        )


def trial(tokens: Sequence[str], task: Task, name: str, seconds: float = TRIAL_SECONDS) -> Trial:
    """Try the arguments in a child process with a time limit.

    Raises :class:`ArgumentsRefusedError` when Vowpal Wabbit refuses them, crashes, predicts something outside the
    task, or changes by predicting; :class:`TrialTooSlowError` when it does not answer, twice: the machine may be slow.
    """
    check_loss(tokens, task, name)
    question = json.dumps({"tokens": list(tokens), "task": task}).encode()
    for _ in range(_TRIES):
        if (said := _asked(question, seconds)) is not None:
            break
    else:
        raise TrialTooSlowError(
            f"learners.{name}.args: Vowpal Wabbit did not answer within {seconds:g} s with {shlex.join(tokens)}, "
            f"{_TRIES} times; on a slow machine set learners.{name}.trial_seconds"
        )
    output, errors, code = said
    try:
        answer = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ArgumentsRefusedError(f"learners.{name}.args: Vowpal Wabbit ended with {code}: {last[0]}") from None
    if "refused" in answer:
        raise ArgumentsRefusedError(f"learners.{name}.args: {answer['refused']}")
    found = msgspec.convert(answer, Trial)
    if not found.pure:
        raise ArgumentsRefusedError(
            f"learners.{name}.args: predictions change the model with {shlex.join(tokens)}; what is served would "
            "depend on who asked before"
        )
    return found


def _asked(question: bytes, seconds: float) -> tuple[bytes, bytes, int] | None:
    """What a trial printed, its errors and exit code; None when it stood still for ``seconds``, or never ended.

    It may take long where it goes on using the processor.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-P", "-c", _CHILD, *search_path()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
        )  # fmt: skip
        before = 0.0
        for look in range(_LOOKS):
            try:
                output, errors = process.communicate(question if look == 0 else None, timeout=seconds)
            except subprocess.TimeoutExpired:
                used = _processor_seconds(process.pid)
                if used - before < _STILL_SECONDS:
                    break
                before = used
            else:
                return output, errors, process.returncode
        process.kill()
        process.communicate()
    return None


def _processor_seconds(pid: int) -> float:
    """What a process has used of the processor, in seconds; 0 where the system does not tell."""
    try:
        fields = Path("/proc", str(pid), "stat").read_text("ascii", "replace").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


_CHILD = "import sys; sys.path[:0] = sys.argv[1:]; from learners.vw.trial import main; main()"
