"""Frame to spot candidates: the strongest local maxima and the pixels around them.

The reference, in numpy; candidates_cpu.py is the same made fast. All is done at full
resolution, since binning loses a spot of one pixel, and with masks, since a gap is not
dark background.

1. The background is that of background.py, interpolated between the centres of blocks:
   z = (pixel - mean) / standard deviation.
2. The weighted sum of z has the weights (1 2 1) x (1 2 1), and is divided by its
   standard deviation on this frame. A spot of one pixel stands out in z, a wider one in
   the sum.
3. Strength is the significance of z, less a handicap, or that of the weighted sum,
   whichever is larger. Local maxima of strength are candidates; the strongest are kept,
   but only some of each narrow ring round the beam, so that powder rings leave room for
   the spots of a lattice.
4. Around each candidate a patch of asinh(z) is cut out, with its mask, and it is
   measured whether its surroundings are brighter along the ring round the beam.

The constants were chosen by hand; no study compares other values. What the patches and
features are worth is in models/default.md (studies/ablation.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.spots.background import background, interpolate
from dials_cnn_screen.util.significance import poisson_significance

# Edge of a patch, and pixels to each side of its middle.
PATCH = 13
REACH = PATCH // 2
# Candidates have at least the first of these strengths. Maxima of each strength are
# counted to describe the frame, and pixels as far below the background: noise reaches
# as far down as up, spots do not.
LEVELS = (3.5, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0)
DEPTHS = (4.0, 5.0, 6.0, 8.0)
# Of the weights w = (1 2 1) x (1 2 1), not by hand: the weighted sum of independent
# pixels has (sum w^2)^1/2 = NORM times their standard deviation, and sum w^3 / NORM^3
# = SUM_SKEW times their skewness.
NORM, SUM_SKEW = 6.0, 100 / 6**3
# A frame has more pixels than weighted sums that do not overlap, so that the strongest
# of the noise is higher by about this many standard deviations among pixels.
PIXEL_HANDICAP = 0.5
# Strengths are compared in steps of 1 / ROUNDING standard deviations, so that rounding
# errors do not order candidates of equal strength: of these the first on the frame is
# the stronger. By hand, over the errors of float32.
ROUNDING = 1e4
# Noise of less skewness is taken to be of this one, nearly Gaussian.
LEAST_SKEW = 0.02
# The pixels by which the standard deviation of weighted sums is measured.
SAMPLE = np.s_[1::32, 1::4]
# Surroundings of a candidate: pixels at these distances, beyond most spots and within
# the patch. By hand.
SURROUNDINGS = (3.0, 6.5)
# Width of the rings of which CandidateSearch.per_ring candidates are kept, pixels. By
# hand.
RING_WIDTH = 4.0
# The standard deviation of Gaussian noise over its median absolute deviation.
MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class CandidateSearch:
    """How candidates are searched for; stored with a model.

    Attributes:
        most: How many candidates of a frame are kept at most. Chosen by hand.
        per_ring: How many of those in a ring of RING_WIDTH are kept at most. By hand,
            more than lattices have there.

    Raises:
        ValueError: One of them is not an integer from 1 to 4096.
    """

    most: int = 192
    per_ring: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or not 1 <= value <= 4096:
                raise ValueError(f"{name}={value} is not from 1 to 4096")

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The n candidates of one frame, the strongest first.

    Attributes:
        slow, fast: int64 (n,), pixel indices.
        patches: float32 (n, 2, 13, 13), asinh(z) around each, and 1 where used.
        z: float32 (n,), significance of the pixel, standard deviations.
        summed: float32 (n,), significance of the weighted sum, standard deviations.
        noise: float32 (n,), standard deviation of the background over its median on
            the frame.
        skew: float32 (n,), skewness of the background.
        radius: float32 (n,), pixels from the beam centre.
        along_ring: float32 (n,), how much brighter the surroundings are along the ring
            round the beam than across it, in asinh(z).
        spread: Standard deviation of the frame's weighted sums over that of independent
            pixels, 1 or more; the point spread makes it larger.
        total: int64 (len(LEVELS),), local maxima of the frame at least so strong.
        low: int64 (len(DEPTHS),), pixels at least so far below the background.
        used: Pixels of the frame that are used.
        beam_centre: (slow, fast), pixels.
    """

    slow: NDArray[np.int64]
    fast: NDArray[np.int64]
    patches: NDArray[np.float32]
    z: NDArray[np.float32]
    summed: NDArray[np.float32]
    noise: NDArray[np.float32]
    skew: NDArray[np.float32]
    radius: NDArray[np.float32]
    along_ring: NDArray[np.float32]
    spread: float
    total: NDArray[np.int64]
    low: NDArray[np.int64]
    used: int
    beam_centre: tuple[float, float]


