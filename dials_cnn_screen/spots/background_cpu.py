"""The local background on one CPU core: background.background, compiled.

A strip, a row of blocks, is cut from the frame row by row: the frame is read once, in
order. Then each block is copied together, 256 values, infinity where unused, so that
its sums are simple loops over 1 kB in cache, and a block whose clipping leaves out
nothing more is done.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.spots.background import (
    BLOCK,
    CLIP,
    EXCHANGES,
    LEAST_WHOLE,
    MIN_USED,
    ROUNDS,
    STEP,
    TAIL,
    Background,
    block_values,
    limited,
)
from dials_cnn_screen.spots.sixteen_cpu import (
    copy_sixteen,
    least_of_256,
    sums_of_256,
    tails_of_256,
)
from dials_cnn_screen.util.compiled import njit

# No used pixel is above this.
_LARGEST = np.finfo(np.float32).max
_INFINITY = np.float32(np.inf)
_EXCHANGES = np.array(EXCHANGES)


def background(data: NDArray, mask: NDArray[np.bool_]) -> Background:
    """The background of a frame, within 1e-4 of background.background.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.
    """
    whole = data.dtype.kind in "iu" or _whole_numbers(data, mask)
    moments = _moments_of_blocks(data, mask, np.float32(TAIL * LEAST_WHOLE * whole))
    values = block_values(moments)
    _fill_missing(values)
    mean, deviation, tail, skew = values  # (rows, columns) each
    tail, skew = _median_of_neighbours(tail), _median_of_neighbours(skew)
    deviation = _noisiest_neighbour(np.maximum(deviation, tail))
    return limited(mean, deviation, skew, whole)


@njit()
def _whole_numbers(data, mask):
    """background.whole_numbers."""
    for y in range(0, len(data), BLOCK):
        row, used = data[y], mask[y]  # (fast,)
        n = np.int32(0)
        for x in range(len(row)):
            n += np.int32((row[x] != np.floor(row[x])) & used[x])
        if n:
            return False
    return True


@njit(error_model="numpy")
def _moments_of_blocks(data, mask, least_tail):
    """Moments of the blocks of a frame.

    Args:
        data, mask: (slow, fast).
        least_tail: float32, TAIL times the least deviation.

    Returns:
        float32 (4, rows, columns) of blocks, as background.fill takes them.
    """
    rows, n = -(-data.shape[0] // BLOCK), -(-data.shape[1] // BLOCK)
    moments = np.empty((4, rows, n), np.float32)
    strip = np.full((BLOCK, n * BLOCK), _INFINITY, np.float32)
    block = np.empty(BLOCK * BLOCK, np.float32)
    for i in range(rows):
        _cut_strip(data, mask, i * BLOCK, strip)
        for j in range(n):
            for y in range(BLOCK):
                copy_sixteen(strip[y], j * BLOCK, block, y * BLOCK)
            # Sums of what is above the least value keep their digits in float32: a
            # spot that takes them in the first round is left out in the next.
            least = least_of_256(block)
            count, mean, deviation = _clipped(block, least)
            centre = mean + least
            limit = max(np.float32(TAIL) * deviation, least_tail)
            square, cube = tails_of_256(block, centre, limit)
            moments[0, i, j], moments[1, i, j] = centre, deviation
            moments[2, i, j], moments[3, i, j] = square / count, cube / count
    return moments


@njit()
def _cut_strip(data, mask, top, strip):
    """The used pixels of the rows from top on.

    Args:
        data, mask: (slow, fast).
        top: First row.
        strip: (16, 16 n), written; infinity where a pixel is not used. Beyond the last
            column it has to be infinity before.
    """
    for y in range(BLOCK):
        if top + y < len(data):
            _row_of_used(data[top + y], mask[top + y], strip[y])
        else:
            strip[y] = _INFINITY


@njit()
def _row_of_used(row, used, out):
    """One row as float32, infinity where not used: row, used (fast,)."""
    for x in range(len(row)):
        # Read in any case: a read on condition does not vectorise as well.
        value = np.float32(row[x])
        out[x] = value if used[x] else _INFINITY


@njit(error_model="numpy")
def _clipped(block, least):
    """Number of used values; mean over least and deviation, outliers clipped.

    Returns:
        Number, mean and deviation, float32; NaN of fewer than MIN_USED values.
    """
    used, total, square = sums_of_256(block, least, _LARGEST)
    if used < MIN_USED:
        return used, np.float32(np.nan), np.float32(np.nan)
    mean, deviation = _mean_and_deviation(used, total, square)
    inside = used
    for _ in range(ROUNDS):
        limit = mean + np.float32(CLIP) * deviation
        count, total, square = sums_of_256(block, least, limit)
        # The same values have the same limit.
        if count == inside:
            break
        inside = count
        mean, deviation = _mean_and_deviation(count, total, square)
    return used, mean, deviation


@njit(error_model="numpy")
def _mean_and_deviation(count, total, square):
    mean = total / count
    return mean, np.sqrt(max(square / count - mean * mean, np.float32(0)))


@njit()
def _fill_missing(values):
    """background.fill_missing, in place: float32 (4, rows, columns)."""
    _, rows, columns = values.shape
    missing = [
        (i, j) for i in range(rows) for j in range(columns) if np.isnan(values[0, i, j])
    ]
    if len(missing) == rows * columns:
        values[:] = 0
        return
    means = np.empty((len(missing), 4), np.float32)
    while len(missing):
        # All from the blocks that had values before.
        for k, (i, j) in enumerate(missing):
            means[k] = _mean_of_neighbours(values, i, j)
        for k, (i, j) in enumerate(missing):
            values[:, i, j] = means[k]
        missing = [(i, j) for i, j in missing if np.isnan(values[0, i, j])]


@njit()
def _mean_of_neighbours(values, i, j):
    """Mean of the values (4,) of the blocks around one; NaN where none has any."""
    _, rows, columns = values.shape
    total, count = np.zeros(4, np.float32), 0
    for y in range(max(i - 1, 0), min(i + 2, rows)):
        for x in range(max(j - 1, 0), min(j + 2, columns)):
            if not np.isnan(values[0, y, x]):
                total += values[:, y, x]
                count += 1
    return total / np.float32(count) if count else total * np.float32(np.nan)


@njit()
def _median_of_neighbours(values):
    """Median over 3 x 3 blocks, edges repeated: float32 (rows, columns)."""
    rows, columns = values.shape
    result = np.empty((rows, columns), np.float32)
    nine = np.empty((9, columns), np.float32)
    for i in range(rows):
        for k in range(3):
            row = values[min(max(i + k - 1, 0), rows - 1)]
            left, middle, right = nine[3 * k], nine[3 * k + 1], nine[3 * k + 2]
            left[0], left[1:] = row[0], row[:-1]
            middle[:] = row
            right[-1], right[:-1] = row[-1], row[1:]
        for k in range(len(_EXCHANGES)):
            _exchange(nine[_EXCHANGES[k, 0]], nine[_EXCHANGES[k, 1]])
        result[i] = nine[4]
    return result


@njit()
def _exchange(low, high):
    """The smaller of each pair to low, the larger to high: (columns,) each."""
    for x in range(len(low)):
        a, b = low[x], high[x]
        low[x], high[x] = (a, b) if a < b else (b, a)


@njit()
def _noisiest_neighbour(deviation):
    """Step 3 of background.py: deviation, float32 (rows, columns)."""
    rows, columns = deviation.shape
    result = deviation.copy()
    for i in range(rows):
        for j in range(columns):
            most = deviation[i, j]
            for y in range(max(i - 1, 0), min(i + 2, rows)):
                for x in range(max(j - 1, 0), min(j + 2, columns)):
                    most = max(most, deviation[y, x])
            if most > np.float32(STEP) * deviation[i, j]:
                result[i, j] = most
    return result
