"""How many events are scored for comparisons: as many as 5 % of the learners' time allow."""

import pytest

from stream.train.sampling import Sampling


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def after(share: float | None, busy: float, seconds: int = 3) -> int:
    """The stride after some seconds in which the trainer was busy for this share of the time."""
    clock = Clock()
    sampling = Sampling(share, clock)
    for _ in range(seconds * 100):
        clock.now += busy / 100
        with sampling.waiting():
            clock.now += (1 - busy) / 100
    return sampling.stride


@pytest.mark.parametrize(
    ("busy", "stride"), [(0.001, 1), (0.04, 1), (0.09, 2), (0.2, 5), (0.45, 10), (0.6, 20), (1.0, 20)]
)
def test_it_costs_a_twentieth_of_the_time_at_most(busy: float, stride: int) -> None:
    """Of a trainer that is busy for half of the time every tenth event is scored: 5 % of all time."""
    assert after(None, busy) == stride
    assert busy / stride <= 0.05 + 1e-9


@pytest.mark.parametrize(("share", "stride"), [(0.05, 20), (0.5, 2), (1.0, 1)])
def test_a_share_that_is_set_stays(share: float, stride: int) -> None:
    """However busy it is."""
    assert {after(share, busy) for busy in (0.01, 1.0)} == {stride}
