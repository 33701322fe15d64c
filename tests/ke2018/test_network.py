from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dials_cnn_screen.ke2018.network import Ke2018Config, fuse
from dials_cnn_screen.models.registry import find_architecture

# Feature maps after each convolution and each max-pool of a 720 x 720 image: Fig. 2.
# The deposited code's larger first kernel and pool are padded to give the same.
SHAPES = [
    *[(4, 360, 360), (4, 180, 180), (8, 90, 90), (8, 45, 45)],
    *[(16, 23, 23), (16, 12, 12), (32, 6, 6), (32, 3, 3)],
]


def network_in_use(architecture, seed=0, **changes):
    """A network with random weights and normalisations that are not the identity."""
    torch.manual_seed(seed)
    network = find_architecture(architecture).network(**changes)
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return network.eval()


@pytest.mark.parametrize("architecture", ["ke2018", "fv5080"])
def test_shape_of_every_layer(architecture):
    network = find_architecture(architecture).network()
    shapes = []
    for layer in network.features:
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            layer.register_forward_hook(
                lambda _layer, _input, output: shapes.append(tuple(output.shape[1:]))
            )
    with torch.no_grad():
        logits = network.eval()(torch.zeros(1, 1, 720, 720))
    assert shapes == SHAPES
    assert network.config.n_features == network.classifier.in_features == 288
    assert logits.shape == (1, 3)


@pytest.mark.parametrize(
    ("architecture", "first_kernel", "first_pool"), [("ke2018", 3, 2), ("fv5080", 7, 3)]
)
def test_layers_follow_the_paper(architecture, first_kernel, first_pool):
    layers = list(find_architecture(architecture).network().features)
    for stage in range(4):
        convolution, normalisation, relu, pool = layers[4 * stage : 4 * stage + 4]
        assert isinstance(normalisation, nn.BatchNorm2d)
        assert isinstance(relu, nn.ReLU)
        edge = first_kernel if stage == 0 else 3
        assert convolution.kernel_size == (edge, edge)
        assert convolution.stride == (2, 2)
        assert convolution.out_channels == [4, 8, 16, 32][stage]
        assert pool.kernel_size == (first_pool if stage == 0 else 2)
        assert pool.stride == 2


@pytest.mark.parametrize(
    ("architecture", "first_kernel"), [("ke2018", 3), ("fv5080", 7)]
)
def test_number_of_parameters(architecture, first_kernel):
    k_in, edges = [1, 4, 8, 16], [first_kernel, 3, 3, 3]
    expected = 288 * 3 + 3
    for j, k, m in zip(k_in, [4, 8, 16, 32], edges, strict=True):
        expected += j * k * m * m + k + 2 * k  # kernels, biases, normalisation
    network = find_architecture(architecture).network()
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("architecture", ["ke2018", "fv5080"])
@pytest.mark.parametrize("size", [5, 37, 64, 255, 257])
def test_any_size(architecture, size):
    network = find_architecture(architecture).network(size=size).eval()
    assert network(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_a_changed_configuration():
    network = find_architecture("ke2018").network(size=32, channels=(2, 6))
    assert network.config == Ke2018Config(size=32, channels=(2, 6))
    assert network.config.n_features == 6 * 2 * 2


@pytest.mark.parametrize("architecture", ["ke2018", "fv5080"])
def test_fused_gives_the_same(architecture):
    network = network_in_use(architecture, size=97)
    images = torch.randn(3, 1, 97, 97)
    fused = fuse(network)
    with torch.no_grad():
        logits = network(images)
        np.testing.assert_allclose(fused(images), logits, atol=1e-4)
    assert logits.std() > 1e-3
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.features)


def test_fusing_leaves_the_network_as_it_is():
    network = network_in_use("ke2018", size=33).train()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    fuse(network)
    assert network.training
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_seed_gives_the_weights():
    first = network_in_use("ke2018", seed=3, size=33).state_dict()
    again = network_in_use("ke2018", seed=3, size=33).state_dict()
    other = network_in_use("ke2018", seed=4, size=33).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_unknown_architecture():
    with pytest.raises(
        ValueError, match="'resnet' is not one of spots, ke2018, fv5080"
    ):
        find_architecture("resnet")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size=0 is not from 1 to 8192"),
        ({"size": 10**9}, "size=1000000000 is not from 1 to 8192"),
        ({"size": "720"}, "size=720 is not from 1 to 8192"),
        ({"channels": ()}, "0 stages are not from 1 to 8"),
        ({"channels": (1,) * 9}, "9 stages are not from 1 to 8"),
        ({"channels": (4, 10**6)}, "channels=1000000 is not from 1 to 1024"),
        ({"first_kernel": 4}, "first_kernel=4 is not odd"),
        ({"first_kernel": 99}, r"first_kernel=99 is not from \d to 15"),
        ({"first_pool": 4}, "first_pool=4 is neither odd nor 2"),
        ({"size": 8192, "channels": (1024,)}, r"\d+ features are more than 65536"),
    ],
)
def test_refused_configurations(values, message):
    with pytest.raises(ValueError, match=message):
        Ke2018Config(**values)
