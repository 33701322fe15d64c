"""Which overloaded pixels are signal, and what values they get.

An overloaded pixel has a value above the trusted range, and no mask takes it away. What
it means depends on the detector: the middle of a strong spot, a hot pixel, or, where a
detector writes the largest number of its pixels' type, a gap, a dead pixel or a module
that is off. The value does not tell them apart; their shapes do:

1. A pixel is signal only in a square of 2 x 2 overloaded ones. Hot and dead pixels are
   single or in lines. A spot so strong that it overloads has bright flanks, so that it
   is seen where a single pixel in its middle is masked.
2. Groups of such pixels, connected by edges or corners, are signal up to MOST_PIXELS.
   A gap, a module, the direct beam and the rim of a beam stop are larger.
3. What a mask leaves of a larger group is no signal: a group with a masked neighbour
   that is above the range too.

All others stay masked. The pixels of a group that is signal get

    high + (depth - 1) (high - mean around)

where high is the greatest trusted value and depth is 1 at the edge of the group, 2 next
to that, and so on: it rises inwards as it does from around the group to its edge. How
bright the middle was is not known, but a spot has its maximum there, and the networks
look for maxima: they see none on a plateau. Noise at the level of saturation is nearly
as bright around a group, and makes no maxima.
"""

from __future__ import annotations

import numpy as np

from dials_cnn_screen.util.compiled import njit

# As many as 13 x 13, what the default model sees of a spot. By hand.
MOST_PIXELS = 169
# Where more of an image is overloaded, nothing is signal, and no time or memory goes
# into it: the gaps of an Eiger 16M are 7%. By hand.
MOST_SHARE = 1 / 8
# The mean around a group is that of a rectangle this much larger on each side, pixels.
# By hand: less is on the flanks of wide spots.
REACH = 5
# States of pixels: those of a mask, and those of overloaded pixels.
MASKED, USED, OVERLOADED, _IN_SQUARE, _IN_GROUP = np.arange(5, dtype=np.uint8)


@njit()
def use_overloads(states, rows, data, high):
    """Use the overloaded pixels that are signal, and mask the others.

    The same as this, of scipy, without its work on the rest of the image::

        overloaded, eight = states == OVERLOADED, np.ones((3, 3))
        squares = ndimage.binary_opening(overloaded, np.ones((2, 2)))
        labels, n = ndimage.label(squares, eight)
        for group in (labels == i + 1 for i in range(n)):
            near = ndimage.binary_dilation(group, eight)
            cut = (near & (states == MASKED) & (data > high)).any()
            if group.sum() <= MOST_PIXELS and not cut:
                i, j = np.nonzero(ndimage.binary_dilation(group, eight, REACH))
                around = np.s_[i.min() : i.max() + 1, j.min() : j.max() + 1]
                around = np.minimum(data[around][states[around] == USED], high)
                mean = around.mean() if around.size else high
                depth = ndimage.distance_transform_cdt(np.pad(group, 1), "chessboard")
                values = high + (depth[1:-1, 1:-1] - 1) * (high - mean)
                data[group], states[group] = values[group], USED
        states[states == OVERLOADED] = MASKED

    Args:
        states: uint8 (slow, fast), MASKED, USED or OVERLOADED; written to, so that it
            is a mask.
        rows: bool (slow,), True where a row has overloaded pixels.
        data: float32 (slow, fast), ADU; overloaded pixels that are signal are written.
        high: The greatest trusted value, ADU.
    """
    pixels = _find_overloads(states, rows)
    for y, x in pixels:
        if y + 1 < states.shape[0] and x + 1 < states.shape[1]:
            _mark_square(states, y, x)
    for y, x in pixels:
        if states[y, x] == _IN_SQUARE:
            group = _take_group(states, y, x)
            if len(group) <= MOST_PIXELS and not _is_cut(states, group, data, high):
                _fill_group(states, group, data, high)
    for y, x in pixels:
        if states[y, x] != USED:
            states[y, x] = MASKED


