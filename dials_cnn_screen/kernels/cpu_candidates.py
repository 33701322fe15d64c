"""Spot candidates on one CPU core: candidates.find_candidates, compiled.

Two passes over the frame: one for the background of blocks, one that keeps three rows
of z and of strength at a time and notes local maxima. Between them a few rows tell how
far weighted sums fluctuate. Patches are computed for the chosen maxima alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from dials_cnn_screen import candidates as reference
from dials_cnn_screen.candidates import (
    BLOCK,
    CLIP,
    DEPTHS,
    LEVELS,
    MIN_USED,
    NORM,
    PATCH,
    REACH,
    ROUNDS,
    SAMPLE,
    Candidates,
    CandidateSearch,
)

# Of more maxima than this only the first are noted; noise alone gives some 1 in 10,000.
_MOST_MAXIMA = 400_000
_ROW_STEP, _COLUMN_STEP = (s.step for s in SAMPLE)
_LEAST, _DEPTHS = LEVELS[0], np.array(DEPTHS, np.float32)


def find_candidates(
    data: np.ndarray,
    mask: np.ndarray,
    beam_centre: tuple[float, float],
    search: CandidateSearch,
) -> Candidates:
    """Candidates of one frame, as candidates.find_candidates gives them."""
    blocks = tuple(-(-n // BLOCK) for n in data.shape)
    mean, deviation = np.empty((2, *blocks), np.float32)
    _block_statistics(data, mask, mean, deviation)
    whole = reference.whole_numbers(data, mask)
    mean, inverse = reference.fill(mean, deviation, whole)
    down, across = (
        reference.steps(n, b) for n, b in zip(data.shape, blocks, strict=True)
    )
    frame = (data, mask, mean, inverse, *down)
    spread = reference.fluctuation(_sample_sums(*frame))
    places = np.empty((_MOST_MAXIMA, 2), np.int64)
    heights = np.empty((_MOST_MAXIMA, 2), np.float32)
    n, low, used = _find_maxima(*frame, np.float32(1 / spread), places, heights)
    z, wide = heights[:n].T
    order, total = reference.rank(np.maximum(z, wide), search)
    slow, fast = places[order].T
    patches = np.zeros((len(order), 2, PATCH, PATCH), np.float32)
    scale = np.empty(len(order), np.float32)
    _cut_patches(*frame, *across, slow, fast, patches, scale)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=np.arcsinh(patches, out=patches, where=_FIRST_LAYER),
        z=z[order],
        wide=wide[order],
        noise=reference.over_median(scale, inverse),
        radius=reference.radii(slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=low,
        used=used,
    )


_FIRST_LAYER = np.array([True, False])[:, None, None]


@njit(cache=True, nogil=True)
def _block_statistics(data, mask, mean, deviation):
    values = np.empty(BLOCK * BLOCK, np.float32)
    for i in range(mean.shape[0]):
        for j in range(mean.shape[1]):
            n = 0
            for y in range(i * BLOCK, min((i + 1) * BLOCK, data.shape[0])):
                # Slices, as loops from 0 over them are what the compiler vectorises.
                row = data[y, j * BLOCK : (j + 1) * BLOCK]
                used = mask[y, j * BLOCK : (j + 1) * BLOCK]
                for x in range(len(row)):
                    values[n] = row[x]
                    n += used[x]
            if n < MIN_USED:
                mean[i, j] = deviation[i, j] = np.nan
                continue
            least = _least(values, n)
            m, d = _moments(values, n, least, np.float32(np.inf))
            for _ in range(ROUNDS):
                m, d = _moments(values, n, least, np.float32(m + CLIP * d))
            mean[i, j], deviation[i, j] = m, d


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _least(values, n):
    least = values[0]
    for k in range(n):
        least = min(least, values[k])
    return least


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _moments(values, n, shift, limit):
    # Sums of what is above the least value keep their digits in float32: a spot that
    # takes them in the first round is left out in the next.
    count, total, square = np.int32(0), np.float32(0), np.float32(0)
    for k in range(n):
        inside = values[k] <= limit
        v = values[k] - shift if inside else np.float32(0)
        count += np.int32(inside)
        total += v
        square += v * v
    m = total / np.float32(count)
    variance = square / np.float32(count) - m * m
    return shift + m, np.sqrt(max(variance, np.float32(0)))


@njit(cache=True, nogil=True)
def _row_of_z(data, mask, y, mean, inverse, low, high, part, z):
    """z of row y into z[1:-1]; 0 where the mask is False, and past the last row."""
    if y >= data.shape[0]:
        z[:] = 0
        return
    a, b, t = low[y], high[y], part[y]
    last = mean.shape[1] - 1
    for j in range(-1, last + 1):
        left, right = max(j, 0), min(j + 1, last)
        m0 = mean[a, left] + (mean[b, left] - mean[a, left]) * t
        m1 = mean[a, right] + (mean[b, right] - mean[a, right]) * t
        i0 = inverse[a, left] + (inverse[b, left] - inverse[a, left]) * t
        i1 = inverse[a, right] + (inverse[b, right] - inverse[a, right]) * t
        start, end = max(j * BLOCK + BLOCK // 2, 0), (j + 1) * BLOCK + BLOCK // 2
        row, used = data[y, start:end], mask[y, start:end]
        out = z[start + 1 : end + 1]
        for x in range(len(row)):
            way = (np.float32(x) + np.float32(0.5)) / np.float32(BLOCK)
            value = (np.float32(row[x]) - (m0 + (m1 - m0) * way)) * (
                i0 + (i1 - i0) * way
            )
            out[x] = value if used[x] else np.float32(0)


@njit(cache=True, nogil=True)
def _row_of_sums(above, here, below, down, wide):
    """Weighted sums of a row into wide[1:-1], over their norm; down: room for one."""
    for x in range(len(down)):
        down[x] = above[x] + np.float32(2) * here[x] + below[x]
    left, middle, right, out = down[:-2], down[1:-1], down[2:], wide[1:-1]
    for x in range(len(out)):
        total = left[x] + np.float32(2) * middle[x] + right[x]
        out[x] = total * np.float32(1 / NORM)


@njit(cache=True, nogil=True)
def _sample_sums(data, mask, mean, inverse, low, high, part):
    """Weighted sums at the used pixels of reference.SAMPLE, float32."""
    rows, columns = data.shape
    z = np.zeros((3, columns + 2), np.float32)
    down, wide = np.empty((2, columns + 2), np.float32)
    sample = np.empty((rows // _ROW_STEP + 1) * (columns // _COLUMN_STEP + 1))
    n = 0
    for y in range(1, rows, _ROW_STEP):
        for k in range(3):
            _row_of_z(data, mask, y + k - 1, mean, inverse, low, high, part, z[k])
        _row_of_sums(z[0], z[1], z[2], down, wide)
        for x in range(1, columns, _COLUMN_STEP):
            if mask[y, x]:
                sample[n] = wide[x + 1]
                n += 1
    return sample[:n].astype(np.float32)


@njit(cache=True, nogil=True)
def _find_maxima(
    data, mask, mean, inverse, low, high, part, sharpness, places, heights
):
    """Local maxima into places and heights; their number, low pixels, used pixels."""
    rows, columns = data.shape
    z = np.zeros((3, columns + 2), np.float32)
    wide = np.zeros((3, columns + 2), np.float32)
    strength = np.full((3, columns + 2), -np.inf, np.float32)
    down = np.empty(columns + 2, np.float32)
    count = np.zeros(len(_DEPTHS), np.int64)
    n, used = 0, 0
    _row_of_z(data, mask, 0, mean, inverse, low, high, part, z[0])
    for y in range(rows + 1):
        # Row y of strength needs the next row of z; maxima are then those of row y - 1.
        _row_of_z(data, mask, y + 1, mean, inverse, low, high, part, z[(y + 1) % 3])
        here, sums, rank = z[y % 3], wide[y % 3], strength[y % 3]
        if y < rows:
            _row_of_sums(z[(y - 1) % 3], here, z[(y + 1) % 3], down, sums)
            used += _row_of_strength(mask[y], here, sums, sharpness, rank)
            _count_low(here, sums, mask[y], count)
        else:
            rank[:] = -np.inf
        if y > 0:
            k = (y - 1) % 3
            n = _maxima_of_row(
                y - 1,
                strength[(y - 2) % 3],
                strength[k],
                rank,
                z[k],
                wide[k],
                n,
                places,
                heights,
            )
    return n, count, used


@njit(cache=True, nogil=True)
def _row_of_strength(mask, z, wide, sharpness, strength):
    """The larger of z and wide / spread, -inf where unused; the number of used."""
    used = 0
    for x in range(len(mask)):
        sums = wide[x + 1] * sharpness
        wide[x + 1] = sums
        strength[x + 1] = max(z[x + 1], sums) if mask[x] else -np.float32(np.inf)
        used += mask[x]
    return used


@njit(cache=True, nogil=True)
def _count_low(z, wide, mask, count):
    for start in range(1, len(z) - 1, 16):
        end = min(start + 16, len(z) - 1)
        least = _least(z[start:end], end - start)
        if min(least, _least(wide[start:end], end - start)) > -_DEPTHS[0]:
            continue
        for x in range(start, end):
            depth = -min(z[x], wide[x])
            for k in range(len(_DEPTHS)):
                count[k] += mask[x - 1] and depth >= _DEPTHS[k]


@njit(cache=True, nogil=True)
def _maxima_of_row(y, above, here, below, z, wide, n, places, heights):
    for start in range(1, len(here) - 1, 16):
        end = min(start + 16, len(here) - 1)
        if not _any_reaches(here, start, end):
            continue
        for x in range(start, end):
            h = here[x]
            if h < _LEAST:
                continue
            if not (h > above[x - 1] and h > above[x] and h > above[x + 1]):
                continue
            if not (h > here[x - 1] and h >= here[x + 1]):
                continue
            if not (h >= below[x - 1] and h >= below[x] and h >= below[x + 1]):
                continue
            if n < places.shape[0]:
                places[n, 0], places[n, 1] = y, x - 1
                heights[n, 0], heights[n, 1] = z[x], wide[x]
                n += 1
    return n


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _any_reaches(row, start, end):
    most = row[start]
    for x in range(start, end):
        most = max(most, row[x])
    return most >= _LEAST


@njit(cache=True, nogil=True)
def _cut_patches(
    data,
    mask,
    mean,
    inverse,
    low,
    high,
    part,
    left,
    right,
    way,
    slow,
    fast,
    patches,
    scales,
):
    rows, columns = data.shape
    for n in range(len(slow)):
        for y in range(max(slow[n] - REACH, 0), min(slow[n] + REACH + 1, rows)):
            a, b, t = low[y], high[y], part[y]
            for x in range(max(fast[n] - REACH, 0), min(fast[n] + REACH + 1, columns)):
                if not mask[y, x]:
                    continue
                j, k, w = left[x], right[x], way[x]
                m0 = mean[a, j] + (mean[b, j] - mean[a, j]) * t
                m1 = mean[a, k] + (mean[b, k] - mean[a, k]) * t
                i0 = inverse[a, j] + (inverse[b, j] - inverse[a, j]) * t
                i1 = inverse[a, k] + (inverse[b, k] - inverse[a, k]) * t
                m = m0 + (m1 - m0) * w
                scale = i0 + (i1 - i0) * w
                i, l = y - slow[n] + REACH, x - fast[n] + REACH
                patches[n, 0, i, l] = (np.float32(data[y, x]) - m) * scale
                patches[n, 1, i, l] = 1
                if y == slow[n] and x == fast[n]:
                    scales[n] = scale