def find_candidates(
    data: NDArray,
    mask: NDArray[np.bool_],
    beam_centre: tuple[float, float],
    search: CandidateSearch,
) -> Candidates:
    """The candidates of one frame.

    Args:
        data: (slow, fast) finite numbers, ADU.
        mask: bool (slow, fast), True = use.
        beam_centre: (slow, fast), pixels, as in Frame.
        search: How many are kept.
    """
    blocks = background(data, mask)
    # (slow, fast) each
    mean, scale, skew = (interpolate(of_blocks, data.shape) for of_blocks in blocks)
    z = np.where(mask, (data - mean) * scale, 0).astype(np.float32)  # (slow, fast)
    sums = _weighted_sums(z)  # (slow, fast)
    spread = sum_deviation(sums[SAMPLE][mask[SAMPLE]])
    sums /= np.float32(spread)
    pixel, summed = significance(z, skew), significance(sums, SUM_SKEW * skew)
    strength = np.where(mask, strongest(pixel, summed), -np.inf)  # (slow, fast)
    slow, fast = np.nonzero(_local_maxima(strength))  # (maxima,) each
    radius = radii(slow, fast, beam_centre)  # (maxima,)
    order, total = rank(strength[slow, fast], radius, search)  # (n,), (levels,)
    slow, fast = slow[order], fast[order]  # (n,) each
    depth = np.where(mask, -np.minimum(z, sums), 0)  # (slow, fast)
    patches = _cut_patches(z, mask, slow, fast)  # (n, 2, 13, 13)
    return Candidates(
        slow=slow,
        fast=fast,
        patches=patches,
        z=pixel[slow, fast],
        summed=summed[slow, fast],
        noise=over_median(scale[slow, fast], blocks.inverse),
        skew=skew[slow, fast],
        radius=radius[order],
        along_ring=along_ring(patches, slow, fast, beam_centre),
        spread=spread,
        total=total,
        low=np.array([np.count_nonzero(depth >= level) for level in DEPTHS]),
        used=int(np.count_nonzero(mask)),
        beam_centre=beam_centre,
    )


def significance(height: NDArray[np.float32], skew: NDArray) -> NDArray[np.float32]:
    """Standard deviations by which heights stand out of skewed noise.

    The noise is taken for Poisson counts with a mean of b = 1 / skew^2. By the
    likelihood ratio the significance of n = b + height sqrt(b) counts is
    sqrt(2 (n ln(n / b) - (n - b))). So two photons where there are few are no spot,
    though many standard deviations high.

    Args:
        height: float32, over the mean, in standard deviations of the noise.
        skew: float of the same shape, skewness of the noise.

    Returns:
        float32 of the same shape; the height itself where it is not over 0.
    """
    b = 1 / np.maximum(skew, LEAST_SKEW, dtype=np.float64) ** 2
    excess = np.maximum(height, 0) * np.sqrt(b)
    ratio = poisson_significance(b + excess, b, excess)
    return np.where(height > 0, ratio, height).astype(np.float32)


