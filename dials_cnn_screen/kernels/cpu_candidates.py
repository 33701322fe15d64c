"""Spot candidates on one CPU core: candidates.find_candidates, compiled.

Two passes over the frame: one for the background of blocks, one that keeps three rows
of z and of strength at a time and notes local maxima. Between them a few rows tell how
far weighted sums fluctuate. Patches are computed for the chosen maxima alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from dials_cnn_screen import candidates as reference
from dials_cnn_screen.background import (
    BLOCK,
    CLIP,
    LEAST_WHOLE,
    MIN_USED,
    ROUNDS,
    TAIL,
    fill,
    steps,
    whole_numbers,
)
from dials_cnn_screen.candidates import (
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
# No used pixel is above this.
_LARGEST = np.finfo(np.float32).max
_ROW_STEP, _COLUMN_STEP = (s.step for s in SAMPLE)
_LEAST, _DEPTHS = LEVELS[0], np.array(DEPTHS, np.float32)


def find_candidates(
    data: np.ndarray,
    mask: np.ndarray,
    beam_centre: tuple[float, float],
    search: CandidateSearch,
) -> Candidates:
    """Candidates of one frame, as candidates.find_candidates gives them."""
    shape = tuple(-(-n // BLOCK) for n in data.shape)
    whole = whole_numbers(data, mask)
    moments = np.empty((4, *shape), np.float32)
    _block_moments(data, mask, TAIL * LEAST_WHOLE * whole, *moments)
    mean, inverse, skew = fill(*moments, whole)
    down, across = (steps(n, b) for n, b in zip(data.shape, shape, strict=True))
    frame = (data, mask, _across(mean, *across), _across(inverse, *across), *down)
    spread = reference.fluctuation(_sample_sums(*frame))
    skew = _across(skew, *across)
    places, heights, low = _find_maxima(*frame, skew, spread)
    z, wide, skew = heights.T
    order, total = reference.rank(reference.strongest(z, wide), search)
    slow, fast = places[order].T
    patches = np.zeros((len(order), 2, PATCH, PATCH), np.float32)
    scale = np.empty(len(order), np.float32)
    _cut_patches(*frame, slow, fast, patches, scale)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=np.arcsinh(patches, out=patches, where=_FIRST_LAYER),
        z=z[order],
        wide=wide[order],
        noise=reference.over_median(scale, inverse),
        skew=skew[order],
        radius=reference.radii(slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=low,
        used=int(np.count_nonzero(mask)),
    )


_FIRST_LAYER = np.array([True, False])[:, None, None]


def _block_moments(
    data: np.ndarray,
    mask: np.ndarray,
    least_tail: float,
    mean: np.ndarray,
    deviation: np.ndarray,
    square: np.ndarray,
    cube: np.ndarray,
) -> None:
    """Moments of each block, as background.fill takes them; NaN with too few used.

    Sums go down the columns of a row of blocks first, as that vectorises. This loop is
    not compiled: within a compiled one they do not, and take five times as long.
    """
    width = mean.shape[1] * BLOCK
    strip = np.full((BLOCK, width), np.inf, np.float32)
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
        _limits_of_tail(mean[i], deviation[i], np.float32(least_tail), centre, limit)
        _tails_of_columns(strip, centre, limit, count, total, other)
        _means_of_blocks(count, total, square[i])
        _means_of_blocks(count, other, cube[i])
        mean[i] += least[::BLOCK]


@njit(cache=True, nogil=True)
def _cut_strip(data, mask, top, strip, least):
    """The used pixels of a row of blocks, infinity for others; least of each column."""
    strip[len(data) - top :] = np.inf
    least[:] = _LARGEST
    for y in range(top, min(top + BLOCK, len(data))):
        _row_of_used(data[y], mask[y], strip[y - top], least)


@njit(cache=True, nogil=True)
def _row_of_used(row, used, out, least):
    for x in range(len(row)):
        out[x] = np.float32(row[x]) if used[x] else np.float32(np.inf)
        least[x] = out[x] if out[x] < least[x] else least[x]


@njit(cache=True, nogil=True)
def _least_of_blocks(least):
    """The least of each block in place of those of its columns."""
    for start in range(0, len(least), BLOCK):
        m = least[start]
        for x in range(start, start + BLOCK):
            m = min(m, least[x])
        for x in range(start, start + BLOCK):
            least[x] = m


@njit(cache=True, nogil=True)
def _subtract(strip, least):
    for y in range(BLOCK):
        row = strip[y]
        for x in range(len(row)):
            row[x] -= least[x]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sums_of_columns(strip, limit, count, total, square):
    """Number, sum and sum of squares of the values of each column up to a limit."""
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
    """Mean and deviation of blocks, NaN with too few values, and their next limit."""
    for j in range(len(mean)):
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
    """The mean of each block at its columns, and how far up its tail counts."""
    for j in range(len(mean)):
        far = max(np.float32(TAIL) * deviation[j], least_tail)
        for x in range(j * BLOCK, (j + 1) * BLOCK):
            centre[x], limit[x] = mean[j], far


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _tails_of_columns(strip, centre, limit, count, square, cube):
    """Number, sum of squares and of cubes of heights over the mean, up to a limit."""
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
    for j in range(len(mean)):
        n = t = np.float32(0)
        for x in range(j * BLOCK, (j + 1) * BLOCK):
            n += count[x]
            t += total[x]
        mean[j] = t / n


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
def _row_of_sums(above, here, below, factor, down, wide):
    """Weighted sums of a row, times a factor, into wide[1:-1]; down: room for one."""
    for x in range(len(down)):
        down[x] = above[x] + np.float32(2) * here[x] + below[x]
    left, middle, right, out = down[:-2], down[1:-1], down[2:], wide[1:-1]
    for x in range(len(out)):
        out[x] = (left[x] + np.float32(2) * middle[x] + right[x]) * factor


@njit(cache=True, nogil=True)
def _sample_sums(data, mask, mean, inverse, low, high, part):
    """Weighted sums at the used pixels of reference.SAMPLE, over their norm."""
    rows, columns = data.shape
    z = np.zeros((3, columns + 2), np.float32)
    down, wide = np.empty((2, columns + 2), np.float32)
    size = (rows // _ROW_STEP + 1) * (columns // _COLUMN_STEP + 1)
    sample = np.empty(size, np.float32)
    n = 0
    for y in range(1, rows, _ROW_STEP):
        for k in range(3):
            _row_of_z(data, mask, y + k - 1, mean, inverse, low, high, part, z[k])
        _row_of_sums(z[0], z[1], z[2], np.float32(1 / NORM), down, wide)
        for x in range(1, columns, _COLUMN_STEP):
            sample[n] = wide[x + 1]
            n += mask[y, x]
    return sample[:n]


@njit(cache=True, nogil=True)
def _find_maxima(data, mask, mean, inverse, low, high, part, skew, spread):
    """Places (n, 2) of local maxima, z, wide and skew (n, 3); number of low pixels."""
    rows, columns = data.shape
    # Whole stretches, and one pixel more on either side.
    width = -(-columns // _STRETCH) * _STRETCH
    z = np.zeros((3, width + 2), np.float32)
    wide = np.zeros((3, width + 2), np.float32)
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
            _row_of_sums(z[before], z[here], z[after], factor, down, wide[here])
            of_row = skew[low[y]], skew[high[y]], part[y]
            _row_of_strength(
                mask[y], z[here, 1:], wide[here, 1:], of_row, strength[here, 1:]
            )
            _count_low(mask[y], z[here, 1:], wide[here, 1:], count)
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
                wide[before],
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
def _row_of_strength(used, z, wide, skew, strength):
    """The strength of a row, -inf where unused; rough where it is below _LEAST.

    skew: of the blocks above and below, at each column, and the way between them.
    """
    for x in range(len(used)):
        most = max(z[x] - np.float32(PIXEL_HANDICAP), wide[x])
        strength[x] = most if used[x] else -np.float32(np.inf)
    for start in range(0, len(strength) - 1, _STRETCH):
        if not _any_reaches(strength[start : start + _STRETCH]):
            continue
        for x in range(start, start + _STRETCH):
            # Skewness makes significance less, never more.
            if strength[x] >= _LEAST:
                pixel, wider, _ = _significances(z[x], wide[x], skew, x)
                strength[x] = max(pixel - np.float32(PIXEL_HANDICAP), wider)


@njit(cache=True, nogil=True)
def _significances(z, wide, skew, x):
    """Those of a pixel and of the weighted sum around it; skewness; float32."""
    above, below, part = skew
    here = above[x] + (below[x] - above[x]) * part
    return (
        _significance(z, here),
        _significance(wide, np.float32(SUM_SKEW) * here),
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
def _count_low(used, z, wide, count):
    """Add the pixels of a row that are as far below the background as _DEPTHS."""
    for k in range(len(_DEPTHS)):
        n = np.int32(0)
        for x in range(len(used)):
            n += np.int32(used[x] and min(z[x], wide[x]) <= -_DEPTHS[k])
        if n == 0:
            break
        count[k] += n


@njit(cache=True, nogil=True)
def _maxima_of_row(y, above, here, below, z, wide, skew, n, places, heights):
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
            heights[n] = _significances(z[x], wide[x], skew, x - 1)
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
