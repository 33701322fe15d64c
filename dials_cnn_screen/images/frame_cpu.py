"""From raw pixels to those of a frame, in one pass on one CPU core."""

from __future__ import annotations

import numpy as np

from dials_cnn_screen.images.overloads_cpu import OVERLOADED, use_overloads
from dials_cnn_screen.util.compiled import njit

# The places of infinity and of minus infinity by _place.
INFINITY, MINUS_INFINITY = np.int32(0x7F800000), np.int32(~0x7F800000)


@njit()
def _place(number):
    """An integer for a number as float32, in the same order.

    Least and greatest of integers are found many at a time, those of numbers that might
    be NaN one by one.
    """
    bits = np.float32(number).view(np.int32)
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@njit()
def _numbers(least, most):
    """The numbers at two places."""
    places = np.array([least, most])
    bits = places ^ ((places >> 31) & 0x7FFFFFFF)
    numbers = bits.astype(np.int32).view(np.float32)
    return numbers[0], numbers[1]


@njit()
def _row_range(row, used, least, most):
    """Least and greatest place: of the used pixels of a row, and of two more."""
    for x in range(len(row)):
        place = _place(row[x])
        least = min(least, place if used[x] else INFINITY)
        most = max(most, place if used[x] else MINUS_INFINITY)
    return least, most


@njit()
def used_range(data, mask):
    """Least and greatest of the used pixels of a frame, as float32.

    The same as ``data[mask].min(), data[mask].max()``, without a copy.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.

    Returns:
        Two numbers; (inf, -inf) where no pixel is used.
    """
    least, most = INFINITY, MINUS_INFINITY
    for y in range(data.shape[0]):
        least, most = _row_range(data[y], mask[y], least, most)
    return _numbers(least, most)


@njit()
def fill_frame(raw, static_mask, low, high, data, mask):
    """Pixels as float32 and which of them are used, from raw ones.

    A pixel is used where the static mask says so, its raw value is trusted, and it is
    finite as float32. One that is not finite becomes 0. One above the greatest trusted
    value is used too where it is signal, with a value by overloads_cpu.py.

    Args:
        raw: (slow, fast) integers or floating-point numbers, ADU.
        static_mask: bool (slow, fast), True = use.
        low, high: The least and greatest trusted value, of the type of raw.
        data: float32 (slow, fast); written to.
        mask: bool (slow, fast); written to.

    Returns:
        Least and greatest of the used pixels, as used_range has them.
    """
    least, most = INFINITY, MINUS_INFINITY
    greatest = np.finfo(np.float32).max
    overloads = np.zeros(raw.shape[0], np.bool_)  # (slow,), rows that have any
    for y in range(raw.shape[0]):
        values, static = raw[y], static_mask[y]  # (fast,)
        row, used = data[y], mask[y]  # (fast,)
        overloaded = False
        for x in range(len(values)):
            value = values[x]
            number = np.float32(value)
            finite = abs(number) <= greatest
            row[x] = number if finite else np.float32(0)
            used[x] = static[x] & (low <= value) & (value <= high) & finite
            overloaded |= static[x] & (value > high) & finite
        overloads[y] = overloaded
        least, most = _row_range(row, used, least, most)
    # Where the range is no range, nothing is known of what is above it.
    if low < high and overloads.any():
        _use_raw_overloads(raw, static_mask, high, overloads, data, mask)
        for y in np.nonzero(overloads)[0]:
            least, most = _row_range(data[y], mask[y], least, most)
    return _numbers(least, most)


@njit()
def _use_raw_overloads(raw, static_mask, high, rows, data, mask):
    """Use the overloaded pixels that are signal.

    Args:
        raw, static_mask, high, data, mask: As of fill_frame; the last two are filled,
            overloaded pixels are masked.
        rows: bool (slow,), True where a row has overloaded pixels; no other is read.
    """
    greatest = np.finfo(np.float32).max
    states = mask.view(np.uint8)  # (slow, fast)
    for y in np.nonzero(rows)[0]:
        values, static, row = raw[y], static_mask[y], states[y]  # (fast,)
        for x in range(len(values)):
            finite = abs(np.float32(values[x])) <= greatest
            overloaded = static[x] & (values[x] > high) & finite
            row[x] = OVERLOADED if overloaded else row[x]
    use_overloads(states, rows, data, high)


@njit()
def mark_pixels(raw, top, marked):
    """Pixels as int32, with -1 and -2 for those that a detector has no value of.

    Args:
        raw: (slow, fast) integers of 32 bits or less.
        top: The numbers top - 1 and top - 2 stand for such a pixel.
        marked: int32 (slow, fast); written to.
    """
    for y in range(raw.shape[0]):
        values, row = raw[y], marked[y]  # (fast,)
        for x in range(len(values)):
            value = np.int32(values[x])
            value = np.int32(-1) if value == np.int32(top - 1) else value
            row[x] = np.int32(-2) if value == np.int32(top - 2) else value
