"""The compiled loop that reads events of one template: literal bytes, and slots between them that vary.

An event that differs in one literal byte, or has a slot that is not plainly right, is left to the codec. Numbers are
read exactly as ``float`` reads them: up to 19 digits, by the method of Lemire, "Number Parsing at a Gigabyte per
Second", Software: Practice and Experience 51 (2021); whatever that does not settle is left as well.
"""

import math

import numpy as np
import numpy.typing as npt

from learners.machine_code import compiled, inlined

#: what stands in a slot
NUMBER, IDENTITY, LABEL, TIME, WEIGHT, TEXT, TRUTH = range(7)
_SMALLEST, _LARGEST = -342, 308
_DIGITS = 19


def _powers() -> npt.NDArray[np.uint64]:
    """128 bits of each power of five, normalised, high and low halves."""
    rows = []
    for exponent in range(_SMALLEST, _LARGEST + 1):
        if exponent >= 0:
            power = 5**exponent
            shift = power.bit_length() - 128
            power = power >> shift if shift > 0 else power << -shift
        else:
            power = 5**-exponent
            bits = power.bit_length()
            power = (1 << (bits + 127)) // power + 1
            shift = power.bit_length() - 128
            power >>= shift
        rows.append((power >> 64, power & (2**64 - 1)))
    return np.array(rows, np.uint64)


POWERS = _powers()
TENS = np.array([10.0**k for k in range(23)])


