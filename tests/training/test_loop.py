from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dials_cnn_screen.architecture import MAX_SHIFT
from dials_cnn_screen.ke2018.training_set import Dataset, ImageSchedule
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.training.checkpoint import Checkpoint
from dials_cnn_screen.training.loop import (
    at_hand,
    balanced,
    balanced_loss,
    best_epoch,
    calibrate,
    fit_temperature,
    predict_logits,
    train,
)

SIZE = 32
KE2018 = find_architecture("ke2018")
SCHEDULE = ImageSchedule(
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


def train_toy(toy, seed=0, schedule=SCHEDULE, on_epoch=lambda _epoch: None, **options):
    torch.manual_seed(seed)
    network = KE2018.network(size=SIZE, channels=(4, 8))
    training, validation = np.arange(39), np.arange(39, 60)
    history = train(
        network, toy, training, validation, schedule, seed, on_epoch, **options
    )
    return network, history


def assert_same_weights(network, other):
    weights, expected = network.state_dict(), other.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def trained(toy):
    return train_toy(toy)


def test_it_learns(toy, trained):
    network, history = trained
    assert history[-1].loss < 0.6 * history[0].loss
    assert history[-1].training_success > 90
    logits, labels = predict_logits(network, toy, np.arange(39, 60))
    assert (logits.argmax(dim=1) == labels).float().mean() > 0.9


def test_the_best_state_is_returned(toy, trained):
    network, history = trained
    loss = balanced_loss(*predict_logits(network, toy, np.arange(39, 60)))
    assert loss == pytest.approx(min(epoch.validation_loss for epoch in history))


def test_an_epoch_that_spoils_the_network_is_not_the_best(toy):
    # The first epoch's steps are tiny, those of the second destroy what there was.
    schedule = ImageSchedule(2, 4, 12, learning_rate=1e-4, final_learning_rate=1e4)
    network, history = train_toy(toy, schedule=schedule)
    assert not history[1].validation_loss < history[0].validation_loss
    loss = balanced_loss(*predict_logits(network, toy, np.arange(39, 60)))
    assert loss == pytest.approx(history[0].validation_loss)


def test_same_seed_same_network(toy, trained):
    network, history = train_toy(toy)
    assert history == trained[1]
    assert_same_weights(network, trained[0])


def test_another_seed_another_network(toy, trained):
    schedule = ImageSchedule(1, 2, 12)
    assert train_toy(toy, seed=1, schedule=schedule)[1] != trained[1][:1]


def test_epochs_are_reported_as_they_end(toy):
    seen = []
    schedule = ImageSchedule(epochs=2, batches=1, batch_size=3)
    _, history = train_toy(toy, schedule=schedule, on_epoch=seen.append)
    assert seen == history
    assert [epoch.epoch for epoch in history] == [1, 2]


@pytest.mark.parametrize(
    ("training", "validation", "name"), [([], [1], "training"), ([1], [], "validation")]
)
def test_an_empty_split(toy, training, validation, name):
    network = KE2018.network(size=SIZE)
    with pytest.raises(ValueError, match=f"the {name} split has no images"):
        train(network, toy, training, validation, SCHEDULE, 0, print)


def rates_of(schedule, batches):
    """Learning rate of each epoch, one number each as it does not change within."""
    optimiser = schedule.optimiser([torch.nn.Parameter(torch.zeros(1))])
    rate, found = schedule.rate(optimiser, batches), []
    for _ in range(schedule.epochs):
        within = set()
        for _ in range(batches):
            within.add(optimiser.param_groups[0]["lr"])
            optimiser.step()
            rate.step()
        found += within
    return found


def test_learning_rate_falls_exponentially_as_in_section_3_4():
    found = rates_of(ImageSchedule(), 2)
    assert len(found) == 120
    assert found[0] == pytest.approx(0.1)
    assert found[-1] == pytest.approx(0.0001)
    np.testing.assert_allclose(np.divide(found[1:], found[:-1]), 0.001 ** (1 / 119))
    assert rates_of(ImageSchedule(epochs=1), 1) == [0.1]


def test_no_learning_rate():
    with pytest.raises(ValueError, match="learning_rate=0 teaches nothing"):
        ImageSchedule(learning_rate=0)


def test_logits_are_in_order_and_of_centre_crops(toy, trained):
    network, indices = trained[0], np.array([5, 0, 41, 7] * 5)
    logits, labels = predict_logits(network, toy, indices)
    assert labels.tolist() == toy.labels[indices].tolist()
    window = slice(MAX_SHIFT, MAX_SHIFT + SIZE)
    image = torch.from_numpy(toy.images[41, window, window].astype(np.float32))
    with torch.no_grad():
        expected = network.eval()(image[None, None])[0]
    np.testing.assert_allclose(logits[2], expected, atol=1e-5)


def test_batches_have_equal_numbers_of_each_class():
    labels = np.repeat([0, 1, 2], [1, 5, 14])
    indices, rng = np.arange(1, 20), np.random.default_rng(0)
    for chosen in balanced(labels, np.arange(20), 9, 20, rng):
        assert np.bincount(labels[chosen]).tolist() == [3, 3, 3]
    # A class that is missing is not made up for by one that is not asked for.
    for chosen in balanced(labels, indices, 8, 20, rng):
        assert np.bincount(labels[chosen], minlength=3).tolist() == [0, 4, 4]
    seen = np.concatenate(list(balanced(labels, indices, 8, 20, rng)))
    assert set(seen) == set(indices)


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_as_if_it_had_not_been(toy, trained, tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})

    def kill(epoch):
        if epoch.epoch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train_toy(toy, on_epoch=kill, checkpoint=checkpoint)
    seen = []
    # Of the seed, only the weights that are replaced by the checkpoint's depend.
    network, history = train_toy(
        toy, seed=5, on_epoch=seen.append, checkpoint=checkpoint
    )
    assert [epoch.epoch for epoch in seen] == [4, 5, 6]
    assert history == trained[1]
    assert_same_weights(network, trained[0])
    # A run that is done is not begun again.
    network, history = train_toy(toy, on_epoch=kill, checkpoint=checkpoint)
    assert history == trained[1]
    assert_same_weights(network, trained[0])


