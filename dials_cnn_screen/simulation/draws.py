"""Draws of what is known to an order of magnitude only."""

from __future__ import annotations

import numpy as np

# The ends of a range that something is drawn from, the lower one first.
Range = tuple[float, float]


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """A number from low to high (both positive) whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
