from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("numba")

from dials_cnn_screen.spots import network_cpu
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.candidates_cpu import find_candidates
from dials_cnn_screen.spots.features import count_neighbours, radii_about, ring_centre


@pytest.fixture
def rings():
    """Candidates on two rings about (160, 150), and four elsewhere."""
    azimuth = np.linspace(0, 6, 40)
    radius = np.where(np.arange(40) % 2, 60.0, 100.0)
    slow = np.append((160 + radius * np.sin(azimuth)).astype(int), [30, 45, 280, 270])
    fast = np.append((150 + radius * np.cos(azimuth)).astype(int), [40, 190, 60, 250])
    data = np.zeros((320, 300), np.float32)
    data[slow, fast] = 50
    return find_candidates(data, data == data, (160.0, 150.0), CandidateSearch())


@pytest.mark.parametrize("error", [(0, 0), (8, -6), (-12, 12), (3, 5)])
def test_centre_of_rings_is_found(rings, error):
    """However wrong the beam centre is, within 12 pixels."""
    wrong = dataclasses.replace(rings, beam_centre=(160.0 + error[0], 150.0 + error[1]))
    assert ring_centre(wrong) == pytest.approx((160, 150), abs=1.5)
    _, _, ring, _ = count_neighbours(wrong)
    assert np.median(ring) >= 12


@pytest.mark.parametrize("centre", [(160.0, 150.0), (151.3, 158.9)])
def test_compiled_radii_are_those_of_the_reference(rings, centre):
    moved = dataclasses.replace(rings, beam_centre=centre)
    found = network_cpu.ring_radii(moved.slow, moved.fast, *centre)
    np.testing.assert_array_equal(found, radii_about(moved, *ring_centre(moved)))


def test_one_candidate_is_about_the_beam_centre(rings):
    one = dataclasses.replace(rings, slow=rings.slow[:1], fast=rings.fast[:1])
    assert ring_centre(one) == one.beam_centre
