"""Spot candidates on one CPU core: candidates.find_candidates, compiled.

After the background, a few rows give the standard deviation of weighted sums. Then one
pass over the frame keeps three rows of z at a time. Few pixels are strong enough for a
candidate: the others are left out by bounds, stretches of a row at a time, and strength
is computed for the strong ones alone. Patches are computed for the chosen maxima.

The kernels interpolate the background as background.interpolate does: along the rows
for the whole frame (_across), down the columns for each row (low, high, part: of
background.steps along slow, (slow,) each). Rows of z and of strength have one element
more at either end, 0 and -infinity, so that each pixel has two neighbours; ``width`` is
their length without these two, the frame's columns rounded up to whole stretches.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots.background import steps
from dials_cnn_screen.spots.background_cpu import background
from dials_cnn_screen.spots.candidates import (
    DEPTHS,
    LEAST_SKEW,
    LEVELS,
    NORM,
    PATCH,
    PIXEL_HANDICAP,
    REACH,
    ROUNDING,
    SAMPLE,
    SUM_SKEW,
    Candidates,
    CandidateSearch,
)

# Room for so many strong pixels at first; noise alone gives some 1 in 2000. By hand.
_FIRST_STRONG = 8192
# Pixels of a row that are searched together. By hand: a few SIMD registers.
_STRETCH = 64
_ROW_STEP, _COLUMN_STEP = (s.step for s in SAMPLE)
_LEAST, _DEPTHS = LEVELS[0], np.array(DEPTHS, np.float32)
# What may be a candidate is over this before it is rounded.
_FAR = np.float32(_LEAST - 1 / ROUNDING)
# Of a patch's two layers, that of z.
_LAYER_OF_Z = np.array([True, False])[:, None, None]


def find_candidates(
    data: NDArray,
    mask: NDArray[np.bool_],
    beam_centre: tuple[float, float],
    search: CandidateSearch,
) -> Candidates:
    """The candidates of one frame, within 2e-4 of candidates.find_candidates.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.
        beam_centre: (slow, fast), pixels, as in Frame.
        search: How many are kept.
    """
    mean, inverse, skew = background(data, mask)  # (rows, columns) of blocks
    down, across = (
        steps(n, blocks) for n, blocks in zip(data.shape, mean.shape, strict=True)
    )
    frame = (data, mask, _across(mean, *across), _across(inverse, *across), *down)
    spread = reference.sum_deviation(_sample_sums(*frame))
    skew = _across(skew, *across)  # (rows, fast)
    # (maxima, 2), (maxima, 4), (depths,)
    positions, heights, low = _find_maxima(*frame, skew, spread)
    strength, z, summed, skew = heights.T  # (maxima,) each
    order, total = reference.rank(strength, search)
    slow, fast = positions[order].T  # (n,) each
    patches = np.zeros((len(order), 2, PATCH, PATCH), np.float32)
    scale = np.empty(len(order), np.float32)
    _cut_patches(*frame, slow, fast, patches, scale)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=np.arcsinh(patches, out=patches, where=_LAYER_OF_Z),
        z=z[order],
        summed=summed[order],
        noise=reference.over_median(scale, inverse),
        skew=skew[order],
        radius=reference.radii(slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=low,
        used=int(np.count_nonzero(mask)),
    )


@njit(cache=True, nogil=True)
def _across(blocks, low, high, part):
    """Interpolate blocks along their rows.

    Args:
        blocks: float32 (rows, columns) of blocks.
        low, high, part: (fast,) each, of background.steps.

    Returns:
        float32 (rows, fast).
    """
    across = np.empty((len(blocks), len(low)), np.float32)
    for i in range(len(blocks)):
        row, out = blocks[i], across[i]  # (columns,), (fast,)
        for x in range(len(out)):
            left, right = row[low[x]], row[high[x]]
            out[x] = left + (right - left) * part[x]
    return across


@njit(cache=True, nogil=True)
def _row_of_z(data, mask, y, mean, inverse, low, high, part, z):
    """z of row y; 0 where the mask is False, and past the last row.

    Args:
        data, mask: (slow, fast).
        mean, inverse: float32 (rows, fast), of _across.
        low, high, part: (slow,) each.
        z: float32 (width + 2,), written from its second element on.
    """
    if y >= data.shape[0]:
        z[:] = 0
        return
    a, b = low[y], high[y]
    _normalise(
        data[y], mask[y], mean[a], mean[b], inverse[a], inverse[b], part[y], z[1:]
    )


@njit(cache=True, nogil=True)
def _normalise(row, used, m0, m1, i0, i1, part, z):
    """z of one row.

    Args:
        row, used: (fast,).
        m0, m1: float32 (fast,), mean of the blocks above and below.
        i0, i1: float32 (fast,), inverse deviation of the blocks above and below.
        part: How far the row is from the blocks above to those below.
        z: float32 (fast,) or more, written.
    """
    for x in range(len(row)):
        mean = m0[x] + (m1[x] - m0[x]) * part
        inverse = i0[x] + (i1[x] - i0[x]) * part
        # Read in any case: a read on condition does not vectorise as well.
        value = (np.float32(row[x]) - mean) * inverse
        z[x] = value if used[x] else np.float32(0)


@njit(cache=True, nogil=True)
def _sums_down(above, here, below, down):
    """Sums down the columns, of weights 1 2 1.

    Args:
        above, here, below: float32 (width + 2,), rows of z.
        down: float32 (width + 2,), written.
    """
    for x in range(len(down)):
        down[x] = above[x] + np.float32(2) * here[x] + below[x]


@njit(cache=True, nogil=True)
def _sum_across(down, x, factor):
    """Weighted sum around element x, from _sums_down, times a factor."""
    return (down[x - 1] + np.float32(2) * down[x] + down[x + 1]) * factor


@njit(cache=True, nogil=True)
def _sample_sums(data, mask, mean, inverse, low, high, part):
    """Weighted sums over NORM at the used pixels of reference.SAMPLE: float32 (n,).

    Arguments as of _row_of_z.
    """
    rows, columns = data.shape
    z = np.zeros((3, columns + 2), np.float32)
    down = np.empty(columns + 2, np.float32)
    size = (rows // _ROW_STEP + 1) * (columns // _COLUMN_STEP + 1)
    sample = np.empty(size, np.float32)
    n = 0
    for y in range(1, rows, _ROW_STEP):
        for k in range(3):
            _row_of_z(data, mask, y + k - 1, mean, inverse, low, high, part, z[k])
        _sums_down(z[0], z[1], z[2], down)
        for x in range(1, columns, _COLUMN_STEP):
            sample[n] = _sum_across(down, x + 1, np.float32(1 / NORM))
            n += mask[y, x]
    return sample[:n]


@njit(cache=True, nogil=True)
def _find_maxima(data, mask, mean, inverse, low, high, part, skew, spread):
    """The local maxima of strength, and the number of low pixels.

    Args:
        data, mask: (slow, fast).
        mean, inverse, skew: float32 (rows, fast), of _across.
        low, high, part: (slow,) each.
        spread: Standard deviation of weighted sums over NORM.

    Returns:
        Positions (slow, fast) of n maxima, int64 (n, 2), row by row; their strength,
        their pixel's and sum's significance and skewness, float32 (n, 4); pixels at
        least so low, int64 (len(DEPTHS),).
    """
    rows, columns = data.shape
    width = -(-columns // _STRETCH) * _STRETCH
    # Three rows each, in turn: row y is in y % 3.
    z = np.zeros((3, width + 2), np.float32)
    strength = np.full((3, width + 2), -np.inf, np.float32)
    down = np.empty(width + 2, np.float32)
    factor = np.float32(1 / (NORM * spread))
    # The strong pixels, row by row: those of row y are start[y] to start[y + 1].
    start = np.zeros(rows + 2, np.int64)
    positions = np.empty((_FIRST_STRONG, 2), np.int64)
    heights = np.empty((_FIRST_STRONG, 4), np.float32)
    count = np.zeros(len(_DEPTHS), np.int64)
    n = maxima = 0
    _row_of_z(data, mask, 0, mean, inverse, low, high, part, z[0])
    for y in range(rows + 1):
        # Row y of strength needs the next row of z; maxima are then those of row y - 1.
        before, here, after = (y - 1) % 3, y % 3, (y + 1) % 3
        if y < rows:
            _row_of_z(data, mask, y + 1, mean, inverse, low, high, part, z[after])
            _sums_down(z[before], z[here], z[after], down)
            if n + width > len(positions):
                positions, heights = _longer(positions), _longer(heights)
            of_row = skew[low[y]], skew[high[y]], part[y]
            n = _strong_of_row(
                *(y, mask[y], z[here], down, factor, of_row),
                *(n, positions, heights, count),
            )
        start[y + 1] = n
        for k in range(start[y], n):
            strength[here, positions[k, 1] + 1] = heights[k, 0]
        # Maxima take the places of strong pixels that were looked at before.
        for k in range(start[y - 1] if y else 0, start[y]):
            x = positions[k, 1] + 1
            if _is_maximum(strength[after], strength[before], strength[here], x):
                positions[maxima], heights[maxima] = positions[k], heights[k]
                maxima += 1
        strength[after] = -np.inf
    return positions[:maxima], heights[:maxima], count


@njit(cache=True, nogil=True)
def _longer(rows):
    """The same rows (n, k) at the start of an array of more than twice as many."""
    longer = np.empty((2 * len(rows) + _FIRST_STRONG, rows.shape[1]), rows.dtype)
    longer[: len(rows)] = rows
    return longer


@njit(cache=True, nogil=True)
def _strong_of_row(y, used, z, down, factor, skew, n, positions, heights, count):
    """Note the strong pixels of row y, and count the low ones.

    Most stretches of a row have neither; a loop without branches tells.

    Args:
        y: Row.
        used: bool (fast,).
        z, down: float32 (width + 2,), the row of z and of _sums_down.
        factor: float32, 1 / (NORM spread).
        skew: That of the blocks above and below, float32 (fast,), and how far the row
            is from the ones to the others.
        n: How many strong pixels there are so far.
        positions, heights: (room, 2) and (room, 4), written from row n on.
        count: int64 (len(DEPTHS),), added to.

    Returns:
        How many there are with these.
    """
    for first in range(0, len(z) - 2, _STRETCH):
        if not _any_far(z[first:], down[first:], factor):
            continue
        for x in range(first, min(first + _STRETCH, len(used))):
            if not used[x]:
                continue
            pixel, summed = z[x + 1], _sum_across(down, x + 1, factor)
            for k in range(len(_DEPTHS)):
                count[k] += min(pixel, summed) <= -_DEPTHS[k]
            # Skewness lowers significance and never raises it.
            if _strongest(pixel, summed) < _LEAST:
                continue
            pixel, summed, of_noise = _significances(pixel, summed, skew, x)
            strength = _strongest(pixel, summed)
            if strength >= _LEAST:
                positions[n, 0], positions[n, 1] = y, x
                heights[n, 0], heights[n, 1] = strength, pixel
                heights[n, 2], heights[n, 3] = summed, of_noise
                n += 1
    return n


@njit(cache=True, nogil=True)
def _any_far(z, down, factor):
    """Whether any pixel of a stretch may be strong or low, used or not.

    Args:
        z, down, factor: As of _strong_of_row, from the element before the stretch on.
    """
    n = np.int32(0)
    for x in range(1, _STRETCH + 1):
        pixel, summed = z[x], _sum_across(down, x, factor)
        n += np.int32(
            (pixel >= _FAR + np.float32(PIXEL_HANDICAP))
            | (summed >= _FAR)
            | (pixel <= -_DEPTHS[0])
            | (summed <= -_DEPTHS[0])
        )
    return n > 0


@njit(cache=True, nogil=True)
def _strongest(pixel, summed):
    """candidates.strongest of one pixel."""
    strength = max(pixel - np.float32(PIXEL_HANDICAP), summed)
    return np.rint(strength * np.float32(ROUNDING)) / np.float32(ROUNDING)


@njit(cache=True, nogil=True)
def _significances(z, summed, skew, x):
    """Significance of pixel x and of the weighted sum around it; skewness there.

    Args:
        z, summed: float32, in standard deviations.
        skew: As of _strong_of_row.
        x: Column.
    """
    above, below, part = skew
    here = above[x] + (below[x] - above[x]) * part
    return (
        _significance(z, here),
        _significance(summed, np.float32(SUM_SKEW) * here),
        here,
    )


@njit(cache=True, nogil=True)
def _significance(height, skew):
    """candidates.significance of one height: float32."""
    if not height > 0:
        return height
    b = 1 / max(np.float64(skew), LEAST_SKEW) ** 2
    over = height * np.sqrt(b)
    ratio = np.sqrt(2 * max((b + over) * np.log1p(over / b) - over, 0.0))
    return np.float32(ratio)


@njit(cache=True, nogil=True)
def _is_maximum(above, here, below, x):
    """Whether none of the 8 neighbours exceeds element x; of equal ones the first is.

    Args:
        above, here, below: float32 (width + 2,), strength, -inf where not strong.
        x: Element of here.
    """
    h = here[x]
    return (
        (h > above[x - 1] and h > above[x] and h > above[x + 1])
        and (h > here[x - 1] and h >= here[x + 1])
        and (h >= below[x - 1] and h >= below[x] and h >= below[x + 1])
    )


@njit(cache=True, nogil=True)
def _cut_patches(
    data, mask, mean, inverse, low, high, part, slow, fast, patches, scales
):
    """z and mask around the candidates, and the inverse deviation at each.

    Args:
        data, mask, mean, inverse, low, high, part: As of _row_of_z.
        slow, fast: int64 (n,), the candidates.
        patches: float32 (n, 2, 13, 13), written; 0 where not used.
        scales: float32 (n,), written.
    """
    rows, columns = data.shape
    for n in range(len(slow)):
        for y in range(max(slow[n] - REACH, 0), min(slow[n] + REACH + 1, rows)):
            a, b, t = low[y], high[y], part[y]
            for x in range(max(fast[n] - REACH, 0), min(fast[n] + REACH + 1, columns)):
                if not mask[y, x]:
                    continue
                m = mean[a, x] + (mean[b, x] - mean[a, x]) * t
                scale = inverse[a, x] + (inverse[b, x] - inverse[a, x]) * t
                i, l = y - slow[n] + REACH, x - fast[n] + REACH
                patches[n, 0, i, l] = (np.float32(data[y, x]) - m) * scale
                patches[n, 1, i, l] = 1
                if y == slow[n] and x == fast[n]:
                    scales[n] = scale
