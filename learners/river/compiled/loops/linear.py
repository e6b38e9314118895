"""Generalised linear models."""

import math

import numpy as np

from learners.machine_code import compiled


@compiled("f8(f8,f8,f8,f8)")
def rate(kind, a, b, n):
    """A learning rate: constant, inverse scaling, or optimal."""
    if kind == 0.0:
        return a
    if kind == 1.0:
        return a / math.pow(n + 1.0, b)
    return 1.0 / (a * (b + n))


@compiled("f8(f8)")
def sigmoid(x):
    """River's, which is 0 and 1 beyond 30."""
    if x < -30.0:
        return 0.0
    if x > 30.0:
        return 1.0
    return 1.0 / (1.0 + math.exp(-x))


@compiled("f8(i8,f8,f8,f8,f8)")
def slope(loss, a, b, y, said):
    """The gradient of a loss by its raw prediction; ``loss`` is an index into ``LOSSES`` of the linear stage."""
    if loss == 0:  # logarithmic
        weight = a if y != 0.0 else b
        sign = 1.0 if y != 0.0 else -1.0
        z = said * sign
        if z > 18.0:
            return weight * math.exp(-z) * -sign
        if z < -18.0:
            return weight * -sign
        return weight * -sign / (math.exp(z) + 1.0)
    if loss == 1:  # hinge
        sign = y * 2.0 - 1.0
        return -sign if sign * said <= a else 0.0
    if loss == 2:  # focal
        sign = y * 2.0 - 1.0
        return sign * (sigmoid(a * (sign * said) + b) - 1.0)
    if loss == 3:  # squared
        return 2.0 * (said - y)
    if loss == 4:  # absolute
        return 1.0 if said > y else -1.0
    if loss == 5:  # Huber
        r = said - y
        if abs(r) <= a:
            return r
        return a if r > 0.0 else -a
    if loss == 6:  # quantile
        return (1.0 if y < said else 0.0) - a
    if loss == 7:  # Cauchy
        d = said - y
        return d / ((d / a) ** b + 1.0)
    # insensitive to small errors
    shifted = y * 2.0 - 1.0
    if said > shifted + a:
        return 1.0
    return -1.0 if said + a < shifted else 0.0


@compiled(
    "i8(i8[::1],i8[::1],f8[::1],f8[::1],f8[::1],f8[::1],b1[::1],f8[::1],i1[::1],f8[::1],f8[::1],f8[::1],f8[::1],i8,i8,f8[::1])"
)
def learn_linear(
    starts, ids, before, after, labels, weights, learns, w, known, first, second, state, settings, loss, optimizer, out
):
    """A generalised linear model; returns how many events were learnt: the next one is River's own to handle.

    ``state``: intercept, iterations. ``settings``: two of the loss, l2, clip, initial weight, three of the rate (kind,
    a, b), three of the intercept's, four of the optimizer, 0.5, 2.0, -1.0.
    """
    l2, clip, begin = settings[2], settings[3], settings[4]
    half, two, minus = settings[15], settings[16], settings[17]
    o0, o1, o2, o3 = settings[11], settings[12], settings[13], settings[14]
    for event in range(len(starts) - 1):
        low, high = starts[event], starts[event + 1]
        said = 0.0
        for k in range(low, high):
            said += (w[ids[k]] if known[ids[k]] else 0.0) * before[k]
        said += state[0]
        if not math.isfinite(said):
            return event
        if not learns[event]:
            out[event] = said
            continue
        fitted = 0.0
        for k in range(low, high):
            fitted += (w[ids[k]] if known[ids[k]] else begin) * after[k]
        fitted += state[0]
        if not math.isfinite(fitted):
            return event
        out[event] = said
        gradient = slope(loss, settings[0], settings[1], labels[event], fitted)
        gradient *= weights[event]
        gradient = max(min(gradient, clip), -clip)
        n = state[1]
        step = rate(settings[5], settings[6], settings[7], n)
        state[0] -= rate(settings[8], settings[9], settings[10], n) * gradient
        if optimizer == 2:
            step = step * (1.0 - o1 ** (n + 1.0)) ** half
            step /= 1.0 - o0 ** (n + 1.0)
        for k in range(low, high):
            i = ids[k]
            if not known[i]:
                known[i] = 1
                w[i] = begin
            g = after[k] * gradient
            if l2 != 0.0:
                g += w[i] * l2
            if optimizer == 0:  # SGD
                w[i] -= g * step
            elif optimizer == 1:  # AdaGrad
                first[i] += g**two
                w[i] -= step / (first[i] + o0) ** half * g
            elif optimizer == 2:  # Adam
                first[i] = o0 * first[i] + (1.0 - o0) * g
                second[i] = o1 * second[i] + (1.0 - o1) * (g * g)
                w[i] -= step * first[i] / (second[i] ** half + o2)
            else:  # FTRL: alpha, beta, l1, l2
                z = first[i]
                if abs(z) > o2:
                    w[i] = -(((o1 + second[i] ** half) / o0 + o3) ** minus) * (z - np.sign(z) * o2)
                s = ((second[i] + g**two) ** half - second[i] ** half) / o0
                first[i] += g - s * w[i]
                second[i] += g**two
        state[1] = n + 1.0
    return len(starts) - 1


@compiled("f8[::1](f8[::1])")
def sigmoids(raw):
    """Of each."""
    out = np.empty(len(raw))
    for k in range(len(raw)):
        out[k] = sigmoid(raw[k])
    return out
