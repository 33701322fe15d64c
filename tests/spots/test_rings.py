from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.spots.rings import find_rings


def radii(seed=0, n=100, largest=900.0) -> np.ndarray:
    """Of candidates that are anywhere on a disc."""
    rng = np.random.default_rng(seed)
    return (largest * np.sqrt(rng.random(n))).astype(np.float32)


def test_rings_are_found_among_others():
    rng = np.random.default_rng(1)
    rings = [rng.normal(r, 0.6, 16) for r in (310.0, 622.0)]
    radius = np.concatenate([radii(), *rings]).astype(np.float32)
    assert find_rings(radius) == pytest.approx([310, 622], abs=1)


def test_anywhere_is_no_ring():
    assert sum(len(find_rings(radii(seed, 192))) for seed in range(40)) <= 2


@pytest.mark.parametrize("n", [0, 1, 4])
def test_few_candidates_are_no_ring(n):
    assert len(find_rings(np.full(n, 100, np.float32))) == 0


def test_order_changes_nothing():
    radius = np.concatenate([radii(), np.full(8, 205.5, np.float32)])
    np.testing.assert_array_equal(find_rings(radius), find_rings(radius[::-1]))
