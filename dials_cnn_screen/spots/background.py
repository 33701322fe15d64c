"""The local background of a frame: mean, standard deviation and skewness of blocks.

The reference, in numpy; background_cpu.py is the same made fast.

1. Each block of 16 x 16 pixels has the mean and standard deviation of its used pixels,
   outliers clipped.
2. Single photons on a dark background are outliers too, but no spots. They widen and
   skew the noise of all blocks around, a spot that of one block only. So each block
   takes the median over 3 x 3 blocks of the deviation and skewness with the tail.
3. A block next to one that is more than twice as noisy takes the larger deviation: the
   border of a noisy region may run through it.

The constants were chosen by hand; no study compares other values.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Edge of a block, pixels.
BLOCK = 16
# Blocks with fewer used pixels (3 of 16 rows) take the background of their neighbours.
MIN_USED = 48
# Sigma clipping: this many rounds leave out what is more than CLIP standard deviations
# above the mean. Spots are bright, so nothing is clipped below.
ROUNDS, CLIP = 3, 3.0
# In the tail of the noise a pixel counts as TAIL deviations above the mean at most, so
# that a single bright pixel does not make the tail.
TAIL = 20.0
# A block takes the deviation of a neighbour that is this many times noisier.
STEP = 2.0
# The least standard deviation of integers, ADU: where almost all pixels are 0, one
# photon is no spot. A smaller value was tried and was worse.
LEAST_WHOLE = 0.3
# The least standard deviation of a block over the median of all blocks. Bright rings
# make most blocks far noisier than those in the dark between, where 0.02 lost spots.
LEAST_RATIO = 0.002
# The largest skewness: of Poisson counts with a mean of LEAST_WHOLE^2 (theirs is
# mean^-1/2).
MOST_SKEW = 1 / LEAST_WHOLE


class Background(NamedTuple):
    """The background of each block.

    Attributes:
        mean: float32 (rows, columns) of blocks, ADU; rows = ceil(slow / 16), columns =
            ceil(fast / 16).
        inverse: float32 (rows, columns), 1 / standard deviation, 1 / ADU.
        skew: float32 (rows, columns), skewness of the noise, 0 to MOST_SKEW.
    """

    mean: NDArray[np.float32]
    inverse: NDArray[np.float32]
    skew: NDArray[np.float32]


def background(data: NDArray, mask: NDArray[np.bool_]) -> Background:
    """The background of a frame.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.
    """
    shape = tuple(-(-n // BLOCK) for n in data.shape)
    whole = whole_numbers(data, mask)
    moments = np.full((4, *shape), np.nan)  # (4, rows, columns)
    for i, j in np.ndindex(shape):
        block = np.s_[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
        values = data[block][mask[block]].astype(np.float64)  # (n,)
        if len(values) >= MIN_USED:
            moments[:, i, j] = _moments(values, whole)
    return fill(moments, whole)


def _moments(
    values: NDArray[np.float64], whole: bool
) -> tuple[float, float, float, float]:
    """Moments of the used pixels of a block, (n,), ADU.

    Returns:
        Mean and standard deviation, outliers clipped; and over all values, those above
        TAIL deviations cut, the mean square and mean cube of value - mean.
    """
    inside = values
    for _ in range(ROUNDS):
        limit = inside.mean() + CLIP * inside.std()
        inside = inside[inside <= limit]
    mean, deviation = inside.mean(), inside.std()
    most = TAIL * max(deviation, LEAST_WHOLE * whole)
    above = np.minimum(values - mean, most)
    return mean, deviation, (above**2).mean(), (above**3).mean()


def whole_numbers(data: NDArray, mask: NDArray[np.bool_]) -> bool:
    """Whether the used pixels are integers, on a sample of one row in sixteen.

    Args:
        data: (slow, fast) numbers, ADU.
        mask: bool (slow, fast), True = use.
    """
    sample = data[::BLOCK][mask[::BLOCK]]  # (n,)
    return bool(np.all(sample == np.floor(sample)))


def fill(moments: NDArray, whole: bool) -> Background:
    """The background from the moments of blocks: steps 2 and 3 of the module.

    Args:
        moments: float (4, rows, columns) of blocks: mean and standard deviation, ADU;
            mean square and mean cube of pixel - mean with the noise's tail, ADU^2 and
            ADU^3. NaN in blocks with too few used pixels.
        whole: Whether the data are integers; their deviation is LEAST_WHOLE at least.
    """
    mean, deviation, *tails = fill_missing(
        block_values(moments)
    )  # (rows, columns) each
    tail, skew = median_of_nine(_neighbours(np.pad(tails, _AROUND, "edge")))
    deviation = np.maximum(deviation, tail)
    (noisier,) = np.max(_neighbours(np.pad(deviation[None], _AROUND, "edge")), axis=0)
    deviation = np.where(noisier > STEP * deviation, noisier, deviation)
    return limited(mean, deviation, skew, whole)


def block_values(moments: NDArray) -> NDArray[np.float32]:
    """What is known of blocks, from their moments.

    Args:
        moments: As of fill.

    Returns:
        float32 (4, rows, columns): mean and standard deviation; with the tail, standard
        deviation, ADU, and skewness. NaN in blocks with too few used pixels.
    """
    mean, deviation, square, cube = moments
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.sqrt(square)
        skew = np.where(square > 0, cube / (square * tail), 0 * cube)
    return np.stack([mean, deviation, tail, skew]).astype(np.float32)


def fill_missing(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blocks with too few used pixels take the mean of their neighbours' values.

    Those without such neighbours take it a round later; 0 where there is no value.

    Args:
        values: float32 (4, rows, columns), of block_values.

    Returns:
        The same without NaN.
    """
    values = values.copy()
    for _ in range(max(values.shape)):
        missing = np.isnan(values[0])  # (rows, columns)
        if not missing.any() or missing.all():
            break
        i, j = np.nonzero(missing)
        near = _neighbours(np.pad(values, _AROUND, constant_values=np.nan))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of empty means
            values[:, i, j] = np.nanmean([blocks[:, i, j] for blocks in near], axis=0)
    return np.nan_to_num(values)


