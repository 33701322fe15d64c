from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from dials_cnn_screen.spots import network_cpu
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.features import count_neighbours
from dials_cnn_screen.spots.network import (
    SpotNetwork,
    SpotNetworkConfig,
    batch_of_one,
)

# Widths that no number of sums at a time divides, and those of the default model.
CONFIGS = (
    SpotNetworkConfig(patch=7, candidate=5, context=9, count=3, head=6),
    SpotNetworkConfig(),
)


def candidates_of(n_spots: int, most: int):
    rng = np.random.default_rng(n_spots)
    data = rng.poisson(20, (96, 96)).astype(np.float32)
    tiles = 8 * rng.permutation(144)[:n_spots]
    data[4 + tiles // 96 * 8 % 96, tiles % 96 + 4] += 60
    if n_spots == 0:
        data[:] = 0
    mask = np.ones(data.shape, bool)
    return find_candidates(data, mask, (48, 48), CandidateSearch(most=most))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("n_spots", "most"), [(0, 4), (20, 1), (20, 2), (40, 192)])
def test_kernel_equals_torch(config, n_spots, most):
    torch.manual_seed(1)
    network = SpotNetwork(config).eval()
    found = candidates_of(n_spots, most)
    with torch.no_grad():
        logits, spot_logits, features = (
            v[0].numpy() for v in network(batch_of_one(found))
        )
    weights = network_cpu.spot_weights(network.state_dict())
    n = len(found.z)
    assert (n == 0) == (n_spots == 0)
    of_frame, of_spots, of_features = network_cpu.classify(found, weights)
    np.testing.assert_allclose(of_frame, logits, atol=1e-5)
    np.testing.assert_allclose(of_spots, spot_logits[:n], atol=1e-5)
    np.testing.assert_allclose(of_features, features, atol=1e-5)


def test_neighbours_are_those_of_the_reference():
    found = candidates_of(40, 192)
    expected = count_neighbours(found)
    assert expected[3].max() > expected[2].max()
    counted = network_cpu._count_neighbours(found.slow, found.fast, *found.beam_centre)
    for one, other in zip(counted, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_another_network_are_refused():
    with pytest.raises(KeyError, match=r"spot\.0"):
        network_cpu.spot_weights(torch.nn.Linear(2, 3).state_dict())
