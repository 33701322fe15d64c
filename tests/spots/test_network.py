from __future__ import annotations

import numpy as np
import pytest
import torch

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots import features
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.configuration import HEAD_LIMIT
from dials_cnn_screen.spots.features import describe
from dials_cnn_screen.spots.network import (
    CandidateBatch,
    SpotNetwork,
    SpotNetworkConfig,
    batch_of_one,
)

SEARCH = CandidateSearch(most=24)
SMALL = SpotNetworkConfig(patch=8, candidate=8, context=8, count=4, head=8)


def frame(n_spots: int, seed: int) -> np.ndarray:
    """A frame with n_spots spots."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(20, (96, 96)).astype(np.float32)
    tiles = 8 * rng.permutation(144)[:n_spots]
    slow, fast = 4 + tiles // 96 * 8 % 96, tiles % 96 + 4
    data[slow, fast] += 60
    return data


def candidates_of(n_spots: int, seed: int = 0):
    data = frame(n_spots, seed)
    return find_candidates(data, np.ones(data.shape, bool), (48, 48), SEARCH)


@pytest.fixture
def network() -> SpotNetwork:
    torch.manual_seed(0)
    return SpotNetwork(SMALL).eval()


def test_shapes(network):
    found = candidates_of(12)
    logits, spot_logits, features = network(batch_of_one(found))
    assert logits.shape == (1, len(Label))
    assert spot_logits.shape == (1, len(found.z))
    assert features.shape == (1, network.head[0].in_features)


def test_what_describes_the_frame_is_limited(network):
    """However far off it is, the number of spots says most of the class."""
    batch = batch_of_one(candidates_of(12))
    with torch.no_grad():
        network.head[2].weight.mul_(0)
        by_count = (
            network(batch).logits
            - torch.tanh(network.head[2].bias / HEAD_LIMIT) * HEAD_LIMIT
        )
        network.head[2].bias.fill_(1e6)
        np.testing.assert_allclose(
            network(batch).logits, by_count + HEAD_LIMIT, atol=1e-5
        )
        network.head[2].bias.fill_(0.01)
        np.testing.assert_allclose(network(batch).logits, by_count + 0.01, atol=1e-5)


def test_empty_slots_change_nothing(network):
    batch = batch_of_one(candidates_of(12))
    padded = CandidateBatch(
        torch.nn.functional.pad(batch.patches, (0, 0, 0, 0, 0, 0, 0, 7), value=3.0),
        torch.nn.functional.pad(batch.scalars, (0, 0, 0, 7), value=3.0),
        torch.nn.functional.pad(batch.present, (0, 7)),
        batch.frame,
    )
    with torch.no_grad():
        logits, spot_logits, _ = network(batch)
        other_logits, other_spot_logits, _ = network(padded)
    n = spot_logits.shape[1]
    torch.testing.assert_close(logits, other_logits)
    torch.testing.assert_close(spot_logits, other_spot_logits[:, :n])
    assert (other_spot_logits[:, n:] < -20).all()


def test_order_of_candidates_changes_nothing(network):
    batch = batch_of_one(candidates_of(12))
    order = torch.randperm(batch.present.shape[1])
    with torch.no_grad():
        logits, spot_logits, _ = network(batch)
        turned, turned_spot_logits, _ = network(
            CandidateBatch(
                batch.patches[:, order],
                batch.scalars[:, order],
                batch.present[:, order],
                batch.frame,
            )
        )
    torch.testing.assert_close(logits, turned)
    torch.testing.assert_close(spot_logits[:, order], turned_spot_logits)


def test_frame_without_candidates(network):
    empty = np.zeros((40, 40), np.float32)
    found = find_candidates(empty, empty == 0, (20, 20), SEARCH)
    with torch.no_grad():
        logits, spot_logits, _ = network(batch_of_one(found))
    assert torch.isfinite(logits).all()
    assert spot_logits.shape == (1, 1)


def test_features_of_candidates_and_frame():
    found = candidates_of(12)
    scalars, numbers = describe(found)
    assert scalars.shape == (len(found.z), 11)
    np.testing.assert_allclose(scalars[:, 0], np.arcsinh(found.z), rtol=1e-5)
    np.testing.assert_allclose(scalars[:, 4], np.log1p(found.radius) / 4, rtol=1e-5)
    assert numbers.shape == (14,)
    assert numbers[0] == pytest.approx(np.log1p(found.total[0]) / 4)


def test_neighbourhood_features(monkeypatch):
    monkeypatch.setattr(features, "RING_OFFSETS", np.zeros((1, 2)))
    data = np.zeros((96, 96), np.float32)
    # Three near each other, and one as far from the beam as the first.
    data[[20, 20, 20, 48], [48, 60, 70, 20]] = 50
    found = find_candidates(data, np.ones(data.shape, bool), (48.5, 48.5), SEARCH)
    scalars, _ = describe(found)
    order = np.lexsort((found.fast, found.slow))
    nearest, near, ring, broad, along = scalars[order, 6:].T
    np.testing.assert_allclose(np.expm1(4 * nearest[:3]), [12, 10, 10], rtol=1e-5)
    np.testing.assert_allclose(np.expm1(2 * near), [2, 2, 2, 0], atol=1e-5)
    np.testing.assert_allclose(np.expm1(2 * ring), [1, 0, 0, 1], atol=1e-5)
    # 28, 30.5, 35.6 and 28 pixels from the beam.
    np.testing.assert_allclose(np.expm1(2 * broad), [3, 3, 3, 3], atol=1e-5)
    np.testing.assert_allclose(along, 4 * found.along_ring[order], atol=1e-6)
