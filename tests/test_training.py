from __future__ import annotations

import numpy as np
import pytest
import torch

from dials_cnn_screen.dataset import MAX_SHIFT, Dataset
from dials_cnn_screen.network import build_network
from dials_cnn_screen.training import (
    Schedule,
    balanced_loss,
    calibrate,
    class_scores,
    fit_temperature,
    learning_rate,
    train,
)

SIZE = 32
SCHEDULE = Schedule(
    epochs=6,
    batches=12,
    batch_size=12,
    learning_rate=0.4,
    final_learning_rate=0.05,
)


@pytest.fixture(scope="module")
def toy():
    """60 frames whose class is the number of bright pixels: many, some, none."""
    rng = np.random.default_rng(0)
    edge = SIZE + 2 * MAX_SHIFT
    labels = np.arange(60) % 3
    chance = np.array([0.06, 0.015, 0.0])[labels]
    bright = rng.random((60, edge, edge)) < chance[:, None, None]
    images = rng.normal(size=bright.shape) + 6 * bright
    return Dataset(images.astype(np.float16), labels)


def train_toy(toy, seed=0, schedule=SCHEDULE, on_epoch=lambda _epoch: None):
    torch.manual_seed(seed)
    network = build_network("ke2018", size=SIZE, channels=(4, 8))
    training, validation = np.arange(39), np.arange(39, 60)
    history = train(network, toy, training, validation, schedule, seed, on_epoch)
    return network, history


@pytest.fixture(scope="module")
def trained(toy):
    return train_toy(toy)


def test_it_learns(toy, trained):
    network, history = trained
    assert history[-1].loss < 0.6 * history[0].loss
    assert history[-1].training_success > 90
    scores, labels = class_scores(network, toy, np.arange(39, 60))
    assert (scores.argmax(dim=1) == labels).float().mean() > 0.9


def test_the_best_state_is_returned(toy, trained):
    network, history = trained
    loss = balanced_loss(*class_scores(network, toy, np.arange(39, 60)))
    assert loss == pytest.approx(min(epoch.validation_loss for epoch in history))


def test_an_epoch_that_spoils_the_network_is_not_the_best(toy):
    # The first epoch's steps are tiny, those of the second destroy what there was.
    schedule = Schedule(2, 4, 12, learning_rate=1e-4, final_learning_rate=1e4)
    network, history = train_toy(toy, schedule=schedule)
    assert not history[1].validation_loss < history[0].validation_loss
    loss = balanced_loss(*class_scores(network, toy, np.arange(39, 60)))
    assert loss == pytest.approx(history[0].validation_loss)


def test_same_seed_same_network(toy, trained):
    network, history = train_toy(toy)
    assert history == trained[1]
    weights, expected = network.state_dict(), trained[0].state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_another_seed_another_network(toy, trained):
    schedule = Schedule(1, 2, 12)
    assert train_toy(toy, seed=1, schedule=schedule)[1] != trained[1][:1]


def test_epochs_are_reported_as_they_end(toy):
    seen = []
    schedule = Schedule(epochs=2, batches=1, batch_size=3)
    _, history = train_toy(toy, schedule=schedule, on_epoch=seen.append)
    assert seen == history
    assert [epoch.epoch for epoch in history] == [1, 2]


@pytest.mark.parametrize(
    ("training", "validation", "name"), [([], [1], "training"), ([1], [], "validation")]
)
def test_an_empty_part(toy, training, validation, name):
    network = build_network("ke2018", size=SIZE)
    with pytest.raises(ValueError, match=f"the {name} part has no images"):
        train(network, toy, training, validation, SCHEDULE, 0, print)


def test_learning_rate_falls_exponentially_as_in_section_3_4():
    schedule = Schedule()
    assert learning_rate(schedule, 0) == pytest.approx(0.1)
    assert learning_rate(schedule, 119) == pytest.approx(0.0001)
    ratios = [
        learning_rate(schedule, e + 1) / learning_rate(schedule, e) for e in range(119)
    ]
    np.testing.assert_allclose(ratios, 0.001 ** (1 / 119))
    assert learning_rate(Schedule(epochs=1), 0) == 0.1


def test_no_learning_rate():
    with pytest.raises(ValueError, match="learning_rate=0 teaches nothing"):
        Schedule(learning_rate=0)


def test_class_scores_are_in_order_and_of_centre_crops(toy, trained):
    network, indices = trained[0], np.array([5, 0, 41, 7] * 5)
    scores, labels = class_scores(network, toy, indices)
    assert labels.tolist() == toy.labels[indices].tolist()
    window = slice(MAX_SHIFT, MAX_SHIFT + SIZE)
    image = torch.from_numpy(toy.images[41, window, window].astype(np.float32))
    with torch.no_grad():
        expected = network.eval()(image[None, None])[0]
    np.testing.assert_allclose(scores[2], expected, atol=1e-5)


def test_balanced_loss_by_hand():
    # -log softmax of each: the Hit 0.2, the Misses 0.4 and 0.6.
    p = torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.1, 0.3, 0.6]])
    loss = balanced_loss(torch.log(p), torch.tensor([0, 2, 2]))
    expected = -(np.log(0.2) + (np.log(0.4) + np.log(0.6)) / 2) / 2
    assert loss == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (20_000, 3))
    # Labels drawn from softmax(z): the largest of z and Gumbel noise.
    labels = np.argmax(z + rng.gumbel(size=z.shape), axis=1)
    scores = torch.from_numpy(temperature * z)
    # The grid's step is 5%.
    assert fit_temperature(scores, torch.from_numpy(labels)) == pytest.approx(
        temperature, rel=0.08
    )


def test_calibrate_keeps_the_scores_of_hits_and_maybes():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.1, 0.3, 0.6], [0.5, 0.1, 0.4]])
    labels = torch.tensor([0, 2, 1, 1])
    calibration = calibrate(torch.from_numpy(np.log(p)), labels, "four images")
    t = calibration.temperature
    tempered = p ** (1 / t) / np.sum(p ** (1 / t), axis=1, keepdims=True)
    expected = sorted(tempered[[0, 2, 3], :2].sum(axis=1))
    np.testing.assert_allclose(calibration.hit_scores, expected, rtol=1e-12)
    assert calibration.source == "four images"
