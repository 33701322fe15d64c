from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.influence import influence, take


@pytest.fixture
def counter():
    """A network by which a spot has z over 15, and z(Hit) is twice their number - 7."""
    network = find_architecture("spots").network().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # The first number of a candidate, asinh(z), goes through as it is.
        network.code[1].weight[0, network.config.patch] = 1
        network.spot[0].weight[0, 0] = 1
        network.spot[-1].weight[0, 0] = 20
        network.spot[-1].bias[:] = -20 * math.asinh(15)
        network.count[0].weight[0, -1] = 1
        network.count[-1].weight[0, 0] = 40
        network.count[-1].bias[:] = torch.tensor([-7.0, -100, 0])
    return network


def candidates_of(n_spots: int):
    """Candidates of a frame of noise with so many spots, at (30, 30), (30, 60) ..."""
    rng = np.random.default_rng(0)
    data = rng.poisson(100, (300, 300)).astype(np.float32)
    data[30, 30 * np.arange(1, n_spots + 1)] += 900
    mask = np.ones(data.shape, dtype=bool)
    return find_candidates(data, mask, (150.0, 150.0), CandidateSearch(most=12))


def test_weights_are_of_the_spots(counter):
    candidates = candidates_of(5)
    of = influence(counter, candidates, 1.0)
    is_spot = candidates.slow == 30
    assert is_spot.sum() == 5
    assert len(of.weight) > 5
    np.testing.assert_allclose(of.p_spot, is_spot, atol=1e-4)
    np.testing.assert_allclose(of.weight, 2.0 * is_spot, atol=1e-3)
    # Of 5 spots 4 are left, or all: z = 1, or 3.
    expected = 1 / (1 + np.exp(-np.where(is_spot, 1.0, 3.0)))
    np.testing.assert_allclose(of.without, expected, atol=1e-3)


def test_temperature_tempers(counter):
    candidates = candidates_of(5)
    of = influence(counter, candidates, 4.0)
    np.testing.assert_allclose(of.weight.max(), 0.5, atol=1e-3)


@pytest.mark.parametrize(("n_spots", "deciding"), [(6, 3), (5, 2), (4, 1), (3, None)])
def test_deciding_ones(counter, n_spots, deciding):
    # Up to three spots make a Miss.
    assert influence(counter, candidates_of(n_spots), 1.0).deciding == deciding


def test_all_candidates_may_have_to_go(counter):
    # What speaks for a Hit is now that there are candidates at all, and no Miss by one.
    with torch.no_grad():
        counter.spot[-1].bias[:] = 100
        counter.count[-1].bias[0] = -1
    candidates = candidates_of(3)
    of = influence(counter, candidates, 1.0)
    assert of.deciding == len(candidates.z)


def test_none_decides_where_it_is_not_for_the_spots(counter):
    with torch.no_grad():
        counter.count[-1].bias[0] = 5
    assert influence(counter, candidates_of(2), 1.0).deciding is None


def test_a_frame_without_candidates(counter):
    nothing = take(candidates_of(1), np.array([], dtype=int))
    of = influence(counter, nothing, 1.0)
    assert len(of.p_spot) == len(of.without) == len(of.weight) == 0
    assert of.deciding is None


def test_left_out_is_not_counted():
    candidates = candidates_of(5)
    order = np.arange(len(candidates.z))
    fewer = take(candidates, order[2:])
    # The two strongest are above all levels.
    np.testing.assert_array_equal(fewer.total, candidates.total - 2)
    np.testing.assert_array_equal(fewer.patches, candidates.patches[2:])
    np.testing.assert_array_equal(fewer.slow, candidates.slow[2:])
    assert fewer.used == candidates.used
    np.testing.assert_array_equal(take(candidates, order).total, candidates.total)