@compiled("UniTuple(u8,2)(u8,u8)")
def _product(a, b):
    """All 128 bits: high half, low half."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a1, a0, b1, b0 = a >> half, a & mask, b >> half, b & mask
    low = a0 * b0
    middle = a1 * b0 + (low >> half)
    other = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> half) + (other >> half), (other << half) | (low & mask)


@compiled("f8(u8,i8,u8[:,::1])")
def _rounded(digits, exponent, powers):
    """``digits`` times ten to the ``exponent``, correctly rounded; nan where this does not settle it."""
    if exponent < -300 or exponent > 300:
        return math.nan
    zeros = np.int64(0)
    shifted = digits
    while shifted < np.uint64(1 << 56):
        shifted <<= np.uint64(8)
        zeros += 8
    while shifted < np.uint64(1 << 63):
        shifted <<= np.uint64(1)
        zeros += 1
    row = exponent + 342
    high, low = _product(shifted, powers[row, 0])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more, _ = _product(shifted, powers[row, 1])
        low += more
        if low < more:
            high += np.uint64(1)
    if low == np.uint64(0xFFFFFFFFFFFFFFFF) and (exponent < -27 or exponent > 55):
        return math.nan
    upper = np.int64(high >> np.uint64(63))
    cut = np.uint64(upper + 9)
    mantissa = high >> cut
    power = ((217706 * exponent) >> 16) + 63 + upper - zeros + 1023
    if power <= 0 or power >= 2046:
        return math.nan
    if (
        low <= np.uint64(1)
        and -4 <= exponent <= 23
        and mantissa & np.uint64(3) == np.uint64(1)
        and (mantissa << cut) == high
    ):
        mantissa &= ~np.uint64(1)
    mantissa += mantissa & np.uint64(1)
    mantissa >>= np.uint64(1)
    return math.ldexp(np.float64(mantissa), power - 1023 - 52)


@inlined
def number(data, at, end, powers, tens):
    """A JSON number that begins here: its value, and where it ends; -1: none, or not settled."""
    negative = at < end and data[at] == 45
    if negative:
        at += 1
    digits, count, exponent = np.uint64(0), 0, np.int64(0)
    begin = at
    while at < end and 48 <= data[at] <= 57:
        digits = digits * np.uint64(10) + np.uint64(data[at] - 48)
        at += 1
    if at == begin or (data[begin] == 48 and at - begin > 1):
        return math.nan, -1
    count = at - begin
    if at < end and data[at] == 46:
        at += 1
        begin = at
        while at < end and 48 <= data[at] <= 57:
            digits = digits * np.uint64(10) + np.uint64(data[at] - 48)
            at += 1
        if at == begin:
            return math.nan, -1
        count += at - begin
        exponent -= at - begin
    whole = exponent == 0
    if count > 19:  # leading zeros count as well: few have so many
        return math.nan, -1
    if at < end and (data[at] == 101 or data[at] == 69):
        at += 1
        whole = False
        down = at < end and data[at] == 45
        if at < end and (data[at] == 45 or data[at] == 43):
            at += 1
        begin, power = at, np.int64(0)
        while at < end and 48 <= data[at] <= 57 and at - begin < 5:
            power = power * 10 + np.int64(data[at] - 48)
            at += 1
        if at == begin or (at < end and 48 <= data[at] <= 57):
            return math.nan, -1
        exponent += -power if down else power
    if digits == 0:
        value = 0.0
    elif digits <= np.uint64(1 << 53) and -22 <= exponent <= 22:
        exact = np.float64(np.int64(digits))  # both are exact, and so one rounding
        value = exact * tens[exponent] if exponent >= 0 else exact / tens[-exponent]
    else:
        value = _rounded(digits, exponent, powers)
        if math.isnan(value):
            return value, -1
    if whole and value == 0.0:
        return 0.0, at  # a whole number has no negative zero
    return (-value if negative else value), at


@inlined
def text_end(data, at, end):
    """Behind the closing quote of a plain text that begins here; -1: it is none. Plain: printable ASCII, no escapes."""
    if at >= end or data[at] != 34:
        return -1
    at += 1
    while at < end and data[at] != 34:
        if data[at] < 32 or data[at] > 126 or data[at] == 92:
            return -1
        at += 1
    return at + 1 if at < end else -1


@inlined
def truth_end(data, at, end):
    """Behind ``true`` or ``false``; -1: it is neither."""
    if at + 4 <= end and data[at] == 116 and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
        return at + 4
    if (
        at + 5 <= end and data[at] == 102 and data[at + 1] == 97 and data[at + 2] == 108 and data[at + 3] == 115
        and data[at + 4] == 101
    ):  # fmt: skip
        return at + 5
    return -1


@compiled(
    "void(u1[::1],i8[::1],u1[::1],i8[::1],i1[::1],f8,u8[:,::1],f8[::1],f8[:,::1],i8[:,:,::1],f8[:,::1],i8[:,::1],b1[::1])"
)
def events(data, offsets, literals, ends, kinds, most, powers, tens, numbers, spans, figures, places, good):
    """Read each event of ``data`` (cut at ``offsets``) by the template.

    ``numbers`` gets features, ``spans`` begin and end of what stands in slots of the envelope (by kind), ``figures``
    the values of those that are numbers (nan: it is none), ``places`` where each literal began. ``good``: it fits.
    """
    slots = len(kinds)
    for event in range(len(offsets) - 1):
        begin, end = offsets[event], offsets[event + 1]
        at, column, right = begin, 0, True
        for slot in range(slots + 1):
            places[event, slot] = at - begin
            low, high = (ends[slot - 1] if slot else 0), ends[slot]
            if at + high - low > end:
                right = False
                break
            for k in range(low, high):
                if data[at] != literals[k]:
                    right = False
                    break
                at += 1
            if not right or slot == slots:
                break
            if at >= end:
                right = False
                break
            kind, first = kinds[slot], at
            if kind == 0:
                value, at = number(data, at, end, powers, tens)
                if at < 0 or abs(value) > most:
                    right = False
                    break
                numbers[event, column] = value
                column += 1
                continue
            value = math.nan
            if data[at] == 34:
                at = text_end(data, at, end) if kind not in (4, 6) else -1
            elif data[at] == 116 or data[at] == 102:
                at = truth_end(data, at, end) if kind in (2, 6) else -1
            elif kind < 5:
                value, at = number(data, at, end, powers, tens)
            else:
                at = -1
            if at < 0:
                right = False
                break
            if kind < 5:
                spans[event, kind, 0], spans[event, kind, 1], figures[event, kind] = first - begin, at - begin, value
        good[event] = right and at == end
