from __future__ import annotations

import numpy as np
import torch

from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.spots.configuration import SpotNetworkConfig
from dials_cnn_screen.spots.network import SpotNetwork
from dials_cnn_screen.spots.training_set import (
    CandidateSet,
    SpotSchedule,
    match_spots,
)
from dials_cnn_screen.training.loop import train

SEARCH = CandidateSearch(most=24)
SMALL = SpotNetworkConfig(patch=8, candidate=8, context=8, count=4, head=8)


def frame(n_spots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame with n_spots spots, and their positions (slow, fast)."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(20, (96, 96)).astype(np.float32)
    tiles = 8 * rng.permutation(144)[:n_spots]
    slow, fast = 4 + tiles // 96 * 8 % 96, tiles % 96 + 4
    data[slow, fast] += 60
    return data, np.stack([slow + 0.5, fast + 0.5], axis=1)


def test_match_spots():
    data, _ = frame(12, seed=0)
    found = find_candidates(data, np.ones(data.shape, bool), (48, 48), SEARCH)
    at = np.stack([found.slow, found.fast], axis=1) + 0.5
    spots = np.array([at[0] + [2, -2], at[1], at[2], at[3] + [9, 9]])
    truth = match_spots(found, spots, np.array([8.0, 4.0, 1.0, 8.0]))
    assert truth[0] == 1
    assert np.isnan(truth[1])
    assert truth[2] == 0
    without = match_spots(found, np.empty((0, 2)), np.empty(0))
    assert without.tolist() == [0] * len(at)


def test_training_learns_and_can_be_repeated():
    numbers = [0, 6, 20] * 24
    data = CandidateSet.empty(len(numbers), SEARCH.most)
    for i, n in enumerate(numbers):
        image, spots = frame(n, seed=i)
        found = find_candidates(image, np.ones(image.shape, bool), (48, 48), SEARCH)
        truth = match_spots(found, spots, np.full(len(spots), 9.0))
        data.put(i, found, {0: Label.MISS, 6: Label.MAYBE, 20: Label.HIT}[n], truth)
    training, validation = np.arange(48), np.arange(48, 72)
    schedule = SpotSchedule(epochs=50, batch_size=16, learning_rate=0.01)

    def run(data: CandidateSet = data) -> tuple[torch.Tensor, list]:
        torch.manual_seed(1)
        network, course = SpotNetwork(SMALL), []
        train(network, data, training, validation, schedule, 1, course.append)
        with torch.no_grad():
            return network.eval()(data.batch(validation)).logits, course

    logits, course = run()
    assert course[-1].loss < 0.5 * course[0].loss
    right = logits.argmax(dim=1).numpy() == data.labels[validation]
    assert right.mean() > 0.8
    torch.testing.assert_close(run()[0], logits)
    # And where the candidates are on a device, as on a GPU.
    torch.testing.assert_close(run(data.on("cpu"))[0], logits)
