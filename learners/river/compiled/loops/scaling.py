"""Scalers, and where features stand in events."""

from learners.machine_code import compiled


@compiled("void(i8[::1],i8[::1],f8[::1],f8[::1],b1[::1],f8[::1],f8[::1],f8[::1],f8[::1],i1[::1],b1,f8,f8[::1],f8[::1])")
def standardise(
    starts, ids, before, after, learns, counts, means, variances, deviations, seen, with_std, half, out_before,
    out_after,
):  # fmt: skip
    """``StandardScaler``: transform as it is, learn, transform again."""
    for event in range(len(starts) - 1):
        for k in range(starts[event], starts[event + 1]):
            i = ids[k]
            seen[i] = max(seen[i], 1)
            if not with_std:
                out_before[k] = before[k] - means[i]
            elif variances[i] != 0.0:
                out_before[k] = (before[k] - means[i]) / deviations[i]
            else:
                out_before[k] = 0.0
            if not learns[event]:
                continue
            seen[i] = 2
            x = after[k]
            counts[i] += 1.0
            old = means[i]
            means[i] += (x - old) / counts[i]
            if not with_std:
                out_after[k] = x - means[i]
                continue
            variances[i] += ((x - old) * (x - means[i]) - variances[i]) / counts[i]
            deviations[i] = variances[i] ** half
            out_after[k] = (x - means[i]) / deviations[i] if variances[i] != 0.0 else 0.0


@compiled("void(i8[::1],i8[::1],f8[::1],f8[::1],b1[::1],f8[::1],f8[::1],i1[::1],f8[::1],f8[::1])")
def scale_to_range(starts, ids, before, after, learns, lowest, highest, seen, out_before, out_after):
    """``MinMaxScaler``."""
    for event in range(len(starts) - 1):
        for k in range(starts[event], starts[event + 1]):
            i = ids[k]
            seen[i] = max(seen[i], 1)
            d = highest[i] - lowest[i]
            out_before[k] = (before[k] - lowest[i]) / d if d != 0.0 else 0.0
            if not learns[event]:
                continue
            seen[i] = 2
            lowest[i] = min(lowest[i], after[k])
            highest[i] = max(highest[i], after[k])
            d = highest[i] - lowest[i]
            out_after[k] = (after[k] - lowest[i]) / d if d != 0.0 else 0.0


@compiled("void(i8[::1],i8[::1],f8[::1],f8[::1],b1[::1],f8[::1],i1[::1],f8[::1],f8[::1])")
def scale_by_largest(starts, ids, before, after, learns, largest, seen, out_before, out_after):
    """``MaxAbsScaler``."""
    for event in range(len(starts) - 1):
        for k in range(starts[event], starts[event + 1]):
            i = ids[k]
            seen[i] = max(seen[i], 1)
            out_before[k] = before[k] / largest[i] if largest[i] != 0.0 else 0.0
            if not learns[event]:
                continue
            seen[i] = 2
            largest[i] = max(largest[i], abs(after[k]))
            out_after[k] = after[k] / largest[i] if largest[i] != 0.0 else 0.0


@compiled("void(i8[::1],i8[::1],i8[::1],i8[:,::1])")
def place_of_each(starts, ids, slots, out):
    """Where each chosen feature of each event stands: ``out`` has the entry, by event and slot; -1: nowhere."""
    out[:, :] = -1
    for event in range(len(starts) - 1):
        for k in range(starts[event], starts[event + 1]):
            if slots[ids[k]] >= 0:
                out[event, slots[ids[k]]] = k
