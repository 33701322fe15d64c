"""The local background on one CPU core: background.background, compiled.

A strip is a row of blocks: 16 rows of the frame, padded with infinity to whole blocks.
The kernels sum down its columns first, then over the columns of each block, since the
first sum vectorises. ``width`` is the strip's columns, ``n`` its blocks: width = 16 n.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dials_cnn_screen.spots.background import (
    BLOCK,
    CLIP,
    LEAST_WHOLE,
    MIN_USED,
    ROUNDS,
    TAIL,
    Background,
    fill,
    whole_numbers,
)

# No used pixel is above this.
_LARGEST = np.finfo(np.float32).max


def background(data: NDArray, mask: NDArray[np.bool_]) -> Background:
    """The background of a frame, within 1e-4 of background.background.

    The loop over strips is not compiled: within a compiled one the sums over columns
    do not vectorise, and take five times as long.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.
    """
    shape = tuple(-(-n // BLOCK) for n in data.shape)
    whole = whole_numbers(data, mask)
    least_tail = np.float32(TAIL * LEAST_WHOLE * whole)
    moments = np.empty((4, *shape), np.float32)
    mean, deviation, square, cube = moments  # (rows of blocks, n) each
    width = shape[1] * BLOCK
    strip = np.full((BLOCK, width), np.inf, np.float32)  # (16, width)
    # (width,) each
    least, limit, centre, count, total, other = np.empty((6, width), np.float32)
    for i in range(len(mean)):
        _cut_strip(data, mask, i * BLOCK, strip, least)
        _least_of_blocks(least)
        # Sums of what is above the least value keep their digits in float32: a spot
        # that takes them in the first round is left out in the next.
        _subtract(strip, least)
        limit.fill(_LARGEST)
        enough = MIN_USED
        for _ in range(ROUNDS + 1):
            _sums_of_columns(strip, limit, count, total, other)
            _moments(count, total, other, enough, limit, mean[i], deviation[i])
            enough = 1
        _limits_of_tail(mean[i], deviation[i], least_tail, centre, limit)
        _tails_of_columns(strip, centre, limit, count, total, other)
        _means_of_blocks(count, total, square[i])
        _means_of_blocks(count, other, cube[i])
        mean[i] += least[::BLOCK]
    return fill(moments, whole)


@njit(cache=True, nogil=True)
def _cut_strip(data, mask, top, strip, least):
    """The used pixels of the rows from top on, and the least of each column.

    Args:
        data, mask: (slow, fast).
        top: First row.
        strip: (16, width), written; infinity where a pixel is not used.
        least: (width,), written; _LARGEST where a column has no used pixel.
    """
    strip[len(data) - top :] = np.inf
    least[:] = _LARGEST
    for y in range(top, min(top + BLOCK, len(data))):
        _row_of_used(data[y], mask[y], strip[y - top], least)  # (fast,), (width,)


@njit(cache=True, nogil=True)
def _row_of_used(row, used, out, least):
    """One row for _cut_strip: row, used (fast,); out, least (width,), written."""
    for x in range(len(row)):
        out[x] = np.float32(row[x]) if used[x] else np.float32(np.inf)
        least[x] = out[x] if out[x] < least[x] else least[x]


@njit(cache=True, nogil=True)
def _least_of_blocks(least):
    """The least of each block in place of those of its columns: least (width,)."""
    for start in range(0, len(least), BLOCK):
        m = least[start]
        for x in range(start, start + BLOCK):
            m = min(m, least[x])
        for x in range(start, start + BLOCK):
            least[x] = m


@njit(cache=True, nogil=True)
def _subtract(strip, least):
    """Subtract least (width,) from each row of strip (16, width)."""
    for y in range(BLOCK):
        row = strip[y]  # (width,)
        for x in range(len(row)):
            row[x] -= least[x]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sums_of_columns(strip, limit, count, total, square):
    """Number, sum and sum of squares of the values of each column up to a limit.

    Args:
        strip: (16, width).
        limit: (width,).
        count, total, square: (width,), written.
    """
    for x in range(len(limit)):
        n = t = s = np.float32(0)
        for y in range(BLOCK):
            inside = strip[y, x] <= limit[x]
            v = strip[y, x] if inside else np.float32(0)
            n += np.float32(1) if inside else np.float32(0)
            t += v
            s += v * v
        count[x], total[x], square[x] = n, t, s


@njit(
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
    error_model="numpy",
)
def _moments(count, total, square, enough, limit, mean, deviation):
    """Mean and standard deviation of blocks, and what the next round leaves out.

    Args:
        count, total, square: (width,), of _sums_of_columns.
        enough: Blocks with fewer values are NaN.
        limit: (width,), written: mean + CLIP deviations.
        mean, deviation: (n,), written.
    """
    for j in range(len(mean)):
        # Over the 16 columns of block j.
        n = t = s = np.float32(0)
        for x in range(j * BLOCK, (j + 1) * BLOCK):
            n += count[x]
            t += total[x]
            s += square[x]
        m = t / n if n >= enough else np.float32(np.nan)
        d = np.sqrt(max(s / n - m * m, np.float32(0)))
        mean[j], deviation[j] = m, d
        for x in range(j * BLOCK, (j + 1) * BLOCK):
            limit[x] = m + np.float32(CLIP) * d


@njit(cache=True, nogil=True)
def _limits_of_tail(mean, deviation, least_tail, centre, limit):
    """The mean of each block at its columns, and how far up its tail counts.

    Args:
        mean, deviation: (n,).
        least_tail: TAIL times the least deviation.
        centre, limit: (width,), written: mean, and TAIL deviations.
    """
    for j in range(len(mean)):
        far = max(np.float32(TAIL) * deviation[j], least_tail)
        for x in range(j * BLOCK, (j + 1) * BLOCK):
            centre[x], limit[x] = mean[j], far


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _tails_of_columns(strip, centre, limit, count, square, cube):
    """Number, and sums of squares and cubes of what is over the mean, cut at a limit.

    Args:
        strip: (16, width).
        centre, limit: (width,), of _limits_of_tail.
        count, square, cube: (width,), written.
    """
    for x in range(len(limit)):
        n = s = c = np.float32(0)
        for y in range(BLOCK):
            used = strip[y, x] <= _LARGEST
            v = strip[y, x] - centre[x]
            v = limit[x] if v > limit[x] else v
            v = v if used else np.float32(0)
            n += np.float32(1) if used else np.float32(0)
            s += v * v
            c += v * v * v
        count[x], square[x], cube[x] = n, s, c


@njit(
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
    error_model="numpy",
)
def _means_of_blocks(count, total, mean):
    """Means of blocks, mean (n,), from the columns' count, total (width,)."""
    for j in range(len(mean)):
        n = t = np.float32(0)
        for x in range(j * BLOCK, (j + 1) * BLOCK):
            n += count[x]
            t += total[x]
        mean[j] = t / n
