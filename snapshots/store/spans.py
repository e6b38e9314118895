"""Sets of whole numbers as spans: what is long and nearly without gaps stays short in a signed statement."""

from collections.abc import Collection, Sequence

Spans = list[tuple[int, int]]


def spans_of(numbers: Collection[int]) -> Spans:
    """The spans of a set, each its first and last number.

    >>> spans_of({7, 1, 2, 3})
    [(1, 3), (7, 7)]
    """
    found: Spans = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def numbers_of(spans: Sequence[tuple[int, int]]) -> set[int]:
    """The set that spans stand for.

    >>> sorted(numbers_of([(1, 3), (7, 7)]))
    [1, 2, 3, 7]
    """
    return {number for first, last in spans for number in range(first, last + 1)}