def limited(
    mean: NDArray[np.float32],
    deviation: NDArray[np.float32],
    skew: NDArray[np.float32],
    whole: bool,
) -> Background:
    """The background of blocks (rows, columns), noise and skewness within limits."""
    # Not 0, where all pixels are equal.
    least = max(LEAST_WHOLE * whole, LEAST_RATIO * float(np.median(deviation)), 1e-9)
    inverse = 1 / np.maximum(deviation, np.float32(least))
    return Background(mean, inverse, np.clip(skew, 0, np.float32(MOST_SKEW)))


def median_of_nine(values: list[NDArray]) -> NDArray:
    """Median of nine arrays, element by element, faster than numpy's.

    The same as ``np.median(values, axis=0)``, by the exchanges of Paeth, A. W. (1990),
    Graphics Gems, 171.
    """
    v = list(values)
    for low, high in EXCHANGES:
        v[low], v[high] = np.minimum(v[low], v[high]), np.maximum(v[low], v[high])
    return v[4]


# Sort in threes, and leave the middle of the middles; pairs of indices.
EXCHANGES = (
    *((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8)),
    *((0, 3), (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2)),
)


def interpolate(
    blocks: NDArray[np.float32], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Bilinear interpolation between block centres; constant beyond the outer ones.

    Args:
        blocks: float32 (rows, columns), a value of each block.
        shape: (slow, fast) of the frame.

    Returns:
        float32 (slow, fast).
    """
    for axis, n in enumerate(shape):
        low, high, part = steps(n, blocks.shape[axis])  # (n,) each
        part = part[:, None] if axis == 0 else part[None, :]
        lower, upper = blocks.take(low, axis), blocks.take(high, axis)
        # (slow, columns) after the first axis, (slow, fast) after the second
        blocks = lower + (upper - lower) * part
    return blocks


def steps(
    n: int, n_blocks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Between which blocks each of n pixels in a line is, and how far along.

    Args:
        n: Pixels along the axis.
        n_blocks: Blocks along it.

    Returns:
        low, high, part: (n,) each; a pixel's value is
        blocks[low] + (blocks[high] - blocks[low]) * part.
    """
    position = np.clip((np.arange(n) - (BLOCK - 1) / 2) / BLOCK, 0, n_blocks - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, n_blocks - 1)
    return low, high, (position - low).astype(np.float32)


# What np.pad adds before and after each axis of (n, rows, columns).
_AROUND = ((0, 0), (1, 1), (1, 1))


def _neighbours(padded: NDArray) -> list[NDArray]:
    """The 3 x 3 neighbourhoods of blocks.

    Args:
        padded: (n, rows + 2, columns + 2), padded by _AROUND.

    Returns:
        Nine arrays (n, rows, columns), one for each neighbour.
    """
    rows, columns = padded.shape[1] - 2, padded.shape[2] - 2
    return [padded[:, i : i + rows, j : j + columns] for i, j in np.ndindex(3, 3)]
