"""Scalers of River as stages: each takes its state from the River object, and gives it back."""

from collections.abc import Callable
from typing import Any

import numpy as np
from river import preprocessing, stats

from learners.river.compiled.arrays.block import Block, Floats, Names
from learners.river.compiled.arrays.figures import ASKED, LEARNT, Figures
from learners.river.compiled.arrays.stages import Flags, unfit
from learners.river.compiled.loops import scaling as loops

_HALF = 0.5


class Scaler:
    """What the scalers share: figures by feature, and features that are no numbers."""

    def __init__(self, model: Any, names: Names[Any], **fills: float) -> None:
        self.model, self.names = model, names
        self.figures = Figures(names, **fills)

    def run(self, block: Block, learns: Flags) -> Block:
        """Scale, learning as it goes; a text is River's to refuse."""
        unfit(block, np.isnan(block.before))
        self.figures.fit()
        before, after = np.empty(len(block.ids)), np.zeros(len(block.ids))
        self._loop(block, learns, before, after)
        return block._replace(before=before, after=after)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        raise NotImplementedError

    def read(self) -> None:
        """Take the figures of the River object."""
        raise NotImplementedError

    def write(self) -> None:
        """Give the figures back to the River object."""
        raise NotImplementedError

    def mark(self) -> Any:
        """The figures."""
        return self.figures.mark()

    def back(self, mark: Any) -> None:
        """The figures as they were."""
        self.figures.back(mark)


class Standard(Scaler):
    """``StandardScaler`` over the whole past."""

    def __init__(self, model: preprocessing.StandardScaler, names: Names[Any]) -> None:
        super().__init__(model, names, counts=0.0, means=0.0, variances=0.0, deviations=0.0)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        of = self.figures.of
        loops.standardise(
            block.starts, block.ids, block.before, block.after, learns, of["counts"], of["means"], of["variances"],
            of["deviations"], self.figures.seen, self.model.with_std, _HALF, before, after,
        )  # fmt: skip

    def read(self) -> None:
        """Counts, means and variances."""
        model, figures = self.model, self.figures
        figures.clear()
        figures.take("means", model.means, ASKED)
        figures.take("variances", model.vars, ASKED)
        figures.take("counts", model.counts, LEARNT)
        figures.of["deviations"][:] = [value**_HALF for value in figures.of["variances"].tolist()]

    def write(self) -> None:
        """Counts, means and variances."""
        model = self.model
        model.means.update(self.figures.pairs("means", LEARNT))
        if model.with_std:
            model.vars.update(self.figures.pairs("variances", LEARNT))
        model.counts.update(dict.fromkeys(model.counts, 0))
        for name, count in self.figures.pairs("counts", LEARNT):
            model.counts[name] = int(count)


class MinMax(Scaler):
    """``MinMaxScaler`` over the whole past."""

    def __init__(self, model: preprocessing.MinMaxScaler, names: Names[Any]) -> None:
        super().__init__(model, names, lowest=np.inf, highest=-np.inf)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        of = self.figures.of
        loops.scale_to_range(
            block.starts, block.ids, block.before, block.after, learns, of["lowest"], of["highest"],
            self.figures.seen, before, after,
        )  # fmt: skip

    def read(self) -> None:
        """The least and the largest value of each feature."""
        self.figures.clear()
        self.figures.take("lowest", {name: one.min for name, one in self.model.min.items()}, ASKED)
        self.figures.take("highest", {name: one.max for name, one in self.model.max.items()}, ASKED)

    def write(self) -> None:
        """The least and the largest value of each feature."""
        for name, value in self.figures.pairs("lowest", LEARNT):
            self.model.min[name].min = value
        for name, value in self.figures.pairs("highest", LEARNT):
            self.model.max[name].max = value


class MaxAbs(Scaler):
    """``MaxAbsScaler`` over the whole past."""

    def __init__(self, model: preprocessing.MaxAbsScaler, names: Names[Any]) -> None:
        super().__init__(model, names, largest=0.0)

    def _loop(self, block: Block, learns: Flags, before: Floats, after: Floats) -> None:
        loops.scale_by_largest(
            block.starts, block.ids, block.before, block.after, learns, self.figures.of["largest"], self.figures.seen,
            before, after,
        )  # fmt: skip

    def read(self) -> None:
        """The largest distance from 0 of each feature."""
        self.figures.clear()
        self.figures.take("largest", {name: one.abs_max for name, one in self.model.abs_max.items()}, ASKED)

    def write(self) -> None:
        """The largest distance from 0 of each feature."""
        for name, value in self.figures.pairs("largest", LEARNT):
            self.model.abs_max[name].abs_max = value


SCALERS: dict[type, Callable[[Any, Names[Any]], Scaler]] = {
    preprocessing.StandardScaler: Standard,
    preprocessing.MinMaxScaler: MinMax,
    preprocessing.MaxAbsScaler: MaxAbs,
}


def looks_at_everything(model: Any) -> bool:
    """Tell whether a scaler looks at the whole past, and not at a window."""
    kinds = (float, int, stats.Min, stats.Max, stats.AbsMax)
    kept = [one for part in vars(model).values() if isinstance(part, dict) for one in part.values()]
    return model.window_size is None and all(type(one) in kinds for one in kept)