@njit()
def _find_overloads(states, rows):
    """The (slow, fast) indices of overloaded pixels; none, and all masked, where these
    are more than MOST_SHARE of the image."""
    n = 0
    for y in np.nonzero(rows)[0]:
        n += np.count_nonzero(states[y] == OVERLOADED)
    pixels = [(0, 0) for _ in range(0)]  # of a type that numba knows
    for y in np.nonzero(rows)[0]:
        for x in range(states.shape[1]):
            if states[y, x] != OVERLOADED:
                continue
            if n <= MOST_SHARE * states.size:
                pixels.append((y, x))
            else:
                states[y, x] = MASKED
    return pixels


@njit()
def _mark_square(states, y, x):
    """Mark the square of 2 x 2 pixels that begins at a pixel if all are overloaded."""
    upper = min(states[y, x], states[y, x + 1])
    lower = min(states[y + 1, x], states[y + 1, x + 1])
    if min(upper, lower) >= OVERLOADED:
        states[y, x] = states[y, x + 1] = _IN_SQUARE
        states[y + 1, x] = states[y + 1, x + 1] = _IN_SQUARE


@njit()
def _take_group(states, y, x):
    """Mark the group of a pixel; the (slow, fast) indices of its pixels."""
    group = [(y, x)]
    states[y, x] = _IN_GROUP
    seen = 0
    while seen < len(group):
        top, bottom, left, right = _window(states, group[seen], 1)
        seen += 1
        for i in range(top, bottom):
            for j in range(left, right):
                if states[i, j] == _IN_SQUARE:
                    states[i, j] = _IN_GROUP
                    group.append((i, j))
    return group


@njit()
def _is_cut(states, group, data, high):
    """Whether a mask cuts a group out of a larger one."""
    for pixel in group:
        top, bottom, left, right = _window(states, pixel, 1)
        for y in range(top, bottom):
            for x in range(left, right):
                if states[y, x] == MASKED and data[y, x] > high:
                    return True
    return False


@njit()
def _fill_group(states, group, data, high):
    """Use the pixels of a group, with values from its edge inwards.

    states and data are written to.
    """
    slope = high - _mean_around(states, group, data, high)
    greatest = np.float64(np.finfo(np.float32).max)
    value = np.float64(high)
    while len(group):
        inner = [pixel for pixel in group if _is_inside(states, pixel)]
        for pixel in group:
            data[pixel] = value
            states[pixel] = USED
        for pixel in inner:
            states[pixel] = _IN_GROUP
        value = min(value + slope, greatest)
        group = inner


@njit()
def _mean_around(states, group, data, high):
    """Mean of the used pixels around a group, ADU; high if there are none."""
    total, n = 0.0, 0
    # No pixel counts twice: the rectangle of all windows.
    tops, bottoms, lefts, rights = states.shape[0], 0, states.shape[1], 0
    for pixel in group:
        top, bottom, left, right = _window(states, pixel, REACH)
        tops, bottoms = min(tops, top), max(bottoms, bottom)
        lefts, rights = min(lefts, left), max(rights, right)
    for y in range(tops, bottoms):
        for x in range(lefts, rights):
            if states[y, x] == USED:
                total += min(data[y, x], high)
                n += 1
    return total / n if n else np.float64(high)


@njit()
def _is_inside(states, pixel):
    """Whether a pixel and its 8 neighbours are all in its group."""
    top, bottom, left, right = _window(states, pixel, 1)
    n = 0
    for y in range(top, bottom):
        for x in range(left, right):
            n += states[y, x] == _IN_GROUP
    return n == 9


@njit()
def _window(states, pixel, reach):
    """Rows and columns around a pixel: first, last + 1, first, last + 1."""
    y, x = pixel
    rows, columns = states.shape
    return (
        max(y - reach, 0),
        min(y + reach + 1, rows),
        max(x - reach, 0),
        min(x + reach + 1, columns),
    )
