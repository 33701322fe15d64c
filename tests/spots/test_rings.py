"""Powder rings by where candidates are."""

from __future__ import annotations

import numpy as np
import pytest

from dials_cnn_screen.spots.rings import FEWEST, find_rings


def radii_of_lattice(rng, n=100):
    """Candidates anywhere on a frame: as many as there are pixels at a radius."""
    return 500 * np.sqrt(rng.random(n))


def test_rings_with_and_without_a_lattice():
    rng = np.random.default_rng(0)
    rings = np.concatenate([rng.normal(r, 0.4, 16) for r in (300.0, 60.0)])
    for radius in (rings, np.concatenate([rings, radii_of_lattice(rng)])):
        inner, outer = find_rings(radius)
        assert np.median(radius[inner]) == pytest.approx(60, abs=0.5)
        assert np.median(radius[outer]) == pytest.approx(300, abs=0.5)
        assert len(inner) >= 14
        assert len(outer) >= 14


def test_a_broad_crowd_is_no_ring():
    """As at the solvent's ring, or at low resolution."""
    rng = np.random.default_rng(0)
    assert find_rings(rng.normal(200, 25, 190)) == []


def test_lattices_have_none():
    rng = np.random.default_rng(1)
    found = [find_rings(radii_of_lattice(rng, n)) for n in (5, 30, 190) * 50]
    assert sum(map(bool, found)) <= 1


@pytest.mark.parametrize("n", [0, 1, FEWEST - 1])
def test_few_candidates_are_no_ring(n):
    assert find_rings(np.full(n, 100.0)) == []
