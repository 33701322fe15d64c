"""Powder rings on a frame, from where its candidates are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.spots.features import RING
from dials_cnn_screen.util.significance import poisson_significance

# A ring has at least so many candidates within RING of its radius, and these stand out
# of what is usual up to SURROUNDING pixels from it by so many standard deviations.
# Nearer than APART to a stronger ring is no other. By hand.
_FEWEST, _LEAST_SIGMA, _SURROUNDING, _APART = 5, 4.5, 30.0, 6.0
# What is usual is at least this many candidates: by hand.
_LEAST_EXPECTED = 0.3


def find_rings(radius: NDArray[np.float32]) -> NDArray[np.float64]:
    """Radii at which candidates crowd, as they do on powder rings.

    Args:
        radius: float32 (n,), of the candidates of a frame, pixels.

    Returns:
        float64 (r,), pixels, increasing.
    """
    apart = np.abs(radius[:, None] - radius)  # (n, n), pixels
    on_ring = np.count_nonzero(apart <= RING, axis=1)  # (n,)
    beside = np.count_nonzero((apart > _APART) & (apart <= _SURROUNDING), axis=1)
    # No candidate is nearer to the beam than 0.
    width = np.minimum(_SURROUNDING, radius) + _SURROUNDING - 2 * _APART
    expected = np.maximum(beside * 2 * RING / np.maximum(width, 1), _LEAST_EXPECTED)
    sigma = poisson_significance(on_ring.astype(np.float64), expected)
    crowded = (on_ring >= _FEWEST) & (sigma >= _LEAST_SIGMA)
    rings: list[float] = []
    for i in np.argsort(-sigma, kind="stable"):
        if crowded[i] and all(abs(radius[i] - r) > _APART for r in rings):
            rings.append(float(np.median(radius[apart[i] <= RING])))
    return np.sort(np.array(rings))
