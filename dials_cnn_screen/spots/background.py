"""The local background of a frame: mean, deviation and skewness by blocks.

The reference, in numpy; kernels/cpu_candidates.py has the same made fast.

1. Blocks of 16 x 16 pixels have the mean and standard deviation of their used pixels
   without outliers.
2. A few photons are outliers of a dark background too, though no spots. They widen
   and skew the noise of all blocks near by, and spots that of one: in each, the median
   of nine blocks counts.
3. A block beside one that fluctuates more than twice as much takes that deviation: the
   border of a noisy region may run through it.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

BLOCK = 16
# Blocks with fewer used pixels take the background of their neighbours.
MIN_USED = 48
# Rounds of leaving out what is more than CLIP deviations above the mean.
ROUNDS, CLIP = 3, 3.0
# What is more deviations than TAIL above the mean counts as TAIL in the noise's tail.
TAIL = 20.0
# A block that fluctuates this many times less than a neighbour is not trusted.
STEP = 2.0
# The least fluctuation of whole numbers.
LEAST_WHOLE = 0.3
# The largest skewness: that of photons where a pixel has LEAST_WHOLE^2 on average.
MOST_SKEW = 1 / LEAST_WHOLE


class Background(NamedTuple):
    """The background of each block, float32 (ceil(slow / 16), ceil(fast / 16)) each.

    mean: ADU. inverse: 1 / standard deviation, 1 / ADU. skew: skewness of the noise.
    """

    mean: np.ndarray
    inverse: np.ndarray
    skew: np.ndarray


def background(data: np.ndarray, mask: np.ndarray) -> Background:
    """The background of a frame (slow, fast), ADU; mask: True = use."""
    shape = tuple(-(-n // BLOCK) for n in data.shape)
    whole = whole_numbers(data, mask)
    moments = np.full((4, *shape), np.nan)
    for i, j in np.ndindex(shape):
        block = np.s_[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
        values = data[block][mask[block]].astype(np.float64)
        if len(values) >= MIN_USED:
            moments[:, i, j] = _moments(values, whole)
    return fill(*moments, whole)


def _moments(values: np.ndarray, whole: bool) -> tuple[float, float, float, float]:
    """Mean and deviation without outliers; square and cube of what is over the mean."""
    inside = values
    for _ in range(ROUNDS):
        limit = inside.mean() + CLIP * inside.std()
        inside = inside[inside <= limit]
    mean, deviation = inside.mean(), inside.std()
    most = TAIL * max(deviation, LEAST_WHOLE * whole)
    above = np.minimum(values - mean, most)
    return mean, deviation, (above**2).mean(), (above**3).mean()


def whole_numbers(data: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the used pixels are whole numbers, on a sample of one row in sixteen."""
    sample = data[::BLOCK][mask[::BLOCK]]
    return bool(np.all(sample == np.floor(sample)))


def fill(
    mean: np.ndarray,
    deviation: np.ndarray,
    square: np.ndarray,
    cube: np.ndarray,
    whole: bool,
) -> Background:
    """The background from the moments of blocks, NaN in those with too few pixels.

    These are given the values of their neighbours. square and cube: mean powers of the
    height over the mean, in which the noise's tail counts. whole: the data are whole
    numbers, whose fluctuation is then taken to be 0.3 at the least: where almost all
    pixels are 0, one photon is no spot.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(square > 0, cube / square**1.5, 0 * cube)
    values = np.stack([mean, deviation, np.sqrt(square), skew]).astype(np.float32)
    for _ in range(max(mean.shape)):
        missing = np.isnan(values[0])
        if not missing.any() or missing.all():
            break
        place = (slice(None), *np.nonzero(missing))
        near = _neighbours(values, "constant", constant_values=np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of empty means
            values[place] = np.nanmean([of_blocks[place] for of_blocks in near], axis=0)
    mean, deviation, *tails = np.nan_to_num(values)
    tail, skew = median_of_nine(_neighbours(np.stack(tails), "edge"))
    deviation = np.maximum(deviation, tail)
    (noisier,) = np.max(_neighbours(deviation[None], "edge"), axis=0)
    deviation = np.where(noisier > STEP * deviation, noisier, deviation)
    least = max(LEAST_WHOLE * whole, 0.02 * float(np.median(deviation)), 1e-9)
    inverse = 1 / np.maximum(deviation, np.float32(least))
    return Background(mean, inverse, np.clip(skew, 0, np.float32(MOST_SKEW)))


def median_of_nine(values: list[np.ndarray]) -> np.ndarray:
    """Median of nine arrays, element by element, faster than numpy's.

    Exchanges after Paeth, A. W. (1990), Graphics Gems, 171.
    """
    v = list(values)
    for low, high in _EXCHANGES:
        v[low], v[high] = np.minimum(v[low], v[high]), np.maximum(v[low], v[high])
    return v[4]


# Sort in threes, and leave the middle of the middles; pairs of places.
_EXCHANGES = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)),
    *((0, 3), (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


def interpolate(blocks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation between block centres, to float32 of a frame's shape."""
    for axis, n in enumerate(shape):
        low, high, part = steps(n, blocks.shape[axis])
        part = part[:, None] if axis == 0 else part[None, :]
        lower, upper = blocks.take(low, axis), blocks.take(high, axis)
        blocks = lower + (upper - lower) * part
    return blocks


def steps(n: int, n_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks before and after each of n pixels in a line, and the way between them."""
    place = np.clip((np.arange(n) - (BLOCK - 1) / 2) / BLOCK, 0, n_blocks - 1)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, n_blocks - 1)
    return low, high, (place - low).astype(np.float32)


def _neighbours(values: np.ndarray, mode: str, **options: float) -> list[np.ndarray]:
    """The 3 x 3 neighbourhoods of blocks (n, rows, columns): nine such arrays.

    mode: of np.pad, what is past the edge.
    """
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode, **options)
    rows, columns = values.shape[1:]
    return [padded[:, i : i + rows, j : j + columns] for i, j in np.ndindex(3, 3)]