def test_patience(toy):
    # The first epoch's steps are tiny, those of the others destroy what there was.
    schedule = ImageSchedule(9, 4, 12, learning_rate=1e-4, final_learning_rate=1e4)
    schedule = replace(schedule, patience=3)
    history = train_toy(toy, schedule=schedule)[1]
    assert len(history) == best_epoch(history).epoch + 3 < 9


def test_a_start_that_is_better_than_training_is_kept(toy, trained):
    network = copy.deepcopy(trained[0])
    bad = ImageSchedule(1, 4, 12, learning_rate=50, final_learning_rate=50)
    splits = np.arange(39), np.arange(39, 60)
    history = train(network, toy, *splits, bad, 0, print, evaluate_start=True)
    assert [epoch.epoch for epoch in history] == [0, 1]
    assert history[0].validation_loss == pytest.approx(
        min(epoch.validation_loss for epoch in trained[1])
    )
    assert_same_weights(network, trained[0])


def test_weights_without_gradient_stay(toy):
    torch.manual_seed(0)
    network = KE2018.network(size=SIZE, channels=(4, 8))
    before = copy.deepcopy(network)
    network.features.requires_grad_(False)
    schedule = ImageSchedule(1, 2, 12)
    train(network, toy, np.arange(39), np.arange(39, 60), schedule, 0, print)
    for name, weight in network.named_parameters():
        same = torch.equal(weight, before.get_parameter(name))
        assert same == name.startswith("features"), name


def test_loss_that_is_not_finite(toy):
    images = np.full_like(toy.images, np.inf)
    with pytest.raises(
        ValueError, match=r"nan after epoch 1: .*training\.learning_rate"
    ):
        train_toy(Dataset(images, toy.labels))


def test_progress_is_told_by_batch(toy):
    seen = []
    schedule = ImageSchedule(epochs=2, batches=3, batch_size=12)
    _, history = train_toy(toy, schedule=schedule, on_batch=lambda *x: seen.append(x))
    assert len(seen) == 6
    loss, success = np.mean(seen[3:], axis=0)
    assert history[1].loss == pytest.approx(loss)
    assert history[1].training_success == pytest.approx(success)


@pytest.mark.parametrize(("free", "moves"), [(2.0, True), (1.9, False)])
def test_data_that_fit_are_moved_to_the_gpu(toy, monkeypatch, free, moves):
    available = int(free * toy.images.nbytes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (available, 10 * available))
    monkeypatch.setattr(Dataset, "on", lambda data, device: (data, device))
    there = at_hand(toy, "cuda")
    assert there == (toy, "cuda") if moves else there is toy
    assert at_hand(toy, "cpu") is toy


@pytest.mark.gpu
def test_gpu_gives_the_same_within_rounding(toy, trained):
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    network, history = train_toy(toy, device="cuda")
    np.testing.assert_allclose(history[0].loss, trained[1][0].loss, rtol=1e-2)
    np.testing.assert_allclose(
        [epoch.validation_success for epoch in history[-2:]],
        [epoch.validation_success for epoch in trained[1][-2:]],
        atol=10,
    )
    logits, _ = predict_logits(network, toy, np.arange(60), "cuda")
    assert logits.device.type == "cpu"
    expected, _ = predict_logits(network.cpu(), toy, np.arange(60))
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


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
    logits = torch.from_numpy(temperature * z)
    # The grid's step is 5%.
    assert fit_temperature(logits, torch.from_numpy(labels)) == pytest.approx(
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
