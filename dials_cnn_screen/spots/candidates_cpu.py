"""Spot candidates on one CPU core: candidates.find_candidates, compiled.

After the background, a few rows give the standard deviation of weighted sums. Then one
pass over the frame keeps three rows of z at a time. Few pixels are strong enough for a
candidate: the others are left out by bounds, stretches of a row at a time, and strength
is computed for the strong ones alone. Patches are computed for the chosen maxima.

Rows of z and of strength have one element more at either end, 0 and -infinity, so that
each pixel has two neighbours; ``width`` is their length without these two, the frame's
columns rounded up to whole stretches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.spots import candidates as reference
from dials_cnn_screen.spots.background import steps
from dials_cnn_screen.spots.background_cpu import background
from dials_cnn_screen.spots.candidates import (
    DEPTHS,
    LEAST_SKEW,
    LEVELS,
    MAD_TO_DEVIATION,
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
from dials_cnn_screen.spots.normalise_cpu import at_pixel, row_of_z
from dials_cnn_screen.util.compiled import njit

# Room for so many strong pixels at first; noise alone gives some 1 in 2000. By hand.
_FIRST_STRONG = 8192
# Pixels of a row that are searched together. By hand: a few SIMD registers.
_STRETCH = 64
_ROW_STEP, _COLUMN_STEP = (s.step for s in SAMPLE)
_LEAST, _DEPTHS = LEVELS[0], np.array(DEPTHS, np.float32)
# What may be a candidate, before rounding, has a sum or a pixel over these. What counts
# as low is as far below 0 as the second.
_FAR = LEVELS[0] - 1 / ROUNDING
_PIXEL_FAR = min(_FAR + PIXEL_HANDICAP, DEPTHS[0])
# Of the counts by which a median is found. By hand.
_BINS = 4096
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
    # As the kernels take them; mostly they are so.
    data, mask = np.ascontiguousarray(data), np.ascontiguousarray(mask)
    blocks = background(data, mask)
    shape = blocks.mean.shape
    down, across = (steps(n, m) for n, m in zip(data.shape, shape, strict=True))
    frame = (data, mask, blocks.mean, blocks.inverse, down, across)
    spread = _sum_deviation(_sample_sums(*frame))
    # (maxima, 2), (maxima, 4), (depths,)
    positions, heights, low = _find_maxima(*frame, blocks.skew, spread)
    strength, z, summed, skew = heights.T  # (maxima,) each
    radius = reference.radii(positions[:, 0], positions[:, 1], beam_centre)
    order, total = reference.rank(strength, radius, search)
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
        noise=reference.over_median(scale, blocks.inverse),
        skew=skew[order],
        radius=radius[order],
        along_ring=reference.along_ring(patches, slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=low,
        used=int(np.count_nonzero(mask)),
        beam_centre=beam_centre,
    )


@njit()
def _sums_down(above, here, below, down_sums):
    """Sums down the columns, of weights 1 2 1: float32 (n,) each, the last written."""
    for x in range(len(down_sums)):
        down_sums[x] = above[x] + np.float32(2) * here[x] + below[x]


@njit()
def _sum_across(down_sums, x, factor):
    """Weighted sum around element x, from _sums_down, times a factor."""
    left, here, right = down_sums[x - 1], down_sums[x], down_sums[x + 1]
    return (left + np.float32(2) * here + right) * factor


@njit()
def _sample_sums(data, mask, mean, inverse, down, across):
    """Weighted sums over NORM at the used pixels of reference.SAMPLE: float32 (n,).

    Arguments as of row_of_z.
    """
    rows, columns = data.shape
    z = np.zeros((3, columns + 2), np.float32)
    down_sums = np.empty(columns + 2, np.float32)
    at_row = np.empty((2, mean.shape[1]), np.float32)
    size = (rows // _ROW_STEP + 1) * (columns // _COLUMN_STEP + 1)
    sample = np.empty(size, np.float32)
    n = 0
    for y in range(1, rows, _ROW_STEP):
        for k in range(3):
            row_of_z(data, mask, mean, inverse, down, across, y + k - 1, at_row, z[k])
        _sums_down(z[0], z[1], z[2], down_sums)
        for x in range(1, columns, _COLUMN_STEP):
            sample[n] = _sum_across(down_sums, x + 1, np.float32(1 / NORM))
            n += mask[y, x]
    return sample[:n]


def _sum_deviation(sums: NDArray[np.float32]) -> float:
    """candidates.sum_deviation."""
    if not sums.size:
        return 1.0
    deviation = float(_median(np.abs(sums - _median(sums))))
    return max(1.0, MAD_TO_DEVIATION * deviation)


@njit()
def _median(values):
    """np.median of float32 (n,), n over 0, in a fifth of the time.

    Values are counted in bins, and those in the middle one sorted.
    """
    count = np.zeros(_BINS, np.int64)
    for v in values:
        count[_bin(v)] += 1
    below, first = 0, 0
    while below + count[first] <= (len(values) - 1) // 2:
        below += count[first]
        first += 1
    upto, last = below + count[first], first
    while upto <= len(values) // 2:
        last += 1
        upto += count[last]
    middle = np.empty(upto - below, np.float32)
    n = 0
    for v in values:
        if first <= _bin(v) <= last:
            middle[n] = v
            n += 1
    middle.sort()
    low = middle[(len(values) - 1) // 2 - below]
    return (low + middle[len(values) // 2 - below]) / np.float32(2)


@njit()
def _bin(value):
    """The bin of a weighted sum; they are finest where these are, from -8 to 8."""
    place = value * np.float32(_BINS / 16) + np.float32(_BINS / 2)
    return np.int64(min(max(place, np.float32(0)), np.float32(_BINS - 1)))


@njit()
def _find_maxima(data, mask, mean, inverse, down, across, skew, spread):
    """The local maxima of strength, and the number of low pixels.

    Args:
        data, mask: (slow, fast).
        mean, inverse, skew: float32 (rows, columns) of blocks.
        down, across: background.steps along slow and fast.
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
    down_sums = np.empty(width + 2, np.float32)
    strength = np.full((3, width + 2), -np.inf, np.float32)
    at_row = np.empty((2, mean.shape[1]), np.float32)
    factor = np.float32(1 / (NORM * spread))
    # The strong pixels, row by row: those of row y are start[y] to start[y + 1].
    start = np.zeros(rows + 2, np.int64)
    positions = np.empty((_FIRST_STRONG, 2), np.int64)
    heights = np.empty((_FIRST_STRONG, 4), np.float32)
    count = np.zeros(len(_DEPTHS), np.int64)
    n = maxima = 0
    frame = data, mask, mean, inverse, down, across
    row_of_z(*frame, 0, at_row, z[0])
    for y in range(rows + 1):
        # Row y of strength needs the next row of z; maxima are then those of row y - 1.
        before, here, after = (y - 1) % 3, y % 3, (y + 1) % 3
        if y < rows:
            row_of_z(*frame, y + 1, at_row, z[after])
            if n + width > len(positions):
                positions, heights = _longer(positions), _longer(heights)
            n = _strong_of_row(
                *(y, mask[y], z[before], z[here], z[after], factor, down_sums),
                *(skew, down, across),
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
        # That of row y - 2 is for the next, and empty again; mostly it is so already.
        if y > 1 and start[y - 1] > start[y - 2]:
            strength[after] = -np.inf
    return positions[:maxima], heights[:maxima], count


@njit()
def _longer(rows):
    """The same rows (n, k) at the start of an array of more than twice as many."""
    longer = np.empty((2 * len(rows) + _FIRST_STRONG, rows.shape[1]), rows.dtype)
    longer[: len(rows)] = rows
    return longer


@njit()
def _strong_of_row(
    y,
    used,
    above,
    here,
    below,
    factor,
    down_sums,
    skew,
    down,
    across,
    n,
    positions,
    heights,
    count,
):
    """Note the strong pixels of row y, and count the low ones.

    Most stretches of a row have neither; a loop without branches tells.

    Args:
        y: Row.
        used: bool (fast,).
        above, here, below: float32 (width + 2,), z of rows y - 1, y and y + 1.
        factor: float32, 1 / (NORM spread).
        down_sums: float32 (width + 2,), room for _sums_down.
        skew: float32 (rows, columns) of blocks.
        down, across: background.steps along slow and fast.
        n: How many strong pixels there are so far.
        positions, heights: (room, 2) and (room, 4), written from row n on.
        count: int64 (len(DEPTHS),), added to.

    Returns:
        How many there are with these.
    """
    _sums_down(above, here, below, down_sums)
    for first in range(0, len(here) - 2, _STRETCH):
        if not _any_far(here[first:], down_sums[first:], factor):
            continue
        for x in range(first, min(first + _STRETCH, len(used))):
            pixel = here[x + 1]
            summed = _sum_across(down_sums, x + 1, factor)
            if not (_is_far(pixel, summed) and used[x]):
                continue
            for k in range(len(_DEPTHS)):
                count[k] += min(pixel, summed) <= -_DEPTHS[k]
            # Skewness lowers significance and never raises it.
            if _strongest(pixel, summed) < _LEAST:
                continue
            of_noise = at_pixel(skew, down, across, y, x)
            pixel = _significance(pixel, of_noise)
            summed = _significance(summed, np.float32(SUM_SKEW) * of_noise)
            strength = _strongest(pixel, summed)
            if strength >= _LEAST:
                positions[n, 0], positions[n, 1] = y, x
                heights[n, 0], heights[n, 1] = strength, pixel
                heights[n, 2], heights[n, 3] = summed, of_noise
                n += 1
    return n


@njit()
def _any_far(here, down_sums, factor):
    """Whether any pixel of a stretch is far, used or not; without a branch.

    Args:
        here, down_sums: float32 (_STRETCH + 2,) or more, of _strong_of_row and
            _sums_down, from the element before the stretch on.
        factor: As of _strong_of_row.
    """
    n = np.int32(0)
    for x in range(1, _STRETCH + 1):
        n += np.int32(_is_far(here[x], _sum_across(down_sums, x, factor)))
    return n > 0


@njit()
def _is_far(pixel, summed):
    """Whether a pixel is as far up as a candidate, or as far down as a low one.

    Up, that is _FAR for the sum and _PIXEL_FAR for the pixel; down, -_PIXEL_FAR for
    both. A shift makes one comparison of two, as one of three costs a tenth of a frame.
    """
    middle = np.float32((_FAR - _PIXEL_FAR) / 2)
    half = np.float32((_FAR + _PIXEL_FAR) / 2)
    return (abs(pixel) >= np.float32(_PIXEL_FAR)) | (abs(summed - middle) >= half)


@njit()
def _strongest(pixel, summed):
    """candidates.strongest of one pixel."""
    strength = max(pixel - np.float32(PIXEL_HANDICAP), summed)
    return np.rint(strength * np.float32(ROUNDING)) / np.float32(ROUNDING)


@njit()
def _significance(height, skew):
    """candidates.significance of one height: float32."""
    if not height > 0:
        return height
    b = 1 / max(np.float64(skew), LEAST_SKEW) ** 2
    over = height * np.sqrt(b)
    ratio = np.sqrt(2 * max((b + over) * np.log1p(over / b) - over, 0.0))
    return np.float32(ratio)


@njit()
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


@njit()
def _cut_patches(data, mask, mean, inverse, down, across, slow, fast, patches, scales):
    """z and mask around the candidates, and the inverse deviation at each.

    Args:
        data, mask, mean, inverse, down, across: As of row_of_z.
        slow, fast: int64 (n,), the candidates.
        patches: float32 (n, 2, 13, 13), written; 0 where not used.
        scales: float32 (n,), written.
    """
    rows, columns = data.shape
    for n in range(len(slow)):
        scales[n] = at_pixel(inverse, down, across, slow[n], fast[n])
        for y in range(max(slow[n] - REACH, 0), min(slow[n] + REACH + 1, rows)):
            for x in range(max(fast[n] - REACH, 0), min(fast[n] + REACH + 1, columns)):
                if mask[y, x]:
                    k, l = y - slow[n] + REACH, x - fast[n] + REACH
                    value = np.float32(data[y, x])
                    value -= at_pixel(mean, down, across, y, x)
                    value *= at_pixel(inverse, down, across, y, x)
                    patches[n, 0, k, l], patches[n, 1, k, l] = value, 1
