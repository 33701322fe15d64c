from __future__ import annotations

import numpy as np
import pytest
import torch

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.network import (
    CandidateBatch,
    SpotNetwork,
    SpotNetworkConfig,
    batch_of_one,
    describe,
)
from dials_cnn_screen.spots.training_set import (
    CandidateSet,
    SpotSchedule,
    match_spots,
)
from dials_cnn_screen.training.loop import predict_logits, train

SEARCH = CandidateSearch(most=24)
SMALL = SpotNetworkConfig(patch=8, candidate=8, context=8, head=8)


def frame(n_spots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame with n_spots spots, and their places (slow, fast)."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(20, (96, 96)).astype(np.float32)
    places = 8 * rng.permutation(144)[:n_spots]
    slow, fast = 4 + places // 96 * 8 % 96, places % 96 + 4
    data[slow, fast] += 60
    return data, np.stack([slow + 0.5, fast + 0.5], axis=1)


def candidates_of(n_spots: int, seed: int = 0):
    data, _ = frame(n_spots, seed)
    return find_candidates(data, np.ones(data.shape, bool), (48, 48), SEARCH)


@pytest.fixture
def network() -> SpotNetwork:
    torch.manual_seed(0)
    return SpotNetwork(SMALL).eval()


def test_shapes(network):
    found = candidates_of(12)
    scores, logits, features = network(batch_of_one(found))
    assert scores.shape == (1, len(Label))
    assert logits.shape == (1, len(found.z))
    assert features.shape == (1, network.head[0].in_features)


def test_empty_slots_change_nothing(network):
    batch = batch_of_one(candidates_of(12))
    padded = CandidateBatch(
        torch.nn.functional.pad(batch.patches, (0, 0, 0, 0, 0, 0, 0, 7), value=3.0),
        torch.nn.functional.pad(batch.scalars, (0, 0, 0, 7), value=3.0),
        torch.nn.functional.pad(batch.present, (0, 7)),
        batch.frame,
    )
    with torch.no_grad():
        scores, logits, _ = network(batch)
        other_scores, other_logits, _ = network(padded)
    torch.testing.assert_close(scores, other_scores)
    torch.testing.assert_close(logits, other_logits[:, : logits.shape[1]])
    assert (other_logits[:, logits.shape[1] :] < -20).all()


def test_order_of_candidates_changes_nothing(network):
    batch = batch_of_one(candidates_of(12))
    order = torch.randperm(batch.present.shape[1])
    with torch.no_grad():
        scores, logits, _ = network(batch)
        turned, turned_logits, _ = network(
            CandidateBatch(
                batch.patches[:, order],
                batch.scalars[:, order],
                batch.present[:, order],
                batch.frame,
            )
        )
    torch.testing.assert_close(scores, turned)
    torch.testing.assert_close(logits[:, order], turned_logits)


def test_frame_without_candidates(network):
    empty = np.zeros((40, 40), np.float32)
    found = find_candidates(empty, empty == 0, (20, 20), SEARCH)
    with torch.no_grad():
        scores, logits, _ = network(batch_of_one(found))
    assert torch.isfinite(scores).all()
    assert logits.shape == (1, 1)


def test_numbers_of_candidates():
    found = candidates_of(12)
    scalars, numbers = describe(found)
    assert scalars.shape == (len(found.z), 9)
    np.testing.assert_allclose(scalars[:, 0], np.arcsinh(found.z), rtol=1e-5)
    np.testing.assert_allclose(scalars[:, 4], np.log1p(found.radius) / 4, rtol=1e-5)
    assert numbers.shape == (14,)
    assert numbers[0] == pytest.approx(np.log1p(found.total[0]) / 4)


def test_neighbourhood_of_candidates():
    data = np.zeros((96, 96), np.float32)
    # Three near each other, and one as far from the beam as the first.
    data[[20, 20, 20, 48], [48, 60, 70, 20]] = 50
    found = find_candidates(data, np.ones(data.shape, bool), (48.5, 48.5), SEARCH)
    scalars, _ = describe(found)
    nearest, near, ring = scalars[np.lexsort((found.fast, found.slow)), 6:].T
    np.testing.assert_allclose(np.expm1(4 * nearest[:3]), [12, 10, 10], rtol=1e-5)
    np.testing.assert_allclose(np.expm1(2 * near), [2, 2, 2, 0], atol=1e-5)
    np.testing.assert_allclose(np.expm1(2 * ring), [1, 0, 0, 1], atol=1e-5)


def test_match_spots():
    found = candidates_of(12)
    places = np.stack([found.slow, found.fast], axis=1) + 0.5
    spots = np.array([places[0] + [2, -2], places[1], places[2], places[3] + [9, 9]])
    truth = match_spots(found, spots, np.array([8.0, 4.0, 1.0, 8.0]))
    assert truth[0] == 1
    assert np.isnan(truth[1])
    assert truth[2] == 0
    assert match_spots(found, np.empty((0, 2)), np.empty(0)).tolist() == [0] * len(
        places
    )


def test_training_learns_and_can_be_repeated():
    numbers = [0, 6, 20] * 24
    data = CandidateSet.empty(len(numbers), SEARCH.most)
    for i, n in enumerate(numbers):
        image, spots = frame(n, seed=i)
        found = find_candidates(image, np.ones(image.shape, bool), (48, 48), SEARCH)
        truth = match_spots(found, spots, np.full(len(spots), 9.0))
        label = {0: Label.MISS, 6: Label.MAYBE, 20: Label.HIT}[n]
        data.put(i, found, label, truth)
    training, validation = np.arange(48), np.arange(48, 72)
    schedule = SpotSchedule(epochs=50, batch_size=16, learning_rate=0.01)

    def run() -> tuple[torch.Tensor, list]:
        torch.manual_seed(1)
        network, history = SpotNetwork(SMALL), []
        train(
            network,
            data,
            training,
            validation,
            schedule,
            1,
            history.append,
        )
        return predict_logits(network, data, validation)[0], history

    logits, history = run()
    assert history[-1].loss < 0.5 * history[0].loss
    right = logits.argmax(dim=1).numpy() == data.labels[validation]
    assert right.mean() > 0.8
    torch.testing.assert_close(run()[0], logits)
