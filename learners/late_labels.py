"""Weights that make up for a yes which came after a no was learnt. Sources: Ktena et al. 2019; Chapelle 2014.

``retract``: a late yes also takes back the step that the no was. With logistic loss the two steps together are
(1 - p) + p long, and one step of weight 1 / (1 - p) is as long. ``fnw`` (fake-negative weighting): every no is weighted
by what it is expected to be worth, (1 - p)(1 + p), and a late yes by 1 + p. p is what the learner says just now, so
that nothing has to be kept for it; it is capped, since a weight that grows with p pushes p up further.
"""

_MOST_RETRACTED = 5.0
_MOST_CERTAIN = 0.8


def weight_of_no(correction: str, probability: float | None) -> float:
    """The weight of an event that is learnt as no since its label has not come.

    >>> weight_of_no("fnw", 0.5), weight_of_no("retract", 0.5)
    (0.75, 1.0)
    """
    if correction != "fnw" or probability is None:
        return 1.0
    p = min(probability, _MOST_CERTAIN)
    return (1 - p) * (1 + p)


def weight_of_late_yes(correction: str, probability: float | None) -> float:
    """The weight of a yes that came after a no was learnt.

    >>> weight_of_late_yes("retract", 0.5), weight_of_late_yes("retract", 1.0), weight_of_late_yes("fnw", 0.5)
    (2.0, 5.0, 1.5)
    """
    if probability is None:
        return 1.0
    if correction == "fnw":
        return 1 + min(probability, _MOST_CERTAIN)
    return min(_MOST_RETRACTED, 1 / max(1e-9, 1 - probability))
