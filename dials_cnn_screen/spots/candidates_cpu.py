"""Spot candidates on one CPU core: candidates.find_candidates, compiled.

After the background, one pass over the frame keeps three rows of z and of strength at a
time and notes local maxima. Before it a few rows tell how far weighted sums fluctuate.
Patches are computed for the chosen maxima alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
    SAMPLE,
    SUM_SKEW,
    Candidates,
    CandidateSearch,
)

# Room for so many maxima at first; noise alone gives some 1 in 10,000.
_FIRST_MAXIMA = 4096
# Pixels of a row that are looked through together for maxima.
_STRETCH = 64
_ROW_STEP, _COLUMN_STEP = (s.step for s in SAMPLE)
_LEAST, _DEPTHS = LEVELS[0], np.array(DEPTHS, np.float32)


def find_candidates(
    data: np.ndarray,
    mask: np.ndarray,
    beam_centre: tuple[float, float],
    search: CandidateSearch,
) -> Candidates:
    """Candidates of one frame, as candidates.find_candidates gives them."""
    mean, inverse, skew = background(data, mask)
    down, across = (
        steps(n, blocks) for n, blocks in zip(data.shape, mean.shape, strict=True)
    )
    frame = (data, mask, _across(mean, *across), _across(inverse, *across), *down)
    spread = reference.fluctuation(_sample_sums(*frame))
    skew = _across(skew, *across)
    places, heights, low = _find_maxima(*frame, skew, spread)
    z, summed, skew = heights.T
    order, total = reference.rank(reference.strongest(z, summed), search)
    slow, fast = places[order].T
    patches = np.zeros((len(order), 2, PATCH, PATCH), np.float32)
    scale = np.empty(len(order), np.float32)
    _cut_patches(*frame, slow, fast, patches, scale)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=np.arcsinh(patches, out=patches, where=_FIRST_LAYER),
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


_FIRST_LAYER = np.array([True, False])[:, None, None]


@njit(cache=True, nogil=True)
def _across(blocks, low, high, part):
    """Interpolate blocks along the rows: float32 (rows of blocks, pixels)."""
    across = np.empty((len(blocks), len(low)), np.float32)
    for i in range(len(blocks)):
        row, out = blocks[i], across[i]
        for x in range(len(out)):
            left, right = row[low[x]], row[high[x]]
            out[x] = left + (right - left) * part[x]
    return across


@njit(cache=True, nogil=True)
def _row_of_z(data, mask, y, mean, inverse, low, high, part, z):
    """z of row y into z[1:]; 0 where the mask is False, and past the last row."""
    if y >= data.shape[0]:
        z[:] = 0
        return
    a, b = low[y], high[y]
    _normalise(
        data[y], mask[y], mean[a], mean[b], inverse[a], inverse[b], part[y], z[1:]
    )


@njit(cache=True, nogil=True)
def _normalise(row, used, m0, m1, i0, i1, part, z):
    for x in range(len(row)):
        mean = m0[x] + (m1[x] - m0[x]) * part
        inverse = i0[x] + (i1[x] - i0[x]) * part
        value = (np.float32(row[x]) - mean) * inverse
        z[x] = value if used[x] else np.float32(0)


@njit(cache=True, nogil=True)
def _row_of_sums(above, here, below, factor, down, summed):
    """Weighted sums of a row, times a factor, into summed[1:-1]; down: room for one."""
    for x in range(len(down)):
        down[x] = above[x] + np.float32(2) * here[x] + below[x]
    left, middle, right, out = down[:-2], down[1:-1], down[2:], summed[1:-1]
    for x in range(len(out)):
        out[x] = (left[x] + np.float32(2) * middle[x] + right[x]) * factor


@njit(cache=True, nogil=True)
def _sample_sums(data, mask, mean, inverse, low, high, part):
    """Weighted sums at the used pixels of reference.SAMPLE, over their norm."""
    rows, columns = data.shape
    z = np.zeros((3, columns + 2), np.float32)
    down, summed = np.empty((2, columns + 2), np.float32)
    size = (rows // _ROW_STEP + 1) * (columns // _COLUMN_STEP + 1)
    sample = np.empty(size, np.float32)
    n = 0
    for y in range(1, rows, _ROW_STEP):
        for k in range(3):
            _row_of_z(data, mask, y + k - 1, mean, inverse, low, high, part, z[k])
        _row_of_sums(z[0], z[1], z[2], np.float32(1 / NORM), down, summed)
        for x in range(1, columns, _COLUMN_STEP):
            sample[n] = summed[x + 1]
            n += mask[y, x]
    return sample[:n]


@njit(cache=True, nogil=True)
def _find_maxima(data, mask, mean, inverse, low, high, part, skew, spread):
    """Local maxima (n, 2); z, summed and skew (n, 3); number of low pixels."""
    rows, columns = data.shape
    # Whole stretches, and one pixel more on either side.
    width = -(-columns // _STRETCH) * _STRETCH
    z = np.zeros((3, width + 2), np.float32)
    summed = np.zeros((3, width + 2), np.float32)
    strength = np.full((3, width + 2), -np.inf, np.float32)
    down = np.empty(width + 2, np.float32)
    factor = np.float32(1 / (NORM * spread))
    places = np.empty((_FIRST_MAXIMA, 2), np.int64)
    heights = np.empty((_FIRST_MAXIMA, 3), np.float32)
    count = np.zeros(len(_DEPTHS), np.int64)
    n = 0
    _row_of_z(data, mask, 0, mean, inverse, low, high, part, z[0])
    for y in range(rows + 1):
        # Row y of strength needs the next row of z; maxima are then those of row y - 1.
        before, here, after = (y - 1) % 3, y % 3, (y + 1) % 3
        _row_of_z(data, mask, y + 1, mean, inverse, low, high, part, z[after])
        if y < rows:
            _row_of_sums(z[before], z[here], z[after], factor, down, summed[here])
            of_row = skew[low[y]], skew[high[y]], part[y]
            _row_of_strength(
                mask[y], z[here, 1:], summed[here, 1:], of_row, strength[here, 1:]
            )
            _count_low(mask[y], z[here, 1:], summed[here, 1:], count)
        else:
            strength[here] = -np.inf
        if n + width > len(places):
            places, heights = _longer(places), _longer(heights)
        if y > 0:
            of_row = skew[low[y - 1]], skew[high[y - 1]], part[y - 1]
            n = _maxima_of_row(
                y - 1,
                strength[after],
                strength[before],
                strength[here],
                z[before],
                summed[before],
                of_row,
                n,
                places,
                heights,
            )
    return places[:n], heights[:n], count


@njit(cache=True, nogil=True)
def _longer(rows):
    longer = np.empty((2 * len(rows) + _FIRST_MAXIMA, rows.shape[1]), rows.dtype)
    longer[: len(rows)] = rows
    return longer


@njit(cache=True, nogil=True)
def _row_of_strength(used, z, summed, skew, strength):
    """The strength of a row, -inf where unused; rough where it is below _LEAST.

    skew: of the blocks above and below, at each column, and the way between them.
    """
    for x in range(len(used)):
        most = max(z[x] - np.float32(PIXEL_HANDICAP), summed[x])
        strength[x] = most if used[x] else -np.float32(np.inf)
    for start in range(0, len(strength) - 1, _STRETCH):
        if not _any_reaches(strength[start : start + _STRETCH]):
            continue
        for x in range(start, start + _STRETCH):
            # Skewness makes significance less, never more.
            if strength[x] >= _LEAST:
                pixel, wider, _ = _significances(z[x], summed[x], skew, x)
                strength[x] = max(pixel - np.float32(PIXEL_HANDICAP), wider)


@njit(cache=True, nogil=True)
def _significances(z, summed, skew, x):
    """Those of a pixel and of the weighted sum around it; skewness; float32."""
    above, below, part = skew
    here = above[x] + (below[x] - above[x]) * part
    return (
        _significance(z, here),
        _significance(summed, np.float32(SUM_SKEW) * here),
        here,
    )


@njit(cache=True, nogil=True)
def _significance(height, skew):
    """candidates.significance of one height."""
    if not height > 0:
        return height
    b = 1 / max(np.float64(skew), LEAST_SKEW) ** 2
    over = height * np.sqrt(b)
    ratio = np.sqrt(2 * max((b + over) * np.log1p(over / b) - over, 0.0))
    return np.float32(ratio)


@njit(cache=True, nogil=True)
def _count_low(used, z, summed, count):
    """Add the pixels of a row that are as far below the background as _DEPTHS."""
    for k in range(len(_DEPTHS)):
        n = np.int32(0)
        for x in range(len(used)):
            n += np.int32(used[x] and min(z[x], summed[x]) <= -_DEPTHS[k])
        if n == 0:
            break
        count[k] += n


@njit(cache=True, nogil=True)
def _maxima_of_row(y, above, here, below, z, summed, skew, n, places, heights):
    for start in range(1, len(here) - 1, _STRETCH):
        if not _any_reaches(here[start : start + _STRETCH]):
            continue
        for x in range(start, start + _STRETCH):
            h = here[x]
            if h < _LEAST:
                continue
            if not (h > above[x - 1] and h > above[x] and h > above[x + 1]):
                continue
            if not (h > here[x - 1] and h >= here[x + 1]):
                continue
            if not (h >= below[x - 1] and h >= below[x] and h >= below[x + 1]):
                continue
            places[n, 0], places[n, 1] = y, x - 1
            heights[n] = _significances(z[x], summed[x], skew, x - 1)
            n += 1
    return n


@njit(cache=True, nogil=True)
def _any_reaches(stretch):
    n = np.int32(0)
    for x in range(_STRETCH):
        n += np.int32(stretch[x] >= _LEAST)
    return n > 0


@njit(cache=True, nogil=True)
def _cut_patches(
    data, mask, mean, inverse, low, high, part, slow, fast, patches, scales
):
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
