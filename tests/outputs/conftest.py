"""Frames with spots of known places, for what is made of their pixels."""

from __future__ import annotations

import numpy as np
import pytest

# (slow, fast) of the spots' maxima.
SPOTS = np.array([[20, 30], [40, 70], [60, 12]])


def _draw_spots(spots=SPOTS, shape=(80, 96), seed=0, level=50.0) -> np.ndarray:
    """A frame of noise with spots of 3 x 3 pixels, int32: 900 above the level."""
    image = np.random.default_rng(seed).poisson(level, shape).astype(np.int32)
    for slow, fast in spots:
        image[slow - 1 : slow + 2, fast - 1 : fast + 2] += 50
        image[slow, fast] += 450
    return image


@pytest.fixture
def draw_spots():
    """The function draw_spots(spots, shape, seed, level) -> image."""
    return _draw_spots


@pytest.fixture
def spots() -> np.ndarray:
    return SPOTS.copy()
