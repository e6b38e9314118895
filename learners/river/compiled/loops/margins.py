"""Passive-aggressive models, and the approximate large margin algorithm."""

import math

import numpy as np

from learners.machine_code import compiled


@compiled("f8(i8[::1],f8[::1],i8,i8,f8[::1],i8[::1],i8)")
def dot(ids, values, low, high, w, ranks, known):
    """The sum of River's ``dot`` over two dicts, which goes through the shorter one; nan where that is another order.

    ``ranks`` numbers the features that have a weight in the order in which they got it (0: none), ``known`` of them.
    """
    total, last = 0.0, 0
    for k in range(low, high):
        rank = ranks[ids[k]]
        if high - low >= known and (rank == 0 or rank < last):
            return math.nan
        if rank:
            total += values[k] * w[ids[k]]
            last = rank
    return total


@compiled("f8(f8[::1],i8,i8)")
def length(values, low, high):
    """Euclidean norm."""
    total = 0.0
    for k in range(low, high):
        total += values[k] * values[k]
    return math.sqrt(total)


@compiled("i8(i8[::1],i8[::1],f8[::1],f8[::1],f8[::1],b1[::1],f8[::1],i8[::1],f8[::1],f8[::1],b1,f8[::1])")
def learn_passive_aggressive(starts, ids, before, after, labels, learns, w, ranks, state, settings, number, out):
    """Returns how many events were learnt: the next one is River's own to handle.

    ``state``: intercept, how many features have a weight. ``settings``: C, mode, whether the intercept is learnt, eps.
    ``number``: a regression.
    """
    for event in range(len(starts) - 1):
        low, high = starts[event], starts[event + 1]
        said = dot(ids, before, low, high, w, ranks, np.int64(state[1])) + state[0]
        fitted = dot(ids, after, low, high, w, ranks, np.int64(state[1])) + state[0] if learns[event] else 0.0
        if not math.isfinite(said) or not math.isfinite(fitted):
            return event
        out[event] = said
        if not learns[event]:
            continue
        y = labels[event]
        sign = y * 2.0 - 1.0
        loss = max(abs(fitted - sign) - settings[3] if number else 1.0 - sign * fitted, 0.0)
        norm = length(after, low, high)
        square = norm * norm
        if settings[1] == 2.0:
            tau = loss / (square + 0.5 / settings[0])
        elif square > 0.0:
            tau = loss / square if settings[1] == 0.0 else min(settings[0], loss / square)
        else:
            tau = 0.0
        step = tau * (np.sign(y - fitted) if number else sign)
        for k in range(low, high):
            i = ids[k]
            if ranks[i] == 0:
                state[1] += 1.0
                ranks[i] = np.int64(state[1])
            w[i] += step * after[k]
        if settings[2] != 0.0:
            state[0] += step
    return len(starts) - 1


@compiled("i8(i8[::1],i8[::1],f8[::1],f8[::1],f8[::1],b1[::1],f8[::1],i8[::1],f8[::1],f8[::1],f8[::1])")
def learn_alma(starts, ids, before, after, labels, learns, w, ranks, state, settings, out):
    """The same for ALMA with p = 2. ``state``: k, how many features have a weight. ``settings``: alpha, B, C."""
    for event in range(len(starts) - 1):
        low, high = starts[event], starts[event + 1]
        said = dot(ids, before, low, high, w, ranks, np.int64(state[1]))
        fitted = dot(ids, after, low, high, w, ranks, np.int64(state[1])) if learns[event] else 0.0
        if not math.isfinite(said) or not math.isfinite(fitted):
            return event
        out[event] = said
        if not learns[event]:
            continue
        sign = labels[event] * 2.0 - 1.0
        gamma = settings[1] * 1.0 / math.sqrt(state[0])
        if sign * fitted >= (1.0 - settings[0]) * gamma:
            continue
        eta = settings[2] / (1.0 * math.sqrt(state[0]))
        for k in range(low, high):
            i = ids[k]
            if ranks[i] == 0:
                state[1] += 1.0
                ranks[i] = np.int64(state[1])
            w[i] += eta * sign * after[k]
        total = 0.0
        for i in range(len(w)):
            total += w[i] * w[i]
        shrunk = max(1.0, math.sqrt(total))
        for k in range(low, high):
            w[ids[k]] /= shrunk
        state[0] += 1.0
    return len(starts) - 1
