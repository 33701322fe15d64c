from __future__ import annotations

import numpy as np
import pytest
import torch

from dials_cnn_screen.ke2018.sensitivity import loss_gradient, most_sensitive
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.registry import find_architecture


@pytest.fixture
def network():
    torch.manual_seed(0)
    return find_architecture("ke2018").network(size=32, channels=(2, 3)).eval()


def loss(network, image, label) -> float:
    with torch.no_grad():
        logits = network.double()(torch.from_numpy(image)[None, None])
    return torch.nn.functional.cross_entropy(logits, torch.tensor([label])).item()


@pytest.mark.parametrize("label", Label)
def test_gradient_is_what_the_loss_changes_by(network, label):
    image = np.random.default_rng(1).normal(3, 1, (32, 32))
    gradient = loss_gradient(network, image.astype(np.float32), label)
    direction = np.random.default_rng(2).normal(size=image.shape)
    step = 1e-5 * direction
    change = loss(network, image + step, label) - loss(network, image - step, label)
    expected = change / 2e-5
    assert abs(expected) > 1e-6
    np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-2)


def test_network_stays_as_it_is(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss_gradient(network, np.ones((32, 32), dtype=np.float32), Label.HIT)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_sure_predictions_have_a_gradient_too(network):
    with torch.no_grad():
        network.classifier.bias[:] = torch.tensor([60.0, 0, 0])
    image = np.random.default_rng(1).normal(3, 1, (32, 32)).astype(np.float32)
    assert np.any(loss_gradient(network, image, Label.HIT))


def test_most_sensitive_are_more_than_three_deviations_off():
    gradient = np.full((20, 50), 2.0)
    gradient[3, 4], gradient[5, 6], gradient[0, 0] = 12.0, -8.0, 2.5
    found = most_sensitive(gradient)
    assert {tuple(place) for place in np.argwhere(found)} == {(3, 4), (5, 6)}
    assert found[3, 4] == pytest.approx((12 - gradient.mean()) / gradient.std())
    assert found[5, 6] < -3


def test_a_flat_gradient_has_no_sensitive_pixels():
    assert not most_sensitive(np.full((5, 5), 0.3)).any()
