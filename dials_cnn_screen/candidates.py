"""Frame to spot candidates: the brightest local maxima and what is around them.

The reference, in numpy; kernels/cpu_candidates.py has the same made fast. All is done
at full resolution, since a spot of one pixel is lost in a binned one, and with masks,
since a gap is not a dark place.

1. Blocks of 16 x 16 pixels give the local background: mean and standard deviation of
   the used pixels without outliers. A block beside one that fluctuates more than twice
   as much takes that deviation: the border of a noisy region may run through it.
2. Between block centres both are interpolated; z = (pixel - mean) / deviation.
3. Strength is z, or z weighted 1 2 1 along both axes over what that sum fluctuates by
   on this frame, if that is more: a spot of one pixel stands out in the one, a wider
   one in the other. Local maxima of strength are candidates; the strongest are kept.
4. Around each candidate a patch of asinh(z) is cut out, with its mask.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np

BLOCK = 16
# Blocks with fewer used pixels take the background of their neighbours.
MIN_USED = 48
# Rounds of leaving out what is more than CLIP deviations above the mean.
ROUNDS, CLIP = 3, 3.0
# A block that fluctuates this many times less than a neighbour is not trusted.
STEP = 2.0
PATCH = 13
REACH = PATCH // 2
# Maxima of each strength are counted to describe the frame, and pixels as far below the
# background: noise reaches as far down as up, spots do not.
LEVELS = (4.0, 5.0, 6.0, 8.0, 12.0, 20.0)
DEPTHS = (4.0, 5.0, 6.0, 8.0)
# The least fluctuation of whole numbers.
LEAST_WHOLE = 0.3
# Norm of the weights (1 2 1) x (1 2 1): what they make of independent pixels.
NORM = 6.0
# The pixels by which the fluctuation of weighted sums is measured.
SAMPLE = np.s_[1::32, 1::4]


@dataclass(frozen=True)
class CandidateSearch:
    """How candidates are looked for; stored with a model.

    most: candidates kept of a frame, all of strength LEVELS[0] or more.
    """

    most: int = 192

    def __post_init__(self) -> None:
        if not isinstance(self.most, int) or not 1 <= self.most <= 4096:
            raise ValueError(f"most={self.most} is not from 1 to 4096")

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of one frame, the strongest first; n of them.

    slow, fast: int64 (n,), pixels. patches: float32 (n, 2, 13, 13), asinh(z) and 1
    where used. z, wide: float32 (n,), the height, and the weighted sum over its
    fluctuation. noise: float32 (n,), deviation of the background over its median.
    radius: float32 (n,), pixels from the beam centre. spread: float, fluctuation of
    the weighted sum over that of independent pixels. total: int64 (len(LEVELS),),
    local maxima at least so strong, among all. low: int64 (len(DEPTHS),), pixels at
    least so far below the background. used: int, pixels.
    """

    slow: np.ndarray
    fast: np.ndarray
    patches: np.ndarray
    z: np.ndarray
    wide: np.ndarray
    noise: np.ndarray
    radius: np.ndarray
    spread: float
    total: np.ndarray
    low: np.ndarray
    used: int


def find_candidates(
    data: np.ndarray,
    mask: np.ndarray,
    beam_centre: tuple[float, float],
    search: CandidateSearch,
) -> Candidates:
    """Candidates of one frame.

    data: (slow, fast) numbers, ADU. mask: (slow, fast) bool, True = use. beam_centre:
    (slow, fast), pixels.
    """
    mean, inverse = background(data, mask)
    scale = interpolate(inverse, data.shape)
    z = (data - interpolate(mean, data.shape)) * scale
    z = np.where(mask, z, 0).astype(np.float32)
    wide = _weighted(z)
    spread = fluctuation(wide[SAMPLE][mask[SAMPLE]])
    wide /= np.float32(spread)
    strength = np.where(mask, np.maximum(z, wide), -np.inf)
    slow, fast = np.nonzero(_local_maxima(strength))
    order, total = rank(strength[slow, fast], search)
    slow, fast = slow[order], fast[order]
    depth = np.where(mask, -np.minimum(z, wide), 0)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=_cut_patches(z, mask, slow, fast),
        z=z[slow, fast],
        wide=wide[slow, fast],
        noise=over_median(scale[slow, fast], inverse),
        radius=radii(slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=np.array([np.count_nonzero(depth >= level) for level in DEPTHS]),
        used=int(np.count_nonzero(mask)),
    )


