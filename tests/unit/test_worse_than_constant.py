"""A regression that is far worse than a constant is never served, also while no holdout is sealed."""

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from support.lineages import Folder

from snapshots.judging.judge import against_constant
from snapshots.records.verdict import Verdict


def verdict(**recent: float | None) -> str:
    """What becomes of a pass by the fast lane."""
    part = SimpleNamespace(figures={"recent": recent})
    return against_constant(Verdict("l", 1, 0, "pass", "", {}, 0.0, 0.0), "regression", part).verdict


@pytest.mark.parametrize(
    ("events", "r2", "found"),
    [(500, 0.9, "pass"), (500, -1.2, "pass"), (500, -1.3, "suspect"), (500, -30.0, "suspect"), (499, -1e9, "pass"),
     (2000, float("nan"), "suspect"), (2000, float("-inf"), "suspect"), (500, None, "suspect")],
)  # fmt: skip
def test_only_a_wide_margin_counts(events: int, r2: float | None, found: str) -> None:
    """A learner that is a little worse than a constant is served as before."""
    assert verdict(n=events, r2=r2) == found


def test_a_diverged_regression_does_not_serve(folder: Callable[..., Folder]) -> None:
    """Large numbers and no scaler: the error is in the billions. The verdict says what to do."""
    draw = random.Random(1)
    here = folder(task="regression", learners={"plain": {"kind": "river", "factory": "plain:make", "role": "champion"}})
    (here.path / "plain.py").write_text(
        "from river import linear_model\ndef make(): return linear_model.LinearRegression(clip_gradient=1e6)\n"
    )
    here.write(
        [{"id": f"e{n}", "x": {"f0": 1000 * draw.random(), "f1": 900.0}, "y": draw.random()} for n in range(1200)]
    )
    here.train()
    assert "far above that of always predicting their mean" in here.run("guard", "--once", code=1).stdout
    assert here.learner("plain")["serving"] is None