def strongest(
    pixel: NDArray[np.float32], summed: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Strength: max(pixel - PIXEL_HANDICAP, summed), rounded to 1 / ROUNDING.

    Args:
        pixel: float32, significance of pixels, standard deviations.
        summed: float32 of the same shape, that of the weighted sums around them.
    """
    strength = np.maximum(pixel - np.float32(PIXEL_HANDICAP), summed)
    return np.rint(strength * np.float32(ROUNDING)) / np.float32(ROUNDING)


def sum_deviation(sums: NDArray[np.float32]) -> float:
    """Standard deviation of weighted sums of z over NORM, 1 at the least.

    It is 1 where pixels are independent, and more where the detector's point spread
    correlates neighbours. By the median absolute deviation, so that spots do not count.

    Args:
        sums: float32 (n,); of none it is 1.
    """
    if not sums.size:
        return 1.0
    deviation = float(np.median(np.abs(sums - np.median(sums))))
    return max(1.0, MAD_TO_DEVIATION * deviation)


def rank(
    strength: NDArray[np.float32],
    radius: NDArray[np.float32],
    search: CandidateSearch,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The strongest maxima of each ring, and how many maxima there are.

    Args:
        strength: float32 (m,), of all local maxima.
        radius: float32 (m,), of them, pixels.
        search: How many are kept.

    Returns:
        Indices of the n that are kept, int64 (n,), the strongest first; and the number
        of maxima of each of LEVELS, int64 (len(LEVELS),).
    """
    total = np.array([np.count_nonzero(strength >= level) for level in LEVELS])
    order = np.argsort(-strength, kind="stable")  # (m,)
    ring = (radius[order] / RING_WIDTH).astype(np.int64)  # (m,)
    by_ring = np.argsort(ring, kind="stable")  # (m,), the strongest of a ring first
    first = np.searchsorted(ring[by_ring], ring[by_ring])  # (m,), of the same ring
    stronger = np.empty(len(ring), np.int64)
    stronger[by_ring] = np.arange(len(ring)) - first
    return order[stronger < search.per_ring][: search.most], total


def over_median(
    scale: NDArray[np.float32], inverse: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Standard deviation at candidates over its median on the frame.

    Args:
        scale: float32 (n,), 1 / deviation at the candidates, 1 / ADU.
        inverse: float32 (rows, columns), 1 / deviation of the blocks, 1 / ADU.

    Returns:
        float32 (n,).
    """
    return (np.median(inverse) / scale).astype(np.float32)


def radii(
    slow: NDArray[np.int64], fast: NDArray[np.int64], beam_centre: tuple[float, float]
) -> NDArray[np.float32]:
    """Distance of the centres of pixels (n,) from the beam centre, float32 (n,)."""
    return np.hypot(slow + 0.5 - beam_centre[0], fast + 0.5 - beam_centre[1]).astype(
        np.float32
    )


def ring_weights() -> NDArray[np.float32]:
    """cos and sin of twice the direction of the pixels of SURROUNDINGS, and 1 there.

    Returns:
        float32 (13, 13, 3), 0 at other pixels of a patch. Directions are from fast
        towards slow.
    """
    offset = np.arange(PATCH) - REACH
    slow, fast = np.meshgrid(offset, offset, indexing="ij")  # (13, 13) each
    distance = np.hypot(slow, fast)
    nearest, farthest = SURROUNDINGS
    inside = (nearest <= distance) & (distance <= farthest)
    angle = 2 * np.arctan2(slow, fast)
    weights = np.stack([np.cos(angle), np.sin(angle), np.ones_like(angle)], axis=-1)
    return (weights * inside[:, :, None]).astype(np.float32)


def along_ring(
    patches: NDArray[np.float32],
    slow: NDArray[np.int64],
    fast: NDArray[np.int64],
    beam_centre: tuple[float, float],
) -> NDArray[np.float32]:
    """How much brighter the surroundings of candidates are along their ring.

    The quadrupole moment -sum(v cos(2 (a - r))) / n of the n used pixels of
    SURROUNDINGS: v is asinh(z), a the direction from the candidate to the pixel, r that
    from the beam to the candidate. Powder rings make it positive, the radial streaks of
    a broad bandwidth negative; a spot by itself gives about 0.

    Args:
        patches: (n, 2, 13, 13), as in Candidates.
        slow, fast: (n,), pixel indices.
        beam_centre: (slow, fast), pixels.

    Returns:
        float32 (n,).
    """
    values, used = patches.reshape(-1, 2, PATCH * PATCH).swapaxes(0, 1)  # (n, 169) each
    weights = ring_weights().reshape(-1, 3)  # (169, 3)
    # Not by BLAS: its threads wait for more, and take the time of other cores.
    moments = np.einsum("np,pm->nm", values, weights[:, :2])  # (n, 2)
    number = np.maximum(np.einsum("np,p->n", used, weights[:, 2]), 1)  # (n,)
    y, x = slow + 0.5 - beam_centre[0], fast + 0.5 - beam_centre[1]  # (n,), pixels
    # cos 2r and sin 2r times the squared radius.
    across = moments[:, 0] * (x * x - y * y) + moments[:, 1] * (2 * x * y)
    return (-across / (np.maximum(x * x + y * y, 1e-12) * number)).astype(np.float32)


def _weighted_sums(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of z (slow, fast) with the weights (1 2 1) x (1 2 1), over NORM.

    z counts as 0 outside the frame.
    """
    rows, columns = z.shape
    padded = np.pad(z, 1)  # (slow + 2, fast + 2)
    down = padded[:rows] + 2 * padded[1 : rows + 1] + padded[2:]  # (slow, fast + 2)
    across = down[:, :columns] + 2 * down[:, 1 : columns + 1] + down[:, 2:]
    return across / np.float32(NORM)  # (slow, fast)


def _local_maxima(strength: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels of strength LEVELS[0] or more that none of their 8 neighbours exceeds.

    Of equal neighbours the first is the maximum. Both arrays are (slow, fast).
    """
    rows, columns = strength.shape
    padded = np.pad(strength, 1, constant_values=-np.inf)  # (slow + 2, fast + 2)
    found = strength >= LEVELS[0]  # (slow, fast)
    for i in range(3):
        for j in range(3):
            neighbour = padded[i : i + rows, j : j + columns]
            if (i, j) < (1, 1):
                found &= strength > neighbour
            elif (i, j) > (1, 1):
                found &= strength >= neighbour
    return found


def _cut_patches(
    z: NDArray[np.float32],
    mask: NDArray[np.bool_],
    slow: NDArray[np.int64],
    fast: NDArray[np.int64],
) -> NDArray[np.float32]:
    """asinh(z) and mask around pixels (n,), 0 outside the frame: (n, 2, 13, 13)."""
    layers = np.stack([np.arcsinh(z), mask.astype(np.float32)])  # (2, slow, fast)
    layers = np.pad(layers, ((0, 0), (REACH, REACH), (REACH, REACH)))
    # (1, slow, fast, 2, 13, 13)
    windows = np.lib.stride_tricks.sliding_window_view(layers, (2, PATCH, PATCH))
    return np.ascontiguousarray(windows[0, slow, fast])
