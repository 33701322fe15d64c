"""Rows of a frame in units of the noise on one CPU core: z of candidates.py, compiled.

The background is interpolated as background.interpolate does, to the last digit: down
the columns first, which takes as many numbers as a row has blocks, then along the row.
"""

from __future__ import annotations

import numpy as np

from dials_cnn_screen.spots.background import BLOCK
from dials_cnn_screen.spots.sixteen_cpu import normalise_sixteen
from dials_cnn_screen.util.compiled import njit


@njit()
def row_of_z(data, mask, mean, inverse, down, across, y, at_row, z):
    """z of row y; 0 where the mask is False, and past the last row.

    Args:
        data, mask: (slow, fast).
        mean, inverse: float32 (rows, columns) of blocks.
        down, across: background.steps along slow and fast.
        y: Row.
        at_row: float32 (2, columns), room for mean and inverse of the row.
        z: float32 (width + 2,), written from its second element on.
    """
    if y >= len(data):
        z[:] = 0
        return
    row, used = data[y], mask[y]  # (fast,)
    m, i = at_row
    _interpolate_down(mean, down, y, m)
    _interpolate_down(inverse, down, y, i)
    # Half a block, then from centre to centre, then what is left.
    first = min(BLOCK // 2, len(row))
    _pixels_of_z(row, used, m, i, across, 0, first, z)
    for k in range((len(row) - first) // BLOCK):
        ends = (m[k], m[k + 1]), (i[k], i[k + 1])
        normalise_sixteen(row, used, first, ends[0], ends[1], z, first + 1)
        first += BLOCK
    _pixels_of_z(row, used, m, i, across, first, len(row), z)


@njit()
def _interpolate_down(blocks, down, y, at_row):
    """Interpolate blocks (rows, columns) to row y: at_row (columns,), written."""
    low, high, part = down
    above, below, t = blocks[low[y]], blocks[high[y]], part[y]
    for j in range(len(at_row)):
        at_row[j] = above[j] + (below[j] - above[j]) * t


@njit()
def _pixels_of_z(row, used, mean, inverse, across, first, end, z):
    """z of some pixels of a row.

    Args:
        row, used: (fast,).
        mean, inverse: float32 (columns,), of _interpolate_down.
        across: background.steps along fast.
        first, end: Pixels.
        z: float32 (width + 2,), written.
    """
    low, high, part = across
    for x in range(first, end):
        a, b, t = low[x], high[x], part[x]
        value = np.float32(row[x]) - (mean[a] + (mean[b] - mean[a]) * t)
        value *= inverse[a] + (inverse[b] - inverse[a]) * t
        z[x + 1] = value if used[x] else np.float32(0)


@njit()
def at_pixel(blocks, down, across, y, x):
    """Interpolate blocks (rows, columns) to a pixel: float32."""
    a, b, t = down[0][y], down[1][y], down[2][y]
    i, j = across[0][x], across[1][x]
    left = blocks[a, i] + (blocks[b, i] - blocks[a, i]) * t
    right = blocks[a, j] + (blocks[b, j] - blocks[a, j]) * t
    return left + (right - left) * across[2][x]
