"""Softmax regression."""

import math

import numpy as np

from learners.machine_code import compiled
from learners.river.compiled.loops.linear import rate


@compiled(
    "i8(i8[::1],i8[::1],f8[::1],f8[::1],i8[::1],b1[::1],f8[:,::1],i8[:,::1],f8[:,::1],f8[:,::1],i8[::1],f8[::1],"
    "f8[::1],f8[::1],i8,i8,f8[:,::1])"
)
def learn_softmax(
    starts, ids, before, after, labels, learns, w, known, first, second, counts, iterations, of_class, settings,
    classes, optimizer, out,
):  # fmt: skip
    """Returns how many events were learnt: the next one is River's own to handle.

    Rows of ``w``, ``known``, ``first`` and ``second`` are classes, in River's order; a label of -1 is one that has no
    row yet. ``known`` numbers features in the order in which they got their weight (0: none), ``counts`` says how many
    have one; ``iterations`` and ``of_class`` (weights) are by class. ``settings``: l2, three of the rate, three of the
    optimizer, 0.5, 2.0.
    """
    half, two = settings[7], settings[8]
    o0, o1, o2 = settings[4], settings[5], settings[6]
    slopes = np.empty(classes)
    for event in range(len(starts) - 1):
        low, high = starts[event], starts[event + 1]
        if learns[event] and labels[event] < 0:
            return event
        for c in range(classes):
            if counts[c] < high - low:  # River then goes through the weights, in their order
                return event
        for fresh in range(2 if learns[event] else 1):
            values = after if fresh else before
            largest = -math.inf
            for c in range(classes):
                raw = 0.0
                for k in range(low, high):
                    if known[c, ids[k]]:
                        raw += values[k] * w[c, ids[k]]
                if not math.isfinite(raw):
                    return event
                slopes[c] = raw
                largest = max(largest, raw)
            total = 0.0
            for c in range(classes):
                slopes[c] = math.exp(slopes[c] - largest)
                total += slopes[c]
            for c in range(classes):
                slopes[c] /= total
                if fresh == 0:
                    out[event, c] = slopes[c]
        if not learns[event]:
            continue
        for c in range(classes):
            chance = max(min(slopes[c], 1 - 1e-15), 1e-15)
            loss = of_class[c] * (chance - (1.0 if c == labels[event] else 0.0))
            n = iterations[c]
            step = rate(settings[1], settings[2], settings[3], n)
            if optimizer == 2:
                step = step * (1.0 - o1 ** (n + 1.0)) ** half
                step /= 1.0 - o0 ** (n + 1.0)
            for k in range(low, high):
                i = ids[k]
                g = after[k] * loss + settings[0] * w[c, i]
                if not known[c, i]:
                    counts[c] += 1
                    known[c, i] = counts[c]
                if optimizer == 0:  # SGD
                    w[c, i] -= step * g
                elif optimizer == 1:  # AdaGrad
                    first[c, i] += g**two
                    w[c, i] -= step / (first[c, i] + o0) ** half * g
                else:  # Adam
                    first[c, i] = o0 * first[c, i] + (1.0 - o0) * g
                    second[c, i] = o1 * second[c, i] + (1.0 - o1) * g**two
                    w[c, i] -= step * first[c, i] / (second[c, i] ** half + o2)
            iterations[c] = n + 1.0
    return len(starts) - 1
