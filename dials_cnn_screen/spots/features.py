"""Features of candidates and of the frame, which the network takes beside patches.

What each group of features is worth was measured by studies/ablation.py
(models/default.md). The factors that bring features to order one were chosen by hand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.spots.candidates import DEPTHS, LEVELS, Candidates

# Features of a candidate, and of a frame: what describe gives.
N_SCALARS = 11
N_FRAME = len(LEVELS) + len(DEPTHS) + 3
# Candidates up to this far from each other are neighbours, and those whose distances
# from the beam differ by up to RING may be of one powder ring; pixels. If they are not,
# there are more within BROAD_RING in proportion. A broad ring, or one about another
# centre, shows only there. By hand.
NEIGHBOURHOOD, RING, BROAD_RING = 24.0, 2.0, 8.0


def _offsets() -> NDArray[np.float64]:
    """Offsets (k, 2) of up to 12 pixels along both axes, in steps of 2, least first."""
    step = np.arange(-12.0, 13.0, 2.0)
    grid = np.stack(np.meshgrid(step, step, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid[np.argsort((grid**2).sum(axis=1), kind="stable")]


# Users' beam centres are often wrong by some pixels, and rings about another point are
# none. By hand.
RING_OFFSETS = _offsets()
# Width of the bins of radii that are counted for that, pixels: by hand.
RING_BIN = 2.0


def describe(
    candidates: Candidates,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features that go with the patches, logarithms or the like, all of order one.

    Args:
        candidates: n of them.

    Returns:
        Of each candidate, float32 (n, 11): significance of pixel and weighted sum,
        noise, skewness, distance from the beam, rank, and the neighbourhood:
        distance of the nearest, number near, number in the same ring, number in the
        same broad ring, brightness along the ring.
        Of the frame, float32 (14,): maxima of each of LEVELS, low pixels of each of
        DEPTHS, spread of weighted sums, number of candidates, used pixels.
    """
    return describe_with(candidates, *count_neighbours(candidates))


def describe_with(
    candidates: Candidates,
    square: NDArray[np.float64],
    near: NDArray[np.int64],
    ring: NDArray[np.int64],
    broad: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As describe, with what count_neighbours gives."""
    n = len(candidates.z)
    scalars = np.stack(
        [
            np.arcsinh(candidates.z),
            np.arcsinh(candidates.summed),
            np.log(candidates.noise),
            candidates.skew,
            np.log1p(candidates.radius) / 4,
            np.log1p(np.arange(n)) / 4,
            np.log1p(np.sqrt(square)) / 4,
            np.log1p(near) / 2,
            np.log1p(ring) / 2,
            np.log1p(broad) / 2,
            4 * candidates.along_ring,
        ],
        axis=1,
    )  # (n, 11)
    frame = np.concatenate(
        [
            np.log1p(candidates.total) / 4,
            np.log1p(candidates.low) / 4,
            [np.log(candidates.spread), np.log1p(n) / 4],
            [np.log1p(candidates.used) / 10],
        ]
    )  # (14,)
    return scalars.astype(np.float32), frame.astype(np.float32)


def count_neighbours(
    candidates: Candidates,
) -> tuple[
    NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]
]:
    """How each candidate lies among the n of its frame.

    Defects and scratches come in clusters, grains of ice and salt in rings, and spots
    of protein in neither.

    Returns:
        The squared distance to the nearest candidate, pixels^2, 1e8 where there is no
        other; how many are within NEIGHBOURHOOD; and how many others are at the same
        distance from ring_centre, within RING and within BROAD_RING; (n,) each.
    """
    radius = radii_about(candidates, *ring_centre(candidates))  # (n,), pixels
    slow, fast = (c[:, None] - c for c in (candidates.slow, candidates.fast))  # (n, n)
    # Integers, squared: exact, and much faster than distances.
    square = (slow * slow + fast * fast).astype(np.float64)  # (n, n), pixels^2
    np.fill_diagonal(square, np.inf)
    apart = np.abs(radius[:, None] - radius)  # (n, n), pixels
    return (
        square.min(axis=1, initial=1e8),
        np.count_nonzero(square <= NEIGHBOURHOOD**2, axis=1),
        np.count_nonzero(apart <= RING, axis=1) - 1,
        np.count_nonzero(apart <= BROAD_RING, axis=1) - 1,
    )


def ring_centre(candidates: Candidates) -> tuple[float, float]:
    """The point near the beam centre about which candidates lie on rings most.

    At each of RING_OFFSETS the radii are counted in bins; the offset is taken that has
    the largest sum over all pairs of 2 for the same bin and 1 for the next one. Of
    equal ones it is the nearest to the beam centre.

    Returns:
        (slow, fast), pixels.
    """
    best, most = candidates.beam_centre, -1
    for offset in RING_OFFSETS:
        slow, fast = np.add(candidates.beam_centre, offset)
        bins = (radii_about(candidates, slow, fast) / RING_BIN).astype(np.int64)
        count = np.bincount(bins)
        pairs = int(2 * (count * count).sum() + 2 * (count[1:] * count[:-1]).sum())
        if pairs > most:
            best, most = (float(slow), float(fast)), pairs
    return best


def radii_about(
    candidates: Candidates, slow: float, fast: float
) -> NDArray[np.float64]:
    """Distance of n candidates from a point (slow, fast), float64 (n,), pixels."""
    y, x = candidates.slow + 0.5 - slow, candidates.fast + 0.5 - fast
    return np.sqrt(y * y + x * x)
