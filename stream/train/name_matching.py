"""Whether the names of the configuration are names of the stream: counted over the first events, and zero is said.

A name that nothing matches is no error, since a feature may be rare or come later; but nobody wants a slice that never
gets an event, or a positive label of another spelling, without being told.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from learners.errors import LearnersError
from learners.event import Event, Features
from learners.labels import Labels, LabelValue, alike
from learners.vw import options
from learners.vw.arguments import arguments
from stream.refusal import Refusal
from stream.settings import Config

log = logging.getLogger("holdfast.matching")
#: so many events decide; fewer than the least say nothing
_EVENTS, _LEAST = 1000, 100
_SHOWN = 5
#: options of Vowpal Wabbit whose value names namespaces by their first letters
_BY_LETTER = ("quadratic", "cubic", "interactions", "ignore", "keep", "ignore_linear")
#: whether an event matches; None: this one tells nothing about it
Test = Callable[[Event], bool | None]


class Seen(msgspec.Struct):
    """Of how many events a name was looked for, and how many matched it."""

    events: int = 0
    matched: int = 0


class Matching:
    """Counts for every configured name how many of its first events match it."""

    def __init__(self, config: Config, labels: Labels) -> None:
        self._labels = labels
        self._tests = _tests_of(config)
        self.restore({})

    def restore(self, counts: Mapping[str, list[int]]) -> None:
        """Go on from what a snapshot knows; names that it does not know begin."""
        self.counts = {name: Seen(*counts.get(name, ())) for name in self._tests}
        self.open = any(one.events < _EVENTS for one in self.counts.values())

    def dump(self) -> dict[str, list[int]]:
        """What a snapshot keeps: for each name, how many events were seen and how many matched."""
        return {name: [one.events, one.matched] for name, one in self.counts.items()}

    def see(self, event: Event | Refusal) -> None:
        """Count one event; say what matched nothing when it is the last that decides."""
        if not self.open or isinstance(event, Refusal):
            return
        self.open = False
        for name, test in self._tests.items():
            one = self.counts[name]
            if one.events < _EVENTS:
                self.open = True
                if (matches := test(event)) is None:
                    continue
                one.events += 1
                one.matched += matches
                if one.events == _EVENTS and not one.matched:
                    log.warning("%s", self._sentence(name))
        if not self.open and (said := self._alike()):
            log.warning("%s", said)

    def close(self) -> None:
        """Say what matched nothing so far, when the stream ends before it was decided."""
        for name, one in self.counts.items():
            if _LEAST <= one.events < _EVENTS and not one.matched:
                log.warning("%s", self._sentence(name))
        if (said := self._alike()) and self.open:
            log.warning("%s", said)

    def sentences(self) -> list[str]:
        """What matched none of enough events, and labels that are spelled in several ways."""
        found = [self._sentence(name) for name, one in self.counts.items() if one.events >= _LEAST and not one.matched]
        return [*found, *filter(None, [self._alike()])]

    def _alike(self) -> str:
        apart = not (self._labels.folds or self._labels.fixed or self._labels.task == "regression")
        return alike_in_words(self._labels.seen) if apart else ""

    def _sentence(self, name: str) -> str:
        said = f"{name} matches none of the first {self.counts[name].events:,} events"
        if name.startswith("event.positive") or name.endswith(" of event.labels"):
            found = ", ".join(repr(one) for one in list(self._labels.seen)[:_SHOWN])
            return f"{said}, whose labels are {found}: spelling and case count"
        return said


def alike_in_words(values: Iterable[LabelValue]) -> str:
    """Say that labels which differ only in case or spaces are several; empty when none do."""
    shown = "; ".join(" and ".join(repr(one) for one in group) for group in alike(values)[:_SHOWN])
    said = f"labels that differ only in case or spaces count apart: {shown}. event.fold_labels = true makes them one"
    return said if shown else ""


def _tests_of(config: Config) -> dict[str, Test]:
    """Every configured name, with what it is for an event to match it."""
    event = config.event
    tests: dict[str, Test] = {f"event.label = {event.label!r}": lambda one: one.label is not None}
    if config.task == "binary":
        tests[f"event.positive = {event.positive!r}"] = _is_positive
    if config.task == "multiclass":
        tests |= {f"{name!r} of event.labels": _is_class(number) for number, name in enumerate(event.labels)}
    if event.weight:
        tests[f"event.weight = {event.weight!r} (another weight than 1)"] = lambda one: one.weight != 1.0
    for name in event.slices:
        tests[f"{name!r} of event.slices"] = _has(name)
    for name in event.types:
        tests[f"{name!r} of event.types"] = _has(name)
    if config.holdout.by != "id":
        tests[f"holdout.by = {config.holdout.by!r}"] = _has(config.holdout.by)
    return tests | _tests_of_learners(config)


def _tests_of_learners(config: Config) -> dict[str, Test]:
    tests: dict[str, Test] = {}
    for learner, one in config.learners.items():
        for space, names in one.namespaces.items():
            for name in names:
                tests[f"{name!r} of learners.{learner}.namespaces.{space}"] = _has_top(name)
        if one.kind == "vw":
            for option, letter in _letters(one.args, learner):
                tests[f"{option} of learners.{learner}.args, namespace {letter!r},"] = _has_space(
                    letter, one.namespaces
                )
    return tests


def _is_positive(event: Event) -> bool | None:
    return None if event.label is None else event.label is True


def _is_class(number: int) -> Test:
    return lambda event: None if event.label is None else event.label == number


def _has(name: str) -> Test:
    return lambda event: name in event.features.flat()


def _has_top(name: str) -> Test:
    return lambda event: name in event.features.values


def _has_space(letter: str, namespaces: Mapping[str, list[str]]) -> Test:
    """Tell whether an event has a namespace that begins with a letter; features without one lie in the blank one."""

    def test(event: Event) -> bool:
        return any(letter == space[:1] for space in _spaces(event.features, namespaces))

    return test


def _spaces(features: Features, namespaces: Mapping[str, list[str]]) -> set[str]:
    place = {name: space for space, names in namespaces.items() for name in names}
    nested = {name for name, value in features.values.items() if isinstance(value, dict)}
    return {place.get(name, name if name in nested else " ") for name in features.values}


def _letters(args: str, learner: str) -> list[tuple[str, str]]:
    """The first letters of namespaces that Vowpal Wabbit's arguments name; a colon stands for every one."""
    try:
        read = options.read(arguments(args, learner))
    except LearnersError:
        return []
    return [
        (f"--{one.name} {value}", letter)
        for one in read
        if one.name in _BY_LETTER
        for value in one.values
        for letter in dict.fromkeys(value)
        if letter != ":"
    ]
