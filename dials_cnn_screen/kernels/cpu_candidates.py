"""Spot candidates on one CPU core: candidates.find_candidates, compiled.

Two passes over the frame: one for the background of blocks, one that keeps three rows
of z at a time and notes local maxima. Patches are computed for the chosen ones alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from dials_cnn_screen import candidates as reference
from dials_cnn_screen.candidates import (
    BLOCK,
    CLIP,
    MIN_USED,
    MIN_Z,
    PATCH,
    REACH,
    ROUNDS,
    Candidates,
    CandidateSearch,
)

# Of more maxima than this only the first are noted; noise alone gives some 1 in 100.
_MOST_MAXIMA = 400_000


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
    whole = reference.counts_photons(data, mask)
    mean, inverse = reference.fill(mean, deviation, whole)
    down, across = (
        reference.steps(n, b) for n, b in zip(data.shape, blocks, strict=True)
    )
    places = np.empty((_MOST_MAXIMA, 2), np.int64)
    heights = np.empty((_MOST_MAXIMA, 2), np.float32)
    sample = np.empty((data.shape[0] // 8 + 1) * (data.shape[1] // 8 + 1), np.float32)
    n, n_sample = _find_maxima(
        data, mask, mean, inverse, *down, places, heights, sample
    )
    spread = reference.fluctuation(sample[:n_sample])
    z, wide = heights[:n, 0], heights[:n, 1] / np.float32(spread)
    order, total = reference.rank(z, wide, search)
    slow, fast = places[order].T
    patches = np.zeros((len(order), 2, PATCH, PATCH), np.float32)
    _cut_patches(data, mask, mean, inverse, *down, *across, slow, fast, patches)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=np.arcsinh(patches, out=patches, where=_FIRST_LAYER),
        z=z[order],
        wide=wide[order],
        radius=reference.radii(slow, fast, beam_centre),
        spread=spread,
        total=total,
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
    """z of row y into z[1:-1]; -inf where the mask is False."""
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
            out[x] = value if used[x] else -np.float32(np.inf)


@njit(cache=True, nogil=True)
def _find_maxima(data, mask, mean, inverse, low, high, part, places, heights, sample):
    rows, columns = data.shape
    z = np.full((3, columns + 2), -np.inf, np.float32)
    n, n_sample = 0, 0
    for y in range(-1, rows):
        below = z[(y + 1) % 3]
        if y + 1 < rows:
            _row_of_z(data, mask, y + 1, mean, inverse, low, high, part, below)
        else:
            below[:] = -np.inf
        if y < 0:
            continue
        above, here = z[(y - 1) % 3], z[y % 3]
        for start in range(1, columns + 1, 16):
            end = min(start + 16, columns + 1)
            if not _any_reaches(here, start, end):
                continue
            for x in range(start, end):
                h = here[x]
                if h < MIN_Z:
                    continue
                if not (h > above[x - 1] and h > above[x] and h > above[x + 1]):
                    continue
                if not (h > here[x - 1] and h >= here[x + 1]):
                    continue
                if not (h >= below[x - 1] and h >= below[x] and h >= below[x + 1]):
                    continue
                if n < places.shape[0]:
                    total, used = _sum3(above, here, below, x)
                    places[n, 0], places[n, 1] = y, x - 1
                    heights[n, 0] = h
                    heights[n, 1] = total / np.sqrt(np.float32(used))
                    n += 1
        if y % 8 == 1:
            for x in range(5, columns + 1, 8):
                total, used = _sum3(above, here, below, x)
                if used == 9:
                    sample[n_sample] = total / np.float32(3)
                    n_sample += 1
    return n, n_sample


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _any_reaches(row, start, end):
    most = row[start]
    for x in range(start, end):
        most = max(most, row[x])
    return most >= MIN_Z


@njit(cache=True, nogil=True)
def _sum3(above, here, below, x):
    total, used = np.float32(0), 0
    for row in (above, here, below):
        for k in range(x - 1, x + 2):
            if row[k] > -np.inf:
                total += row[k]
                used += 1
    return total, used


@njit(cache=True, nogil=True)
def _cut_patches(
    data, mask, mean, inverse, low, high, part, left, right, way, slow, fast, patches
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
