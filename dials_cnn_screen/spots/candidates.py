"""Frame to spot candidates: the brightest local maxima and what is around them.

The reference, in numpy; kernels/cpu_candidates.py has the same made fast. All is done
at full resolution, since a spot of one pixel is lost in a binned one, and with masks,
since a gap is not a dark place.

1. The background is that of background.py, interpolated between the centres of blocks;
   z = (pixel - mean) / deviation.
2. A pixel's strength is the significance of z, or of z weighted 1 2 1 along both axes
   over what that sum fluctuates by on this frame, if that is more: a spot of one pixel
   stands out in the one, a wider one in the other. Local maxima of strength are
   candidates; the strongest are kept.
3. Around each candidate a patch of asinh(z) is cut out, with its mask.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from dials_cnn_screen.spots.background import background, interpolate

PATCH = 13
REACH = PATCH // 2
# Maxima of each strength are counted to describe the frame, and pixels as far below the
# background: noise reaches as far down as up, spots do not.
LEVELS = (3.5, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0)
DEPTHS = (4.0, 5.0, 6.0, 8.0)
# What the weights (1 2 1) x (1 2 1) make of the deviation of independent pixels, their
# norm, and of its skewness: the sum of their cubes over the cube of the norm.
NORM, SUM_SKEW = 6.0, 100 / 6**3
# Pixels are more than sums that do not overlap: their noise reaches so much higher.
PIXEL_HANDICAP = 0.5
# Noise of less skewness is as good as Gaussian.
LEAST_SKEW = 0.02
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
    where used. z, summed: float32 (n,), significance of the pixel and of the weighted
    sum. noise, skew: float32 (n,), deviation of the background over its median, and
    skewness. radius: float32 (n,), pixels from the beam centre. spread: float,
    fluctuation of the weighted sum over that of independent pixels. total: int64
    (len(LEVELS),), local maxima at least so strong, among all. low: int64
    (len(DEPTHS),), pixels at least so far below the background. used: int, pixels.
    """

    slow: np.ndarray
    fast: np.ndarray
    patches: np.ndarray
    z: np.ndarray
    summed: np.ndarray
    noise: np.ndarray
    skew: np.ndarray
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
    blocks = background(data, mask)
    mean, scale, skew = (interpolate(of_blocks, data.shape) for of_blocks in blocks)
    z = np.where(mask, (data - mean) * scale, 0).astype(np.float32)
    sums = _weighted(z)
    spread = fluctuation(sums[SAMPLE][mask[SAMPLE]])
    sums /= np.float32(spread)
    pixel, summed = significance(z, skew), significance(sums, SUM_SKEW * skew)
    strength = np.where(mask, strongest(pixel, summed), -np.inf)
    slow, fast = np.nonzero(_local_maxima(strength))
    order, total = rank(strength[slow, fast], search)
    slow, fast = slow[order], fast[order]
    depth = np.where(mask, -np.minimum(z, sums), 0)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=_cut_patches(z, mask, slow, fast),
        z=pixel[slow, fast],
        summed=summed[slow, fast],
        noise=over_median(scale[slow, fast], blocks.inverse),
        skew=skew[slow, fast],
        radius=radii(slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=np.array([np.count_nonzero(depth >= level) for level in DEPTHS]),
        used=int(np.count_nonzero(mask)),
    )


def significance(height: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """Standard deviations by which heights stand out of skewed noise; float32.

    height: over the mean, in deviations. skew: of the noise. It is taken for photons,
    of which a pixel has b = 1 / skew^2 on average; then n = b + height sqrt(b) are
    sqrt(2 (n ln(n / b) - (n - b))) significant, by the likelihood ratio. Two photons
    where there are few are no spot, though many deviations high.
    """
    b = 1 / np.maximum(skew, LEAST_SKEW, dtype=np.float64) ** 2
    over = np.maximum(height, 0) * np.sqrt(b)
    ratio = np.sqrt(2 * np.maximum((b + over) * np.log1p(over / b) - over, 0))
    return np.where(height > 0, ratio, height).astype(np.float32)


def strongest(pixel: np.ndarray, summed: np.ndarray) -> np.ndarray:
    """Strength from the significance of a pixel and of the weighted sum around it."""
    return np.maximum(pixel - np.float32(PIXEL_HANDICAP), summed)


def fluctuation(summed: np.ndarray) -> float:
    """Fluctuation of weighted sums; with independent pixels it would be 1.

    The point spread of a detector makes neighbours alike. By the median, so that spots
    do not count; 1 at the least.
    """
    if not summed.size:
        return 1.0
    return max(1.0, 1.4826 * float(np.median(np.abs(summed - np.median(summed)))))


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
