"""Powder rings of a frame, by where its candidates are.

Ice, salt, lipid and windows leave grains or graininess at a few distances from the
beam; the spots of a crystal are at many. The pixels themselves are not looked at: a
smooth faint ring without candidates is not found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.util.significance import poisson_significance

# A ring has FEWEST candidates or more up to HALF_WIDTH from its radius, and these stand
# out of what is usual up to AROUND pixels from it by LEAST_SIGMA standard deviations.
# Nearer than APART to a stronger ring is no other. Chosen on 151 random shots, made as
# those of studies/rings.py.
HALF_WIDTH, AROUND, APART = 1.5, 30.0, 6.0
FEWEST, LEAST_SIGMA = 10, 6.0
# What is usual is at least this many candidates: by hand.
_LEAST_EXPECTED = 0.3


def find_rings(radius: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """The candidates that lie on each ring, from the inner ring to the outer.

    Args:
        radius: float64 (n,), of the candidates of a frame about the centre of its
            rings, pixels.

    Returns:
        Indices of the candidates, int64 (m,) each.
    """
    ordered = np.sort(radius)

    def count(reach: float) -> NDArray[np.int64]:
        """Candidates up to so many pixels nearer to the centre or farther, (n,)."""
        first = np.searchsorted(ordered, radius - reach, "left")
        return np.searchsorted(ordered, radius + reach, "right") - first

    on_ring, beside = count(HALF_WIDTH), count(AROUND) - count(APART)
    # No candidate is nearer to the centre than 0.
    width = np.minimum(AROUND, radius) + AROUND - 2 * APART
    expected = np.maximum(beside * 2 * HALF_WIDTH / width, _LEAST_EXPECTED)
    sigma = poisson_significance(np.maximum(on_ring, expected), expected)
    crowded = (on_ring >= FEWEST) & (sigma >= LEAST_SIGMA)
    middles: list[float] = []
    for i in np.argsort(-sigma, kind="stable").tolist():
        if crowded[i] and all(abs(radius[i] - other) > APART for other in middles):
            middles.append(float(radius[i]))
    return [
        np.flatnonzero(np.abs(radius - middle) <= HALF_WIDTH)
        for middle in sorted(middles)
    ]