def background(data: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and inverse standard deviation of the background of each block.

    float32 (ceil(slow / 16), ceil(fast / 16)) each, outliers upwards left out.
    """
    rows, columns = (-(-n // BLOCK) for n in data.shape)
    mean, deviation = np.full((2, rows, columns), np.nan)
    for i in range(rows):
        for j in range(columns):
            block = np.s_[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            values = data[block][mask[block]].astype(np.float64)
            if len(values) < MIN_USED:
                continue
            for _ in range(ROUNDS):
                limit = values.mean() + CLIP * values.std()
                values = values[values <= limit]
            mean[i, j], deviation[i, j] = values.mean(), values.std()
    return fill(mean, deviation, whole_numbers(data, mask))


def whole_numbers(data: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the used pixels are whole numbers, on a sample of one row in sixteen."""
    sample = data[::BLOCK][mask[::BLOCK]]
    return bool(np.all(sample == np.floor(sample)))


def fill(
    mean: np.ndarray, deviation: np.ndarray, whole: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Give blocks without a background (NaN) that of their neighbours; invert.

    Blocks on the border of a noisier region are given its deviation. whole: the data
    are whole numbers, whose fluctuation is then taken to be 0.3 at the least: where
    almost all pixels are 0, one photon is no spot. Returns float32.
    """
    for _ in range(max(mean.shape)):
        missing = np.isnan(mean)
        if not missing.any() or missing.all():
            break
        for values in (mean, deviation):
            near = _neighbours(values)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of empty means
                values[missing] = np.nanmean(near[:, missing], axis=0)
    mean, deviation = np.nan_to_num(mean), np.nan_to_num(deviation)
    around = _neighbours(deviation)
    noisier = np.nanmax(around, axis=0)
    deviation = np.where(noisier > STEP * deviation, noisier, deviation)
    least = max(LEAST_WHOLE * whole, 0.02 * float(np.median(deviation)), 1e-9)
    return (
        mean.astype(np.float32),
        (1 / np.maximum(deviation, least)).astype(np.float32),
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


def fluctuation(wide: np.ndarray) -> float:
    """Fluctuation of weighted sums; with independent pixels it would be 1.

    The point spread of a detector makes neighbours alike. By the median, so that spots
    do not count; 1 at the least.
    """
    if not wide.size:
        return 1.0
    return max(1.0, 1.4826 * float(np.median(np.abs(wide - np.median(wide)))))


def rank(
    strength: np.ndarray, search: CandidateSearch
) -> tuple[np.ndarray, np.ndarray]:
    """The strongest maxima in order, and how many there are of each of LEVELS."""
    total = np.array([np.count_nonzero(strength >= level) for level in LEVELS])
    return np.argsort(-strength, kind="stable")[: search.most], total


def over_median(scale: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Deviation at candidates, 1 / scale, over the median of that of the blocks."""
    return (np.median(inverse) / scale).astype(np.float32)


def radii(
    slow: np.ndarray, fast: np.ndarray, beam_centre: tuple[float, float]
) -> np.ndarray:
    """Distance of pixels from the beam centre, float32, pixels."""
    return np.hypot(slow + 0.5 - beam_centre[0], fast + 0.5 - beam_centre[1]).astype(
        np.float32
    )


def _neighbours(values: np.ndarray) -> np.ndarray:
    """The 3 x 3 neighbourhood of each block, (9, rows, columns); NaN past the edge."""
    padded = np.pad(values, 1, constant_values=np.nan)
    rows, columns = values.shape
    return np.stack(
        [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    )


def _weighted(z: np.ndarray) -> np.ndarray:
    """Sum of z with the weights (1 2 1) x (1 2 1), over their norm."""
    rows, columns = z.shape
    padded = np.pad(z, 1)
    down = padded[:rows] + 2 * padded[1 : rows + 1] + padded[2:]
    across = down[:, :columns] + 2 * down[:, 1 : columns + 1] + down[:, 2:]
    return across / np.float32(NORM)


def _local_maxima(strength: np.ndarray) -> np.ndarray:
    """Pixels of strength LEVELS[0] or more that no neighbour exceeds.

    Of equal neighbours the first is the maximum.
    """
    rows, columns = strength.shape
    padded = np.pad(strength, 1, constant_values=-np.inf)
    found = strength >= LEVELS[0]
    for i in range(3):
        for j in range(3):
            neighbour = padded[i : i + rows, j : j + columns]
            if (i, j) < (1, 1):
                found &= strength > neighbour
            elif (i, j) > (1, 1):
                found &= strength >= neighbour
    return found


def _cut_patches(
    z: np.ndarray, mask: np.ndarray, slow: np.ndarray, fast: np.ndarray
) -> np.ndarray:
    layers = np.stack([np.arcsinh(z), mask.astype(np.float32)])
    layers = np.pad(layers, ((0, 0), (REACH, REACH), (REACH, REACH)))
    windows = np.lib.stride_tricks.sliding_window_view(layers, (PATCH, PATCH), (1, 2))
    return np.ascontiguousarray(windows[:, slow, fast].swapaxes(0, 1))
