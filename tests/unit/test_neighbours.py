"""Labels that are others where the features are the same: told without a model, and not where the features are new."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from snapshots.moved.neighbours import Contradictions, Sample, ask, contradictions

KINDS = ["red", "green", "blue"]


def sample(rng: np.random.Generator, rows: int, *, shift: float = 0.0, task: str = "multiclass") -> Sample:
    """Three places in the plane, each with a label of its own; a text says nothing."""
    place = rng.integers(3, size=rows)
    x, y = place * 4 + rng.normal(size=rows) + shift, rng.normal(size=rows)
    labels: list[Any] = (place * 10.0 + y).tolist() if task == "regression" else [KINDS[n] for n in place]
    return Sample({"x": x.tolist(), "y": y.tolist(), "word": rng.choice(["a", "b"], rows).tolist()}, labels)


def found(before: Sample, now: Sample, task: Any = "multiclass") -> Contradictions:
    """What neighbours say."""
    told = ask(task, before, now)
    assert told is not None
    return contradictions(*told[1:])


def relabelled(now: Sample, change: Callable[[Any], Any]) -> Sample:
    return now._replace(labels=[change(one) for one in now.labels])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_as_before_contradicts_nobody(seed: int) -> None:
    """By chance alone, and not once in a thousand looks."""
    rng = np.random.default_rng(seed)
    said = found(sample(rng, 300), sample(rng, 30))
    assert said.asked > 8
    assert said.chance > 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_labels_under_other_names_are_told_from_labels_that_are_mixed_up(seed: int) -> None:
    """Twelve rows are enough; of the first kind nearly all would be right by other names."""
    rng = np.random.default_rng(seed)
    before, now = sample(rng, 300), sample(rng, 30)
    flipped = found(before, relabelled(now, lambda one: KINDS[KINDS.index(one) - 1]))
    noise = found(before, relabelled(now, lambda _: KINDS[rng.integers(3)]))
    assert flipped.chance < 1e-6
    assert flipped.renamed > 0.8
    assert noise.chance < 1e-3
    assert noise.renamed < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_rows_where_nobody_was_before_are_no_evidence(seed: int) -> None:
    """Beyond all that was seen; also when a feature is missing from then on."""
    rng = np.random.default_rng(seed)
    before = sample(rng, 300)
    far = found(before, relabelled(sample(rng, 30, shift=60.0), lambda _: "red"))
    assert far.asked == 0
    now = sample(rng, 30)
    assert found(before, now._replace(features={"word": now.features["word"]})).asked == 0


def test_numbers_and_missing_values_are_compared_too() -> None:
    """Of a regression which third a label lies in; None lies apart from every number."""
    rng = np.random.default_rng(1)
    before, now = sample(rng, 300, task="regression"), sample(rng, 30, task="regression")
    assert found(before, now, "regression").chance > 1e-3
    assert found(before, relabelled(now, lambda one: 20.0 - one), "regression").chance < 1e-3
    none = [None] * 300
    assert found(before._replace(features={"x": none, **before.features}), now, "regression").asked >= 0
    assert ask("binary", Sample({}, []), now) is None


def test_a_scale_changes_nothing() -> None:
    """Numbers are compared by their rank among those of before."""
    rng = np.random.default_rng(2)
    before, now = sample(rng, 300), sample(rng, 30)

    def scaled(one: Sample) -> Sample:
        return one._replace(features={**one.features, "x": [1e6 * value + 5 for value in one.features["x"]]})

    plain, other = found(before, now), found(scaled(before), scaled(now))
    assert (plain.asked, plain.wrong) == (other.asked, other.wrong)
