"""Another execution of the same River model: state goes into arrays, and back into the very River object.

Strictly the same order of events and of sums, so linear models end with River's own bits. What a compiled loop does not
take (a text where numbers are wanted, a feature that is missing, a sum that is not finite) is left to River.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from river import compose, linear_model, preprocessing

from learners.event import Prediction
from learners.river.columns import DateParts, Pick, Under
from learners.river.compiled.arrays.block import Block, Floats, Names, Source, cut
from learners.river.compiled.arrays.stages import Chain, Flags, Stage, Together, UnfitError
from learners.river.compiled.steps import choosing, linear, margins, scalers, softmax
from learners.river.compiled.steps.model import Model
from learners.river.learner import RiverLearner
from learners.river.structure.parts import final, parts

#: names of features and values of texts that are remembered by number; what the model itself keeps is beside it
MOST_VALUES = 200_000


class NotCompiledError(Exception):
    """A model, or a part of one, for which there is no compiled loop; the message names it."""


class Execution:
    """Learns blocks of events with compiled loops."""

    def __init__(self, river: RiverLearner) -> None:
        model = self._model = river.model
        self._source = Source()
        steps = list(model.steps.values()) if isinstance(model, compose.Pipeline) else [model]
        self._stages = _chain(steps[:-1], self._source.names, self._source)
        self._last = _last(river, self._stages.names)
        self.exact = self._last.exact
        self._fresh = self._dirty = False
        self._own: int | None = None

    @property
    def crowded(self) -> bool:
        """Whether so many names and values were seen that it is time to begin with none: most may never come again."""
        return len(self._source.names) + len(self._source.tokens) - (self._own or 0) > MOST_VALUES

    def block(self, rows: Sequence[Mapping[str, float | str | bool]]) -> Block:
        """Features of many events as arrays."""
        return self._source.block(rows)

    def numbers(self, names: Sequence[str], values: Floats) -> Block:
        """The same for events which all have these names and nothing but numbers: (events, names)."""
        return self._source.numbers(names, values)

    def learn(
        self, block: Block, labels: Floats, weights: Floats, learns: Flags, begin: int, end: int
    ) -> list[Prediction]:
        """Predict and learn events ``begin`` to ``end`` of a block, in order, and answer what was predicted.

        It may be of fewer events: the next one is then River's own to handle. Arrays have one value for each event of
        the block; what ``learns`` not is predicted only.
        """
        self._read()
        block = cut(block, begin, end)
        labels, weights, learns = labels[begin:end], weights[begin:end], learns[begin:end]
        mark = self._stages.mark()
        count = end - begin
        while count:
            try:
                made = self._stages.run(cut(block, 0, count), learns[:count])
            except UnfitError as found:
                self._stages.back(mark)
                count = found.event
                continue
            self._dirty = True
            done, said = self._last.learn(made, labels[:count], weights[:count], learns[:count])
            if done < count:  # the stages went further than the last step did
                self._stages.back(mark)
                if done:
                    self._stages.run(cut(block, 0, done), learns[:done])
            return self._last.predictions(said)
        return []

    def _read(self) -> None:
        """Take the state of the River object, unless it is here already."""
        if not self._fresh:
            self._stages.read()
            self._last.read()
            self._fresh, self._dirty = True, False
            if self._own is None:  # what the model itself keeps is there from the beginning
                self._own = len(self._source.names)

    def write(self) -> None:
        """Give the state back to the River object, unless it is there already."""
        if self._dirty:
            self._stages.write()
            self._last.write()
            for one in parts(self._model):
                if isinstance(one, compose.Pipeline) and one._plan is None:  # noqa: SLF001  as it is after learning
                    one._build_plan()  # noqa: SLF001
            self._dirty = False

    def forget(self) -> None:
        """The River object went on by itself."""
        self._fresh = False


_OF_COLUMNS: dict[type, Callable[[Any, Source], Stage]] = {
    Pick: lambda step, source: choosing.Picked(step.names, source.names),
    DateParts: choosing.Dates,
    preprocessing.FeatureHasher: choosing.Hashed,
}


def _of_columns(step: Any, source: Source) -> Stage | None:
    """A stage that takes features as they came; None where there is none for this step."""
    kind = type(step)
    if kind is compose.Select:
        return choosing.Chosen(step.keys, source.names)
    if kind in (compose.Discard, compose.SelectType, Under) and choosing.is_plain(step):
        return choosing.Kept(step, source.names)
    if kind is preprocessing.OneHotEncoder and step.categories is None and not step.drop_first:
        return choosing.OneHot(step, source)
    if kind in _OF_COLUMNS and getattr(step, "absent", None) is None:
        return _OF_COLUMNS[kind](step, source)
    return None


def _chain(steps: Sequence[Any], names: Names[Any], source: Source) -> Chain:
    made: list[Stage] = []
    for step in steps:
        made.append(_stage(step, made[-1].names if made else names, source))
    return Chain(made, names)


def _stage(step: Any, names: Names[Any], source: Source) -> Stage:
    kind, raw = type(step), names is source.names
    if kind in scalers.SCALERS and scalers.looks_at_everything(step):
        return scalers.SCALERS[kind](step, names)
    if raw and (stage := _of_columns(step, source)) is not None:
        return stage
    if kind is compose.TransformerUnion:
        return Together([_stage(one, names, source) for one in step.transformers.values()])
    if kind is compose.Pipeline:
        return _chain(list(step.steps.values()), names, source)
    raise NotCompiledError(kind.__name__)


def _last(river: RiverLearner, names: Names[Any]) -> Model:
    model = final(river.model)
    kind = type(model).__name__
    made: Callable[..., Model]
    if type(model) in linear.MODELS:
        made, reason = linear.Linear, linear.refusal(model)
    elif type(model) in margins.MODELS:
        made, reason = margins.Margins, margins.refusal(model)
    elif type(model) is linear_model.SoftmaxRegression:
        reason = softmax.refusal(model)
        made = partial(softmax.Softmax, task=river.labels.task, name_of=river.name_of, number_of=river.number_of)
    else:
        raise NotCompiledError(kind)
    if reason:
        raise NotCompiledError(f"{kind} with {reason}")
    return made(model, names)
